"""etl.datadog.client against real sockets: only the wire and the clock are ours."""

import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.config.credentials import Keys
from etl.config.model import Config
from etl.config.views import View
from etl.datadog.client import AGGREGATE, APPLICATIONS, Answer, Client, _untrusted, query_string
from etl.datadog.gates import MOST_NAMES, Gates
from etl.datadog.rate_limit import stated_wait
from etl.datadog.responses import error_text
from etl.datadog.retry import backoff_s
from etl.errors import (
    ConfigError,
    DatadogAuthError,
    DatadogError,
    DatadogRequestError,
    DatadogResponseError,
    DatadogUnavailable,
)
from etl.extract.ask import ask as ask_until_answered
from tests.support import raw_server as raw
from tests.support.certificates import make_certificate, server_tls
from tests.support.fake_time import FakeTime
from tests.support.raw_server import DATA, RawServer, Reply, chunked, reply, zipped

API_KEY = "apikey0123456789abcdef"
APP_KEY = "appkey0123456789abcdef"
KEYS = Keys(api_key=API_KEY, app_key=APP_KEY)
BEARER = Keys(bearer_token="ddpat_0123456789")
NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
HOME = View("/home")


def config(url: str, **changes: Any) -> Config:
    fields: dict[str, Any] = {
        "path": None,
        "database_url": "sqlite://",
        "database_label": "sqlite://",
        "database_schema": None,
        "views": (HOME,),
        "source": "test",
        "site": "datadoghq.eu",
        "api_url": url,
        "app_url": "https://app.example.com",
        "keys": None,
        "keys_problem": "",
        "timeout_s": 5.0,
    }
    return Config(**fields | changes)


@contextmanager
def datadog(
    server: RawServer | str, when: FakeTime | None = None, keys: Keys = KEYS, **changes: Any
) -> Iterator[Client]:
    url = server if isinstance(server, str) else server.url
    when = when or FakeTime()
    with Client(
        config(url, **changes), keys, stop=when, monotonic=when.monotonic, clock=lambda: NOW
    ) as it:
        yield it


def read(body: bytes) -> list[Any]:
    try:
        data = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError):
        raise DatadogResponseError('not {"data": [...]}') from None
    assert isinstance(data, list)
    return data


class Answered(NamedTuple):
    content: Any
    arrived_at: datetime
    requests: int
    rate_limit_remaining: int | None
    rate_limit_name: str | None


def ask(
    it: Client, view: View = HOME, limit: int = 1000, decode: Callable[[bytes], Any] = read
) -> Answered:
    def attempt() -> tuple[Any, Answer]:
        answer = it.list_snapshots(view, limit)
        return answer.decoded(decode), answer

    (content, answer), requests = ask_until_answered(attempt, it.retry_budget())
    left, name = answer.rate_limit_remaining, answer.rate_limit_name
    return Answered(content, answer.arrived_at, requests, left, name)


def failure(*script: Reply, keys: Keys = KEYS, view: View = HOME, **changes: Any) -> DatadogError:
    """What is raised when the last reply of the script comes again and again."""
    with (
        RawServer(*script, otherwise=script[-1]) as server,
        datadog(server, keys=keys, **changes) as it,
        pytest.raises(DatadogError) as caught,
    ):
        ask(it, view)
    return caught.value


# --- the request -------------------------------------------------------------------------------

NAMES = ["/dashboard/?", "/a b/ü", "/search?q=1&x=%2F", "//", "+", "#", "/🔥/:id(/:x)", "%", "/a\n"]


@pytest.mark.parametrize("name", NAMES)
def test_any_view_name_arrives_exactly(name: str) -> None:
    view = View(name, application_id="a&b", device_type="mobile+")
    with RawServer(reply()) as server, datadog(server) as it:
        ask(it, view, limit=10)
    (target,) = server.targets
    assert target == f"/api/v2/replay/heatmap/snapshots?{query_string(view, 10)}"
    assert parse_qsl(urlsplit(target).query, strict_parsing=True) == [
        ("filter[view_name]", name),
        ("filter[application_id]", "a&b"),
        ("filter[device_type]", "mobile+"),
        ("page[limit]", "10"),
    ]


def test_request_line_is_strictly_encoded() -> None:
    with RawServer(reply()) as server, datadog(server) as it:
        ask(it, View("/d ü/?"))
    assert server.heads[0].split(b"\r\n")[0] == (
        b"GET /api/v2/replay/heatmap/snapshots"
        b"?filter%5Bview_name%5D=%2Fd%20%C3%BC%2F%3F&page%5Blimit%5D=1000 HTTP/1.1"
    )


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_httpx_sends_every_query_as_it_was_built(name: str) -> None:
    query = query_string(View(name), 7)
    assert httpx.URL(f"https://api.example.com/p?{query}").query.decode() == query
    assert dict(parse_qsl(query))["filter[view_name]"] == name


def test_api_url_may_have_a_path() -> None:
    with RawServer(reply()) as server, datadog(f"{server.url}/proxy/dd") as it:
        ask(it)
    assert server.targets[0].startswith("/proxy/dd/api/v2/replay/heatmap/snapshots?")


def test_headers_name_the_program_and_carry_the_keys() -> None:
    with RawServer(reply()) as server, datadog(server) as it:
        ask(it)
    assert server.header("DD-API-KEY") == API_KEY
    assert server.header("DD-APPLICATION-KEY") == APP_KEY
    assert server.header("Authorization") is None
    assert server.header("Accept-Encoding") == "gzip"
    assert (server.header("User-Agent") or "").startswith("heatmap-etl/")
    assert server.header("Cache-Control") == "no-cache, no-store"


def test_bearer_token_stands_alone() -> None:
    keys = Keys(API_KEY, APP_KEY, BEARER.bearer_token)
    with RawServer(reply()) as server, datadog(server, keys=keys) as it:
        ask(it)
    assert server.header("Authorization") == f"Bearer {BEARER.bearer_token}"
    assert server.header("DD-API-KEY") is None


@pytest.mark.parametrize("keys", [KEYS, BEARER])
def test_neither_netrc_nor_a_user_in_the_url_touches_authorization(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    wanted = f"Bearer {keys.bearer_token}" if keys.bearer_token else None
    with RawServer(otherwise=reply()) as server:
        for url in (server.url, server.url.replace("//", "//user:pass@")):
            with datadog(url, keys=keys) as it:
                ask(it)
    assert [server.header("Authorization", n) for n in (0, 1)] == [wanted, wanted]


@pytest.mark.parametrize("bad", ["", "clé-secrète", "two words", "line\nbreak", "nul\0"])
def test_key_that_no_header_carries_is_refused_without_showing_it(bad: str) -> None:
    for keys in (Keys(API_KEY, bad), Keys(bad, APP_KEY), Keys(bearer_token=bad)):
        with pytest.raises(ConfigError) as caught:
            Client(config("http://127.0.0.1:9"), keys)
        assert not bad or bad not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["\ud800", "x" * 70_000])
def test_view_name_that_no_url_carries_is_that_views_error(name: str) -> None:
    with datadog("http://127.0.0.1:9") as it, pytest.raises(DatadogRequestError, match="valid URL"):
        ask(it, View(name))


# --- the answer --------------------------------------------------------------------------------


def test_answer_says_what_came_and_when() -> None:
    limits = {"x-ratelimit-remaining": 7, "X-Ratelimit-Name": "heatmaps"}
    with RawServer(reply(body=b'{"data":[1]}', headers=limits)) as server, datadog(server) as it:
        assert ask(it) == Answered([1], NOW, 1, 7, "heatmaps")


def test_rate_limit_headers_may_be_missing_or_junk() -> None:
    junk = {"X-RateLimit-Remaining": "many", "X-RateLimit-Name": ""}
    with RawServer(reply(), reply(headers=junk)) as server, datadog(server) as it:
        for _ in range(2):
            assert ask(it) == Answered([], NOW, 1, None, None)


@pytest.mark.parametrize(
    "good", [zipped(), chunked(DATA[:3], DATA[3:]), reply(end="close"), zipped(pause_s=0.01)]
)
def test_whole_body_is_read_however_it_is_sent(good: Reply) -> None:
    with RawServer(good) as server, datadog(server) as it:
        assert ask(it, limit=1, decode=bytes).content == DATA


FAULTS = {
    "cut body": raw.CUT,
    "cut chunks": chunked(b'{"data": []', whole=False),
    "reset": raw.RESET,
    "reset in the body": raw.RESET_IN_BODY,
    "hung up": raw.HUNG_UP,
    "not HTTP": raw.NO_HTTP,
    "bad gzip": raw.BAD_GZIP,
    "cut gzip": raw.CUT_GZIP,
    "spoilt gzip": raw.SPOILT_GZIP,
    "unasked coding": raw.UNASKED_CODING,
    "empty 200": reply(body=b""),
    "HTML 200": reply(body="<html><title>Login</title></html>"),
    "wrong JSON": reply(body={"errors": ["x"]}),
    "data of a 202": reply(202),
    "data of a 204": Reply((b"HTTP/1.1 204 No Content\r\n\r\n",)),
    "data of a 206": reply(206),
    "data of a 408": reply(408),
    "data of a 425": reply(425),
    "data of a 429": reply(429),
    "data of a 500": reply(500),
    "data of a 503": reply(503),
    "data of a 599": reply(599),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_is_asked_again_at_least_eleven_times(fault: Reply) -> None:
    when = FakeTime()
    with RawServer(*[fault] * 11, zipped()) as server, datadog(server, when) as it:
        answer = ask(it)
    assert (answer.content, answer.requests, len(server.heads)) == ([], 12, 12)
    assert len(when.waits) == 11
    assert all(wait <= min(5, 0.2 * 2**n) for n, wait in enumerate(when.waits))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_lasting_fault_ends_as_one_error_that_names_the_view(fault: Reply) -> None:
    error = failure(fault, max_wait_s=0, view=View("/home", device_type="mobile"))
    assert isinstance(error, DatadogUnavailable | DatadogResponseError)
    assert "view /home [mobile]: " in str(error)
    assert "max_wait_s" in str(error)
    assert str(error).isprintable()
    assert error.__context__ is None


def test_refused_body_is_told_apart_from_no_answer() -> None:
    error = failure(reply(body="{}"), max_wait_s=0)
    assert type(error) is DatadogResponseError
    assert (error.status, error.detail) == (200, 'not {"data": [...]}')
    assert type(failure(raw.CUT, max_wait_s=0)) is DatadogUnavailable


def test_other_exception_of_read_passes_through_at_once() -> None:
    def bug(body: bytes) -> None:
        raise ZeroDivisionError

    with RawServer(reply()) as server, datadog(server) as it, pytest.raises(ZeroDivisionError):
        ask(it, limit=1, decode=bug)
    assert len(server.heads) == 1


def test_silent_server_is_a_fault() -> None:
    never = threading.Event()
    with RawServer(Reply(wait_for=never, end="close"), reply()) as server:
        with datadog(server, timeout_s=0.05) as it:
            assert ask(it).requests == 2
        never.set()


def test_body_that_drips_for_ever_is_given_up() -> None:
    drip = Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", *[b" "] * 999), pause_s=0.01)
    with RawServer(otherwise=drip) as server:
        settings = config(server.url, timeout_s=0.1, max_wait_s=0.1)
        with Client(settings, KEYS) as it, pytest.raises(DatadogUnavailable, match="too long"):
            ask(it)


def test_nobody_listening_is_a_fault() -> None:
    with RawServer() as server:
        url = server.url
    with datadog(url, max_wait_s=0) as it, pytest.raises(DatadogUnavailable) as caught:
        ask(it)
    assert caught.value.status is None
    assert "refused" in caught.value.detail


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_refused_keys_say_what_to_check_and_are_not_tried_again(status: int) -> None:
    with (
        RawServer(reply(status, {"errors": ["Forbidden"]})) as server,
        datadog(server) as it,
        pytest.raises(DatadogAuthError) as caught,
    ):
        ask(it)
    text = str(caught.value)
    assert text.startswith(f"view /home: {status}: Forbidden; ")
    for hint in ("datadoghq.eu", "value", "rum_session_replay_read", "rum_apps_read", "owner"):
        assert hint in text
    assert (caught.value.status, caught.value.detail) == (status, "Forbidden")


VALID = reply(body={"data": {"type": "validate_v2", "attributes": {"valid": True}}})
INVALID = reply(body={"data": {"attributes": {"valid": False}}})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        pytest.param(VALID, ("application key in DD_APP_KEY", "rum_apps_read"), id="valid"),
        pytest.param(reply(body={"valid": True}), ("application key in DD_APP",), id="as v1"),
        pytest.param(reply(body={"status": "ok"}), ("application key in DD_APP",), id="ok"),
        pytest.param(
            reply(403, {"errors": ["F"]}), ("not accept the API key in DD_API",), id="403"
        ),
        pytest.param(reply(401, b""), ("not accept the API key in DD_API_KEY",), id="401"),
        pytest.param(INVALID, ("not accept the API key in DD_API_KEY",), id="not valid"),
        pytest.param(reply(404), ("refused (DD_API_KEY, DD_APP_KEY)",), id="404"),
        pytest.param(reply(), ("refused (DD_API_KEY, DD_APP_KEY)",), id="another answer"),
        pytest.param(reply(body="[" * 99_999), ("refused (DD_API_KEY, DD_APP",), id="no JSON"),
        pytest.param(reply(403, "<html>No"), ("refused (DD_API_KEY, DD_APP_KEY)",), id="page"),
        pytest.param(raw.CUT, ("refused (DD_API_KEY, DD_APP_KEY)",), id="cut"),
    ],
)
@pytest.mark.parametrize("status", [401, 403])
def test_refused_keys_are_told_apart_where_the_api_tells(
    status: int, said: Reply, words: tuple[str, ...]
) -> None:
    refused = reply(status, {"errors": ["Forbidden"]})
    with RawServer(refused, otherwise=said) as server, datadog(server) as it:
        with pytest.raises(DatadogAuthError) as caught:
            ask(it)
        for _ in range(3):
            told = it.explained(caught.value)
    text = str(told)
    assert text.startswith(f"view /home: {status}: Forbidden; the keys were refused")
    assert all(word in text for word in words)
    assert isinstance(told, DatadogAuthError)
    assert (told.status, told.requests) == (status, 1)
    questions = [target for target in server.targets if target == "/api/v2/validate"]
    assert len(questions) == (2 if said is raw.CUT else 1)
    assert server.header("DD-API-KEY", 1) == API_KEY
    assert server.header("DD-APPLICATION-KEY", 1) is None


def test_eight_threads_ask_once_which_key_was_refused() -> None:
    refused = reply(403, {"errors": ["Forbidden"]})
    slow = replace(VALID, pause_s=0.1)
    with (
        RawServer(refused, otherwise=slow) as server,
        datadog(server) as it,
        ThreadPoolExecutor(8) as pool,
    ):
        with pytest.raises(DatadogAuthError) as caught:
            ask(it)
        told = set(pool.map(str, pool.map(it.explained, [caught.value] * 8)))
    assert len(told) == 1
    assert len(server.heads) == 2


def test_refused_token_is_named_and_nothing_more_is_asked() -> None:
    with RawServer(reply(401, b"")) as server, datadog(server, keys=BEARER) as it:
        with pytest.raises(DatadogAuthError, match="the token in DD_BEARER_TOKEN") as caught:
            ask(it)
        assert it.explained(caught.value) is caught.value
    assert len(server.heads) == 1


def test_refusal_by_a_web_page_keeps_its_text_and_names_the_keys_too() -> None:
    page = reply(403, "<html><title>Blocked by ACME</title></html>")
    with RawServer(page) as server, datadog(server) as it:
        with pytest.raises(DatadogAuthError) as caught:
            ask(it)
        assert it.explained(caught.value) is caught.value
    text = str(caught.value)
    assert text.startswith("view /home: 403: Blocked by ACME; a web page, as a proxy or a firewall")
    assert "the keys were refused (DD_API_KEY, DD_APP_KEY)" in text
    assert len(server.heads) == 1


def test_nobody_who_answers_for_the_keys_costs_no_wait() -> None:
    when = FakeTime()
    refused = reply(403, b"")
    limited = reply(429, b"", {"X-RateLimit-Reset": 600})
    with RawServer(refused, otherwise=limited) as server, datadog(server, when) as it:
        with pytest.raises(DatadogAuthError) as caught:
            ask(it)
        it.explained(caught.value)
    assert (len(server.heads), when.waits) == (2, [])


@pytest.mark.parametrize("status", [400, 402, 404, 405, 410, 422, 499])
def test_other_4xx_is_not_tried_again_whatever_its_body(status: int) -> None:
    with (
        RawServer(reply(status, DATA)) as server,
        datadog(server) as it,
        pytest.raises(DatadogRequestError, match=f"^view /home: {status}$") as caught,
    ):
        ask(it)
    assert caught.value.status == status


def test_refusal_stands_when_its_body_is_broken() -> None:
    cut = reply(403, b"{", {"Content-Length": 99}, end="close")
    assert type(failure(cut)) is DatadogAuthError
    assert type(failure(reply(404, b"x", {"Content-Encoding": "gzip"}))) is DatadogRequestError


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed_and_only_its_host_is_named(status: int) -> None:
    with RawServer(otherwise=reply()) as other:
        to = {"Location": f"http://u:p@127.0.0.1:{other.port}/login?next=secret"}
        error = failure(reply(status, DATA, to))
    assert type(error) is DatadogRequestError
    assert str(error) == (
        f"view /home: {status}; the API redirects to 127.0.0.1: check site and api_url"
    )
    assert other.heads == []


@pytest.mark.parametrize("location", [None, "/elsewhere"])
def test_redirect_without_a_host_is_an_error_too(location: str | None) -> None:
    error = failure(reply(304, b"", {"Location": location} if location else {}))
    assert str(error) == "view /home: 304; the API redirects: check site and api_url"


SHAPES = {
    "texts": (b'{"errors": ["API key required", "b"]}', "API key required"),
    "title": (b'{"errors": [{"title": "Forbidden"}]}', "Forbidden"),
    "title and detail": (b'{"errors": [{"status": "400", "title": "T", "detail": "d"}]}', "T: d"),
    "parameter": (
        b'{"errors": [{"detail": "too large", "source": {"parameter": "page[limit]"}}]}',
        "too large: page[limit]",
    ),
    "empty first": (b'{"errors": ["", {}, "b"]}', "b"),
    "status beside errors": (b'{"status": "error", "code": 403, "errors": ["F"]}', "F"),
    "error details": (b'{"errors": ["Not Found"], "error_details": [{}]}', "Not Found"),
    "no errors": (b'{"errors": []}', ""),
    "errors is text": (b'{"errors": "x"}', "x"),
    "error": (b'{"error": "x"}', "x"),
    "error object": (b'{"error": {"message": "m"}}', "m"),
    "message": (b'{"message": "m"}', "m"),
    "wrong types": (b'{"errors": [1, null, {"title": 3}], "error": false}', ""),
    "data": (DATA, ""),
    "list": (b'["x"]', "x"),
    "title of a page": (b"<html><head><TITLE>\n 502 Bad\n</TITLE><h1>no</h1>", "502 Bad"),
    "heading of a page": (b"<html><body><h1>403 Forbidden</h1>adm", "403 Forbidden"),
    "empty title": (b"<title></title><h1 class='x'>A &amp; B</h1>", "A & B"),
    "page without either": (b"<p>Hello <b>you</b></p>", "Hello  you"),
    "plain text": (b"upstream timed out\n", "upstream timed out"),
    "cut JSON": (b'{"errors": ["x', '{"errors": ["x'),
    "not UTF-8": (b"caf\xe9", "caf\ufffd"),
    "nested beyond reason": (b"[" * 100_000, "[" * 20_000),
    "empty": (b"", ""),
}


@pytest.mark.parametrize(("body", "text"), SHAPES.values(), ids=SHAPES)
def test_error_text_is_found_in_every_shape(body: bytes, text: str) -> None:
    assert " ".join(error_text(body).split()) == " ".join(text.split())


@given(
    st.binary()
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["errors", "title"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_error_text_never_fails(body: bytes) -> None:
    assert isinstance(error_text(body), str)


def test_foreign_text_is_one_short_line() -> None:
    error = failure(reply(400, {"errors": ["a\r\n\x1b[31m\u202e" + "b" * 9999]}))
    assert len(error.detail) == 200
    assert error.detail.startswith("a [31m bbb")
    assert str(error).isprintable()


# --- waiting -----------------------------------------------------------------------------------

IN_30_S = "Sat, 01 Aug 2026 12:00:30 GMT"
BACKOFF = 3.2  # attempt 5, jitter at its most
WAITS: dict[str, tuple[int | None, dict[str, str], float]] = {
    "reset": (429, {"X-RateLimit-Reset": "3"}, 3),
    "reset before retry-after": (429, {"X-RateLimit-Reset": "3", "Retry-After": "9"}, 3),
    "reset in other case": (429, {"x-ratelimit-reset": "1544"}, 1544),
    "reset with fraction": (429, {"X-RateLimit-Reset": "0.5"}, 0.5),
    "reset twice": (429, {"X-RateLimit-Reset": "3, 3"}, 3),
    "reset 0": (429, {"X-RateLimit-Reset": "0"}, BACKOFF),
    "reset 0 and retry-after": (429, {"X-RateLimit-Reset": "0", "Retry-After": "9"}, 9),
    "reset junk": (429, {"X-RateLimit-Reset": "soon"}, BACKOFF),
    "reset empty": (429, {"X-RateLimit-Reset": ""}, BACKOFF),
    "reset negative": (429, {"X-RateLimit-Reset": "-5"}, BACKOFF),
    "reset nan": (429, {"X-RateLimit-Reset": "nan"}, BACKOFF),
    "reset infinite": (429, {"X-RateLimit-Reset": "inf"}, BACKOFF),
    "reset an epoch": (429, {"X-RateLimit-Reset": "1785585600"}, BACKOFF),
    "reset junk and retry-after": (429, {"X-RateLimit-Reset": "x", "Retry-After": "9"}, 9),
    "retry-after": (429, {"Retry-After": "9"}, 9),
    "retry-after date": (429, {"Retry-After": IN_30_S}, 30),
    "retry-after without zone": (429, {"Retry-After": IN_30_S.replace("GMT", "-0000")}, 30),
    "retry-after past": (429, {"Retry-After": "Sat, 01 Aug 2026 11:00:00 GMT"}, BACKOFF),
    "retry-after far": (429, {"Retry-After": "Sat, 01 Aug 2099 11:00:00 GMT"}, BACKOFF),
    "retry-after junk": (429, {"Retry-After": "Sat, 99 Xyz"}, BACKOFF),
    "retry-after 0": (429, {"Retry-After": "0"}, BACKOFF),
    "bare 429": (429, {}, BACKOFF),
    "503 with retry-after": (503, {"Retry-After": "9"}, 9),
    "503 with reset": (503, {"X-RateLimit-Reset": "9"}, BACKOFF),
    "500 with retry-after": (500, {"Retry-After": "9"}, BACKOFF),
    "200 with reset": (200, {"X-RateLimit-Reset": "9"}, BACKOFF),
    "no answer": (None, {}, BACKOFF),
}


@pytest.mark.parametrize(("status", "headers", "seconds"), WAITS.values(), ids=WAITS)
def test_wait_is(status: int | None, headers: dict[str, str], seconds: float) -> None:
    wait = stated_wait(status, httpx.Headers(headers), NOW) or backoff_s(5, 1)
    assert wait == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("attempt", "chance", "seconds"),
    [(1, 1, 0.2), (1, 0.5, 0.1), (1, 0, 0), (2, 1, 0.4), (5, 1, 3.2), (6, 1, 5), (10_000, 1, 5)],
)
def test_backoff_doubles_up_to_its_cap_with_full_jitter(
    attempt: int, chance: float, seconds: float
) -> None:
    assert backoff_s(attempt, chance) == pytest.approx(seconds)


@pytest.mark.slow
@given(st.text() | st.floats().map(str) | st.datetimes().map("{:%a, %d %b %Y %H:%M:%S GMT}".format))
def test_no_header_makes_a_wait_negative_or_endless(value: str) -> None:
    headers = {"X-RateLimit-Reset": value, "Retry-After": value}
    assert 0 <= (stated_wait(429, headers, NOW) or 0) <= 86400


def test_limited_request_waits_as_told_and_goes_on() -> None:
    when = FakeTime()
    limited = reply(429, b"", {"X-RateLimit-Reset": 3, "X-RateLimit-Remaining": 0})
    with RawServer(limited, reply()) as server, datadog(server, when) as it:
        assert ask(it).requests == 2
    assert when.waits == [3]


def test_wait_beyond_the_budget_is_given_up_at_once() -> None:
    when = FakeTime()
    limited = reply(429, b"", {"X-RateLimit-Reset": 1544})
    with (
        RawServer(limited) as server,
        datadog(server, when) as it,
        pytest.raises(
            DatadogUnavailable, match="given up: another wait would exceed max_wait_s"
        ) as caught,
    ):
        ask(it)
    assert (when.waits, caught.value.status) == ([], 429)


@pytest.mark.parametrize("max_wait_s", [0.5, 7.0, 120.0])
@pytest.mark.parametrize(
    "fault", [reply(500, b""), raw.CUT, reply(429, b"", {"X-RateLimit-Reset": 2})]
)
def test_all_waiting_for_one_view_stays_within_max_wait_s(fault: Reply, max_wait_s: float) -> None:
    when = FakeTime()
    with (
        RawServer(otherwise=fault) as server,
        datadog(server, when, max_wait_s=max_wait_s) as it,
        pytest.raises(DatadogUnavailable),
    ):
        ask(it)
    assert max_wait_s - 5 <= sum(when.waits) <= max_wait_s


def test_failed_tries_count_as_waiting() -> None:
    never = threading.Event()
    silent = Reply(wait_for=never, end="close")
    with RawServer(otherwise=silent) as server:
        settings = config(server.url, timeout_s=0.05, max_wait_s=0.2)
        with Client(settings, KEYS, jitter=lambda: 0.1) as it, pytest.raises(DatadogUnavailable):
            ask(it)
        never.set()
    assert len(server.heads) in (2, 3)


USED_UP = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "10"}


def test_used_up_limit_holds_the_next_request_of_anybody() -> None:
    when = FakeTime()
    with RawServer(reply(headers=USED_UP), reply()) as server, datadog(server, when) as it:
        assert ask(it).rate_limit_remaining == 0
        assert when.waits == []
        ask(it, View("/other"))
    assert when.waits == [10]


HEATMAPS, RUM = {"X-RateLimit-Name": "heatmaps"}, {"X-RateLimit-Name": "rum"}


@pytest.mark.parametrize(
    ("of_rum", "of_list", "waits"),
    [
        pytest.param(RUM, HEATMAPS, [], id="two names"),
        pytest.param({}, {}, [], id="no names: by endpoint"),
        pytest.param({}, HEATMAPS, [], id="one name, the list's"),
        pytest.param(RUM, {}, [], id="one name, RUM's"),
        pytest.param(RUM, RUM, [10], id="one name for both"),
        pytest.param(RUM, {"x-ratelimit-name": " rum "}, [10], id="the same name, spelt otherwise"),
    ],
)
def test_used_up_limit_of_rum_holds_the_list_only_where_they_share_its_name(
    of_rum: dict[str, str], of_list: dict[str, str], waits: list[float]
) -> None:
    when = FakeTime()
    used_up = reply(headers=USED_UP | of_rum)
    with (
        RawServer(reply(headers=of_list), used_up, reply(), used_up, reply()) as server,
        datadog(server, when) as it,
    ):
        ask(it)
        it.list_applications()
        ask(it)
        assert when.waits == waits
        when.waits.clear()
        when.now += 100
        it.try_once(AGGREGATE, {}, max_wait_s=60)
        ask(it)
    assert when.waits == waits
    assert len(server.heads) == 5


def test_used_up_limit_holds_its_own_endpoint_whatever_its_name() -> None:
    when = FakeTime()
    with (
        RawServer(reply(headers=USED_UP | RUM), reply(), reply(headers=USED_UP), reply()) as server,
        datadog(server, when) as it,
    ):
        for _ in range(4):
            ask(it)
    assert when.waits == [10, 10]


def test_endpoint_seen_under_several_names_waits_for_each() -> None:
    when = FakeTime()
    script = [reply(headers=HEATMAPS), reply(headers=RUM), reply(headers=HEATMAPS | USED_UP)]
    with RawServer(*script, otherwise=reply()) as server, datadog(server, when) as it:
        for _ in range(4):
            ask(it)
    assert when.waits == [10]


def test_one_question_waits_at_the_gate_of_its_own_endpoint_only() -> None:
    when = FakeTime()
    used_up = reply(headers=USED_UP)
    with RawServer(used_up, otherwise=reply()) as server, datadog(server, when) as it:
        it.try_once(APPLICATIONS, {}, max_wait_s=60)
        it.try_once("/api/v2/other", {}, max_wait_s=60)
        assert when.waits == []
        it.try_once(APPLICATIONS, {}, max_wait_s=60)
    assert when.waits == [10]


def test_names_without_end_fill_nothing() -> None:
    gates = Gates(lambda: 0.0)
    for number in range(1000):
        gates.note("/list", {**USED_UP, "X-RateLimit-Name": str(number)})
    assert gates.closed_for_s("/list") == 10
    assert len(gates._names["/list"]) == MOST_NAMES


@pytest.mark.parametrize("reset", ["x", "-1", "1785585600", None])
def test_used_up_limit_without_a_sensible_reset_holds_nobody(reset: str | None) -> None:
    when = FakeTime()
    headers = {"X-RateLimit-Remaining": "0"} | ({"X-RateLimit-Reset": reset} if reset else {})
    with RawServer(otherwise=reply(headers=headers)) as server, datadog(server, when) as it:
        ask(it)
        ask(it)
    assert when.waits == []


def test_gate_counts_as_waiting() -> None:
    when = FakeTime()
    with RawServer(reply(headers=USED_UP)) as server, datadog(server, when, max_wait_s=9) as it:
        ask(it)
        with pytest.raises(DatadogUnavailable, match="view /b: the rate limit is used up"):
            ask(it, View("/b"))
    assert (len(server.heads), when.waits) == (1, [])


def test_eight_threads_share_the_gate() -> None:
    arrivals: list[float] = []

    def noting(body: bytes) -> None:
        arrivals.append(time.monotonic())

    used_up = reply(headers={"X-RateLimit-Remaining": 0, "X-RateLimit-Reset": "0.3"})
    with (
        RawServer(used_up, otherwise=reply()) as server,
        Client(config(server.url, concurrency=8), KEYS) as it,
        ThreadPoolExecutor(8) as pool,
    ):
        ask(it, limit=1, decode=noting)
        todo = [pool.submit(ask, it, limit=1, decode=noting) for _ in range(8)]
        for done in todo:
            done.result()
    first, *others = sorted(arrivals)
    assert len(others) == 8
    assert min(others) - first >= 0.29


# --- stopping ----------------------------------------------------------------------------------


def test_stop_ends_a_wait_at_once_and_nothing_more_is_sent() -> None:
    stop = threading.Event()
    limited = reply(429, b"", {"X-RateLimit-Reset": 60})
    with RawServer(limited) as server, Client(config(server.url), KEYS, stop=stop) as it:
        threading.Timer(0.05, stop.set).start()
        begun = time.monotonic()
        for _ in range(2):
            with pytest.raises(DatadogUnavailable, match=r"^stopped while waiting$"):
                ask(it)
    assert time.monotonic() - begun < 2
    assert len(server.heads) == 1


def test_stop_ends_the_wait_at_the_gate() -> None:
    when = FakeTime(stop_at=1)
    with RawServer(reply(headers=USED_UP)) as server, datadog(server, when) as it:
        ask(it)
        with pytest.raises(DatadogUnavailable, match="stopped"):
            ask(it)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_close_ends_requests_under_way(head: bytes) -> None:
    never = threading.Event()
    hanging = Reply((head, b""), pause_s=0) if head else Reply(wait_for=never)
    with RawServer(otherwise=hanging) as server, ThreadPoolExecutor(6) as pool:
        it = Client(config(server.url, timeout_s=30, concurrency=3), KEYS)
        todo = [pool.submit(ask, it) for _ in range(6)]
        assert server.asked.wait(5)
        begun = time.monotonic()
        it.close()
        for done in todo:
            assert isinstance(done.exception(5), DatadogUnavailable)
        assert time.monotonic() - begun < 2
        never.set()


# --- connections -------------------------------------------------------------------------------


def test_twenty_requests_use_one_connection() -> None:
    with RawServer(otherwise=zipped()) as server, datadog(server) as it:
        for _ in range(20):
            ask(it)
    assert (len(server.heads), server.connections) == (20, 1)


def test_connection_is_used_again_after_a_refusal() -> None:
    with RawServer(reply(500, b"oops"), reply(404), reply()) as server, datadog(server) as it:
        with pytest.raises(DatadogRequestError):
            ask(it)
        ask(it)
    assert server.connections == 1


def test_connection_closed_between_requests_goes_unnoticed() -> None:
    with RawServer(reply(end="close"), reply()) as server, datadog(server) as it:
        ask(it)
        time.sleep(0.05)
        assert ask(it).requests == 1
    assert server.connections == 2


def test_requests_in_flight_never_exceed_concurrency() -> None:
    both = threading.Barrier(2)
    with (
        RawServer(otherwise=reply(meet=both)) as server,
        datadog(server, concurrency=2) as it,
        ThreadPoolExecutor(8) as pool,
    ):
        assert len(list(pool.map(lambda _: ask(it), range(24)))) == 24
    assert server.most_in_flight == 2
    assert server.connections == 2


def test_each_request_is_told_before_it_is_sent() -> None:
    heads: list[int] = []
    with RawServer(reply(500), reply()) as server:
        settings = config(server.url)
        note: Callable[[], None] = lambda: heads.append(len(server.heads))  # noqa: E731
        with Client(settings, KEYS, stop=FakeTime(), on_request=note) as it:
            ask(it)
    assert heads == [0, 1]


# --- proxies and certificates ------------------------------------------------------------------


def test_http_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(reply()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with datadog("http://api.datadog.invalid") as it:
            ask(it)
    assert proxy.targets[0].startswith("http://api.datadog.invalid/api/v2/")


def test_proxy_of_the_environment_does_not_get_the_keys_of_a_tls_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with RawServer(otherwise=reply(502, b"", end="close")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with (
            datadog("https://api.datadog.invalid", max_wait_s=0) as it,
            pytest.raises(DatadogUnavailable, match="502"),
        ):
            ask(it)
    assert proxy.heads[0].startswith(b"CONNECT api.datadog.invalid:443 ")
    assert API_KEY.encode() not in proxy.heads[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "ftp://u:hidden@h:1"),
        ("HTTPS_PROXY", "http://u:hid/den@h:x"),
        ("SSL_CERT_FILE", "/does/not/exist.pem"),
    ],
)
def test_unusable_environment_is_a_configuration_error(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name) as caught:
        Client(config("https://api.datadog.invalid"), KEYS)
    assert "hid" not in "".join(traceback.format_exception(caught.value))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


def test_unknown_certificate_is_refused_at_once(certificate: Path) -> None:
    tls = server_tls(certificate)
    with (
        RawServer(tls=tls) as server,
        datadog(server) as it,
        pytest.raises(DatadogUnavailable, match=r"CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE"),
    ):
        ask(it)
    assert server.heads == []
    assert server.connections == 1


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("certificate has expired", "check SSL_CERT_FILE and this machine's clock"),
        ("certificate is not yet valid", "check SSL_CERT_FILE and this machine's clock"),
        ("self-signed certificate", "check SSL_CERT_FILE"),
    ],
)
def test_a_certificate_out_of_its_time_may_mean_a_wrong_clock(reason: str, advice: str) -> None:
    assert _untrusted(f"CERTIFICATE_VERIFY_FAILED: {reason}") == advice


def test_certificate_of_the_environment_is_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = server_tls(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    never = threading.Event()
    with RawServer(reply(), Reply(wait_for=never), tls=tls) as server, ThreadPoolExecutor() as pool:
        it = Client(config(server.url, timeout_s=30), KEYS)
        assert ask(it).content == []
        server.asked.clear()
        hanging = pool.submit(ask, it)
        assert server.asked.wait(5)
        it.close()
        assert isinstance(hanging.exception(5), DatadogUnavailable)
        never.set()


# --- secrets -----------------------------------------------------------------------------------


@pytest.fixture
def every_logger(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All loggers at DEBUG, also those that somebody set to something else."""
    caplog.set_level(logging.DEBUG)
    names = [*logging.root.manager.loggerDict, "httpx", "httpcore", "httpcore.http11"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in before:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield caplog
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("keys", [KEYS, BEARER])
def test_no_key_is_logged_or_raised_when_a_proxy_echoes_them(
    keys: Keys, every_logger: pytest.LogCaptureFixture
) -> None:
    secrets = [key for key in (keys.api_key, keys.app_key, keys.bearer_token) if key]
    echo = " ".join(secrets)
    headers = {"X-Echo": echo, "Set-Cookie": echo, "X-RateLimit-Name": echo}
    seen = [repr(keys)]
    for status in (200, 302, 400, 403, 429, 500):
        location = {"Location": f"http://{echo.replace(' ', '.')}/"} if status == 302 else {}
        error = failure(reply(status, echo, headers | location), keys=keys, max_wait_s=3)
        seen += [*traceback.format_exception(error), repr(error), repr(vars(error))]
        assert error.__cause__ is error.__context__ is None
    with RawServer(otherwise=reply(headers=headers)) as server, datadog(server, keys=keys) as it:
        seen += [repr(ask(it)), repr(it.list_snapshots(HOME, 1)), repr(it)]
    seen += [every_logger.text, *(repr(vars(record)) for record in every_logger.records)]
    assert "***" in "".join(seen)
    for secret in secrets:
        assert all(secret not in text for text in seen)


def test_requests_are_logged_for_debugging_and_waits_for_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with RawServer(reply(500, b"oops"), raw.RESET, reply()) as server, datadog(server) as it:
        ask(it)
    lines = [(r.levelname, r.getMessage().partition(", 0 ms")[0]) for r in caplog.records]
    assert {r.name for r in caplog.records} == {"etl.datadog.client"}
    assert lines[0] == ("DEBUG", "view /home: 500")
    assert lines[1][1].startswith("view /home: 500: oops; waiting ")
    assert [level for level, _ in lines] == ["DEBUG", "INFO", "DEBUG", "INFO", "DEBUG"]
    assert caplog.messages[-1] == "view /home: 200, 0 ms, 12 bytes"
