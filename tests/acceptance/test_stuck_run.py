"""A run that makes no progress, as a process: it is seen, told, ended, and nothing is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.api import Api, record
from tests.support.command_line import Cli, finish
from tests.support.hanging import GRACE_S, PATIENCE_S
from tests.support.project import make_config, open_project
from tests.support.waiting import wait_until

OLD_SLOT = "UPDATE sync_runs SET slot_at = '2025-01-01 00:00:00.000000', started_by = 'schedule'"
LAST_RUN = "SELECT status, error FROM sync_runs ORDER BY started_at DESC LIMIT 1"
SETTINGS = (
    'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home"]\n'
    '[datadog]\nmax_wait_s = 0.3\ntimeout_s = 0.3\n[schedule]\ncron = "0 0 1 1 *"\n'
)


@dataclass
class HangingCli(Cli):
    """The program of which a part hangs; see `tests.support.hanging`."""

    part: str = "none"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "tests.support.hanging", self.part, *arguments]

    def hang(self) -> None:
        (self.folder / "hang").touch()

    def go_on(self) -> None:
        (self.folder / "hang").unlink()

    def has_free_lease(self) -> bool:
        return bool(self.sql("SELECT lease_token FROM sources") == [(None,)])


@pytest.fixture
def cli(tmp_path: Path, api: Api) -> HangingCli:
    """One view with a row; the schedule comes in a year, so that only what is overdue runs."""
    api.views["/home"] = [record("1")]
    cli = HangingCli(tmp_path / "project", {"HEATMAP_ETL_DATADOG_API_URL": api.url})
    cli.folder.mkdir()
    cli.configure(SETTINGS)
    assert cli("sync", "--quiet").code == 0
    api.views["/home"] = [record("1"), record("2")]
    cli.sql(OLD_SLOT)
    return cli


@pytest.mark.parametrize("part", ["reading", "loading"])
def test_sync_ends_a_run_that_hangs_and_the_next_one_works(cli: HangingCli, part: str) -> None:
    cli.part = part
    cli.hang()
    begun = time.monotonic()
    done = finish(cli.start("sync", "--quiet"), timeout=25)
    assert time.monotonic() - begun < PATIENCE_S + GRACE_S + 8
    assert done.code == 1, done.err
    log, line = done.err.splitlines()
    assert re.search(r" ERROR run \S+ of datadoghq\.com: no progress for 2\.\d s: ended$", log)
    assert line.startswith("heatmap-etl: run ")
    assert line.endswith("its thread still hangs") == (part == "loading")
    ((status, error),) = cli.sql(LAST_RUN)
    assert (status, bool(re.fullmatch(r"no progress for 2\.\d s: ended", error))) == (
        "failed",
        True,
    )
    assert cli.has_free_lease()
    cli.go_on()
    assert cli("sync", "--quiet").code == 0
    assert cli.sql("SELECT COUNT(*) FROM snapshots WHERE removed_at IS NULL") == [(2,)]
    assert cli.sql("SELECT COUNT(*) FROM sync_runs WHERE status = 'died'") == [(0,)]


def test_a_run_that_hangs_in_its_transaction_takes_its_locks_with_it(cli: HangingCli) -> None:
    cli.part = "writing"
    cli.hang()
    done = finish(cli.start("sync", "--quiet"), timeout=30)
    assert done.code == 1, done.err
    assert done.err.endswith("its thread still hangs\n")
    begun = time.monotonic()
    cli.go_on()
    assert cli("sync", "--quiet").code == 0
    assert time.monotonic() - begun < 15
    assert cli.sql("SELECT COUNT(*) FROM snapshots WHERE removed_at IS NULL") == [(2,)]
    statuses = cli.sql("SELECT status FROM sync_runs ORDER BY started_at")
    assert [status for (status,) in statuses] == ["ok", "died", "ok"]


@dataclass
class Watched:
    """A daemon that listens, and all that it has said so far."""

    process: subprocess.Popen[str]
    lines: list[str]

    def get(self, path: str) -> tuple[int, Any]:
        found = re.search(r"listening on (http://\S+)", "".join(self.lines))
        assert found
        try:
            with urllib.request.urlopen(f"{found[1]}{path}", timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, json.loads(answer.read())


@pytest.fixture
def daemon(cli: HangingCli, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """Of which a part hangs in the run that is overdue."""
    cli.part = request.param
    cli.hang()
    process = cli.start("schedule", "--listen", "127.0.0.1:0")
    lines: list[str] = []
    assert process.stderr is not None
    stream = process.stderr
    reader = threading.Thread(target=lambda: lines.extend(iter(stream.readline, "")))
    reader.start()
    daemon = Watched(process, lines)
    wait_until(lambda: "listening on" in "".join(lines))
    yield daemon
    process.kill()
    process.communicate()
    reader.join(5)
    assert "Traceback" not in "".join(lines), "".join(lines)


@pytest.mark.parametrize("daemon", ["loading"], indirect=True)
def test_a_daemon_tells_of_a_thread_that_hangs_and_ends_with_a_code(
    cli: HangingCli, daemon: Watched
) -> None:
    wait_until(lambda: "hangs" in str(daemon.get("/status")), PATIENCE_S + 5)
    status, told = daemon.get("/status")
    assert status == 503
    reason = told["reasons"][0]
    assert re.match(
        r"datadoghq\.com: hangs: run \S+ of datadoghq\.com: no progress for 2\.\d s: ended", reason
    )
    assert daemon.get("/healthz")[0] == 200
    assert daemon.process.wait(GRACE_S + 12) == 1
    wait_until(lambda: "heatmap-etl: " in "".join(daemon.lines))
    last = daemon.lines[-1]
    assert last.startswith("heatmap-etl: run ")
    assert last.endswith("though its thread still hangs\n")
    assert cli.sql(LAST_RUN)[0][0] == "failed"
    assert cli.has_free_lease()
    cli.go_on()
    assert cli("sync", "--quiet").code == 0
    assert cli.has_free_lease()


@pytest.mark.parametrize("daemon", ["reading"], indirect=True)
def test_a_daemon_goes_on_after_a_run_that_ended_when_it_was_asked_to(
    cli: HangingCli, daemon: Watched
) -> None:
    wait_until(lambda: cli.sql(LAST_RUN)[0][0] == "failed", PATIENCE_S + GRACE_S + 8)
    assert daemon.get("/healthz")[0] == 200
    status, told = daemon.get("/status")
    assert status == 503
    (reason,) = told["reasons"]
    assert "failed: run " in reason
    assert "no progress for 2." in reason
    assert cli.has_free_lease()
    cli.go_on()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(12) == 0


def test_a_run_that_is_slow_is_not_ended(cli: HangingCli, api: Api) -> None:
    views = [f"/{number}" for number in range(24)]

    def slow(view: str) -> list[Any]:
        time.sleep(0.15)
        return [record(f"{view}-{number}") for number in range(int(view[1:]))]

    api.views |= {view: partial(slow, view) for view in views}
    cli.environ |= {
        "HEATMAP_ETL_VIEWS": json.dumps(views),
        "HEATMAP_ETL_DATADOG_CONCURRENCY": "1",
    }
    begun = time.monotonic()
    assert cli("sync", "--quiet").code == 0
    assert time.monotonic() - begun > PATIENCE_S + 0.6


def test_a_process_that_was_suspended_is_not_taken_for_one_that_hangs(
    cli: HangingCli, api: Api
) -> None:
    asked = threading.Event()

    def answer() -> list[Any]:
        asked.set()
        time.sleep(0.2)
        return [record("1")]

    api.views["/home"] = answer
    process = cli.start("sync", "--quiet", HEATMAP_ETL_DATADOG_MAX_WAIT_S="30")
    assert asked.wait(20)
    process.send_signal(signal.SIGSTOP)
    time.sleep(2 * (PATIENCE_S + 0.6))
    process.send_signal(signal.SIGCONT)
    assert finish(process).code == 0


def test_one_source_of_a_folder_hangs_and_the_other_is_read(tmp_path: Path, api: Api) -> None:
    (tmp_path / "orgs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "orgs" / f"{name}.toml").write_text(
            f'database_url = "sqlite:///{name}.db"\nviews = ["/{name}"]\n'
            f'[datadog]\nsource = "{name}"\napi_url = "{api.url}"\nmax_wait_s = 0.3\n'
            "timeout_s = 0.3\n"
        )
        api.views[f"/{name}"] = [record(name)]
    cli = HangingCli(tmp_path, {"HEATMAP_ETL_CONFIG": "orgs"}, part="loading-a")
    cli.hang()
    done = cli("sync", "--json")
    assert done.code == 1, done.err
    a, b = json.loads(done.out)
    assert (a["status"], b["status"]) == ("failed", "ok")
    assert "its thread still hangs" in a["error"]


def test_a_database_connection_that_froze_ends_the_run(
    cli: HangingCli, api: Api, new_database: Any
) -> None:
    """A real hang: the server's process for this connection stands still, all else works."""
    url = new_database("postgresql")
    cli.environ["HEATMAP_ETL_DATABASE_URL"] = url
    project = open_project(make_config(url, api.url))
    may_answer, asked = threading.Event(), threading.Event()

    def answer() -> list[Any]:
        asked.set()
        may_answer.wait(20)
        return [record("1")]

    api.views["/home"] = answer
    frozen: list[int] = []
    ours = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    try:
        with psycopg.connect(url, autocommit=True) as watcher:
            process = cli.start("sync", "--quiet", HEATMAP_ETL_DATADOG_MAX_WAIT_S="2")
            assert asked.wait(20)
            frozen += [p for (p,) in watcher.execute(f"{ours} AND pid <> pg_backend_pid()")]
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            may_answer.set()
            done = finish(process, timeout=40)
        assert done.code == 1, done.err
        assert "its thread still hangs" in done.err
        (run,) = project.rows("SELECT status, error FROM sync_runs")
        assert run["status"] == "failed"
        assert run["error"].startswith("no progress for ")
        assert project.one("SELECT lease_token FROM sources") == {"lease_token": None}
        assert cli("sync", "--quiet").code == 0
        assert project.live() == {"1"}
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        project.database.close()
