"""Options that write a file: what stood there before is theirs, or stays."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from etl.database.migrations import upgrade_url
from etl.fake_datadog import FakeDatadog, World
from tests.support.command_line import SECRETS, Cli

FOREIGN_METRICS = b"# HELP node_load1 1m load average.\nnode_load1 0.5\n"
WRITERS = (
    ("sync", "--metrics-file"),
    ("export", "current_snapshots", "--output"),
    ("export", "current_snapshots", "--format", "csv", "--output"),
    ("check", "--report"),
    ("init", "--force", "--config"),
)


@pytest.fixture
def datadog() -> Iterator[FakeDatadog]:
    api_key, app_key = SECRETS.values()
    world = World(views=("/home",), snapshots_per_view=2)
    with FakeDatadog(world, api_key=api_key, app_key=app_key) as server:
        yield server


@pytest.fixture(scope="module")
def with_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database for copies: to make one takes longer than most commands here."""
    path = tmp_path_factory.mktemp("tables") / "heatmap-etl.db"
    upgrade_url(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def cli(tmp_path: Path, datadog: FakeDatadog, with_tables: Path) -> Cli:
    cli = Cli(tmp_path)
    cli.configure(
        'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home"]\n'
        f'[datadog]\napi_url = "{datadog.url}"\n'
    )
    (tmp_path / ".env").write_text("HEATMAP_ETL_LOG_FORMAT=console\n", encoding="utf-8")
    shutil.copyfile(with_tables, cli.database)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "foreign.prom").write_bytes(FOREIGN_METRICS)
    (tmp_path / "foreign").write_bytes(b"root:x:0:0\n")
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "database").hardlink_to(cli.database)
    return cli


def content(cli: Cli) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes() for p in cli.folder.iterdir() if p.is_file() and p.name != "null"
    }


TARGETS = (
    *("heatmap-etl.db", "database", ".env", "foreign", "pipe", "null", "."),
    *("/dev/null", "/dev/stdout", "/dev/stderr", "/proc/self/fd/1"),
)


@pytest.mark.parametrize("command", WRITERS, ids=" ".join)
def test_what_is_not_theirs_is_refused_and_stays(
    cli: Cli, datadog: FakeDatadog, command: tuple[str, ...]
) -> None:
    before = content(cli)
    for target in TARGETS:
        done = cli(*command, target)
        assert (done.code, done.out, done.is_one_line()) == (2, "", True), (target, done)
        assert content(cli) == before, target
    assert Path("/dev/null").is_char_device()
    assert datadog.request_count == 0


def test_metrics_replace_only_metrics_of_ours(cli: Cli) -> None:
    done = cli("sync", "--metrics-file", "foreign.prom")
    assert "is not a metrics file of heatmap-etl, and stays as it is" in done.err
    (cli.folder / "mixed.prom").write_bytes(b"heatmap_etl_x 1\n" + FOREIGN_METRICS)
    assert cli("sync", "--metrics-file", "mixed.prom").code == 2
    (cli.folder / "own.prom").touch()
    (cli.folder / "link.prom").symlink_to("own.prom")
    for _ in range(2):
        assert cli("sync", "--metrics-file", "link.prom").code == 0
    assert (cli.folder / "link.prom").is_symlink()
    text = (cli.folder / "own.prom").read_text(encoding="utf-8")
    assert 'heatmap_etl_runs_total{source="datadoghq.com",status="ok"} 2' in text


@pytest.mark.parametrize("name", ["x.xlsx", "x.json", "x.csv.gz", "x.txt", "x.db"])
def test_an_ending_that_nothing_writes_is_refused(cli: Cli, name: str) -> None:
    done = cli("export", "current_snapshots", "--output", name)
    assert (done.code, done.is_one_line()) == (2, True)
    assert "end the name in one of .csv, .jsonl, .parquet, or add --format" in done.err
    assert name not in cli.files()


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (("--output", "x"), b"id,"),
        (("--output", "X.CSV"), b"id,"),
        (("--output", "x.ndjson"), b'{"id":'),
        (("--format", "csv", "--output", "x.txt"), b"id,"),
        (("--format", "csv", "--spreadsheet", "--output", "x.txt"), b"\xef\xbb\xbfid,"),
        (("--format", "jsonl", "--output", "x.json"), b'{"id":'),
    ],
    ids=str,
)
def test_an_export_may_be_written_again(cli: Cli, arguments: tuple[str, ...], start: bytes) -> None:
    assert cli("sync").code == 0
    for _ in range(2):
        assert cli("export", "current_snapshots", *arguments).code == 0
        assert (cli.folder / arguments[-1]).read_bytes().startswith(start)


def test_init_replaces_a_configuration_only(cli: Cli) -> None:
    for name, text in (("broken.toml", "views = ["), ("own", 'views = ["/a"]\n')):
        (cli.folder / name).write_text(text, encoding="utf-8")
        (cli.folder / name).chmod(0o640)
        assert cli("init", "--force", "--config", name).code == 0
        assert (cli.folder / name).stat().st_mode & 0o777 == 0o640
    (cli.folder / "pyproject.toml").write_text('[project]\nname = "x"\n', encoding="utf-8")
    done = cli("init", "--force", "--config", "pyproject.toml")
    assert (done.code, done.is_one_line()) == (2, True)
    assert "is not a configuration" in done.err
    for name in ("etl.db", "etl.db-wal", "etl.db-journal"):
        done = cli("init", "--config", name, "--database-url", "sqlite:///etl.db")
        assert "holds the configuration or the database" in done.err
        assert name not in cli.files()


def test_the_demo_waits_for_no_pipe(cli: Cli) -> None:
    os.mkfifo(cli.folder / "heatmap-demo.db")
    done = cli("demo")
    assert (done.code, done.is_one_line()) == (2, True)
    assert "is not a database of the demo" in done.err


def test_a_file_behind_stdout_is_not_replaced(cli: Cli) -> None:
    with (cli.folder / "out.csv").open("wb") as out:
        process = subprocess.Popen(
            cli.command("export", "current_snapshots", "--output", "out.csv"),
            cwd=cli.folder,
            env=cli.environment({}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert "is not a regular file" in (process.stderr.read() if process.stderr else "")
    assert process.returncode == 2
