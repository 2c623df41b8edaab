"""Whatever a library raises costs the one thing that was asked of it: a view, a file, a statement.

Every kind of exception is thrown at every boundary. What a line of ours raises stays a bug.
"""

import json
import pickle
import tempfile
import threading
import tomllib
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpcore
import pytest
from sqlalchemy import event, text

from etl.config.credentials import read_secret
from etl.config.files import read_dotenv, read_toml
from etl.config.model import Sources
from etl.config.settings import Findings
from etl.config.validators import BadValue
from etl.config.views import View
from etl.database.cursor import driver_cursor
from etl.datadog.client import Client
from etl.datadog.retry import Retryable
from etl.errors import ConfigError, DatadogError, DatadogResponseError, SpillFailed, StoreError
from etl.extract import spill_file
from etl.ledger.results import exit_code, new_run
from etl.library_faults import name_of, origin_of, packages_of, said_of
from etl.monitor.http_server import Page, Pages, listening
from etl.monitor.metrics_file import write_metrics
from etl.pipeline import notify
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.runtime.refusals import refusal_of
from etl.transform import decode as decoding
from etl.transform import envelope, lenient_json, strict_json
from etl.transform.decode import decode
from etl.transform.snapshot import Decoded
from tests.support.api import Api, record
from tests.support.every_error import EVERY, PLANTED, throwing
from tests.support.project import Project, make_config, open_project
from tests.support.raw_server import DATA, RawServer, reply

HOME = View("/home")


def is_one_line(said: str) -> bool:
    assert said.isprintable(), said
    assert PLANTED not in said, said
    assert len(said) < 400
    return True


def test_there_are_enough_kinds() -> None:
    """The catalogue itself finds them, so that it could find none."""
    assert len(EVERY) > 200
    packages = {name.partition(".")[0] for name in EVERY}
    assert {"builtins", "httpx", "httpcore", "msgspec", "ssl", "psycopg", "pymysql"} <= packages
    assert {"MemoryError", "RecursionError", "ExceptionGroup", "UnicodeDecodeError"} <= {
        name.removeprefix("builtins.") for name in EVERY
    }


def thrown(kind: str, module: str) -> Exception:
    try:
        throwing(kind, module)()
    except Exception as error:  # noqa: BLE001 - of every kind
        return error
    pytest.fail("nothing was raised")


def test_a_line_of_a_library_is_told_from_one_of_ours() -> None:
    for kind in EVERY:
        error = thrown(kind, "json.decoder")
        assert packages_of(error) == {"json"}
        assert origin_of(error) == f"{name_of(error)} in json.decoder"
        assert isinstance(said_of(error), str)
        assert packages_of(thrown(kind, "etl.transform.decode")) == frozenset()


# --- an exchange --------------------------------------------------------------------------


@contextmanager
def client(url: str) -> Iterator[Client]:
    config = make_config("sqlite:///unused.db", url)
    assert config.keys
    with Client(config, config.keys) as it:
        yield it


def fault_of(it: Client) -> DatadogError:
    with pytest.raises((Retryable, DatadogError)) as caught:
        it.list_snapshots(HOME, 10)
    error = caught.value.error if isinstance(caught.value, Retryable) else caught.value
    assert isinstance(error, DatadogError)
    return error


PLACES: dict[str, tuple[Any, str]] = {
    "the request": (httpcore.ConnectionPool, "handle_request"),
    "the body": (httpcore.Response, "iter_stream"),
    "the end of the response": (httpcore.Response, "close"),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_exchange_fails_alone(place: str) -> None:
    with RawServer(otherwise=reply()) as server, client(server.url) as it:
        for kind in EVERY:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(*PLACES[place], throwing(kind, "httpcore._sync.http11"))
                assert is_one_line_of(fault_of(it), kind)
        assert it.list_snapshots(HOME, 10).body == DATA


def is_of_network(kind: str) -> bool:
    """Whether it may quote the other side: that text is cleaned and cut as always."""
    return kind.startswith("httpcore.") or "network" in kind


def is_one_line_of(error: DatadogError, kind: str) -> bool:
    text = str(error)
    if not is_of_network(kind):
        assert is_one_line(text)
        assert " in httpcore._sync.http11" in text or "closed or reset" in text
    return text.startswith("view /home: ")


def test_what_closing_a_connection_raises_changes_no_answer() -> None:
    with RawServer(otherwise=reply(end="close")) as server, client(server.url) as it:
        for kind in EVERY:
            with pytest.MonkeyPatch.context() as patch:
                close = throwing(kind, "httpcore._sync.connection_pool")
                patch.setattr(httpcore.ConnectionPool, "close", close)
                assert it.list_snapshots(HOME, 10, is_fresh=True).body == DATA


def test_what_is_unpacked_fails_alone() -> None:
    class Unpacker:
        def __init__(self, kind: str) -> None:
            self.decompress = throwing(kind, "zlib")

    packed = reply(200, b"x", {"Content-Encoding": "gzip"})
    with RawServer(otherwise=packed) as server, client(server.url) as it:
        for kind in EVERY:
            if kind == "zlib.error":
                continue
            with pytest.MonkeyPatch.context() as patch:
                unpacker = Unpacker(kind)
                patch.setattr(zlib, "decompressobj", lambda *_, u=unpacker: u)
                error = fault_of(it)
            assert is_one_line(str(error))
            assert "bad gzip" in str(error)


def test_a_bug_before_the_body_is_no_failure_of_the_exchange() -> None:
    def bug() -> None:
        raise KeyError("a bug")

    with (
        RawServer(otherwise=reply()) as server,
        client(server.url) as it,
        pytest.raises(KeyError, match="a bug"),
    ):
        it.list_snapshots(HOME, 10, before_body=bug)


# --- headers ------------------------------------------------------------------------------

HOSTILE = (b"\xff\xfe=\xe9", "é=ü".encode(), b"a" * 5000, b"", b"=;=;", b"\t", b"9" * 400, b"-1")
NAMES = (
    *("Set-Cookie", "Date", "Retry-After", "Content-Type", "Link", "Location", "Age", "Warning"),
    *("X-RateLimit-Limit", "X-RateLimit-Name", "X-RateLimit-Period", "X-RateLimit-Remaining"),
    *("X-RateLimit-Reset", "Server-Timing", "Cache-Status", "X-Cache", "X-Next-Page"),
)


@pytest.mark.parametrize("name", NAMES)
def test_no_header_keeps_a_right_answer_from_being_one(name: str) -> None:
    for value in HOSTILE:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(DATA)
        lines = b"%s: %s\r\n" % (name.encode(), value)
        answer = reply()
        hostile = type(answer)((head + lines * 3 + b"\r\n", DATA))
        with RawServer(hostile) as server, client(server.url) as it:
            assert it.list_snapshots(HOME, 10).body == DATA


def test_no_cookie_is_kept_or_sent() -> None:
    cookies = {"Set-Cookie": "session=planted; Path=/"}
    with RawServer(otherwise=reply(headers=cookies)) as server:
        with client(server.url) as it:
            it.list_snapshots(HOME, 10)
            it.list_applications()
            it.aggregate_rum({})
            it.try_once("/api/v1/validate", {}, max_wait_s=5)
        notify.ping(f"{server.url}/ping", "acme")
        notify.ping(f"{server.url}/ping", "acme")
        assert len(server.heads) == 6
        assert not [head for head in server.heads if b"cookie" in head.lower()]


# --- a parse ------------------------------------------------------------------------------


class Throwing:
    """A decoder that raises, as one of msgspec does: in C, without a line of its own."""

    def __init__(self, kind: str) -> None:
        self.decode = throwing(kind, "etl.transform.strict_json")


def answer_of(body: bytes) -> Any:
    with RawServer(reply(body=body)) as server, client(server.url) as it:
        return it.list_snapshots(HOME, 10)


def test_what_the_strict_decoder_does_not_take_is_read_leniently() -> None:
    body = json.dumps({"data": [record("1"), record("2")]}).encode()
    expected = decode(body)
    of_module = {decoding: ("_instants", "_texts", "_raws"), envelope: ("_data",)}
    for kind in EVERY:
        with pytest.MonkeyPatch.context() as patch:
            for module, names in of_module.items():
                for name in names:
                    patch.setattr(module, name, Throwing(kind))
            with pytest.raises(strict_json.NotStrict):
                strict_json.read(decoding._instants, body)
            assert decode(body).snapshots == expected.snapshots


def test_what_the_lenient_parser_raises_is_a_failed_answer() -> None:
    answer = answer_of(b'{"data": [{"id": "\\ud800"}]}')
    for kind in EVERY:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lenient_json._CHECKING, "decode", throwing(kind, "json.decoder"))
            patch.setattr(lenient_json, "_decoder", throwing(kind, "json.decoder"))
            with pytest.raises((Retryable, DatadogResponseError)) as caught:
                answer.decoded(decode)
        if kind.rpartition(".")[2] not in ("JSONDecodeError", "ValueError"):
            assert str(caught.value).startswith("view /home: 200: ")


def test_a_library_that_fails_in_a_parse_is_named_and_a_bug_is_raised() -> None:
    answer = answer_of(DATA)
    for kind in EVERY:
        with pytest.raises(Retryable) as caught:
            answer.decoded(throwing(kind, "json.scanner"))
        assert is_one_line(str(caught.value))
        assert str(caught.value).startswith("view /home: 200: it could not be read: ")
        with pytest.raises(Exception) as bug:  # noqa: PT011 - every kind
            answer.decoded(throwing(kind, "etl.transform.decode"))
        assert not isinstance(bug.value, Retryable)


# --- a run --------------------------------------------------------------------------------


@pytest.fixture
def in_a_file(new_database: Callable[..., str], api: Api) -> Iterator[Project]:
    project = open_project(make_config(new_database("sqlite"), api.url))
    yield project
    project.database.close()


@pytest.fixture
def project(database_url: str, api: Api) -> Iterator[Project]:
    project = open_project(make_config(database_url, api.url))
    yield project
    project.database.close()


def test_a_run_loses_no_view_but_those_for_which_a_library_failed(
    in_a_file: Project, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One view for each kind, and a good one behind it."""
    project = in_a_file
    kinds = {f"/bad-{number}": kind for number, kind in enumerate(EVERY)}
    good = [f"/good-{number}" for number in range(len(kinds))]
    project.watch(*(name for pair in zip(kinds, good, strict=True) for name in pair))
    project.configure(concurrency=1, max_wait_s=0.0)
    api.views = {name: [record(name)] for name in good}
    ask = httpcore.ConnectionPool.handle_request

    def spoilt(pool: httpcore.ConnectionPool, request: httpcore.Request) -> httpcore.Response:
        name = request.url.target.decode().partition("%2F")[2].partition("&")[0]
        if kind := kinds.get(f"/{name}"):
            throwing(kind, "httpcore._sync.http11")()
        return ask(pool, request)

    monkeypatch.setattr(httpcore.ConnectionPool, "handle_request", spoilt)
    run = project.run()
    assert (exit_code(run), run.status) == (1, "partial")
    assert project.live() == set(good)
    rows = project.rows("SELECT view_name, verdict, error FROM sync_run_views")
    assert {row["view_name"] for row in rows if row["verdict"] == "failed"} == kinds.keys()
    for row in rows:
        kind = kinds.get(row["view_name"])
        assert kind is None or is_of_network(kind) or is_one_line(row["error"])


# --- a database ---------------------------------------------------------------------------


def kinds_for(project: Project) -> list[str]:
    """Those that are no errors of a driver, which are told in other words; few on a server."""
    of_drivers = ("sqlalchemy", "psycopg", "pymysql", "sqlite3")
    kinds = [kind for kind in EVERY if kind.partition(".")[0] not in of_drivers]
    return kinds if project.database.family == "sqlite" else [*kinds[::9], *kinds[-4:]]


def by_sqlalchemy(project: Project) -> None:
    project.execute("SELECT 1")


def by_cursor(project: Project) -> None:
    def use(connection: Any) -> None:
        with driver_cursor(connection) as cursor:
            project.database.dialect.read_ids(cursor, ["1"])

    project.database.transaction(use)


@contextmanager
def failing_driver(project: Project, kind: str, at: str) -> Iterator[None]:
    throw, engine = throwing(kind, "pymysql.connections"), project.database.engine
    if at == "connect":
        engine.dispose()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine.pool, "_creator", throw)
            yield
        return
    name = {"execute": "before_cursor_execute", "commit": "commit"}[at]
    event.listen(engine, name, throw)
    try:
        yield
    finally:
        event.remove(engine, name, throw)


@pytest.mark.parametrize("at", ["execute", "commit", "connect"])
def test_a_driver_that_fails_is_an_error_of_the_database(project: Project, at: str) -> None:
    by_sqlalchemy(project)
    for kind in kinds_for(project):
        with failing_driver(project, kind, at), pytest.raises(StoreError) as caught:
            by_sqlalchemy(project)
        # Of a login the words of the system and of Python are told, else the class alone.
        is_of_system = isinstance(thrown(kind, "json"), OSError | RuntimeError)
        assert (at == "connect" and is_of_system) or is_one_line(str(caught.value))
        assert caught.value.__cause__ is None
        assert project.one("SELECT 1 AS one") == {"one": 1}


def test_a_driver_without_lines_of_its_own_is_told_too(project: Project) -> None:
    """A function in C: the innermost line is that of the dialect which calls it."""
    by_sqlalchemy(project)
    for kind in kinds_for(project):
        throw = throwing(kind, "etl.database.dialects.lookup")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(project.database.dialect), "read_ids", throw)
            with pytest.raises(StoreError, match="the driver raised") as caught:
                by_cursor(project)
        assert is_one_line(str(caught.value))
        assert project.one("SELECT 1 AS one") == {"one": 1}


def test_a_bug_in_a_transaction_stays_one(project: Project) -> None:
    def bug(_connection: Any) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        project.database.transaction(bug)
    with pytest.raises(KeyError, match="a bug"):
        project.database.read(bug)


# --- files --------------------------------------------------------------------------------


def test_a_configuration_that_a_parser_fails_on_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("a = 1\n")
    for kind in EVERY:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tomllib, "loads", throwing(kind, "tomllib._parser"))
            with pytest.raises(ConfigError) as caught:
                read_toml(path)
        (problem,) = caught.value.problems
        assert kind == "tomllib.TOMLDecodeError" or is_one_line(problem)


READERS: dict[str, Callable[[Path], object]] = {
    "a configuration": read_toml,
    "a secret": lambda path: read_secret("X", {"X_FILE": str(path)}, path.parent),
}


@pytest.mark.parametrize("what", READERS)
def test_a_file_that_cannot_be_read_is_one_line(what: str, tmp_path: Path) -> None:
    for kind in EVERY:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "read_bytes", throwing(kind, "pathlib"))
            patch.setattr(Path, "read_text", throwing(kind, "pathlib"))
            with pytest.raises((ConfigError, BadValue)) as caught:
                READERS[what](tmp_path / "x")
        assert kind.startswith("OSError ") or is_one_line(str(caught.value))


@pytest.mark.parametrize("is_parser", [True, False], ids=["parser", "file"])
def test_a_dotenv_that_cannot_be_read_is_one_problem(is_parser: bool, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\n")
    for kind in EVERY:
        findings = Findings()
        with pytest.MonkeyPatch.context() as patch:
            throw = throwing(kind, "dotenv.parser")
            place: Any = "dotenv.parser.parse_stream" if is_parser else "pathlib.Path.read_bytes"
            patch.setattr(place, throw)
            assert read_dotenv(path, findings) == {}
        absent = FileNotFoundError | NotADirectoryError | IsADirectoryError
        is_absent = not is_parser and isinstance(thrown(kind, "json"), absent)
        assert len([*findings.problems, *findings.unread]) == 1 - is_absent


def test_records_that_no_disk_takes_or_gives_back_cost_their_view(tmp_path: Path) -> None:
    spill = spill_file.SpillFile([tmp_path])
    spilled = spill.write(Decoded())
    for kind in EVERY:
        for name in ("dumps", "loads"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pickle, name, throwing(kind, "pickle"))
                with pytest.raises(SpillFailed):
                    spill.write(Decoded()) if name == "dumps" else spill.read(spilled)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "TemporaryFile", throwing(kind, "tempfile"))
            with pytest.raises(SpillFailed):
                spill_file.SpillFile([tmp_path]).write(Decoded())
    assert spill.read(spilled) == Decoded()
    spill.close()


# --- the heartbeat, and what stands around ------------------------------------------------


def test_a_heartbeat_that_fails_has_a_reason() -> None:
    for kind in EVERY:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(urllib.request.OpenerDirector, "open", throwing(kind, "urllib.request"))
            patch.setattr(notify, "default_certificates", lambda: None)  # it takes long
            reason = notify._get("http://127.0.0.1:9/planted")
        assert is_one_line(reason)
        assert reason


def test_whether_it_is_a_refusal_can_be_told_of_any_error() -> None:
    for kind in EVERY:
        refusal = refusal_of(thrown(kind, "json.decoder"))
        assert refusal is None or "refused" in str(refusal)


def test_a_page_of_the_daemon_answers_whatever_is_raised() -> None:
    for kind in ("one that cannot be said", "an error of the system that cannot be said"):
        pages: Pages = {"/x": Page(throwing(kind, "json.decoder"))}
        with (
            listening(("127.0.0.1", 0), pages) as url,
            pytest.raises(urllib.error.HTTPError) as caught,
        ):
            urllib.request.urlopen(f"{url}/x", timeout=30)
        assert caught.value.code == 500
        caught.value.close()


def test_a_metrics_file_that_cannot_be_parsed_begins_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(f"sqlite:///{tmp_path}/none.db", "http://127.0.0.1:9")
    run, path = new_run(config.source), tmp_path / "x.prom"
    for kind in EVERY:
        path.write_text("x")
        caplog.clear()
        with pytest.MonkeyPatch.context() as patch:
            parse = throwing(kind, "prometheus_client.parser")
            patch.setattr("etl.monitor.metrics.text_string_to_metric_families", parse)
            write_metrics(path, Sources((config,), is_folder=False), [run])
        assert "begin at zero again" in caplog.text or isinstance(
            thrown(kind, "json"), FileNotFoundError
        )
        assert path.read_text().startswith("# HELP heatmap_etl_")


def test_a_bug_without_words_is_recorded_as_one(in_a_file: Project, api: Api) -> None:
    project = in_a_file
    api.views["/home"] = [record("1")]
    with pytest.raises(Exception):  # noqa: B017, PT011 - its class is its own
        sync(
            project.config,
            project.database,
            Options(),
            stop=threading.Event(),
            progress=throwing("one that cannot be said", "etl.cli.progress"),
        )
    assert project.one("SELECT status, error FROM sync_runs") == {
        "status": "failed",
        "error": "a bug: E: ",
    }
    assert project.database.read(lambda c: c.execute(text("SELECT 1")).scalar()) == 1
