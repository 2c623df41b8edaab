"""Which Host headers are answered, by what is listened on."""

import pytest

from etl.config.allowed_hosts import AllowedHosts

EVERYWHERE = ["", "0.0.0.0", "::"]
LOOPBACK = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost:8001",
    "localhost:",
    "heatmaps.localhost:80",
    "127.0.0.1",
    "127.0.0.1:9102",
    "127.8.9.10:1",
    "[::1]",
    "[::1]:9102",
    "[0:0:0:0:0:0:0:1]:1",
    "[::ffff:127.0.0.1]",
]
FOREIGN = [
    "evil.example",
    "evil.example:9102",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.example:9102",
    "notlocalhost",
    "xlocalhost:1",
    "heatmaps",
]
MALFORMED = [
    "",
    " ",
    ":9102",
    ".",
    ".localhost",
    "a..localhost",
    "localhost:9102:1",
    "localhost:x",
    "localhost:123456",
    "localhost:-1",
    "localhost:٣",
    "localhost/x",
    "http://localhost",
    "user@localhost",
    "evil.example, localhost",
    "localhost evil.example",
    "localhost\tx",
    "localhost\x00.evil.example",
    "evil.example#.localhost",
    "evil.example?.localhost",
    "lоcalhost",  # noqa: RUF001 - with a Cyrillic letter
    "::1",
    "::1:9102",
    "[::1",
    "::1]",
    "[::1]x",
    "[::1].localhost",
    "[localhost]",
    "[127.0.0.1]",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "127.0.0.256",
    "127.0.0.01",
    "xn--\x80.localhost",
]


@pytest.mark.parametrize("bound", ["127.0.0.1", "localhost", "::1", *EVERYWHERE, "10.1.2.3", "box"])
@pytest.mark.parametrize("header", LOOPBACK)
def test_loopback_is_always_answered(bound: str, header: str) -> None:
    assert AllowedHosts.of(bound).allow([header])


@pytest.mark.parametrize("bound", ["127.0.0.1", "localhost", "::1", *EVERYWHERE, "10.1.2.3", "box"])
@pytest.mark.parametrize("header", [*FOREIGN, *MALFORMED])
def test_foreign_names_and_what_is_none_are_refused(bound: str, header: str) -> None:
    assert not AllowedHosts.of(bound).allow([header])


@pytest.mark.parametrize("bound", EVERYWHERE)
@pytest.mark.parametrize("header", ["10.1.2.3", "10.1.2.3:9102", "[fd00::1]:9102", "203.0.113.7"])
def test_every_address_is_answered_where_every_address_is_listened_on(
    bound: str, header: str
) -> None:
    assert AllowedHosts.of(bound).allow([header])
    assert not AllowedHosts.of("127.0.0.1").allow([header])


@pytest.mark.parametrize(
    ("bound", "header", "is_answered"),
    [
        ("10.1.2.3", "10.1.2.3:9102", True),
        ("10.1.2.3", "10.1.2.4:9102", False),
        ("fd00::1", "[fd00::1]:9102", True),
        ("fd00::1", "[FD00:0::1]", True),
        ("fd00::1", "[fd00::2]", False),
        ("box.internal", "BOX.internal.:9102", True),
        ("box.internal.", "box.internal", True),
        ("box.internal", "x.box.internal", False),
    ],
)
def test_the_host_that_is_listened_on(bound: str, header: str, is_answered: bool) -> None:
    assert AllowedHosts.of(bound).allow([header]) is is_answered


def test_a_host_that_was_named() -> None:
    allowed = AllowedHosts.of("0.0.0.0", ["heatmap-etl", "status.example.", "10.0.0.9"])
    for header in ("heatmap-etl", "Heatmap-ETL:9102", "status.example", "status.example.:443"):
        assert allowed.allow([header])
    assert not allowed.allow(["x.status.example"])
    assert AllowedHosts.of("127.0.0.1", ["10.0.0.9"]).allow(["10.0.0.9:1"])


def test_a_header_that_is_missing_or_twice() -> None:
    allowed = AllowedHosts.of("127.0.0.1")
    assert not allowed.allow([])
    assert allowed.allow([], is_old=True)
    assert not allowed.allow(["evil.example"], is_old=True)
    assert not allowed.allow(["localhost", "localhost"])
    assert not allowed.allow(["localhost", "evil.example"], is_old=True)
