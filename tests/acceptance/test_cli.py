"""The command line as a person or cron meets it: a process of its own, real files, real HTTP.

Every run turns warnings into errors, and is searched for planted secrets and tracebacks.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest

from etl import DOCUMENTATION
from etl.database.schema import HEAD
from etl.fake_datadog import FakeDatadog, World
from tests.support.api import Api, record
from tests.support.command_line import PASSWORD, SECRETS, Cli, Result, finish, on_terminal
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

FAKE_KEYS: dict[str, str | None] = {"DD_API_KEY": "fake-api-key", "DD_APP_KEY": "fake-app-key"}
NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens
VIEWS = ("/home", "/checkout/?")
JSON_RUN = "contract run_id source status started_at finished_at views"
JSON_VIEW = (
    "view_name application_id device_type verdict reason listed new changed unchanged returned"
    " foreign duplicates rejected vanished held requests seconds error"
)


@pytest.fixture
def world() -> World:
    return World(views=VIEWS, snapshots_per_view=5)


@pytest.fixture
def datadog(world: World) -> Iterator[FakeDatadog]:
    with serving(world) as server:
        yield server


@pytest.fixture
def slow_datadog(world: World) -> Iterator[FakeDatadog]:
    with serving(world, latency_s=30) as server:
        yield server


def serving(world: World, latency_s: float = 0) -> FakeDatadog:
    api_key, app_key = SECRETS.values()
    return FakeDatadog(world, api_key=api_key, app_key=app_key, latency_s=latency_s)


@pytest.fixture
def cli(tmp_path: Path, datadog: FakeDatadog) -> Cli:
    folder = tmp_path / "project"
    folder.mkdir()
    cli = Cli(folder, {"HEATMAP_ETL_DATADOG_API_URL": datadog.url})
    cli.configure(
        'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home", "/checkout/?"]\n'
        "[datadog]\nmax_wait_s = 0.3\n"
    )
    return cli


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database after one run."""
    cli = Cli(tmp_path_factory.mktemp("synced"))
    with FakeDatadog(World(views=VIEWS, snapshots_per_view=5)) as datadog:
        done = cli(
            "sync",
            **FAKE_KEYS,
            HEATMAP_ETL_DATADOG_API_URL=datadog.url,
            HEATMAP_ETL_DATABASE_URL="sqlite:///heatmap-etl.db",
            HEATMAP_ETL_VIEWS=json.dumps(VIEWS),
        )
    assert done.code == 0
    assert len(cli.stored()[0]) == 10
    return cli.database.read_bytes()


# --- help ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("sync", "--help"), ("db",)])
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; before = set(sys.modules); from etl.cli.app import main; main(sys.argv[1:]);"
        "heavy = {'httpx', 'sqlalchemy', 'msgspec', 'alembic', 'dotenv'};"
        "heavy |= {'logging', 'pathlib', 'shutil', 'urllib.parse'};"
        "sys.exit(' '.join(heavy & set(sys.modules) - before) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "heatmap-etl" in done.stdout + done.stderr


def test_help_lists_the_commands_of_daily_use_and_the_others_under_more(cli: Cli) -> None:
    daily, more = cli("--help").out.split("More:")
    listed = [line.split()[0] for line in daily.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == ["init", "check", "sync", "schedule", "status", "views", "db", "demo"]
    named = [
        line.split()[0] for line in more.splitlines() if line.startswith("  ") and line.strip()
    ]
    assert named[:4] == ["export", "dashboard", "privacy", "fake-datadog"]


def test_help_says_where_the_documentation_is(cli: Cli) -> None:
    lines = cli("--help").out.splitlines()
    assert lines[lines.index("  Documentation:") + 1].strip() == DOCUMENTATION


def test_without_a_command_the_help_stands_on_stderr(cli: Cli) -> None:
    done = cli()
    assert (done.code, done.out) == (2, "")
    assert "Commands:" in done.err


def test_version(cli: Cli) -> None:
    done = cli("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("heatmap-etl 0.")
    assert cli("--log-format", "json", "--version").out == done.out


def test_the_version_alone_is_said_without_click() -> None:
    code = "import sys; from etl.__main__ import run; run(); sys.exit('click' in sys.modules)"
    command = [sys.executable, "-W", "error", "-c", code, "--version"]
    environment = {"PYTHONPATH": str(ROOT)}
    assert (
        subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    )


def said_on_stderr(cli: Cli, stdout: Any, *arguments: str) -> tuple[int, str]:
    """Exit code, and what is said when the result goes there."""
    done = subprocess.run(
        cli.command(*arguments),
        cwd=cli.folder,
        env=cli.environment({}),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["sync", "--help"]])
def test_help_and_version_that_nobody_can_read_are_no_bug(cli: Cli, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        line = "heatmap-etl: cannot write the result: No space left on device\n"
        assert said_on_stderr(cli, full, *arguments) == (1, line)
    reading, writing = os.pipe()
    os.close(reading)
    assert said_on_stderr(cli, writing, *arguments) == (1, "")
    os.close(writing)


@pytest.mark.parametrize("columns", ["", "0", "-5", "40", "+90", "90", "200", "wide", "9" * 5000])
def test_help_is_as_wide_as_click_would_make_it(cli: Cli, columns: str) -> None:
    from click import HelpFormatter

    from etl.cli.options import HELP_WIDTH

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", columns)
        width = HelpFormatter(max_width=HELP_WIDTH).width
    lines = cli("--help", COLUMNS=columns).out.splitlines()
    assert width - 12 < max(map(len, lines)) <= max(width, 74)


@pytest.mark.parametrize(
    "arguments",
    [
        ("syn",),
        ("sync", "--nope"),
        ("sync", "x"),
        ("sync", "--plan", "--quiet"),
        ("status", "--max-age", "soon"),
    ],
)
def test_a_usage_error_is_one_line(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert (done.code, done.out, done.is_one_line()) == (2, "", True)
    assert "--help" in done.err


def test_a_url_where_none_belongs_is_not_echoed_with_its_password(cli: Cli) -> None:
    assert cli("check", f"postgresql://user:{PASSWORD}@host/db").code == 2


# --- init ---------------------------------------------------------------------------------


def test_what_init_writes_works_as_it_is(cli: Cli) -> None:
    done = cli("init", "--force", "--view", "/home", "--view", 'a "b" ü')
    assert (done.code, done.err) == (0, "")
    assert ".env" in done.out
    assert "heatmap-etl check" in done.out
    assert cli.files() == {"heatmap-etl.toml"}
    assert [v["view_name"] for v in cli("sync", "--json").json["views"]] == ["/home", 'a "b" ü']


def test_init_never_overwrites_without_force(cli: Cli) -> None:
    before = (cli.folder / "heatmap-etl.toml").read_text()
    done = cli("init")
    assert (done.code, done.is_one_line()) == (2, True)
    assert "--force" in done.err
    assert (cli.folder / "heatmap-etl.toml").read_text() == before


def test_init_takes_config_before_or_after(cli: Cli) -> None:
    assert cli("--config", "one.toml", "init").code == 0
    assert cli("init", "--config", "two.toml").code == 0
    assert cli("init", HEATMAP_ETL_CONFIG="three.toml").code == 0
    assert cli.files() >= {"one.toml", "two.toml", "three.toml"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--database-url", f"postgresql://u:{PASSWORD}@h/d"), "HEATMAP_ETL_DATABASE_URL"),
        (("--database-url", f"postgresql://u@h/d?password={PASSWORD}"), "holds a password"),
        (("--database-url", "oracle://h/d"), "not supported"),
        (("--view", "/a", "--view", "/a"), "listed twice"),
        (("--view", ""), "empty"),
        (("--config", "heatmap-etl.toml/x.toml"), "cannot be written"),
        (("--config", "missing/x.toml"), "cannot be written"),
    ],
)
def test_init_refuses(cli: Cli, arguments: tuple[str, ...], word: str) -> None:
    done = cli("init", "--force", *arguments)
    assert (done.code, done.out, done.is_one_line()) == (2, "", True)
    assert word in done.err
    assert cli.files() == {"heatmap-etl.toml"}


# --- sync ---------------------------------------------------------------------------------


def test_sync_says_what_it_did(cli: Cli, world: World) -> None:
    done = cli("sync")
    assert (done.code, done.err) == (0, "")
    assert "2 views: 2 complete" in done.out
    assert "10 records listed: 10 new" in done.out
    assert str(cli.database) in done.out
    assert "\x1b" not in done.out
    world.unpin(world.records("/home")[0]["id"])
    world.pin("/home")
    second = cli("sync").out
    assert "1 new, 0 changed, 9 unchanged, 1 removed" in second


def test_json_is_the_documented_object(cli: Cli) -> None:
    done = cli("sync", "--json", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert list(done.json) == JSON_RUN.split()
    assert [list(view) for view in done.json["views"]] == [JSON_VIEW.split()] * 2
    assert (done.json["contract"], done.json["status"]) == (1, "ok")


def test_quiet_is_silent_when_all_is_well(cli: Cli) -> None:
    assert cli("sync", "--quiet") == Result(0, "", "")
    assert len(cli.stored()[0]) == 10


def test_quiet_has_a_line_for_each_bad_view(cli: Cli) -> None:
    done = cli("sync", "--quiet", HEATMAP_ETL_DATADOG_PAGE_LIMIT="1")
    assert (done.code, done.out) == (1, "")
    assert [line.split(": ")[1] for line in done.err.splitlines()] == list(VIEWS)
    assert "truncated" in done.err


def test_a_failed_view_fails_the_run_and_not_the_others(cli: Cli, world: World) -> None:
    world.put(b"not json", "/home")
    done = cli("sync")
    assert done.code == 1
    assert "2 views: 1 complete, 1 failed" in done.out
    assert "Problems:\n  /home: failed: 200" in done.out
    assert len(cli.stored()[0]) == 5


def test_only_the_views_asked_for(cli: Cli) -> None:
    done = cli("sync", "--view", "/home", "--json")
    assert [view["view_name"] for view in done.json["views"]] == ["/home"]
    wrong = cli("sync", "--view", "/hom")
    assert (wrong.code, wrong.is_one_line()) == (2, True)
    assert 'did you mean "/home"' in wrong.err


def test_a_run_is_manual_unless_cron_says_so(cli: Cli) -> None:
    for said in (None, "", "manual", "cron"):
        assert cli("sync", HEATMAP_ETL_STARTED_BY=said).code == 0
    found = cli.sql("SELECT started_by FROM sync_runs ORDER BY started_at")
    assert found == [("manual",), ("manual",), ("manual",), ("cron",)]


def test_a_run_for_which_somebody_unknown_answers_is_refused(cli: Cli) -> None:
    done = cli("sync", HEATMAP_ETL_STARTED_BY="me")
    assert (done.code, done.is_one_line()) == (2, True)
    assert "HEATMAP_ETL_STARTED_BY: expected cron or manual, found me" in done.err


def test_plan_leaves_no_trace(cli: Cli, world: World) -> None:
    first = cli("sync", "--plan")
    assert (first.code, first.err) == (0, "")
    assert "10 new" in first.out
    assert cli.files() == {"heatmap-etl.toml"}
    cli("sync")
    before = cli.sql("SELECT * FROM sync_runs"), cli.sql("SELECT * FROM sources"), cli.stored()
    changed = world.records("/home")[1]["id"]
    world.repoint(changed, start=4711)
    gone = world.records("/home")[0]["id"]
    world.unpin(gone)
    told = cli("sync", "--plan").out
    assert "4711" in told
    assert f"would be removed  {gone}" in told
    found = cli("sync", "--plan", "--json").json
    assert (found["contract"], found["source"]) == (1, "datadoghq.com")
    (home, _) = found["views"]
    assert [row["id"] for row in home["vanished"]] == [gone]
    assert home["changed"][0]["after"]["start_ms"] == 4711
    after = cli.sql("SELECT * FROM sync_runs"), cli.sql("SELECT * FROM sources"), cli.stored()
    assert after == before


def test_plan_ends_with_0_though_a_view_failed(cli: Cli, world: World) -> None:
    world.put(b"not json", "/home")
    done = cli("sync", "--plan")
    assert done.code == 0
    assert "/home: failed" in done.out


def test_a_reader_that_went_away_is_no_error(cli: Cli) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert said_on_stderr(cli, writing, "sync") == (0, "")
    os.close(writing)


def test_a_full_disk_behind_stdout_is_one_line(cli: Cli) -> None:
    with Path("/dev/full").open("w") as full:
        line = "heatmap-etl: cannot write the result: No space left on device\n"
        assert said_on_stderr(cli, full, "sync") == (1, line)


@pytest.mark.parametrize("locale", [{"PYTHONUTF8": "0", "LC_ALL": "C"}, {}], ids=["C", "utf-8"])
def test_names_reach_no_terminal_raw(cli: Cli, world: World, locale: dict[str, str]) -> None:
    name = "/ä\x1b[31m\u202e👟"
    world.pin(name, snapshot_name="evil\x1b]0;title\x07\nname")
    cli("init", "--force", "--view", name)
    environ: dict[str, str | None] = {**locale, "PYTHONCOERCECLOCALE": "0"}
    results = [
        cli(*arguments, **environ)
        for arguments in (("sync", "--plan"), ("check",), ("sync",), ("status",))
    ]
    failed = cli("sync", "--view", "\x1b[2J", **environ)
    assert [done.code for done in (*results, failed)] == [0, 0, 0, 0, 2]
    for done in (*results, failed):
        text = done.out + done.err
        assert not any(c in text for c in "\x1b\x07\u202e")
        assert "\\x1b" in text


def test_on_a_terminal_a_line_shows_how_far_it_is(cli: Cli) -> None:
    seen = on_terminal(cli, "sync")
    assert "2/2 views, 10 records, 2 requests" in seen
    assert cli.sql("SELECT started_by FROM sync_runs") == [("manual",)]
    assert "views," not in on_terminal(cli, "sync", "--json")
    assert on_terminal(cli, "sync", "--quiet") == ""


def test_json_logs_are_json(cli: Cli) -> None:
    for done in (
        cli("sync", "-v", "--log-format", "json"),
        cli("-v", "--log-format", "json", "sync", "--full"),
        cli("-v", "sync", "--full", HEATMAP_ETL_LOG_FORMAT="json"),
    ):
        records = [json.loads(line) for line in done.err.splitlines()]
        assert any("/home" in record["message"] for record in records)
        assert set(records[0]) >= {"time", "level", "logger", "message"}


def test_warnings_of_the_configuration_are_logged(cli: Cli) -> None:
    done = cli("sync", HEATMAP_ETL_DATADOG_PAGE_LIMT="3")
    assert done.code == 0
    assert " WARNING HEATMAP_ETL_DATADOG_PAGE_LIMT" in done.err
    assert cli("sync", "--quiet", HEATMAP_ETL_DATADOG_PAGE_LIMT="3") == Result(0, "", "")


def dotenv(cli: Cli, text: str) -> None:
    (cli.folder / ".env").write_text(text, encoding="utf-8")


def test_the_log_format_may_stand_in_dotenv(cli: Cli) -> None:
    dotenv(cli, "HEATMAP_ETL_LOG_FORMAT=json\nHEATMAP_ETL_NONE=1\n")
    assert json.loads(cli("sync").err)["level"] == "WARNING"
    for done in (
        cli("sync", "--log-format", "console"),
        cli("--log-format", "console", "sync"),
        cli("sync", HEATMAP_ETL_LOG_FORMAT="console"),
    ):
        assert " WARNING HEATMAP_ETL_NONE" in done.err
    dotenv(cli, "HEATMAP_ETL_LOG_FORMAT=xml\n")
    refused = cli("sync")
    assert (refused.code, refused.is_one_line()) == (2, True)
    assert "HEATMAP_ETL_LOG_FORMAT: expected console or json" in refused.err


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_proxies_may_stand_in_dotenv(cli: Cli, name: str) -> None:
    dotenv(cli, f"{name}={NOBODY}\n")
    failed = cli("sync")
    assert (failed.code, "Connection refused" in failed.out) == (1, True)
    assert cli("sync", **{name.swapcase(): ""}).code == 0  # the real environment wins
    dotenv(cli, f"{name}={NOBODY}\nNO_PROXY=127.0.0.1\n")
    assert cli("sync").code == 0


def test_certificates_may_stand_in_dotenv_relative_to_it(cli: Cli, tmp_path: Path) -> None:
    dotenv(cli, "SSL_CERT_FILE=heatmap-etl.toml\n")
    elsewhere = Cli(tmp_path, cli.environ)
    done = elsewhere("sync", "--config", str(cli.folder / "heatmap-etl.toml"))
    assert (done.code, "no usable certificates" in done.err) == (2, True)
    dotenv(cli, "SSL_CERT_FILE=none.pem\n")
    assert cli("sync").code == 2


# --- what stops a run ---------------------------------------------------------------------


def outdated(cli: Cli) -> None:
    cli.sql("UPDATE heatmap_etl_version SET version_num = '0000'")


def newer(cli: Cli) -> None:
    cli.sql("UPDATE heatmap_etl_version SET version_num = '9999'")


def unknown_setting(cli: Cli) -> None:
    cli.configure('database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home"]\nveiws = []\n')


def broken_toml(cli: Cli) -> None:
    cli.configure('database_url = "sqlite:///heatmap-etl.db\n')


def key_in_toml(cli: Cli) -> None:
    cli.configure(
        f'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/a"]\napi_key = "{PASSWORD}"\n'
    )


def nothing(_cli: Cli) -> None:
    """Only the environment differs."""


DATABASE = "HEATMAP_ETL_DATABASE_URL"
REFUSALS: list[tuple[str, Callable[[Cli], None], dict[str, str | None], str]] = [
    ("no key", nothing, {"DD_API_KEY": None, "DD_APP_KEY": None}, "set DD_API_KEY and DD_APP_KEY"),
    ("one key", nothing, {"DD_APP_KEY": None}, "needs both"),
    ("wrong key", nothing, {"DD_APP_KEY": PASSWORD}, "the keys were refused"),
    ("unknown setting", unknown_setting, {}, "did you mean views?"),
    ("no views", nothing, {"HEATMAP_ETL_VIEWS": "[]"}, "lists no view"),
    ("doubled views", nothing, {"HEATMAP_ETL_VIEWS": '["/a", "/a"]'}, "listed twice"),
    ("broken TOML", broken_toml, {}, "line 1"),
    ("a key in the file", key_in_toml, {}, "api_key"),
    ("postgresql", nothing, {DATABASE: f"postgres://u:{PASSWORD}@127.0.0.1:9/d"}, "server runs"),
    ("mysql", nothing, {DATABASE: f"mysql://u:{PASSWORD}@127.0.0.1:9/d"}, "server runs"),
    ("unknown database", nothing, {DATABASE: f"oracle://u:{PASSWORD}@h/d"}, "not supported"),
    ("unwritable", nothing, {DATABASE: "sqlite:///heatmap-etl.toml/x.db"}, "folder exists"),
    ("outdated", outdated, {}, "heatmap-etl db upgrade"),
    ("newer", newer, {}, "install a newer heatmap-etl"),
]


@pytest.mark.parametrize("options", [(), ("-v",)], ids=" ".join)
@pytest.mark.parametrize(
    ("spoil", "environ", "word"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_refused_with_one_line_and_nothing_stored_changes(
    cli: Cli,
    spoil: Callable[[Cli], None],
    environ: dict[str, str | None],
    word: str,
    *,
    options: tuple[str, ...],
    synced: bytes,
) -> None:
    cli.database.write_bytes(synced)
    spoil(cli)
    before, files = cli.stored(), cli.files()
    done = cli("sync", *options, **environ)
    lines = [line for line in done.err.splitlines() if line.startswith("heatmap-etl: ")]
    assert (done.code, len(lines)) == (2, 1), done.err
    assert word in lines[0]
    assert "-v" in options or done.is_one_line()
    assert cli.stored() == before
    assert cli.files() <= files | {"heatmap-etl.db-wal", "heatmap-etl.db-shm"}


def test_json_is_no_reason_to_say_an_error_elsewhere(cli: Cli) -> None:
    never_began = cli("sync", "--json", "--quiet", DD_API_KEY=None)
    assert (never_began.code, never_began.out, never_began.is_one_line()) == (2, "", True)
    refused = cli("sync", "--json", "--quiet", DD_API_KEY=PASSWORD)
    assert (refused.code, refused.is_one_line()) == (2, True)
    assert refused.json["status"] == "failed"


def test_without_keys_no_file_is_made(cli: Cli) -> None:
    assert cli("sync", DD_API_KEY=None).code == 2
    assert cli.files() == {"heatmap-etl.toml"}


def test_a_wrong_site_fails_every_view(cli: Cli) -> None:
    done = cli("sync", HEATMAP_ETL_DATADOG_API_URL=NOBODY)
    assert done.code == 1
    assert "Connection refused" in done.out
    assert cli.stored() == [[], []]


def test_several_problems_stand_below_the_name_of_the_file(cli: Cli) -> None:
    cli.configure("veiws = []\ndatabase = 1\n")
    done = cli("sync")
    first, *others = done.err.splitlines()
    assert first.startswith(f"heatmap-etl: {cli.folder}/heatmap-etl.toml: ")
    assert first.endswith(f"{len(others)} problems")
    assert all(line.startswith("  ") for line in others)


def test_a_second_run_is_told_to_come_later(cli: Cli, slow_datadog: FakeDatadog) -> None:
    cli("sync", "--quiet")
    with cli.start("sync", HEATMAP_ETL_DATADOG_API_URL=slow_datadog.url) as first:
        wait_until(lambda: slow_datadog.request_count > 0)
        second = cli("sync")
        assert (second.code, second.is_one_line()) == (75, True)
        assert f"process {first.pid}" in second.err
        told = cli("status")
        assert f"A run is under way: process {first.pid}." in told.out
        first.kill()
    dead = cli("status")
    assert "under way" not in dead.out
    assert "died" in dead.out
    assert cli("sync", "--quiet").code == 0


# --- signals ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [("sync",), ("sync", "--plan"), ("check",)], ids=" ".join)
def test_a_signal_ends_it_though_the_server_hangs(
    cli: Cli, slow_datadog: FakeDatadog, number: signal.Signals, arguments: tuple[str, ...]
) -> None:
    process = cli.start(*arguments, HEATMAP_ETL_DATADOG_API_URL=slow_datadog.url)
    wait_until(lambda: slow_datadog.request_count > 0)
    started = time.monotonic()
    process.send_signal(number)
    done = finish(process, timeout=10)
    assert time.monotonic() - started < 5
    assert done.code == 128 + number
    assert f"heatmap-etl: stopped by signal {int(number)}" in done.err
    if arguments == ("sync",):
        assert "2 not read" in done.out
        assert cli.sql("SELECT status FROM sync_runs") == [("stopped",)]
        assert cli.sql("SELECT lease_token FROM sources") == [(None,)]


INTERRUPTED_WHILE_LOADING = """
import os, runpy, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
module = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupt())
runpy.run_module("etl", run_name="__main__")
"""


@pytest.mark.parametrize(
    "module", ["etl.cli.app", "click", "etl.runtime.console", "etl.config.load", "sqlalchemy"]
)
def test_a_signal_while_the_program_is_being_loaded_ends_it_quietly(cli: Cli, module: str) -> None:
    command = [sys.executable, "-W", "error", "-c", INTERRUPTED_WHILE_LOADING, module, "status"]
    done = subprocess.run(
        command,
        cwd=cli.folder,
        env=cli.environment({}),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


def test_a_second_signal_ends_it_at_once(cli: Cli, slow_datadog: FakeDatadog) -> None:
    cli("sync", "--quiet")
    process = cli.start("sync", HEATMAP_ETL_DATADOG_API_URL=slow_datadog.url)
    wait_until(lambda: slow_datadog.request_count > 0)
    with closing(sqlite3.connect(cli.database, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")  # the run cannot be closed: it waits in the driver
        process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert finish(process, timeout=2).code == 143
    assert cli("sync", "--quiet").code == 0
    statuses = cli.sql("SELECT status FROM sync_runs ORDER BY started_at")
    assert statuses == [("ok",), ("died",), ("ok",)]


def test_one_signal_is_enough_though_the_database_hangs(
    cli: Cli, slow_datadog: FakeDatadog
) -> None:
    cli("sync", "--quiet")
    process = cli.start("sync", HEATMAP_ETL_DATADOG_API_URL=slow_datadog.url)
    wait_until(lambda: slow_datadog.request_count > 0)
    with closing(sqlite3.connect(cli.database, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        process.send_signal(signal.SIGTERM)
        assert finish(process, timeout=10).code == 143


# --- check, status, db --------------------------------------------------------------------


def test_check_writes_nothing(cli: Cli) -> None:
    done = cli("check")
    assert (done.code, done.err) == (0, "")
    a_day = "2 requests a run, 48 a day"
    for words in ("not there yet", "accepted by", a_day, "5 listed", "Everything is in order"):
        assert words in done.out
    assert "rum_replay_heatmap_snapshots" in done.out
    assert cli.files() == {"heatmap-etl.toml"}
    cli("sync")
    assert f"current, revision {HEAD}" in cli("check").out


@pytest.mark.parametrize(
    ("environ", "words", "code"),
    [
        ({"DD_API_KEY": None}, ("PROBLEM  keys", "ok       schema"), 2),
        ({"DD_API_KEY": PASSWORD}, ("PROBLEM  keys", "the keys were refused"), 2),
        ({DATABASE: f"postgres://u:{PASSWORD}@127.0.0.1:9/d"}, ("PROBLEM  database", "5 list"), 2),
        ({DATABASE: "sqlite:///missing/x.db"}, ("PROBLEM  database", "make it", "5 listed"), 2),
        ({"HEATMAP_ETL_DATADOG_API_URL": NOBODY}, ("PROBLEM  Datadog", "refused"), 2),
        ({"HEATMAP_ETL_DATADOG_PAGE_LIMIT": "1"}, ("PROBLEM  view /home", "truncated"), 1),
        ({"HEATMAP_ETL_PAGE_LIMT": "5"}, ("warning  configuration", "did you mean"), 0),
        ({"HEATMAP_ETL_VIEWS": '["/hmoe"]'}, ("warning  view /hmoe", "spelt"), 0),
    ],
)
def test_check_says_what_to_mend(
    cli: Cli, environ: dict[str, str | None], words: tuple[str, ...], code: int
) -> None:
    done = cli("check", **environ)
    assert done.code == code, done.out
    assert all(word in done.out for word in words), done.out
    assert cli.files() == {"heatmap-etl.toml"}


@pytest.mark.parametrize("command", ["sync", "check"])
def test_refused_keys_name_the_variables_and_which_of_them_was_refused(
    cli: Cli, datadog: FakeDatadog, command: str
) -> None:
    (cli.folder / "key").write_text(PASSWORD)
    (cli.folder / ".env").write_text(f"DD_APP_KEY={PASSWORD}\n")
    (cli.folder / ".env").chmod(0o600)
    asked = datadog.request_count
    done = cli(command, DD_APP_KEY=None)
    assert done.code == 2
    said = " ".join(f"{done.out} {done.err}".split())
    assert "application key in DD_APP_KEY in .env" in said
    assert datadog.request_count - asked == 3  # two views, and one question about the keys
    done = cli(command, DD_API_KEY=None, DD_API_KEY_FILE="key")
    assert done.code == 2
    said = " ".join(f"{done.out} {done.err}".split())
    assert "does not accept the API key in DD_API_KEY_FILE" in said


def test_status_says_what_is_not_known(cli: Cli, datadog: FakeDatadog) -> None:
    cli("sync")
    before = " ".join(cli("status").out.split())
    assert "Not known" not in before
    assert cli("status", "--json").json["not_known"] == []
    with closing(sqlite3.connect(cli.database)) as connection, connection:
        connection.execute(
            "INSERT INTO side_questions SELECT source, 'applications', 1,"
            " '2026-03-04 12:00:00.000000', '2026-03-04 13:00:00.000000', '500: out of order'"
            " FROM sources"
        )
    done = cli("status", "--max-age", "1h")
    assert done.code == 0
    said = " ".join(done.out.split())
    assert "Not known (the readings are as good without it): RUM's list of applications, " in said
    assert "500: out of order; asked again by a run after 2026-03-04 13:00" in said
    (item,) = cli("status", "--json").json["not_known"]
    assert item == {
        "question": "applications",
        "since": "2026-03-04T12:00:00.000000Z",
        "ask_again_at": "2026-03-04T13:00:00.000000Z",
        "error": "500: out of order",
    }


@pytest.mark.parametrize(("spoil", "word"), [(outdated, "db upgrade"), (newer, "newer")])
def test_check_knows_the_schema(cli: Cli, spoil: Callable[[Cli], None], word: str) -> None:
    cli("sync")
    spoil(cli)
    done = cli("check")
    assert done.code == 2
    assert "PROBLEM  schema" in done.out
    assert word in done.out
    assert "5 listed" in done.out


READ_ONLY = [("status",), ("db", "status"), ("sync", "--plan"), ("check",)]


def in_mode(database: bytes, mode: str, path: Path) -> None:
    path.write_bytes(database)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_commands_that_only_read_leave_every_byte(cli: Cli, synced: bytes, mode: str) -> None:
    in_mode(synced, mode, cli.database)
    before, files = cli.database.read_bytes(), cli.files()
    for arguments in READ_ONLY:
        assert cli(*arguments).code == 0
        assert (cli.database.read_bytes(), cli.files()) == (before, files), arguments


@dataclass
class Visitor(Cli):
    """Somebody who may only read: what is there is closed to writing, and root is no more."""

    def command(self, *arguments: str) -> list[str]:
        # Without capabilities root writes only what is its own.
        before = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
        return [*before, *super().command(*arguments)]

    def close(self, folder_mode: int) -> None:
        for path in (*self.folder.iterdir(), self.folder):
            if os.geteuid() == 0:
                os.chown(path, 65534, 65534)
            path.chmod(0o444)
        self.folder.chmod(folder_mode)


@pytest.fixture
def visitor(cli: Cli) -> Iterator[Visitor]:
    yield Visitor(cli.folder, cli.environ)
    cli.folder.chmod(0o700)


@pytest.mark.parametrize("folder_mode", [0o555, 0o777])
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_who_may_only_read_the_database_reads_it_and_leaves_nothing(
    visitor: Visitor, synced: bytes, *, mode: str, folder_mode: int
) -> None:
    in_mode(synced, mode, visitor.database)
    visitor.close(folder_mode)
    before, files = visitor.database.read_bytes(), visitor.files()
    for arguments in READ_ONLY[:-1]:
        done = visitor(*arguments)
        assert (done.code, done.err) == (0, ""), arguments
    checked = visitor("check")
    assert (checked.code, checked.err) == (2, "")
    assert "cannot be written" in checked.out
    refused = visitor("sync")
    assert (refused.code, refused.is_one_line()) == (2, True)
    assert "can be written" in refused.err or "write the file and its folder" in refused.err
    assert (visitor.database.read_bytes(), visitor.files()) == (before, files)


def test_who_may_only_read_sees_what_a_running_program_has_just_written(
    visitor: Visitor, synced: bytes
) -> None:
    in_mode(synced, "wal", visitor.database)
    with closing(sqlite3.connect(visitor.database)) as writer:
        writer.execute("UPDATE view_state SET listed = 4711")
        writer.commit()
        visitor.close(0o555)
        assert "4,711" in visitor("status").out


def test_status_knows_how_fresh_a_view_is(cli: Cli) -> None:
    assert cli("status").code == 2
    assert cli.files() == {"heatmap-etl.toml"}
    cli("sync", "--view", "/home")
    plain = cli("status", DD_API_KEY=None, DD_APP_KEY=None)
    assert (plain.code, plain.err) == (0, "")
    assert "never read" in plain.out
    assert str(cli.database) in plain.out
    stale = cli("status", "--max-age", "1h", "--json")
    assert stale.code == 1
    assert [view["is_stale"] for view in stale.json["views"]] == [False, True]
    cli("sync")
    assert cli("status", "--max-age", "1h").code == 0
    assert [run["status"] for run in cli("status", "--json").json["runs"]] == ["ok", "ok"]
    cli.sql("UPDATE view_state SET last_trusted_at = '2020-01-01 00:00:00.000000'")
    assert cli("status", "--max-age", "2h").code == 1


@pytest.fixture
def emptied(cli: Cli, api: Api) -> Cli:
    """Three views with snapshots were read; now each answers empty."""
    cli.environ |= {
        "HEATMAP_ETL_DATADOG_API_URL": api.url,
        "HEATMAP_ETL_VIEWS": json.dumps(["/a", "/b", "/c"]),
    }
    for number, view in enumerate(("/a", "/b", "/c")):
        api.views[view] = [record(f"{view}{n}", view_name=view) for n in range(6 + number)]
    assert cli("sync", "--quiet") == Result(0, "", "")
    assert cli("status", "--max-age", "1h").code == 0
    api.views = {}
    return cli


HELD = "needs_acceptance: 3 views (/a, /b, /c): "


def test_held_removals_are_told_until_a_person_accepts_them(emptied: Cli) -> None:
    cli = emptied
    done = cli("sync")
    assert done.code == 0  # every view was read
    assert f"Problems:\n  {HELD}" in done.out
    assert f" WARNING datadoghq.com: {HELD}" in done.err
    assert done.err.count("\n") == 1
    quiet = cli("sync", "--quiet")
    assert (quiet.code, quiet.out, quiet.is_one_line()) == (0, "", True)
    assert quiet.err.startswith(f"heatmap-etl: {HELD}")

    status = cli("status", "--max-age", "1h")
    assert (status.code, status.err) == (1, "")
    (line,) = [line for line in status.out.splitlines() if "needs_acceptance" in line]
    assert line.startswith(f"  {HELD}")
    assert line.index("look in Datadog") < line.index("heatmap-etl sync --accept-removals")
    assert cli("status").code == 0
    as_json = cli("status", "--max-age", "1h", "--json")
    assert as_json.code == 1
    told = [(c["kind"], c["view_name"]) for c in as_json.json["concerns"]]
    assert told == [("needs_acceptance", view) for view in ("/a", "/b", "/c")]
    assert {"kind", "view_name", "since", "text"} <= as_json.json["concerns"][0].keys()
    assert HELD.partition(": ")[2] in cli("check").out

    assert cli("sync", "--accept-removals", "--quiet") == Result(0, "", "")
    assert cli("status", "--max-age", "1h").code == 0


def test_a_clock_that_was_wrong_makes_nothing_fresh(cli: Cli) -> None:
    cli("sync")
    assert cli("status", "--max-age", "1h").code == 0
    for column in ("last_read_at", "last_trusted_at"):
        cli.sql(f"UPDATE view_state SET {column} = '2099-01-01 00:00:00.000000'")
    for age in ("1s", "520w"):
        done = cli("status", "--max-age", age, "--json")
        assert done.code == 1
        assert [view["is_stale"] for view in done.json["views"]] == [True, True]
        assert [c["kind"] for c in done.json["concerns"]] == ["clock"]
    plain = cli("status", "--max-age", "1h").out
    assert "just now" not in plain
    assert "in the future" in plain
    assert "heatmap-etl db repair-clock datadoghq.com" in plain
    assert "clock: stored times of this source lie in the future" in cli("sync").out


def test_an_accepted_cut_is_fresh_by_its_last_reading(cli: Cli) -> None:
    view = '{"name": "/home", "accept_truncated": %s}'
    how = {"HEATMAP_ETL_DATADOG_PAGE_LIMIT": "1"}
    for accepted, code in (("true", 0), ("false", 1)):
        views = {"HEATMAP_ETL_VIEWS": f"[{view % accepted}]", **how}
        cli("sync", **views)
        assert cli("status", "--max-age", "1h", **views).code == code


def test_the_schema_step_by_step(cli: Cli) -> None:
    absent = cli("db", "status")
    assert (absent.code, "absent" in absent.out) == (1, True)
    assert cli.files() == {"heatmap-etl.toml"}
    assert f"from nothing to revision {HEAD}" in cli("db", "upgrade").out
    assert "already current" in cli("db", "upgrade").out
    assert cli("db", "status").code == 0
    cli.sql("DELETE FROM heatmap_etl_version")
    finished = (
        "sqlite:///" + str(cli.database) + ": finished an interrupted upgrade, now at revision"
    )
    assert cli("db", "upgrade").out.startswith(finished)
    newer(cli)
    assert cli("db", "status").code == 2
    refused = cli("db", "upgrade")
    assert (refused.code, refused.is_one_line()) == (2, True)


@pytest.mark.parametrize("command", ["upgrade", "status"])
@pytest.mark.parametrize(
    "url",
    ["sqlite:///heatmap-etl.toml/x.db", f"postgres://u:{PASSWORD}@127.0.0.1:9/d"],
)
def test_a_database_out_of_reach_is_one_line(cli: Cli, command: str, url: str) -> None:
    done = cli("db", command, **{DATABASE: url})
    assert (done.code, done.out, done.is_one_line()) == (2, "", True)


def test_the_whole_way_on_each_database(cli: Cli, empty_database_url: str) -> None:
    on: dict[str, str | None] = {DATABASE: empty_database_url}
    assert cli("db", "status", **on).code == 1
    assert cli("sync", "--plan", **on).code == 0
    assert "first sync creates it" in cli("check", **on).out
    assert cli("status", **on).is_one_line()
    assert cli("sync", **on).code == 0
    assert "10 unchanged" in cli("sync", **on).out
    for arguments in (
        ("status", "--max-age", "1h"),
        ("check",),
        ("db", "status"),
        ("db", "upgrade"),
    ):
        done = cli(*arguments, **on)
        assert (done.code, done.err) == (0, ""), done


# --- demo and bugs ------------------------------------------------------------------------


def test_demo(cli: Cli) -> None:
    done = cli("demo", "some/where")
    assert (done.code, done.err) == (0, "")
    assert [path.name for path in (cli.folder / "some/where").iterdir()] == ["heatmap-demo.db"]
    blocked = cli("demo", "heatmap-etl.toml/x")
    assert (blocked.code, blocked.is_one_line()) == (2, True)


def test_a_bug_is_shown_whole_and_recorded(cli: Cli) -> None:
    code = (
        "import etl.load.writer, sys\n"
        "def bug(*_, **__): raise KeyError('a bug')\n"
        "etl.load.writer.TableWriter.write = bug\n"
        "from etl.cli.app import main\n"
        "sys.exit(main(['sync', '--quiet']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cli.folder,
        env=cli.environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" in done.stderr
    assert "KeyError: 'a bug'" in done.stderr
    assert cli.sql("SELECT status FROM sync_runs") == [("failed",)]


# --- fake-datadog -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_fake_serves_until_it_is_told_to_end(cli: Cli, number: signal.Signals) -> None:
    process = cli.start("fake-datadog", "--port", "0", "--tick", "60")
    assert process.stdout
    url = process.stdout.readline().split()[3].strip(";")
    wait_until(lambda: process.stdout and process.stdout.readline() == ")\n")
    assert cli("check", HEATMAP_ETL_DATADOG_API_URL=url).code == 2  # other keys
    assert cli("sync", HEATMAP_ETL_DATADOG_API_URL=url, **FAKE_KEYS).code == 0
    process.send_signal(number)
    done = finish(process)
    assert (done.code, done.err) == (0, "")


def test_what_the_fake_prints_runs_as_it_is_and_leaves_nothing_set(cli: Cli) -> None:
    process = cli.start("fake-datadog", "--port", "0")
    assert process.stdout
    lines = iter(process.stdout.readline, ")\n")
    block = "".join([*dropwhile(lambda line: line != "(\n", lines), ")\n"])
    folder = cli.folder / "empty"
    folder.mkdir()
    names = ("DD_API_KEY", "DD_APP_KEY", "HEATMAP_ETL_DATADOG_API_URL", "HEATMAP_ETL_VIEWS")
    done = subprocess.run(
        ["sh", "-c", f"{block}env"],
        cwd=folder,
        env=cli.environment(dict.fromkeys(names)),
        capture_output=True,
        text=True,
        check=False,
    )
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 0
    assert (done.returncode, done.stderr) == (0, "")
    for said in ("Everything is in order.", " new, 0 changed", " 0 to look at"):
        assert said in done.stdout
    assert not [name for name in names if f"\n{name}=" in done.stdout]
    assert [path.name for path in folder.glob("*.db")] == ["fake.db"]


def test_a_taken_port_is_one_line(cli: Cli, datadog: FakeDatadog) -> None:
    done = cli("fake-datadog", "--port", datadog.url.rpartition(":")[2])
    assert (done.code, done.is_one_line()) == (2, True)
