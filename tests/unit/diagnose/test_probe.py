"""`check --report`: what it finds out about servers, and what it does not reveal."""

import itertools
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from httpx import Headers
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.config.credentials import Keys
from etl.config.model import Config, Sources
from etl.config.views import View
from etl.diagnose.probe.answers import NAME_VARIANTS, findings
from etl.diagnose.probe.data import Answer as ProbeAnswer
from etl.diagnose.probe.data import Probe
from etl.diagnose.probe.questions import MAX_QUESTIONS, credentials, probe
from etl.diagnose.probe.records import date_form
from etl.diagnose.probe.redaction import LONGEST, Redaction
from etl.diagnose.probe.report import markdown, report_data, report_path, write_report
from etl.errors import ConfigError, EtlError
from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog, World
from tests.support.api import record
from tests.support.fake_time import long_window_s
from tests.support.paths import ROOT
from tests.support.project import Project, make_config

NOWHERE = "sqlite:///nowhere.db"
JSON = {"Content-Type": "application/json"}
Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[str, dict[str, str]], Answer]


@contextmanager
def scripted_server(script: Script) -> Iterator[str]:
    """A server that answers with `script(path, query)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, query = self.path.partition("?")
            status, headers, body = script(path, dict(parse_qsl(query, keep_blank_values=True)))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - named by the base class

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def body_of(document: object) -> bytes:
    return json.dumps(document).encode()


def listed(records: list[Any], headers: dict[str, str] | None = None) -> Answer:
    return 200, headers or JSON, body_of({"data": records})


def limit_of(query: dict[str, str], default: int) -> int:
    text = query.get("page[limit]", "")
    return int(text) if text.isdecimal() and text != "0" else default


def findings_of(config: Config, *counts: int, stop: bool = False) -> dict[str, Any]:
    """Every finding by its key, as JSON."""
    event = threading.Event()
    if stop:
        event.set()
    views = list(zip(config.views, counts or (0,) * len(config.views), strict=True))
    return {f.key: f.as_json() for f in findings(probe(config, views, event))}


def answer(facts: dict[str, Any], key: str) -> str:
    """The answer; `not known: ...` is none."""
    assert facts[key]["is_answered"], facts[key]
    text: str = facts[key]["answer"]
    return text


def reason_without(facts: dict[str, Any], key: str) -> str:
    assert not facts[key]["is_answered"], facts[key]
    text: str = facts[key]["answer"]
    return text.removeprefix("not known: ")


def fake_config(datadog: FakeDatadog, *views: str) -> Config:
    config = make_config(NOWHERE, datadog.url, views)
    return replace(config, keys=Keys(API_KEY, APP_KEY), max_wait_s=60.0)


# --- the fake -----------------------------------------------------------------------------


def test_what_is_known_of_the_fake_is_found() -> None:
    world = World(views=("/home", "/little"), snapshots_per_view=0)
    for _ in range(1500):
        world.pin("/home")
    with FakeDatadog(world) as datadog:
        facts = findings_of(fake_config(datadog, "/home", "/little"), 1500, 0)
        assert datadog.request_count <= MAX_QUESTIONS
    assert answer(facts, "default_limit") == "10, of at least 1,500"
    assert answer(facts, "maximum_limit").startswith("1,000: more are asked for without an error")
    assert answer(facts, "limit_honoured").startswith("yes; asked for 100: 100 came")
    assert facts["order"]["facts"]["created_at"] == "descending"
    assert answer(facts, "stable") == "yes"
    assert answer(facts, "match_view_name").startswith("exactly; ")
    assert answer(facts, "match_device_type").startswith("case matters")
    for key in ("empty_view_name", "missing_view_name"):
        assert answer(facts, key) == "400: Bad Request: filter[view_name] is required"
    for key in ("limit_zero", "limit_negative", "limit_text"):
        assert "page[limit] must be a positive integer" in answer(facts, key)
    assert answer(facts, "rate_limit_list").startswith("rum_replay_heatmap_snapshots: limit 1000")
    assert facts["rate_limit_aggregate"]["facts"]["name"] == "rum_public_api"
    assert answer(facts, "applications") == "yes, it names 5"
    assert answer(facts, "aggregate") == "yes"
    assert answer(facts, "credentials") == "API key and application key: accepted"
    assert facts["transport"]["facts"]["gzipped"] > 0
    assert answer(facts, "id_shape") == "1,000 of 1,000"
    assert answer(facts, "unknown_attributes") == answer(facts, "members") == "none"
    assert facts["dates"]["facts"]["created_at"]["6 digits Z"] > 500
    counts = facts["null_or_absent"]["facts"]["session_id"]
    assert counts["null"] > 0
    assert counts["absent"] > 0
    assert facts["attribute_types"]["facts"]["org_id"] == {"number": 1000}
    assert reason_without(facts, "refusal") == "these keys were refused nowhere"
    assert "nothing is stored yet" in reason_without(facts, "unpinned")


def test_a_small_organization_says_what_it_cannot_tell() -> None:
    with FakeDatadog(World(views=("/home",), snapshots_per_view=4)) as datadog:
        facts = findings_of(fake_config(datadog, "/home"), 4)
    assert reason_without(facts, "default_limit") == "the largest view has 4 records, and all came"
    assert (
        reason_without(facts, "maximum_limit")
        == "10,000 is accepted, but the largest view has 4 records"
    )
    assert answer(facts, "limit_honoured") == "yes; asked for 1: 1 came"


def test_an_empty_view_and_an_unknown_one_say_so() -> None:
    with FakeDatadog(World(views=("/home",), snapshots_per_view=0)) as datadog:
        facts = findings_of(fake_config(datadog, "/home"), 0)
    assert reason_without(facts, "match_view_name") == "the view has no record"
    assert reason_without(facts, "dates") == "no record was read"
    assert reason_without(facts, "order") == "the largest view has 0 records"
    assert answer(facts, "empty_view_name").startswith("400")


def test_of_few_records_other_views_are_asked_too() -> None:
    views = ("/a", "/b", "/c", "/d")
    with FakeDatadog(World(views=views, snapshots_per_view=4)) as datadog:
        facts = findings_of(fake_config(datadog, *views), 4, 4, 4, 4)
        asked = [r.query.get("filter[view_name]") for r in datadog.requests]
    assert facts["id_shape"]["facts"]["records"] == 12
    assert "/d" not in asked


def test_refused_keys_give_the_body_of_the_refusal() -> None:
    with FakeDatadog(World(views=("/home",), snapshots_per_view=4)) as datadog:
        facts = findings_of(make_config(NOWHERE, datadog.url), -1)
        assert datadog.request_count == 3
    assert "list: 403: Forbidden (errors: list of object" in answer(facts, "refusal")
    assert answer(facts, "credentials") == "API key and application key: refused, 403"
    assert reason_without(facts, "limit_zero") == "the list endpoint brought no list"


def test_without_an_answer_every_question_says_why() -> None:
    facts = findings_of(make_config(NOWHERE, "http://127.0.0.1:9"), -1)
    assert not any(finding["is_answered"] for finding in facts.values())
    assert reason_without(facts, "default_limit") == "ConnectError"


def test_a_stop_asks_nothing_more() -> None:
    with FakeDatadog(World(views=("/home",), snapshots_per_view=4)) as datadog:
        facts = findings_of(fake_config(datadog, "/home"), 4, stop=True)
        assert datadog.request_count == 0
    assert reason_without(facts, "applications") == "stopped"


def test_the_rate_limit_is_waited_for_but_not_for_ever() -> None:
    with FakeDatadog(World(views=("/home",)), rate_limit=(3, long_window_s())) as datadog:
        facts = findings_of(fake_config(datadog, "/home"), 4)
        assert datadog.request_count == 3 + 2  # RUM has a limit of its own
    assert "the rate limit is used up" in reason_without(facts, "stable")


def test_what_the_tables_say_of_removed_snapshots(project: Project, api: Any) -> None:
    for ids in ("abc", "ab", "abc", "bc"):
        api.views["/home"] = [record(identifier) for identifier in ids]
        project.run()
    rows = probe(project.config, [], threading.Event()).stored
    assert rows == {"rows": 3, "removed": 1, "returned": 1}


# --- other servers ------------------------------------------------------------------------


def rows(number: int, **attributes: object) -> list[Any]:
    return [record(f"id-{n:04}", **attributes) for n in range(number)]


def facts_of(script: Script, *counts: int) -> dict[str, Any]:
    with scripted_server(script) as url:
        return findings_of(make_config(NOWHERE, url), *counts)


def test_a_refused_limit_is_found() -> None:
    def script(path: str, query: dict[str, str]) -> Answer:
        limit = limit_of(query, 25)
        if limit > 1000:
            return 400, JSON, body_of({"errors": ["page[limit] must be at most 1000"]})
        return listed(rows(60)[:limit])

    facts = facts_of(script, 60)
    text = "1,000 is accepted, 1,001 is refused: 400: page[limit] must be at most 1000"
    assert answer(facts, "maximum_limit") == text
    assert answer(facts, "default_limit") == "25, of at least 60"


def test_a_large_limit_that_falls_back_to_a_small_one_is_found() -> None:
    def script(path: str, query: dict[str, str]) -> Answer:
        limit = limit_of(query, 10)
        return listed(rows(60)[: limit if limit <= 100 else 10])

    assert answer(facts_of(script, 60), "maximum_limit") == "100 brings 60, 1,000 only 10"


def test_a_lax_and_restless_server_is_seen_as_such() -> None:
    turn = [0]

    def script(path: str, query: dict[str, str]) -> Answer:
        if "applications" in path:
            return 403, {"Content-Type": "text/plain"}, b'{"errors": ["Forbidden"]}'
        if "aggregate" in path:
            return 403, {"Content-Type": "text/html"}, b"<h1>403 Forbidden</h1>"
        turn[0] += 1
        name = query.get("filter[view_name]", "").strip().lower()
        some = rows(12, device_type="Desktop") if name == "/home" else []
        return listed((some[turn[0] % 3 :] + some[: turn[0] % 3])[: limit_of(query, 5)])

    facts = facts_of(script, 12)
    text = answer(facts, "match_view_name")
    assert text.startswith("not exactly; the name in the other case: the same records")
    assert "with a blank at each end: the same records" in text
    assert "with * for its last character: nothing" in text
    assert answer(facts, "match_device_type").startswith("case does not matter")
    assert answer(facts, "stable") == "no: the same records in another order"
    assert answer(facts, "empty_view_name") == "200, 0 records"
    assert answer(facts, "limit_negative") == "200, 5 records"
    assert answer(facts, "applications") == "403: Forbidden"
    text = answer(facts, "refusal")
    assert "applications: 403: Forbidden (errors: list of string, text/plain)" in text
    assert "aggregate: 403: 403 Forbidden (not JSON, text/html)" in text


def test_shapes_of_records_are_counted() -> None:
    records = [
        record("a", created_at="2026-02-01T10:00:00.123456789+00:00", session_id=None, colour=1),
        record(7, created_at=1_770_000_000_000, org_id="42"),
        "no object",
        {**record("00000000-0000-0000-0000-000000000001"), "links": {}},
    ]
    del records[0]["attributes"]["view_id"]  # type: ignore[index]
    document = {"data": records, "meta": {"next": "x"}, "links": {}}
    facts = facts_of(lambda _path, _query: (200, JSON, body_of(document)), 4)
    assert answer(facts, "members") == "links, meta"
    assert answer(facts, "unknown_attributes") == (
        "beside attributes: links; 1 name that Datadog does not document"
    )
    assert facts["unknown_attributes"]["facts"]["others"] == 1
    assert answer(facts, "id_shape") == "1 of 4"
    kinds = facts["attribute_types"]["facts"]
    assert kinds["id"] == {"absent": 1, "number": 1, "string": 2}
    assert kinds["org_id"] == {"absent": 1, "number": 2, "string": 1}
    assert facts["null_or_absent"]["facts"]["session_id"] == {"null": 1, "absent": 1}
    forms = facts["dates"]["facts"]["created_at"]
    assert forms == {"6 digits Z": 1, "9 digits +00:00": 1, "number of 13 digits": 1}


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"data": 7}', b"[1]", b"\xff\xfe", b'{"data": [' + b"[" * 5000]
)
def test_a_200_that_is_no_list_is_no_answer(body: bytes) -> None:
    facts = facts_of(lambda _path, _query: (200, {}, body), 4)
    assert "no list of records" in reason_without(facts, "default_limit")
    assert not facts["maximum_limit"]["is_answered"]


def test_an_outage_after_the_first_answer_answers_nothing_more() -> None:
    seen: list[int] = []

    def script(path: str, query: dict[str, str]) -> Answer:
        seen.append(1)
        return listed(rows(9)) if len(seen) == 1 else (503, {}, b"")

    facts = facts_of(script, 9)
    for key in ("maximum_limit", "empty_view_name", "applications", "aggregate", "stable"):
        assert not facts[key]["is_answered"], key
    assert answer(facts, "id_shape") == "0 of 9"


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("2026-02-01T10:00:00Z", "0 digits Z"),
        ("2026-02-01T10:00:00.5", "1 digits no zone"),
        ("2026-02-01T10:00:00.12345+02:00", "5 digits another offset"),
        ("yesterday", "another string"),
        ("1770000000", "string of 10 digits"),
        (None, "null"),
        (True, "boolean"),
    ],
)
def test_forms_of_dates(value: Any, form: str) -> None:
    assert date_form(value) == form


# --- what is not revealed -----------------------------------------------------------------

MARK = "mark3r"


def marked(number: int) -> dict[str, Any]:
    names = list(record("x")["attributes"])
    attributes: dict[str, object] = {name: f"{MARK}-{name}-{number}" for name in names}
    attributes |= {f"{MARK}@example.com": f"{MARK}-extra", "org_id": 44_332_211, "start": 55_443}
    inner = {f"{MARK} name": [f"{MARK}-deep", {"x": MARK}]}
    return {"id": f"{MARK}-id-{number}", "type": MARK, "attributes": attributes, MARK + "-m": inner}


def leaky(path: str, query: dict[str, str]) -> Answer:
    """A server that repeats personal data everywhere."""
    name = query.get("filter[view_name]", MARK)
    text = f"{name} of {MARK}@example.com, org 44332211, session {MARK}-id-1, host {MARK}.test"
    text += f": start 55443, key {MARK}-api, Error Limit for bad request"
    headers = {
        "Content-Type": f"application/json; {MARK}=1",
        "X-RateLimit-Name": f"{MARK}-44332211",
        "X-RateLimit-Limit": MARK,
        "X-RateLimit-Period": "10",
        "X-Request-Id": MARK,
        "Server": MARK,
    }
    is_error = query.get("page[limit]", "") in ("0", "-1", "ten", "10000") or name != f"/{MARK}/x"
    if is_error and "rum" not in path:
        return 400, headers, body_of({"errors": [{"title": text, "detail": MARK}]})
    meta = {MARK + "-meta": MARK, "data": [marked(n) for n in range(12)]}
    return 200, headers, body_of(meta)


def test_nothing_personal_stands_in_the_report(tmp_path: Path) -> None:
    with scripted_server(leaky) as url:
        plain = make_config(NOWHERE, url, [f"/{MARK}/x", View("Error Limit", "app", None)])
        config = replace(plain, keys=Keys(f"{MARK}-api", f"{MARK}-app"), source=MARK)
        file = tmp_path / "report.md"
        lines = write_report(config, file, [(view, 12) for view in config.views], threading.Event())
        port = url.rpartition(":")[2]
    text = file.read_text(encoding="utf-8")
    assert "questions answered" in lines[0]
    assert "400" in text
    for secret in (MARK, "44332211", "44_332_211", "55443", "Error Limit", "example.com", port):
        assert secret.lower() not in text.lower(), secret
    assert "127.0.0.1" not in text
    assert "- site: custom" in text


LETTERS = "abcdefghijklmnopqrstuvwxyz"
# No word of the report begins so; it may hold any other that somebody is called.
NAMES = st.text(LETTERS, min_size=4, max_size=9).map("zq{}".format)
NUMBERS = st.integers(20_001, 10**12).map(str)
ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=4).map("{}:8443".format),
    st.ip_addresses(v=6).map(str).filter(lambda text: len(text) > 4),
    st.ip_addresses(v=6).map(lambda ip: ip.exploded),
)
PRIVATE = st.one_of(
    NAMES,
    NAMES.map(str.title),
    st.tuples(NAMES, NAMES).map(" ".join),
    st.tuples(NAMES, NAMES).map("@".join).map("{}.com".format),
    st.tuples(NAMES, NAMES).map("_".join),
    st.tuples(NAMES, st.sampled_from(["local", "api.data", "request.page"])).map(".".join),
    st.sampled_from(["Max Page", "Will Long", "Bill Short", "May List", "api.page", "/page/list"]),
    NUMBERS,
    ADDRESSES,
    st.uuids().map(str),
    st.binary(min_size=16, max_size=20).map(bytes.hex),
    NAMES.map("/{}/?".format),
    st.tuples(NAMES, NUMBERS).map("".join),
    st.tuples(NAMES, NUMBERS).map("-".join),
)
# What stands before a planted text. After "limit" a number would be one of a limit.
BEFORE = st.sampled_from(
    [
        *("", "user", "for organization", "Invalid value:", "limit for user", "page[limit] of org"),
        *("host", "from", "by", "(", '"', "missing permission for", "session=", "the key", "id:"),
        *("Not Found:", "exceeded by user", "at most one view of", "account #", "request_id"),
    ]
)
AFTER = st.sampled_from(["", ".", ")", '"', " is not allowed", ": page[limit] must be at most 100"])
SENTENCES = st.tuples(BEFORE, PRIVATE, AFTER)


def planted_answers(told: list[tuple[str, str, str]], private: list[str]) -> dict[str, Any]:
    """An answer to every question, with a private text in each place that holds any text."""
    texts, turn = [" ".join(filter(None, parts)) for parts in told], itertools.count()

    def one() -> str:
        return private[next(turn) % len(private)]

    def headers() -> Headers:
        own = {f"X-{name}": one() for name in ("Request-Id", "Org", "Forwarded-For")}
        limits = {f"X-RateLimit-{name}": one() for name in ("Limit", "Period", "Reset")}
        limits = {name: value for name, value in limits.items() if not value.isdecimal()}
        rate = {"X-RateLimit-Name": one(), "Server": one(), "Content-Encoding": one()}
        return Headers(own | limits | rate | {"Content-Type": f"{one()}/{one()}"})

    def listed_body() -> bytes:
        names = list(record("x")["attributes"])
        attributes = {name: one() for name in names} | {one(): one(), "created_at": one()}
        item = {"id": one(), "type": one(), "attributes": attributes, one(): {one(): one()}}
        return body_of({"data": [item, {**item, "id": one()}, one()], one(): one()})

    def error_body(number: int) -> bytes:
        text = texts[number % len(texts)]
        shapes: list[object] = [
            {"errors": [text]},
            {"errors": [{"title": text, "detail": text, "source": {"parameter": one()}}]},
            {"error": {"message": text}, one(): one()},
        ]
        plain = [text.encode(), f"<html><title>{text}</title></html>".encode()]
        return [*map(body_of, shapes), *plain][number % 5]

    answers = {}
    for number, key in enumerate(QUESTIONS):
        is_listed = key in ("default", "limit 1000", "limit 100", "again", "view 2") or number % 4
        status = 200 if is_listed and number % 5 else (400, 401, 403, 404, 429, 500)[number % 6]
        body = listed_body() if status == 200 else error_body(number)
        answers[key] = ProbeAnswer(status, headers(), body)
    return answers


QUESTIONS = (
    *("default", "limit 10000", "limit 1001", "limit 1000", "limit 100", "again", *NAME_VARIANTS),
    *("device", "device case", "empty", "missing", "limit zero", "limit negative", "limit text"),
    *("applications", "aggregate", "view 2", "view 3"),
)


@given(st.lists(SENTENCES, min_size=3, max_size=9), st.lists(PRIVATE, min_size=5, max_size=12))
@settings(max_examples=60, deadline=None)
def test_no_private_text_is_in_a_report_wherever_it_is_planted(
    told: list[tuple[str, str, str]], private: list[str]
) -> None:
    """Though nothing of it was known before as a value: only what is on a list passes."""
    result = Probe(7, "bearer token", Redaction())
    result.answers = planted_answers(told, private)
    config = make_config(NOWHERE, "http://127.0.0.1:9", ["/home"])
    report = report_data(config, result)
    text = json.dumps(report, ensure_ascii=False) + markdown(report)
    for planted in (*private, *(planted for _, planted, _ in told)):
        assert planted.lower() not in text.lower()
        for part in re.findall(r"zq[a-z]+|[0-9]{5,}", planted.lower()):
            assert part not in text.lower(), planted


def test_the_property_can_fail() -> None:
    """Each kind of text is found where a report repeats what it was told."""
    told = [("user", "lovelace", ""), ("from", "10.1.2.3", "")]
    answers = planted_answers(told, ["ada.lovelace@example.com", "44332211", "fe80::1234"])
    bodies = b"".join(answer.body for answer in answers.values()).decode()
    heads = repr([dict(answer.headers) for answer in answers.values()])
    for planted in ("ada.lovelace@example.com", "44332211", "fe80::1234", "lovelace", "10.1.2.3"):
        assert planted in bodies
    assert "ada.lovelace@example.com" in heads


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("page[limit] must be at most 1000", "page[limit] must be at most 1000"),
        ("page[limit] must be between 1 and 1000.", "page[limit] must be between 1 and 1000."),
        ("page[limit]=10001 exceeds the maximum of 10000", None),
        ("Limit: 55443, maximum 1,000", "Limit: 55443, maximum 1,000"),
        ("limit exceeded by user 55443", "limit exceeded by user [...]"),
        ("org 55443: limit exceeded", "org [...] limit exceeded"),
        ("limit of 10.20.30.40", "limit of [...]"),
        ("limit ::1 limit fe80::1 limit 1:2:3", "limit [...] limit [...] limit [...]"),
        ("limit 5544332211", "limit [...]"),
        ("at most 100: 55443", "at most 100: [...]"),
        ("range 10 168 1 17", "range 10 168 [...]"),
        ("at most 10, 168, 1, 17", "at most 10, 168, [...]"),
        ("max 415 555 and 1234", "max 415 555 and [...]"),
        ("it exceeds the limit. 55443", "it exceeds the limit. [...]"),
        ("limit exceeded: 55443", "limit exceeded: [...]"),
        ("limit ) 55443", "limit ) [...]"),
        ("the maximum is now 55443", "the maximum is [...]"),
        ("429 Too Many Requests", "429 Too Many Requests"),
        ("430 Too Many Requests", "[...] Too Many Requests"),
        ("Max Page is not allowed", "[...] is not allowed"),
        ("api.page and page/list and list-user", "[...] and [...] and [...]"),
    ],
)
def test_numbers_pass_only_after_words_about_limits(text: str, kept: str | None) -> None:
    assert Redaction().sentence(text, 429) == (text if kept is None else kept)


def test_a_name_of_a_limit_is_shown_when_it_has_only_the_words_of_such_names() -> None:
    for name in ("rum_replay_heatmap_snapshots", "rum_public_api", "logs_public_search_api"):
        assert Redaction().limit_name(name) == name
        assert Redaction([(name, "view")]).limit_name(name) == "a name that is not shown"
    for name in ("rum_ada_api", "rum-10-1-2-3", "rum_44332211", "ada_lovelace", "api_" * 9, ""):
        assert Redaction().limit_name(name) == "a name that is not shown"


def test_a_report_is_one_structure_told_twice(tmp_path: Path) -> None:
    with FakeDatadog(World(views=("/home",))) as datadog:
        config = fake_config(datadog, "/home")
        report = report_data(config, probe(config, [(config.views[0], 4)], threading.Event()))
    text = markdown(report)
    (block,) = text.split("```json\n")[1:]
    assert json.loads(block.split("\n```")[0]) == json.loads(json.dumps(report))
    for finding in report["findings"]:
        assert text.count(finding["question"]) == 2


def test_an_error_text_keeps_harmless_words_only() -> None:
    redaction = Redaction([("/shop", "view 1"), ("k3y", "key"), ("Bad Request", "value")])
    texts = {
        "Bad Request: page[limit] must be in 1..1000": "[value] : page[limit] must be in 1..1000",
        "no view '/SHOP' found": "no view ' [view 1] ' found",
        "/shopping is unknown": "[...] is unknown",
        "invalid k3y for Ada Lovelace, ada@example.com": "invalid [key] for [...]",
        "org 1234567 denied": "org [...] denied",
        "error\u202e\x1b[31m`x`": "[...]",
        "you need rum_apps_read.": "you need rum_apps_read.",
        "[Ada] is [smith 7]": "[...] is [...]",
    }
    assert {text: redaction.sentence(text) for text in texts} == texts
    assert len(redaction.sentence("limit " * 100)) == LONGEST


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (Keys("a", "b"), "API key and application key"),
        (Keys("a", "ddpat_b"), "API key and personal access token"),
        (Keys(bearer_token="ddsat_x"), "bearer token (service account access token)"),
        (Keys(bearer_token="x"), "bearer token"),
    ],
)
def test_only_the_kind_of_the_credentials_is_told(keys: Keys, kind: str) -> None:
    assert credentials(keys) == kind


# --- the file -----------------------------------------------------------------------------


def test_a_file_that_is_there_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    config = replace(make_config(NOWHERE, "http://127.0.0.1:9"), path=tmp_path / "h.toml")
    sources = Sources((config,), is_folder=False)
    assert report_path(sources, Path("r.md")) == tmp_path / "r.md"
    (tmp_path / "r.md").symlink_to(tmp_path / "nothing")
    for file, word in (("r.md", "is there already"), ("no/r.md", "folder does not exist")):
        with pytest.raises(ConfigError, match=word):
            report_path(sources, Path(file))
    with pytest.raises(ConfigError, match="one organization"):
        report_path(Sources((config,), is_folder=True), Path("new.md"))


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    config, path = make_config(NOWHERE, "http://127.0.0.1:9"), tmp_path / "r.md"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(EtlError, match="is there already"):
        write_report(config, path, [], threading.Event())
    assert [file.read_text(encoding="utf-8") for file in tmp_path.iterdir()] == ["mine"]


def test_without_keys_or_when_stopped_there_is_no_report(tmp_path: Path) -> None:
    config = replace(make_config(NOWHERE, "http://127.0.0.1:9"), keys=None)
    assert "no keys" in write_report(config, tmp_path / "r.md", [], threading.Event())[0]
    stopped = threading.Event()
    stopped.set()
    keys = Keys("a", "b")
    assert write_report(replace(config, keys=keys), tmp_path / "r.md", [], stopped) == []
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    toml = tmp_path / "heatmap-etl.toml"
    toml.write_text(f'database_url = "{NOWHERE}"\nviews = ["/home", "/none"]\n', encoding="utf-8")
    with FakeDatadog(World(views=("/home",), snapshots_per_view=12)) as datadog:
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DD_API_KEY": API_KEY,
            "DD_APP_KEY": APP_KEY,
            "HEATMAP_ETL_DATADOG_API_URL": datadog.url,
        }
        arguments = ("--report", "r.md", "--config", str(toml))
        first, second = (
            subprocess.run(
                [sys.executable, "-W", "error", "-m", "etl", "check", *arguments],
                cwd=tmp_path / "sub",
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            for _ in range(2)
        )
    assert (first.returncode, first.stderr) == (0, "")
    assert "Wrote " in first.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"sub", "r.md", "heatmap-etl.toml"}
    assert stat.S_IMODE((tmp_path / "r.md").stat().st_mode) == 0o600
    assert "/home" not in (tmp_path / "r.md").read_text(encoding="utf-8")
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.startswith("heatmap-etl: ")
    assert second.stderr.count("\n") == 1
