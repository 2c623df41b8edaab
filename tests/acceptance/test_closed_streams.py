"""stdin, stdout and stderr closed or full: no traceback, no other exit code, nothing spoilt."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
import pytest

from etl.cli.app import cli as program
from etl.fake_datadog import FakeDatadog, World
from tests.support.command_line import SECRETS, Cli
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

CLOSED = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")
FULL = ">/dev/full"
BROKEN_STDERR = ("2>&-", "2>/dev/full", "<&- >&- 2>&-")


def commands() -> Iterator[tuple[str, ...]]:
    """The path of every command there is."""
    waiting: list[tuple[tuple[str, ...], click.Command]] = [((), program)]
    while waiting:
        path, command = waiting.pop()
        yield path
        if isinstance(command, click.Group):
            waiting += [((*path, name), inner) for name, inner in command.commands.items()]


@contextmanager
def served(folder: Path) -> Iterator[Cli]:
    api_key, app_key = SECRETS.values()
    world = World(views=("/home",), snapshots_per_view=2)
    with FakeDatadog(world, api_key=api_key, app_key=app_key) as datadog:
        cli = Cli(folder)
        cli.configure(
            'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home"]\n'
            f'[datadog]\napi_url = "{datadog.url}"\n'
        )
        yield cli


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    with served(tmp_path) as cli:
        yield cli


@pytest.fixture(scope="module")
def after_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its database, for copies."""
    folder = tmp_path_factory.mktemp("run")
    with served(folder) as cli:
        assert cli("sync").code == 0
    with closing(sqlite3.connect(cli.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return cli.database


def run(cli: Cli, arguments: tuple[str, ...], redirection: str) -> tuple[int, str]:
    """The exit code of the command in a shell, and what both streams show where they are open."""
    words = cli.command(*arguments)
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *words],
        cwd=cli.folder,
        env=cli.environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    shown = done.stdout + done.stderr
    for word in ("Traceback", "Logging error", "Exception ignored", "Bad file descriptor"):
        assert word not in shown, (redirection, shown)
    return done.returncode, shown


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_the_help_of_every_command_needs_no_stream(cli: Cli, path: tuple[str, ...]) -> None:
    codes = {r: run(cli, (*path, "--help"), r)[0] for r in ("<&- >&- 2>&-", "2>/dev/full", FULL)}
    assert codes == {"<&- >&- 2>&-": 0, "2>/dev/full": 0, FULL: 1}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--version",), 0),
        ((), 2),
        (("sync", "-v"), 0),
        (("sync", "--log-format", "json", "-v"), 0),
        (("sync", "--plan"), 0),
        (("sync", "--view", "/nowhere"), 2),
        (("check",), 0),
        (("status",), 0),
        (("status", "--max-age", "0s"), 2),
        (("views", "list"), 0),
        (("db", "status"), 0),
        (("bogus",), 2),
        (("init",), 2),
    ],
    ids=str,
)
def test_no_closed_stream_changes_the_exit_code(
    cli: Cli, after_a_run: Path, arguments: tuple[str, ...], expected: int
) -> None:
    shutil.copyfile(after_a_run, cli.database)
    codes = {r: run(cli, arguments, r)[0] for r in (*CLOSED, "2>/dev/full")}
    assert codes == dict.fromkeys(codes, expected)


def test_an_export_that_nobody_can_read_has_failed(cli: Cli) -> None:
    run(cli, ("sync",), "")
    export = ("export", "current_snapshots")
    assert [run(cli, export, r)[0] for r in ("<&-", "2>&-", "2>/dev/full")] == [0, 0, 0]
    code, shown = run(cli, export, ">&-")
    assert (code, shown) == (1, "heatmap-etl: cannot write the result: stdout is closed\n")
    code, shown = run(cli, export, FULL)
    assert (code, shown.count("\n")) == (1, 1)
    assert run(cli, export, ">/dev/full 2>/dev/full") == (1, "")


def test_no_line_of_the_log_gets_into_the_database(cli: Cli) -> None:
    """A file that is opened while stderr is closed would have its number."""
    for _ in range(2):
        assert run(cli, ("sync", "-v", "--full"), "<&- >&- 2>&-")[0] == 0
    with closing(sqlite3.connect(cli.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT COUNT(*) FROM sync_runs").fetchone() == (2,)
    assert {name for name in cli.files() if not name.startswith("heatmap-etl.db")} == {
        "heatmap-etl.toml"
    }


@pytest.mark.parametrize("redirection", BROKEN_STDERR)
@pytest.mark.parametrize(
    "arguments",
    [("schedule",), ("fake-datadog", "--port", "0"), ("dashboard", "--no-open")],
    ids=str,
)
def test_what_runs_on_needs_no_stream(
    cli: Cli, after_a_run: Path, arguments: tuple[str, ...], redirection: str
) -> None:
    shutil.copyfile(after_a_run, cli.database)
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *cli.command(*arguments)],
        cwd=cli.folder,
        env=cli.environment({}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: is_caught(process.pid, signal.SIGTERM) or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, 143, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def is_caught(pid: int, number: int) -> bool:
    """Whether the process has a handler of its own for the signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(mask >> (number - 1) & 1)


CONSOLE_SCRIPT = "import sys; from etl.__main__ import run; sys.exit(run())"


def test_the_installed_script_ends_as_the_module_does(cli: Cli) -> None:
    words = [sys.executable, "-c", CONSOLE_SCRIPT, "bogus"]
    for redirection, code in (("2>/dev/full", 2), ("<&- >&- 2>&-", 2), (FULL, 2)):
        done = subprocess.run(
            [*("/bin/sh", "-c", f'exec "$@" {redirection}', "sh"), *words],
            cwd=cli.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, redirection
