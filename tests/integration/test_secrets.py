"""The keys go to one host and are written down nowhere, whatever that host answers."""

import io
import logging
import sqlite3
import tempfile
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from etl.cli.output.run import quiet_lines, run_lines
from etl.cli.output.status import status_lines
from etl.config.credentials import Keys
from etl.datadog import retry
from etl.ledger.results import RunResult
from etl.monitor.status import read_status
from etl.runtime import logs
from tests.support.api import record
from tests.support.project import Project, make_config, open_project
from tests.support.raw_server import DATA, RawServer, Reply, answer, reply, view_of
from tests.support.rum import application

API_KEY, APP_KEY = "Planted-API-key-0a1b2c", "Planted-APP-key-3d4e5f"
BEARER = "Planted-BEARER-token-6a7b"
ECHO = f"{API_KEY} {APP_KEY} {BEARER}"
KEYS = Keys(API_KEY, APP_KEY)
HEADERS = {
    "X-Echo": ECHO,
    "Set-Cookie": ECHO,
    "X-RateLimit-Name": ECHO,
    "X-RateLimit-Remaining": ECHO,
    "X-RateLimit-Reset": ECHO,
    "Retry-After": ECHO,
}
EVIL = {
    "/301": reply(301, ECHO, HEADERS | {"Location": f"https://{API_KEY}.example/?{APP_KEY}"}),
    "/302": reply(302, ECHO, HEADERS | {"Location": f"//{BEARER}@{APP_KEY}/{API_KEY}"}),
    "/307": reply(307, ECHO, HEADERS | {"Location": ECHO}),
    "/400": reply(400, {"errors": [f"limit {ECHO}"]}, HEADERS),
    "/403": reply(403, {"errors": [{"title": ECHO, "detail": ECHO}]}, HEADERS),
    "/404": reply(404, f"<html><title>{ECHO}</title></html>", HEADERS),
    "/429": reply(429, ECHO, HEADERS),
    "/500": reply(500, ECHO, HEADERS),
    "/503": reply(503, f"\n\n {ECHO}" * 40, HEADERS),
    "/html": reply(200, f"<html>{ECHO}</html>", HEADERS),
    "/json": reply(200, {"errors": [ECHO], ECHO: ECHO}, HEADERS),
    "/half": reply(200, f'{{"data": [{{"id": "{ECHO}', HEADERS),
    "/coding": reply(200, DATA, HEADERS | {"Content-Encoding": ECHO}),
    "/gzip": reply(200, ECHO, HEADERS | {"Content-Encoding": "gzip"}),
    "/status": Reply((f"HTTP/1.1 {ECHO}\r\n\r\n".encode(),), end="close"),
    "/reason": Reply((f"HTTP/1.1 500 {ECHO}\r\nContent-Length: 0\r\n\r\n".encode(),)),
    "/no-http": Reply((ECHO.encode(),), end="close"),
    "/header": Reply((f"HTTP/1.1 200 OK\r\n{ECHO}\r\n\r\n".encode(),), end="close"),
}
GOOD = {"/large": 40, "/good": 3, "/better": 40}


class Kept(io.BytesIO):
    """A temporary file that stays readable."""

    def close(self) -> None:
        self.seek(0)


@pytest.fixture
def every_log() -> Iterator[io.StringIO]:
    """What the whole process logs at DEBUG, as lines for people and as JSON."""
    written = io.StringIO()
    handlers = [logging.StreamHandler(written) for _ in range(2)]
    handlers[1].setFormatter(logs._json())
    names = [*logging.root.manager.loggerDict, "httpx", "httpcore", "httpcore.http11"]
    loggers = [logging.getLogger(), *map(logging.getLogger, names)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    for handler in handlers:
        logging.getLogger().addHandler(handler)
    yield written
    for handler in handlers:
        logging.getLogger().removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def open_on(new_database: Callable[..., str]) -> Iterator[Callable[..., Project]]:
    made: list[Project] = []

    def make(server: RawServer, views: list[str], keys: Keys) -> Project:
        made.append(open_project(make_config(new_database("sqlite"), server.url, views)))
        made[-1].configure(keys=keys, max_wait_s=0.2, timeout_s=1.0)
        return made[-1]

    yield make
    for project in made:
        project.database.close()


def assert_clean(text: str, keys: Keys) -> None:
    for secret in filter(None, (keys.api_key, keys.app_key, keys.bearer_token)):
        assert secret.lower() not in text.lower()


def everything_in(project: Project) -> str:
    file = Path(str(project.database.engine.url.database))
    with closing(sqlite3.connect(file)) as connection:
        dump = "\n".join(connection.iterdump())
    parts = [path.read_bytes() for path in file.parent.glob(f"{file.name}*")]
    return dump + b"".join(parts).decode("latin-1")


def told(project: Project, run: RunResult) -> str:
    status = read_status(project.config, project.database, max_age_s=1.0)
    lines = [*run_lines(run, "x", 99), *quiet_lines(run), *status_lines(status)]
    texts = (run, run.as_json(), status, status.as_json(), project.config, project.config.keys)
    return "\n".join([*lines, *map(repr, texts), *map(str, texts)])


@pytest.mark.parametrize("keys", [KEYS, Keys(bearer_token=BEARER)], ids=["keys", "bearer"])
def test_no_key_is_written_down_whatever_the_server_echoes(
    open_on: Callable[..., Project],
    every_log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    keys: Keys,
) -> None:
    monkeypatch.setattr(retry, "BASE_S", 0.02)
    kept: list[Kept] = []

    def keep(**_: object) -> Kept:
        kept.append(Kept())
        return kept[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", keep)

    def echo(head: bytes) -> Reply:
        view = view_of(head)
        if view in GOOD:
            return answer(view, GOOD[view])
        return EVIL.get(view, reply(403, ECHO, HEADERS))

    with RawServer(otherwise=echo) as server:
        project = open_on(server, [*EVIL, *GOOD], keys)
        runs = [project.run(), project.run()]
        assert all(key.encode() in server.heads[0] for key in (keys.api_key, keys.bearer_token))
    assert {v.view.name for v in runs[0].views if v.verdict == "failed"} == set(EVIL)
    assert len(project.live()) == sum(GOOD.values())
    assert kept
    assert_clean("".join(told(project, run) for run in runs), keys)
    assert_clean(everything_in(project), keys)
    assert_clean(every_log.getvalue(), keys)
    assert_clean(b"".join(file.getvalue() for file in kept).decode("latin-1"), keys)
    assert "***" in everything_in(project)
    assert '"logger": "etl.' in every_log.getvalue()


REAL = Keys("3f1c9a7e5b2d4806c8e1f7a95d03b246", "a41d7c0e92b85f36e7d14c09b8a25f631e07d9c4")
HASH_KEY = "c0ffee5eed8a41d0b7a3942e6f5d1c08"
PLACES: dict[str, dict[str, object]] = {
    "/id": {"id": f"x {REAL.app_key}"},
    "/name": {"snapshot_name": REAL.api_key.upper()},
    "/unknown": {"colour": b64encode(REAL.app_key.encode()).decode()},
    "/member": {f"k_{REAL.api_key}": 1},
    "/escaped": {"event_id": "".join(f"&#{ord(c)};" for c in REAL.api_key)},
    "/cut": {"session_id": REAL.app_key[-20:]},
    "/split": {"view_id": REAL.api_key[:16], "session_id": REAL.api_key[16:]},
    "/hash": {"created_by": HASH_KEY},
}


def snapshot_with(view: str, attributes: dict[str, object]) -> dict[str, object]:
    identifier = str(attributes.pop("id", f"{view} 1"))
    return record(identifier, view_name=view, **attributes)


def listed_with(view: str) -> Reply:
    return reply(200, {"data": [snapshot_with(view, dict(PLACES[view]))]})


def test_of_an_answer_with_a_key_nothing_is_kept_and_nothing_else_is_lost(
    open_on: Callable[..., Project], every_log: io.StringIO
) -> None:
    """Nor is it asked for again, which would show the keys to the same server once more."""
    asked: list[str] = []

    def echo(head: bytes) -> Reply:
        view = view_of(head)
        asked.append(view)
        if "/rum/" in head.split(b" ")[1].decode():
            shown = application("an id", name=f"Shop {REAL.app_key}")
            return reply(200, {"data": [shown]})
        return listed_with(view) if view in PLACES else answer(view, 12)

    with RawServer(otherwise=echo) as server:
        project = open_on(server, [*PLACES, "/good"], REAL)
        project.configure(hash_key=HASH_KEY, max_wait_s=30.0)
        runs = [project.run(), project.run()]
    for run in runs:
        failed = {v.view.name: v.error for v in run.views if v.verdict == "failed"}
        assert set(failed) == set(PLACES)
        for name, error in failed.items():
            reason = "200: the answer holds one of our keys; nothing of it was stored"
            assert error == f"view {name}: {reason}"
    assert all(asked.count(view) == 2 for view in PLACES)
    assert len(project.live()) == 12
    assert project.one("SELECT count(*) AS n FROM applications")["n"] == 0
    for text in (everything_in(project), every_log.getvalue(), *(told(project, r) for r in runs)):
        assert_clean(text, REAL)
        assert REAL.app_key[-20:] not in text
        assert HASH_KEY not in text.replace(repr(HASH_KEY), "")


def test_an_answer_that_was_there_before_the_key_is_as_good_as_it_was(
    open_on: Callable[..., Project],
) -> None:
    """An unchanged answer is not even decoded: it is not searched either."""
    with RawServer(otherwise=listed_with("/name")) as server:
        project = open_on(server, ["/name"], KEYS)
        assert project.run().status == "ok"
        project.configure(keys=REAL)
        assert project.run().status == "ok"
        (view,) = project.run("/name", is_full=True).views
        assert "nothing of it was stored" in str(view.error)
    assert len(project.live()) == 1


def test_what_quotes_an_answer_shows_no_run_of_eight(open_on: Callable[..., Project]) -> None:
    """Too short to refuse an answer for it, which it may hold by chance."""
    run = REAL.api_key[4:15]
    bodies: dict[str, dict[str, object]] = {
        "/cursor": {"data": [], "meta": {f"{run}_cursor": 1}},
        "/status": {"data": [], "status": f"late {run}"},
        "/error": {"data": [], "status": "error", "meta": {"status": f"error {run}"}},
        "/failed": {"data": [], "errors": [run]},
        "/no-list": {"errors": [{"detail": f"no {run}"}]},
        "/another": {"data": [record("1", view_name=f"/other {run}")]},
    }
    with RawServer(otherwise=lambda head: reply(200, bodies.get(view_of(head), {}))) as server:
        project = open_on(server, list(bodies), REAL)
        result = project.run()
    reasons = [v.error or v.reason for v in result.views]
    assert any("***" in reason for reason in reasons)
    assert run not in told(project, result)
    ledger = project.rows("SELECT reason, error FROM sync_run_views")
    assert run not in str(ledger)


def test_an_error_and_all_it_was_raised_from_name_no_key(
    open_on: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("etl.extract.listing.decode", break_down)
    with RawServer(otherwise=reply(200, DATA, HEADERS)) as server:
        project = open_on(server, ["/home"], KEYS)
        with pytest.raises(RuntimeError, match="a bug") as caught:
            project.run()
    assert_clean("".join(traceback.format_exception(caught.value)), KEYS)
    assert_clean(everything_in(project), KEYS)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_the_keys_nowhere(open_on: Callable[..., Project], status: int) -> None:
    with RawServer(otherwise=reply()) as other:
        there = {"Location": f"{other.url}/api/v2/replay/heatmap/snapshots?filter[view_name]=x"}
        with RawServer(otherwise=reply(status, b"", there)) as server:
            run = open_on(server, ["/home"], KEYS).run()
        assert other.connections == 0
    assert (run.status, run.views[0].error_class) == ("failed", "DatadogRequestError")
    assert len(server.heads) == 1


def test_what_waits_on_disk_has_no_name(
    open_on: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[list[str]] = []

    def look(head: bytes) -> Reply:
        seen.append([path.name for path in tmp_path.iterdir()])
        return answer(view_of(head), 40)

    with RawServer(otherwise=look) as server:
        project = open_on(server, ["/a", "/b", "/c"], KEYS)
        project.configure(concurrency=1)
        project.run()
    assert len(seen) > 6
    assert not any(seen)
    assert list(tmp_path.iterdir()) == []


def test_no_name_or_example_of_drift_shows_a_run_of_eight(
    open_on: Callable[..., Project], every_log: io.StringIO
) -> None:
    run = REAL.api_key[4:15]
    body = {"data": [record("1", **{f"x_{run}": 1, "colour": f"red {run}"})], f"beside_{run}": 2}
    with RawServer(otherwise=lambda _: reply(200, body)) as server:
        project = open_on(server, ["/home"], REAL)
        assert project.run().status == "ok"
    drift = project.rows("SELECT name, example FROM schema_drift ORDER BY name")
    assert [(row["name"], row["example"]) for row in drift] == [
        ("$body.beside_***", "2"),
        ("colour", '"red ***"'),
        ("x_***", "1"),
    ]
    assert run not in every_log.getvalue()
