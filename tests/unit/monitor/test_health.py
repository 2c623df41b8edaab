"""What monitors see: pages, metrics, heartbeat."""

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import time_machine

from etl.config.model import Config, Sources
from etl.errors import EtlError
from etl.ledger.results import new_run
from etl.monitor.http_endpoints import SILENT_S, pages_of
from etl.monitor.http_server import listening
from etl.monitor.metrics import Metrics
from etl.monitor.metrics_file import write_metrics
from etl.monitor.schedule_health import find_reasons
from etl.pipeline.notify import ping
from etl.schedule.cron import Due
from etl.schedule.daemon import Daemon
from etl.schedule.due import Agenda
from tests.support.api import Api, record
from tests.support.project import Project, make_config, open_project

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


class Run:
    def __init__(self, status: str) -> None:
        self.status = status
        self.run_id, self.error, self.views, self.views_failed = "r", None, 3, 3
        self.slot_at = NOON


@pytest.mark.parametrize(
    ("status", "due_s", "is_working", "expected"),
    [
        pytest.param("ok", None, False, [], id="all done"),
        pytest.param("partial", None, False, [], id="a bad view is no failed run"),
        pytest.param("failed", None, False, ["failed"], id="failed"),
        pytest.param("ok", 60, False, [], id="just due"),
        pytest.param("ok", 180, False, ["late"], id="late"),
        pytest.param("ok", 180, True, [], id="somebody works on it"),
        pytest.param("ok", 7200, True, ["late"], id="somebody works on it for ever"),
        pytest.param("failed", 180, False, ["late", "failed"], id="both"),
        pytest.param(None, 180, False, ["late"], id="never run"),
    ],
)
def test_a_schedule_is_kept_or_why_not(
    status: str | None, due_s: int | None, is_working: bool, expected: list[str]
) -> None:
    due_since = NOON - timedelta(seconds=due_s) if due_s else None
    due = Due(due_since, 0) if due_since else None
    last: Any = Run(status) if status else None
    reasons = find_reasons(Agenda(last, due, due_since, NOON), is_working=is_working, now=NOON)
    assert [reason.partition(":")[0] for reason in reasons] == expected


def get(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOON + timedelta(seconds=5), tick=True) as traveller:
        yield traveller


class Watched:
    """A daemon that listens, and whose job the test runs itself."""

    def __init__(self, config: Config, stack: ExitStack) -> None:
        self.metrics = Metrics([config.source])
        self.daemon = Daemon(
            Sources((config,), is_folder=False), threading.Event(), self.metrics.add
        )
        pages = pages_of(self.daemon, self.metrics)
        self.url = stack.enter_context(listening(("127.0.0.1", 0), pages))
        self.look = self.daemon.jobs[0].look

    def code(self, path: str) -> int:
        return get(self.url + path)[0]

    def json(self, path: str) -> Any:
        return json.loads(get(self.url + path)[2])

    def samples(self) -> dict[str, float]:
        status, kind, text = get(f"{self.url}/metrics")
        assert (status, kind.partition(";")[0]) == (200, "text/plain")
        return parsed(text)


def parsed(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.fixture
def watched(clock: time_machine.Traveller, project: Project, api: Api) -> Iterator[Watched]:
    api.views["/home"] = [record("1"), record("2")]
    project.configure(every_s=900.0, max_wait_s=0.0)
    with ExitStack() as stack:
        yield Watched(project.config, stack)


@pytest.mark.slow
def test_while_the_api_is_down_health_stays_and_status_turns(
    watched: Watched, api: Api, clock: time_machine.Traveller
) -> None:
    clock.shift(QUARTER)
    watched.look()
    assert watched.json("/status")["reasons"] == []
    api.views["/home"] = (503, {}, b"")
    for _ in range(10):
        clock.shift(QUARTER)
        watched.look()
        watched.daemon.ticked_at = time.monotonic()
        assert [watched.code(p) for p in ("/healthz", "/readyz", "/status")] == [200, 200, 503]
    (reason,) = watched.json("/status")["reasons"]
    assert reason.startswith("datadoghq.com: failed: run ")
    api.views["/home"] = [record("1")]
    clock.shift(QUARTER)
    watched.look()
    assert [watched.code(p) for p in ("/healthz", "/readyz", "/status")] == [200, 200, 200]
    (source,) = watched.json("/status")["sources"]
    assert source["last_run"]["status"] == "ok"
    assert source["due_since"] is None
    samples = watched.samples()
    assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="failed"}'] == 10
    assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="ok"}'] == 2
    assert samples['heatmap_etl_http_requests_total{code="503",source="datadoghq.com"}'] == 10


def test_a_late_run_is_told(watched: Watched, clock: time_machine.Traveller) -> None:
    clock.shift(QUARTER)
    assert watched.code("/status") == 200
    clock.shift(timedelta(minutes=3))
    status = watched.json("/status")
    assert status["status"] == "bad"
    assert "late: a run is due since 2026-11-25T12:15:00" in status["reasons"][0]
    assert status["sources"][0]["next_run_at"] == "2026-11-25T12:30:00.000000Z"


def test_a_loop_that_hangs_is_no_longer_alive(watched: Watched) -> None:
    assert watched.code("/healthz") == 200
    watched.daemon.ticked_at -= SILENT_S + 1
    assert watched.code("/healthz") == 503


def test_metrics_are_those_of_the_ledger(
    watched: Watched, api: Api, clock: time_machine.Traveller
) -> None:
    before = watched.samples()
    assert before['heatmap_etl_runs_total{source="datadoghq.com",status="ok"}'] == 0
    assert before[COMPLETE_AT] == 0  # never
    api.views["/home"] = (200, {"X-RateLimit-Remaining": "7"}, b'{"data": []}')
    clock.shift(QUARTER)
    watched.look()
    api.views["/home"] = [record("1"), record("2")]
    clock.shift(QUARTER)
    watched.look()
    now = datetime.now(UTC).timestamp()
    samples = watched.samples()
    assert samples['heatmap_etl_records_total{outcome="new",source="datadoghq.com"}'] == 2
    assert samples['heatmap_etl_views{source="datadoghq.com",verdict="complete"}'] == 1
    assert now - 60 < samples[COMPLETE_AT] <= now
    assert (
        now - 60 < samples['heatmap_etl_last_run_timestamp_seconds{source="datadoghq.com"}'] <= now
    )
    assert samples["heatmap_etl_run_duration_seconds_count"] == 2
    assert samples['heatmap_etl_run_duration_seconds_bucket{le="+Inf"}'] == 2
    assert {name.partition("{")[0] for name in samples} >= {"heatmap_etl_build_info"}
    assert 'heatmap_etl_rate_limit_remaining{source="datadoghq.com"}' not in samples


COMPLETE_AT = (
    'heatmap_etl_last_complete_timestamp_seconds{source="datadoghq.com",view_name="/home"}'
)


def test_a_run_that_raised_is_counted_too(
    watched: Watched, project: Project, clock: time_machine.Traveller
) -> None:
    project.run()
    project.execute("UPDATE sources SET privacy = 'hash:x'")
    clock.shift(QUARTER)
    watched.look()
    samples = watched.samples()
    assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="failed"}'] == 1


def test_without_a_database_the_last_known_metrics_stay(
    clock: time_machine.Traveller, new_database: Callable[..., str], api: Api
) -> None:
    api.views["/home"] = [record("1")]
    project = open_project(make_config(new_database("sqlite"), api.url))
    project.run()
    project.database.close()
    path = Path(project.config.database_url.removeprefix("sqlite:///"))
    with ExitStack() as stack:
        watched = Watched(project.config, stack)
        before = watched.samples()
        path.rename(path.with_suffix(".away"))
        assert watched.samples() == before
        assert watched.code("/readyz") == watched.code("/status") == 503
        assert watched.code("/healthz") == 200
        assert not path.exists()
        path.with_suffix(".away").rename(path)
    assert before[COMPLETE_AT] > 0


def test_what_is_not_there_is_named(watched: Watched) -> None:
    status, _, text = get(f"{watched.url}/nowhere")
    assert (status, "/healthz" in text) == (404, True)


def test_an_address_that_is_taken_is_one_line(watched: Watched) -> None:
    port = int(watched.url.rpartition(":")[2])
    with pytest.raises(EtlError, match="cannot listen on 127"), listening(("127.0.0.1", port), {}):
        pass


# --- --metrics-file -----------------------------------------------------------------------


def test_counters_of_a_file_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = make_config(f"sqlite:///{tmp_path}/none.db", "http://127.0.0.1:9")
    sources, path = Sources((config,), is_folder=False), tmp_path / "x.prom"
    run = new_run(config.source)
    run.status, run.finished_at, run.died = "ok", run.started_at + timedelta(seconds=3), 1
    for number in (1, 2, 3):
        write_metrics(path, sources, [run])
        samples = parsed(path.read_text())
        assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="ok"}'] == number
        assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="died"}'] == number
        assert samples["heatmap_etl_run_duration_seconds_sum"] == 3 * number
        assert samples['heatmap_etl_run_duration_seconds_bucket{le="2.5"}'] == 0
        assert samples['heatmap_etl_run_duration_seconds_bucket{le="5.0"}'] == number
    bounds = re.findall(r'_bucket\{le="(.*?)"\}', path.read_text())
    assert bounds == sorted(bounds, key=float)
    assert caplog.text == ""
    path.write_text("no {metrics")
    write_metrics(path, sources, [run])
    assert "begin at zero again" in caplog.text
    assert parsed(path.read_text())["heatmap_etl_run_duration_seconds_count"] == 1
    assert {file.name for file in tmp_path.iterdir()} == {"x.prom"}


def test_a_source_that_is_gone_leaves_the_file(tmp_path: Path) -> None:
    config = make_config(f"sqlite:///{tmp_path}/none.db", "http://127.0.0.1:9")
    path, run = tmp_path / "x.prom", new_run("datadoghq.com")
    write_metrics(path, Sources((config,), is_folder=False), [run])
    assert "datadoghq.com" in path.read_text()
    other = Sources((replace(config, source="other"),), is_folder=False)
    write_metrics(path, other, [new_run("other")])
    assert "datadoghq.com" not in path.read_text()


def test_a_file_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(f"sqlite:///{tmp_path}/none.db", "http://127.0.0.1:9")
    path = tmp_path / "gone" / "x.prom"
    write_metrics(path, Sources((config,), is_folder=False), [new_run(config.source)])
    assert "could not be written" in caplog.text


# --- heartbeat ----------------------------------------------------------------------------


class Receiver:
    """A server for heartbeats that answers with `status`; None: it does not answer."""

    def __init__(self) -> None:
        self.status: int | None = 200
        self.requests: list[tuple[str, dict[str, str]]] = []
        receiver, self.may_end = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                receiver.requests.append(
                    (self.path, {k.lower(): v for k, v in self.headers.items()})
                )
                if receiver.status is None:
                    receiver.may_end.wait(30)
                    return
                self.send_response(receiver.status)
                self.send_header("Location", f"{receiver.url}/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    threading.Thread(target=receiver.server.serve_forever, args=(0.02,), daemon=True).start()
    yield receiver
    receiver.may_end.set()
    receiver.server.shutdown()
    receiver.server.server_close()


def test_each_good_run_of_the_daemon_is_told_and_no_other(
    clock: time_machine.Traveller, project: Project, api: Api, receiver: Receiver
) -> None:
    api.views["/home"] = [record("1")]
    url = f"{receiver.url}/hush?token=s3cret"
    project.configure(every_s=900.0, heartbeat_url=url, max_wait_s=0.0)
    job = Daemon(Sources((project.config,), is_folder=False), threading.Event()).jobs[0]
    clock.shift(QUARTER)
    job.look()
    job.look()
    assert [path for path, _ in receiver.requests] == ["/hush?token=s3cret"]
    sent = receiver.requests[0][1]
    assert "api-key" not in str(sent)
    assert not any("dd-" in name or name == "authorization" for name in sent)
    api.views["/home"] = (500, {}, b"")
    clock.shift(QUARTER)
    job.look()
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("status", "word"), [(500, "500"), (404, "404"), (302, "302"), (None, "ReadTimeout")]
)
def test_a_heartbeat_that_fails_is_a_warning_without_its_url(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, status: int | None, word: str
) -> None:
    receiver.status = status
    ping(f"{receiver.url}/s3cret?x=s3cret", "acme")
    assert len(receiver.requests) == 1  # a redirect is not followed
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert word in line.getMessage()
    assert "acme" in line.getMessage()
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_heartbeat_goes_through_the_proxy_as_it_was_written(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setenv(name, receiver.url)
    ping("http://nöbody.invalid:81/s3crét%20;a?q=é&r=%2F#x", "acme")
    encoded_url = "http://xn--nbody-jua.invalid:81/s3cr%C3%A9t%20;a?q=%C3%A9&r=%2F"
    assert [path for path, _ in receiver.requests] == [encoded_url]
    assert not caplog.records


def test_a_heartbeat_to_nobody_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ping("http://127.0.0.1:9/s3cret", "acme")
    ping("http://nobody.invalid/s3cret", "acme")
    assert caplog.text.count("WARNING") == 2
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("host", "encoded"),
    [
        pytest.param("faß.invalid", "xn--fa-hia.invalid", id="IDNA 2003 makes it fass"),
        pytest.param("NÖBODY.invalid:81", "xn--nbody-jua.invalid:81", id="capital, with a port"),
        pytest.param("a_b.invalid", "a_b.invalid", id="ASCII as it is"),
        pytest.param("[::1]:81", "[::1]:81", id="IPv6"),
    ],
)
def test_a_heartbeat_goes_to_the_host_that_is_meant(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, host: str, encoded: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url)
    ping(f"http://{host}/x", "acme")
    ((path, headers),) = receiver.requests
    assert (path, headers["host"]) == (f"http://{encoded}/x", encoded)


def test_a_host_that_cannot_be_a_name_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ping("http://☃.invalid/s3cret", "acme")
    (line,) = caplog.records
    assert "InvalidCodepoint" in line.getMessage()
    assert "s3cret" not in caplog.text


def test_what_no_url_can_hold_is_encoded_in_a_heartbeat(receiver: Receiver) -> None:
    ping(f'{receiver.url}/%2F"<>`{{}}[|]?q=%2f"<>`{{}}[|]\'%zz', "acme")
    encoded = "/%2F%22%3C%3E%60%7B%7D[|]?q=%2f%22%3C%3E`{}[|]'%zz"
    assert [path for path, _ in receiver.requests] == [encoded]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "FileNotFoundError", id="missing"),
        pytest.param("no certificate", "SSLError", id="unreadable"),
    ],
)
def test_certificates_that_cannot_be_read_are_the_reason_of_a_heartbeat_that_fails(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    content: str | None,
    reason: str,
) -> None:
    path = tmp_path / "s3cret.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    for scheme in ("http", "https"):
        ping(f"{scheme}://{receiver.url.rpartition('/')[2]}/s3cret", "acme")
    assert [line.getMessage().rpartition(": ")[2] for line in caplog.records] == [reason] * 2
    assert "s3cret" not in caplog.text
    assert receiver.requests == []
