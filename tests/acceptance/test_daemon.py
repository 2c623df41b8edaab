"""`schedule` and `sync` as processes: signals, endpoints, metrics files, logs."""

import json
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from etl.errors import EtlError
from etl.formatting import to_install
from tests.support.api import Api, record
from tests.support.command_line import Cli, Result
from tests.support.paths import ROOT
from tests.support.project import Project, make_config, open_project
from tests.support.waiting import wait_until

OLD_SLOT = "UPDATE sync_runs SET slot_at = '2025-01-01 00:00:00.000000', started_by = 'schedule'"


@pytest.fixture
def cli(tmp_path: Path, api: Api) -> Cli:
    """One view; the schedule comes in a year, so that only what is overdue runs."""
    api.views["/home"] = [record("1")]
    cli = Cli(tmp_path / "project", {"HEATMAP_ETL_DATADOG_API_URL": api.url})
    cli.folder.mkdir()
    cli.configure(
        'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home"]\n'
        '[datadog]\nmax_wait_s = 0.3\n[schedule]\ncron = "0 0 1 1 *"\n'
    )
    return cli


@pytest.fixture
def overdue(cli: Cli) -> Cli:
    """A slot is due since New Year."""
    assert cli("sync", "--quiet").code == 0
    cli.sql(OLD_SLOT)
    return cli


@dataclass
class Daemon:
    process: subprocess.Popen[str]
    lines: list[str]
    reader: threading.Thread

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def says(self, word: str, seconds: float = 20) -> None:
        wait_until(lambda: word in self.log or self.process.poll() is not None, seconds)
        assert word in self.log, self.log

    def end(self, number: signal.Signals = signal.SIGTERM, timeout: float = 12) -> Result:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout)
        self.reader.join(5)
        assert "Traceback" not in self.log, self.log
        assert "planted" not in self.log
        return Result(code, "", self.log)


@pytest.fixture
def started() -> Iterator[Callable[..., Daemon]]:
    """`started(cli, "schedule")`: its lines as they come."""
    daemons: list[Daemon] = []

    def start(cli: Cli, *arguments: str, **changes: str | None) -> Daemon:
        process = cli.start(*arguments, **changes)
        lines: list[str] = []
        assert process.stderr is not None
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")))  # type: ignore[union-attr]
        daemons.append(Daemon(process, lines, reader))
        reader.start()
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.wait()
        daemon.reader.join(5)
        for stream in (daemon.process.stdout, daemon.process.stderr):
            if stream:
                stream.close()


def statuses(cli: Cli) -> list[str]:
    return [status for (status,) in cli.sql("SELECT status FROM sync_runs ORDER BY started_at")]


def slow(api: Api) -> threading.Event:
    """From now on an answer takes half a minute; set when one was asked for."""
    asked = threading.Event()

    def hang() -> list[Any]:
        asked.set()
        time.sleep(30)
        return []

    api.views["/home"] = hang
    return asked


# --- signals ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_daemon_says_when_it_runs_and_ends_in_order(
    cli: Cli, started: Callable[..., Daemon], number: signal.Signals
) -> None:
    daemon = started(cli, "schedule")
    daemon.says("next run at 20")
    assert "-01-01T00:00:00+00:00 (cron 0 0 1 1 *, UTC)" in daemon.log
    assert daemon.end(number, timeout=5).code == 0
    assert cli.sql("SELECT COUNT(*) FROM sync_runs") == [(0,)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_up_a_slow_answer_and_the_next_daemon_does_the_slot(
    overdue: Cli, api: Api, started: Callable[..., Daemon], number: signal.Signals
) -> None:
    asked = slow(api)
    daemon = started(overdue, "schedule")
    assert asked.wait(20)
    begun = time.monotonic()
    assert daemon.end(number, timeout=10).code == 0
    assert time.monotonic() - begun < 5
    assert statuses(overdue) == ["ok", "stopped"]
    assert overdue.sql("SELECT lease_token FROM sources") == [(None,)]
    api.views["/home"] = [record("1"), record("2")]
    again = started(overdue, "schedule")
    again.says(": ok, 1 view")
    assert again.end().code == 0
    assert statuses(overdue) == ["ok", "stopped", "ok"]
    slots = overdue.sql("SELECT slot_at FROM sync_runs ORDER BY started_at")
    assert slots[1] == slots[2] != slots[0]


def test_a_second_signal_ends_a_daemon_at_once(
    overdue: Cli, api: Api, started: Callable[..., Daemon]
) -> None:
    asked = slow(api)
    daemon = started(overdue, "schedule")
    assert asked.wait(20)
    with closing(sqlite3.connect(overdue.database, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.says("a second signal ends it at once")
        time.sleep(0.5)
        assert daemon.process.poll() is None
        assert daemon.end(timeout=3).code == 143


@pytest.mark.parametrize("command", ["sync", "schedule"])
def test_a_signal_during_a_copy_leaves_all_of_it_or_nothing(
    cli: Cli,
    api: Api,
    new_database: Callable[..., str],
    started: Callable[..., Daemon],
    command: str,
) -> None:
    url = new_database("postgresql")
    cli.environ["HEATMAP_ETL_DATABASE_URL"] = url
    config = make_config(url, api.url)
    project = open_project(config)
    project.run()
    project.execute(OLD_SLOT.replace("'2025-01-01 00:00:00.000000'", "'2025-01-01T00:00:00Z'"))
    many = 20_000  # on a busy machine too, the COPY of it ends in time
    added = [record(f"n{n}", snapshot_name="x" * 500) for n in range(many)]
    api.views["/home"] = [record("1"), *added]
    cli.environ["HEATMAP_ETL_DATADOG_PAGE_LIMIT"] = "1000000"
    copying = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY%'"
    with psycopg.connect(url, autocommit=True) as watcher:
        daemon = started(cli, command)
        while watcher.execute(copying).fetchone() is None:
            assert daemon.process.poll() is None, daemon.log
        ended = daemon.end(timeout=11)
    assert ended.code == (143 if command == "sync" else 0), ended.err
    assert len(project.live()) in (1, many + 1)
    assert project.rows("SELECT status FROM sync_runs ORDER BY started_at DESC LIMIT 1") == [
        {"status": "stopped"}
    ]
    project.configure(page_limit=1_000_000)
    project.run()
    assert len(project.live()) == many + 1
    assert project.history() == []
    project.database.close()


def test_a_daemon_without_keys_or_with_a_foreign_schema_does_not_start(cli: Cli) -> None:
    done = cli("schedule", DD_API_KEY=None)
    assert (done.code, "DD_API_KEY" in done.err) == (2, True)
    cli.sql("CREATE TABLE snapshots (mine TEXT)")
    done = cli("schedule")
    assert (done.code, done.is_one_line(), "not ours" in done.err) == (2, True, True)


def test_a_daemon_waits_for_its_database(cli: Cli, started: Callable[..., Daemon]) -> None:
    daemon = started(
        cli, "schedule", HEATMAP_ETL_DATABASE_URL="mariadb://etl:planted@127.0.0.1:9/x"
    )
    daemon.says("next run at")
    assert "cannot open the database" in daemon.log
    assert daemon.end().code == 0


# --- endpoints and files ------------------------------------------------------------------


def test_a_daemon_that_listens(overdue: Cli, started: Callable[..., Daemon]) -> None:
    daemon = started(overdue, "schedule", "--listen", "127.0.0.1:0")
    daemon.says(": ok, 1 view")
    found = re.search(r"listening on (http://\S+)", daemon.log)
    assert found
    answers = {}
    for path in ("healthz", "readyz", "status", "metrics"):
        with urllib.request.urlopen(f"{found[1]}/{path}", timeout=10) as answer:
            answers[path] = answer.read().decode()
    assert json.loads(answers["status"])["sources"][0]["last_run"]["missed_slots"] == 0
    assert 'heatmap_etl_runs_total{source="datadoghq.com",status="ok"} 1.0' in answers["metrics"]
    assert daemon.end().code == 0


def test_a_thousand_slow_clients_stop_no_run_and_no_probe(
    overdue: Cli, api: Api, started: Callable[..., Daemon]
) -> None:
    """With 64 descriptors. Each client sends the begin of a request, and no more."""
    is_asked, may_answer = threading.Event(), threading.Event()

    def answer() -> list[Any]:
        is_asked.set()
        may_answer.wait(60)
        return [record("1"), record("2")]

    api.views["/home"] = answer
    daemon = started(overdue, "schedule", "--listen", "127.0.0.1:0")
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (64, 64))
    assert is_asked.wait(60)
    found = re.search(r"listening on http://([\d.]+):(\d+)", daemon.log)
    assert found
    with ExitStack() as stack:
        stack.callback(may_answer.set)
        for _ in range(1000):
            client = socket.create_connection((found[1], int(found[2])), timeout=60)
            stack.enter_context(client).sendall(b"GET /healthz HTTP/1.1\r\n")
        for path in ("healthz", "readyz", "metrics"):
            url = f"http://{found[1]}:{found[2]}/{path}"
            with urllib.request.urlopen(url, timeout=60) as response:
                assert response.status == 200
        may_answer.set()
        daemon.says(": ok, 1 view", 60)
    assert statuses(overdue) == ["ok", "ok"]
    assert daemon.end().code == 0


@pytest.mark.parametrize("name", ["daemon.example", "127.0.0.1"])
def test_a_name_that_is_allowed(cli: Cli, started: Callable[..., Daemon], name: str) -> None:
    daemon = started(cli, "schedule", "--listen", "127.0.0.1:0", "--allow-host", "daemon.example")
    daemon.says("listening on")
    (port,) = re.findall(r"listening on \S+:(\d+)", daemon.log)
    url = f"http://127.0.0.1:{port}/healthz"
    request = urllib.request.Request(url, headers={"Host": name})
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status == 200


@pytest.mark.parametrize("address", ["9102", "host:", "host:x", "127.0.0.1:70000", ""])
def test_an_address_that_is_none_is_refused(cli: Cli, address: str) -> None:
    done = cli("schedule", "--listen", address)
    assert (done.code, done.is_one_line()) == (2, True)


@pytest.fixture
def without_prometheus(tmp_path: Path) -> str:
    """A PYTHONPATH on which the library is not installed."""
    package = tmp_path / "without" / "prometheus_client"
    package.mkdir(parents=True)
    text = "raise ModuleNotFoundError('none', name='prometheus_client')\n"
    (package / "__init__.py").write_text(text)
    return f"{package.parent}:{ROOT}"


def test_without_the_library_metrics_name_the_extra(
    cli: Cli, started: Callable[..., Daemon], without_prometheus: str
) -> None:
    done = cli("sync", "--metrics-file", "x.prom", PYTHONPATH=without_prometheus)
    assert (done.code, done.is_one_line()) == (2, True)
    assert f"needs an extra; run: {to_install('metrics')}\n" in done.err
    assert not cli.database.exists()
    assert cli("sync", "--quiet", PYTHONPATH=without_prometheus).code == 0
    daemon = started(cli, "schedule", "--listen", "127.0.0.1:0", PYTHONPATH=without_prometheus)
    daemon.says("next run at")
    found = re.search(r"listening on (http://\S+)", daemon.log)
    assert found
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{found[1]}/metrics", timeout=10)
    with caught.value as answer:
        assert answer.code == 501
        assert f"run: {to_install('metrics')}\n" in answer.read().decode()
    with urllib.request.urlopen(f"{found[1]}/readyz", timeout=10) as ready:
        assert ready.status == 200


def test_a_metrics_file_lies_beside_the_configuration(cli: Cli, tmp_path: Path) -> None:
    elsewhere = Cli(tmp_path, cli.environ)
    for number in (1, 2):
        config = str(cli.folder / "heatmap-etl.toml")
        done = elsewhere("sync", "--quiet", "--metrics-file", "x.prom", "--config", config)
        assert done == Result(0, "", "")
        text = (cli.folder / "x.prom").read_text()
        assert f'runs_total{{source="datadoghq.com",status="ok"}} {number}.0' in text
    assert (cli.folder / "x.prom").stat().st_mode & 0o777 == 0o644


def test_what_ran_nothing_leaves_the_file_as_it_was(cli: Cli) -> None:
    cli("sync", "--quiet", "--metrics-file", "x.prom")
    path = cli.folder / "x.prom"
    before = path.read_bytes()
    held = "lease_token = 'x', lease_holder = '1@1', lease_host = 'h'"
    cli.sql(f"UPDATE sources SET {held}, lease_expires_at = '2099-01-01 00:00:00.000000'")
    assert cli("sync", "--metrics-file", "x.prom").code == 75
    assert path.read_bytes() == before


@pytest.mark.parametrize("arguments", [("no/x.prom",), (".",), ("x.prom", "--plan")], ids=" ".join)
def test_a_metrics_file_that_cannot_be_is_refused_before_a_run(
    cli: Cli, arguments: tuple[str, ...]
) -> None:
    done = cli("sync", "--metrics-file", *arguments)
    assert (done.code, done.is_one_line()) == (2, True)
    assert not cli.database.exists()


# --- logs ---------------------------------------------------------------------------------


def test_a_run_is_one_line_and_a_view_one_when_it_changed_or_failed(
    overdue: Cli, api: Api, started: Callable[..., Daemon]
) -> None:
    cli = overdue
    cli.environ["HEATMAP_ETL_VIEWS"] = '["/home", "/bad", "/still"]'
    api.views |= {"/home": [record("1"), record("2")], "/bad": (500, {}, b"")}
    daemon = started(cli, "schedule", "--log-format", "json")
    daemon.says(": partial, 3 views")
    daemon.end()
    records = [json.loads(line) for line in daemon.lines]
    of_runs = [r for r in records if r["logger"] == "etl.pipeline.notify"]
    assert {r["source"] for r in of_runs} == {"datadoghq.com"}
    assert {r["run_id"] for r in of_runs} == set(cli.sql(NEWEST)[0])
    views = {r["view_name"]: r for r in of_runs if "view_name" in r}
    assert {name: r["level"] for name, r in views.items()} == {"/home": "INFO", "/bad": "WARNING"}
    assert views["/home"]["new"] == 1
    (of_run,) = [r for r in of_runs if "view_name" not in r]
    assert (of_run["level"], of_run["status"], of_run["missed_slots"]) == ("INFO", "partial", 0)
    others = [r for r in records if r not in of_runs]
    assert [r["level"] for r in others] == ["INFO", "WARNING"]  # the next run; stopping
    assert others[0]["source"] == "datadoghq.com"


NEWEST = "SELECT run_id FROM sync_runs ORDER BY started_at DESC LIMIT 1"


def test_lines_of_sync_are_told_once(cli: Cli, api: Api) -> None:
    api.views["/home"] = (500, {}, b"")
    done = cli("sync")
    assert done.err == ""
    assert done.out.count("/home") == 2  # in the table, and under Problems
    verbose = cli("sync", "-v")
    assert " INFO datadoghq.com: run " in verbose.err


# --- the database ------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"])
def test_a_database_that_restarts_in_mid_run_costs_nothing(
    dialect: str, require_server: Callable[[str], None], api: Api
) -> None:
    from etl.database.migrations import upgrade_url
    from etl.schedule.daemon import Job
    from tests.support.servers import SERVERS

    require_server(dialect)
    server = SERVERS[dialect].launch()
    try:
        url = server.url(server.create_database())
        upgrade_url(url)
        project = open_project(make_config(url, api.url))
        project.configure(every_s=1.0, lease_s=3.0)
        job = Job(project.config, project.stop)

        asked, is_up = threading.Event(), threading.Event()

        def wait() -> list[Any]:
            asked.set()
            is_up.wait(40)
            return [record("1")]

        api.views["/home"] = wait
        time.sleep(1.1)
        first = threading.Thread(target=job.look)
        first.start()
        assert asked.wait(20)
        server.restart()  # here: it is tied to the life of the thread that starts it
        api.views["/home"] = [record("1"), record("2")]
        is_up.set()
        first.join(60)
        end = time.monotonic() + 60
        while live(project) != {"1", "2"}:
            assert time.monotonic() < end
            job.look()
            time.sleep(0.5)
        assert project.rows("SELECT 1 FROM sync_runs WHERE status = 'running'") == []
        assert project.one("SELECT lease_token FROM sources") == {"lease_token": None}
        project.database.close()
    finally:
        server.stop()


def live(project: Project) -> set[str]:
    try:
        return project.live()
    except EtlError:  # it is not up again yet
        return set()


def test_a_proxy_that_cannot_be_used_keeps_it_from_starting(cli: Cli) -> None:
    done = cli("schedule", HTTP_PROXY="ftp://user:planted-password@h")
    assert (done.code, done.is_one_line()) == (2, True)
    assert "HTTP_PROXY: ftp:// is not supported" in done.err


# --- a system without a time zone database --------------------------------------------------


@pytest.mark.parametrize("zone", ["", 'timezone = "UTC"', 'timezone = "Etc/UTC"'])
def test_utc_needs_no_time_zone_database(
    cli: Cli, started: Callable[..., Daemon], tmp_path: Path, zone: str
) -> None:
    with (cli.folder / "heatmap-etl.toml").open("a", encoding="utf-8") as file:
        file.write(f"{zone}\n")
    daemon = started(cli, "schedule", **without_zones(tmp_path))
    daemon.says("next run")
    assert daemon.end().code == 0


def test_a_named_time_zone_says_what_to_install(cli: Cli, tmp_path: Path) -> None:
    with (cli.folder / "heatmap-etl.toml").open("a", encoding="utf-8") as file:
        file.write('timezone = "Europe/Berlin"\n')
    assert cli("status").code == 2  # no schema yet
    for command in ("schedule", "sync", "check", "status"):
        done = cli(command, **without_zones(tmp_path))
        assert (done.code, done.out, done.is_one_line()) == (2, "", True)
        needs = "schedule.timezone: 'Europe/Berlin' needs the time zone database: install tzdata"
        assert needs in done.err


def without_zones(tmp_path: Path) -> dict[str, str]:
    """Variables under which Python finds no zone: no folder of them, and no such package."""
    (tmp_path / "tzdata.py").write_text("raise ModuleNotFoundError('tzdata')\n", encoding="utf-8")
    return {"PYTHONTZPATH": "", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
