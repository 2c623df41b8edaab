"""A database that is damaged, or none at all, is told in one line by every command."""

import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.api import Api, record
from tests.support.command_line import PASSWORD, Cli, finish
from tests.support.odd_databases import mysql_hello, mysql_packet, talking
from tests.support.paths import ROOT

COMMANDS = ["sync", "status", "check", "export sync_health", "db status", "db upgrade", "alembic"]
RESTORE = "put it back from a backup, or save what can be read of it by: sqlite3 FILE .recover"
PAGE = 4096


class Alembic(Cli):
    """By hand, as a developer would."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), *arguments]


@pytest.fixture
def cli(tmp_path: Path, api: Api) -> Cli:
    """Two views of two snapshots each, stored once in `heatmap-etl.db`."""
    cli = Cli(tmp_path)
    cli.configure(
        'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/a", "/b"]\n'
        f'[datadog]\napi_url = "{api.url}"\n'
    )
    for view in ("/a", "/b"):
        api.views[view] = [record(f"{view} {n}", view_name=view) for n in range(2)]
    assert cli("sync", "--quiet").code == 0
    return cli


def told(cli: Cli, command: str, **environ: str) -> str:
    """The line, the only one, in which a command says that the database cannot be used."""
    if command == "alembic":
        url = {"HEATMAP_ETL_DATABASE_URL": "sqlite:///heatmap-etl.db", **environ}
        result = finish(Alembic(cli.folder).start("upgrade", "head", **url))
        assert result.code != 0
        (line,) = (result.out + result.err).strip().splitlines()
        return line
    result = cli(*command.split(), **environ)
    assert result.code == 2, command
    if command == "check":
        assert result.err == ""
        (line,) = (line for line in result.out.splitlines() if line.startswith("PROBLEM"))
        return line
    assert result.is_one_line(), result.err
    return result.err


def damage(path: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        ((page,),) = connection.execute(query, (table,)).fetchall()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"junk" * (PAGE // 4))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "said", "commands"),
    [
        (cut, f"it is cut short; {RESTORE}", COMMANDS),
        (
            lambda path: damage(path, "heatmap_etl_version"),
            f"it is cut short or damaged; {RESTORE}",
            ["export sync_health", "alembic"],
        ),
        (
            replace_by_pipe,
            "it is no file, but a device, pipe or socket; name another file",
            ["sync", "status"],
        ),
    ],
    ids=["cut", "damaged", "pipe"],
)
def test_a_spoilt_file_is_told_and_left_as_it_is(
    cli: Cli, spoil: Callable[[Path], None], said: str, commands: Sequence[str]
) -> None:
    spoil(cli.database)
    before = cli.database.read_bytes() if cli.database.is_file() else None
    for command in commands:
        assert said in told(cli, command), command
        assert before == (cli.database.read_bytes() if cli.database.is_file() else None), command
    assert cli.files() == {"heatmap-etl.db", "heatmap-etl.toml"}


def test_a_run_that_meets_damage_stores_what_it_can(cli: Cli, api: Api) -> None:
    """The history is written only where something has changed."""
    damage(cli.database, "snapshot_history")
    api.views["/a"].append(record("/a new", view_name="/a"))
    api.views["/b"] = [record(f"/b {n}", view_name="/b", snapshot_name="new") for n in range(2)]
    result = cli("sync", "--quiet")
    assert (result.code, result.is_one_line()) == (1, True)
    assert "/b: failed: " in result.err
    assert result.err.endswith(f"it is cut short or damaged; {RESTORE}\n")
    assert cli.sql("SELECT count(*) FROM snapshots WHERE id = '/a new'") == [(1,)]
    assert cli.sql("SELECT count(*) FROM snapshots WHERE snapshot_name = 'new'") == [(0,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "said", "commands"),
    [
        ([b"\0" * 100], "the driver raised IndexError; ", COMMANDS),
        (
            [mysql_hello(), mysql_packet(b"\xfeclient_ed25519\0" + b"x" * 32, 2)],
            "run: pip install 'PyMySQL[ed25519]'",
            ["sync", "check"],
        ),
    ],
    ids=["nonsense", "login"],
)
def test_whatever_the_driver_raises_is_told(
    cli: Cli, parts: Sequence[bytes], said: str, commands: Sequence[str]
) -> None:
    with talking(parts) as port:
        url = f"mysql://me:{PASSWORD}@127.0.0.1:{port}/x"
        for command in commands:
            assert said in told(cli, command, HEATMAP_ETL_DATABASE_URL=url), command


def test_parameters_that_a_url_cannot_have_are_told(cli: Cli) -> None:
    url = f"mysql://me:{PASSWORD}@h/x?ssl=true"
    result = cli("sync", HEATMAP_ETL_DATABASE_URL=url)
    assert (result.code, result.is_one_line()) == (2, True)
    assert "write ssl_mode=REQUIRED" in result.err
    result = cli("status", "--database", "sqlite:///heatmap-etl.db?mode=ro")
    assert (result.code, result.is_one_line()) == (2, True)
    assert "leave out mode: a file that this user may not write" in result.err
