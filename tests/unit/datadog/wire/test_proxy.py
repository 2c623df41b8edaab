"""Which proxy the environment names: every spelling of NO_PROXY, and what cannot be used."""

import contextlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.datadog.wire.proxy import Proxy, find_proxy
from etl.errors import ConfigError
from etl.formatting import to_install

API = "https://api.datadoghq.com/api/v2"
PROXY = "http://proxy.internal:3128"


@pytest.fixture
def _with_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())


@pytest.fixture
def _without_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)


@pytest.mark.parametrize(
    ("url", "environment", "variable"),
    [
        (API, {"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        (API, {"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, "https_proxy"),
        (API, {"HTTP_PROXY": PROXY}, None),
        (API, {"ALL_PROXY": PROXY}, "ALL_PROXY"),
        (API, {"all_proxy": PROXY, "ALL_PROXY": "http://other:1"}, "all_proxy"),
        (API, {"ALL_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ("HTTPS://API.datadoghq.com", {"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ("http://api:8080", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("http://api:8080", {"HTTPS_PROXY": PROXY}, None),
        ("http://api:8080", {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None),
        ("http://api:8080", {"http_proxy": PROXY, "REQUEST_METHOD": "GET"}, "http_proxy"),
        ("http://api:8080", {"ALL_PROXY": PROXY, "REQUEST_METHOD": "GET"}, "ALL_PROXY"),
        (API, {"https_proxy": "", "HTTPS_PROXY": PROXY}, None),
        (API, {"HTTPS_PROXY": "", "ALL_PROXY": PROXY}, "ALL_PROXY"),
        (API, {"HTTPS_PROXY": " "}, None),
        (API, {}, None),
    ],
)
def test_the_variable_for_the_scheme_is_used(
    url: str, environment: dict[str, str], variable: str | None
) -> None:
    expected = Proxy(PROXY, variable) if variable else None
    assert find_proxy(url, environment) == expected


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("proxy:3128", "http://proxy:3128"),
        ("proxy", "http://proxy:80"),
        ("HTTP://Proxy:3128/", "http://proxy:3128"),
        ("https://proxy", "https://proxy:443"),
        ("http://user:pa@ss:word@proxy:3128", "http://user:pa@ss:word@proxy:3128"),
        ("user:word@proxy:3128", "http://user:word@proxy:3128"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("[fd00::1]", "http://[fd00::1]:80"),
        ("http://bücher.example:3128", "http://xn--bcher-kva.example:3128"),
        (" http://proxy:3128\n", "http://proxy:3128"),
        ("http://proxy:", "http://proxy:80"),
    ],
)
def test_a_proxy_is_written_in_full(value: str, url: str) -> None:
    assert find_proxy(API, {"HTTPS_PROXY": value}) == Proxy(url, "HTTPS_PROXY")


@pytest.mark.usefixtures("_with_socks")
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_is_used_where_its_library_is(scheme: str) -> None:
    proxy = find_proxy(API, {"ALL_PROXY": f"{scheme}://proxy"})
    assert proxy == Proxy(f"{scheme}://proxy:1080", "ALL_PROXY")


def test_neither_address_nor_label_shows_the_password() -> None:
    proxy = find_proxy(API, {"HTTPS_PROXY": "http://user:s3cret@proxy:3128"})
    assert proxy is not None
    assert proxy.address == "proxy:3128"
    assert proxy.label == "the proxy proxy:3128 of HTTPS_PROXY"


# --- NO_PROXY ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("api.datadoghq.com", "*"),
        ("api.datadoghq.com", "api.datadoghq.com"),
        ("api.datadoghq.com", "API.DATADOGHQ.COM"),
        ("API.Datadoghq.com", "api.datadoghq.com"),
        ("api.datadoghq.com", "datadoghq.com"),
        ("api.datadoghq.com", ".datadoghq.com"),
        ("datadoghq.com", ".datadoghq.com"),
        ("api.datadoghq.com", "*.datadoghq.com"),
        ("a.b.datadoghq.com", "*.datadoghq.com"),
        ("api.datadoghq.com", "api.*"),
        ("api.datadoghq.com", "*.*.com"),
        ("api.datadoghq.com", "api.datadoghq.com."),
        ("api.datadoghq.com", ".datadoghq.com."),
        ("api.datadoghq.com", "*.datadoghq.com."),
        ("api.datadoghq.com.", "datadoghq.com"),
        ("api.datadoghq.com.", "api.datadoghq.com."),
        ("api.datadoghq.com", "localhost, api.datadoghq.com"),
        ("api.datadoghq.com", "localhost api.datadoghq.com"),
        ("api.datadoghq.com", " ,,localhost ,\tapi.datadoghq.com\n, "),
        ("api.datadoghq.com", "api.datadoghq.com:443"),
        ("api.datadoghq.com:443", "api.datadoghq.com:443"),
        ("api.datadoghq.com:8443", "api.datadoghq.com:8443"),
        ("api.datadoghq.com:8443", ".datadoghq.com:8443"),
        ("api.datadoghq.com:8443", "*:8443"),
        ("api.datadoghq.com:8443", "api.datadoghq.com"),
        ("api.datadoghq.com", "https://api.datadoghq.com"),
        ("api.datadoghq.com", "https://api.datadoghq.com:443/"),
        ("api.datadoghq.com", "all://datadoghq.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "bücher.example"),
        ("xn--bcher-kva.example", "BÜCHER.example"),
        ("api.xn--bcher-kva.example", ".bücher.example"),
        ("api.xn--bcher-kva.example", "*.bücher.example"),
        ("api.xn--bcher-kva.example", "bu\u0308cher.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:8443", "127.0.0.1"),
        ("127.0.0.1:8443", "127.0.0.1:8443"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("127.9.9.9", "localhost,127.0.0.0/8,::1"),
        ("10.1.2.3", "10.9.9.9/8"),
        ("10.1.2.3", "10.0.0.0/255.0.0.0"),
        ("10.1.2.3", "0.0.0.0/0"),
        ("10.1.2.3", "10.*"),
        ("10.1.2.3:8443", "10.0.0.0/8:8443"),
        ("[::1]", "::1"),
        ("[::1]", "[::1]"),
        ("[::1]:8443", "[::1]"),
        ("[::1]:8443", "[::1]:8443"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[fd00::7]", "fd00::/8"),
        ("[fd00::7]", "[fd00::]/8"),
        ("[fd00::7]", "[fd00::/8]"),
        ("[fd00::7]:8443", "[fd00::]/8:8443"),
        ("[FD00::7]", "fd00:0:0::7"),
        ("[::ffff:127.0.0.1]", "127.0.0.0/8"),
        ("[::ffff:7f00:1]", "127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.0/104"),
        ("[fe80::1%eth0]", "fe80::1"),
        ("[fe80::1%25eth0]", "fe80::/10"),
        ("[fe80::1]", "fe80::1%eth0"),
        ("[fe80::1]", "[fe80::1%25eth0]"),
        ("127.0.0.1.", "127.0.0.0/8"),
        ("127.1", "127.0.0.0/8"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.0/8"),
        ("127.0.0.1", '"localhost,127.0.0.0/8"'),
        ("localhost", "'localhost,127.0.0.0/8'"),
        ("127.0.0.1", "localhost;127.0.0.1"),
        ("127.0.0.1", "localhost|127.0.0.1"),
    ],
)
def test_an_excluded_host_has_no_proxy(host: str, no_proxy: str) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        environment = {"HTTPS_PROXY": PROXY, name: no_proxy}
        assert find_proxy(f"https://{host}/api/v2?x=1", environment) is None


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("api.datadoghq.com", ""),
        ("api.datadoghq.com", " , ,"),
        ("api.datadoghq.com", "atadoghq.com"),
        ("api.datadoghq.com", "app.datadoghq.com"),
        ("datadoghq.com", "api.datadoghq.com"),
        ("datadoghq.com", "*.datadoghq.com"),
        ("notdatadoghq.com", "*.datadoghq.com"),
        ("notdatadoghq.com", ".datadoghq.com"),
        ("apiX.datadoghq.com", "api.*"),
        ("api.datadoghq.com", "api.datadoghq.com:8443"),
        ("api.datadoghq.com:8443", "api.datadoghq.com:443"),
        ("api.datadoghq.com", "http://api.datadoghq.com"),
        ("api.datadoghq.com", "api.datadoghq.com.evil.example"),
        ("api.datadoghq.com", ". .. : / [ ] [] [:: ::: 1.2.3.4/99 a:b %% \0 ☃ */ *:x :443"),
        ("api.datadoghq.com", "0.0.0.0/0,::/0"),
        ("127.0.0.1", "localhost"),
        ("localhost", "127.0.0.0/8,::1"),
        ("128.0.0.1", "127.0.0.0/8"),
        ("1.2.3.4", "3.4"),
        ("1.2.3.4", ".4"),
        ("1.2.3.4", "::/0"),
        ("1.2.3.4:8443", "1.2.3.4:443"),
        ("[::1]", "127.0.0.0/8"),
        ("[::1]:8443", "[::1]:443"),
        ("[fe80::1]", "fd00::/8"),
        ("[::2]", "::1"),
        ("128.1", "127.0.0.0/8"),
        ("1.2.3.4.5", "1.2.3.0/24"),
        ("9999999999", "0.0.0.0/0"),
    ],
)
def test_what_no_proxy_does_not_say_is_not_excluded(host: str, no_proxy: str) -> None:
    environment = {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}
    assert find_proxy(f"https://{host}", environment) == Proxy(PROXY, "HTTPS_PROXY")


@pytest.mark.parametrize(
    ("names", "is_excluded"),
    [
        ({"no_proxy": "other", "NO_PROXY": "*"}, False),
        ({"no_proxy": "*", "NO_PROXY": "other"}, True),
        ({"no_proxy": "", "NO_PROXY": "*"}, True),
    ],
)
def test_no_proxy_in_lower_case_wins(names: dict[str, str], is_excluded: bool) -> None:
    assert (find_proxy(API, {"HTTPS_PROXY": PROXY, **names}) is None) is is_excluded


@given(
    st.text(max_size=40) | st.text("*.,:[]/%@ \t019afxüß", max_size=40),
    st.sampled_from(["api.datadoghq.com", "127.0.0.1", "[::1]", "bücher.example"]),
)
def test_no_text_of_no_proxy_raises(no_proxy: str, host: str) -> None:
    found = find_proxy(f"https://{host}", {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert found in (None, Proxy(PROXY, "HTTPS_PROXY"))
    also = f"{no_proxy},{host}"
    assert find_proxy(f"https://{host}", {"HTTPS_PROXY": PROXY, "NO_PROXY": also}) is None


# --- what cannot be used -----------------------------------------------------------------------


BAD = [
    ("ftp://u:hidden@h:1", "ftp:// is not supported"),
    ("socks4://h:1", "socks4:// is not supported"),
    ("socks://h:1", "socks:// is not supported"),
    ("http://u:hid/den@h:1", "@ after its host"),
    ("http://u:1234/hidden@h:1", "@ after its host"),
    ("http://u:hid?den@h:1", "@ after its host"),
    ("http://u:hidden@h:x", "port"),
    ("http://u:hidden@h:65536", "port"),
    ("http://u:hidden@h:0", "port"),
    ("http://u:hidden@h:-1", "port"),
    ("http://u:hidden@h:٣", "port"),
    ("http://", "host is missing"),
    ("http://u:hidden@", "host is missing"),
    ("http://u:hidden@:3128", "host is missing"),
    ("http:/hidden:3128", "not a URL"),
    ("http://[::1:3128", "not a URL"),
    ("http://[hidden]:3128", "IPv6"),
    ("http://hidden..proxy:1", "empty part"),
    (f"http://hidden{'a' * 63}:1", "more than 63"),
    (f"http://{'a.' * 130}hidden:1", "more than 253"),
    ("http://☃hidden.example:1", "IDNA"),
    ("http://xn--hidden-.example:1", "IDNA"),
    ("http://hid{den}:1", "character"),
    ("http://1.2.3.999:1", "IPv4"),
    ("http://hid den:1", "space"),
    ("http://hid\x00den:1", "control"),
    ("http://hid\udcffden:1", "UTF-8"),
    ("'http://hidden:1'", "quotes"),
    ('"http://hidden:1"', "quotes"),
    ("http://${HIDDEN}:1", "nothing has replaced"),
    ("$(hidden)", "nothing has replaced"),
]


@pytest.mark.parametrize(("value", "reason"), BAD)
@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_what_would_be_used_and_cannot_be_is_one_line_without_a_password(
    name: str, value: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        find_proxy(API, {name: value})
    (line,) = caught.value.problems
    assert line.startswith(f"{name}: ")
    assert reason in line
    assert "hid" not in line.lower()
    assert line.isprintable()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("value", [value for value, _ in BAD] + ["socks5://h:1"])
@pytest.mark.usefixtures("_without_socks")
def test_what_would_not_be_used_stops_nothing(value: str) -> None:
    assert find_proxy(API, {"ALL_PROXY": value, "NO_PROXY": "datadoghq.com"}) is None
    assert find_proxy(API, {"HTTP_PROXY": value}) is None
    used = find_proxy(API, {"ALL_PROXY": value, "HTTP_PROXY": value, "HTTPS_PROXY": PROXY})
    assert used == Proxy(PROXY, "HTTPS_PROXY")


@pytest.mark.usefixtures("_without_socks")
def test_socks_without_its_library_says_what_to_install() -> None:
    with pytest.raises(ConfigError) as caught:
        find_proxy(API, {"ALL_PROXY": "socks5://u:hidden@h:1"})
    expected = f"ALL_PROXY: a SOCKS proxy needs an extra; run: {to_install('socks')}"
    assert caught.value.problems == (expected,)


@pytest.mark.usefixtures("_with_socks")
def test_one_who_speaks_no_socks_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r"^ALL_PROXY: is a SOCKS proxy, which cannot be used"):
        find_proxy(API, {"ALL_PROXY": "socks5://h:1"}, speaks_socks=False)


@given(st.text(max_size=30) | st.text("htps:/@[].%?#019axüß", max_size=30))
def test_what_is_found_httpx_can_use(value: str) -> None:
    for text in (value, f"http://{value}", f"http://u:p@{value}", f"http://{value}@proxy:1"):
        with contextlib.suppress(ConfigError):
            proxy = find_proxy(API, {"HTTPS_PROXY": text})
            assert proxy is None or httpx.Proxy(proxy.url).url.host
