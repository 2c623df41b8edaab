"""Databases as every earlier revision of the program left them, each with its story.

    python -m benchmarks.prove.old_databases            # makes them all again, from git's history
    python -m benchmarks.prove.old_databases 0003       # or those of one revision

Each file of `old_databases/` is of one revision and one story. The program of that time told the
first rounds of it on SQLite, PostgreSQL and MariaDB, and each database was dumped as SQL by its
own tools. The file holds all rounds: the program of today tells the others.

No program of revision 0001 is in the history of git: the one of 0002 told the story, and its
migration took the tables back.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.engine import make_url

from benchmarks.prove.story import HOLD_ABOVE, HOLD_MIN, VIEWS, invent
from benchmarks.prove.telling import Telling, rows_of, serve
from etl.database.connection import Database
from etl.transform.snapshot import NORMALIZER_VERSION
from tests.support.api import Api
from tests.support.servers import PASSWORD, Servers, find_program

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).with_name("old_databases")
PROGRAMS = {
    "0001": "9e561dd",
    "0002": "9e561dd",
    "0003": "edce637",
    "0004": "ce80e9c",
    "0005": "e67e225",
}
"""The last commit of the main line with each revision."""
STORIES = {2: 8, 3: 11}
"""How many rounds of which story were told then."""
LONGEST_RUN = timedelta(minutes=1)
ROUNDS = 16
NO_LONGER_NEEDED = ("tenacity>=9,<10",)
"""What the old programs import, and the environment of today has not."""


class OldDatabase(msgspec.Struct):
    """One file. `dumps` holds SQL by the name of the database; `told` rounds of `story` are in."""

    revision: str
    program: str
    told: int
    story: list[dict[str, list[Any]]]
    dumps: dict[str, str]


def names() -> list[str]:
    return sorted(file.name.partition(".")[0] for file in FOLDER.glob("*.json.xz"))


def read(name: str) -> OldDatabase:
    packed = (FOLDER / f"{name}.json.xz").read_bytes()
    return msgspec.json.decode(lzma.decompress(packed), type=OldDatabase)


def load(dump: str, url: str) -> None:
    """Into an empty database."""
    parsed = make_url(url)
    login: dict[str, Any] = {"host": parsed.host, "port": parsed.port, "user": parsed.username}
    login["password"] = parsed.password
    if parsed.get_backend_name() == "sqlite":
        with contextlib.closing(sqlite3.connect(str(parsed.database))) as connection:
            connection.executescript(dump)
    elif parsed.get_backend_name() == "postgresql":
        import psycopg

        with psycopg.connect(**login, dbname=parsed.database, autocommit=True) as session:
            session.execute(dump.encode())
    else:
        import pymysql
        from pymysql.constants import CLIENT

        login["client_flag"] = CLIENT.MULTI_STATEMENTS
        with (
            contextlib.closing(
                pymysql.connect(
                    **login, database=parsed.database, autocommit=True, ssl_disabled=True
                )
            ) as server,
            server.cursor() as cursor,
        ):
            cursor.execute(dump)
            while cursor.nextset():
                pass


def heard(old: OldDatabase, database: Database) -> Telling:
    """The telling of an old database that was upgraded, and what its program knew less exactly.

    That is, until the next reading: in `schema_drift`, of the readings of one run, which was first
    or last (all revisions); in `view_state`, when a view last listed a snapshot (0001 did not
    note it, 0002 not where an answer was as the last one). And where its normalizer was another
    one, the next answer of each view counts as changed.
    """
    telling = Telling(database, old.story)
    telling.hear_each_run(old.told)
    oracle = telling.oracle
    for row in rows_of(database, "schema_drift"):
        seen = oracle.drift[row["name"], row["kind"]]
        for name in ("first_seen_at", "last_seen_at"):
            off = abs(row[name] - getattr(seen, name))
            assert off < LONGEST_RUN, f"drift {row['name']}: {name} is off by {off}"
            setattr(seen, name, row[name])
    versions = {row["normalizer_version"] for row in rows_of(database, "sources")}
    for state in oracle.views.values() if versions != {NORMALIZER_VERSION} else ():
        state.body = ""
    if old.revision <= "0002":
        for row in rows_of(database, "view_state"):
            state = oracle.views[row["view_name"]]
            at = row["last_nonempty_at"]
            assert at is None or at <= state.last_read_at, f"{row['view_name']}: last_nonempty_at"
            assert (at is None) == (old.revision == "0001"), f"{row['view_name']}: {at}"
            state.last_nonempty_at = at
    return telling


# --- how they were made --------------------------------------------------------------------


def make(revisions: Collection[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="old-") as place:
        folder = Path(place)
        packages = folder / "packages"
        install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(packages)]
        subprocess.run([*install, "--no-deps", *NO_LONGER_NEEDED], check=True)
        servers = Servers()
        try:
            for revision in revisions or PROGRAMS:
                with _program(PROGRAMS[revision], folder / revision) as program:
                    for seed, rounds in STORIES.items():
                        old = _told(servers, program, packages, revision, seed, rounds)
                        packed = lzma.compress(msgspec.json.encode(old), preset=9)
                        path = FOLDER / f"{revision}-{seed}.json.xz"
                        path.write_bytes(packed)
                        print(path.name, len(packed), "bytes")
        finally:
            servers.stop()


@contextlib.contextmanager
def _program(commit: str, folder: Path) -> Iterator[Path]:
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "-q", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def _told(
    servers: Servers, program: Path, packages: Path, revision: str, seed: int, rounds: int
) -> OldDatabase:
    story = invent(seed, ROUNDS)
    dumps = {}
    for dialect in ("sqlite", "postgresql", "mariadb"):
        with tempfile.TemporaryDirectory() as place, Api() as api:
            folder = Path(place)
            url = f"sqlite:///{folder / 'old.db'}"
            if dialect != "sqlite":
                server = servers.get(dialect)
                url = server.url(server.create_database())
            views = msgspec.json.encode(list(VIEWS)).decode()
            (folder / "heatmap-etl.toml").write_text(
                f"database_url = '{url}'\nviews = {views}\n[datadog]\napi_url = '{api.url}'\n"
                f"[removals]\nhold_above = {HOLD_ABOVE}\nhold_min = {HOLD_MIN}\n",
                encoding="utf-8",
            )
            environment = {
                "PATH": os.defpath,
                "PYTHONPATH": f"{program}:{packages}",
                "DD_API_KEY": "api-key",
                "DD_APP_KEY": "app-key",
                "HEATMAP_ETL_DATABASE_URL": url,
            }
            for answers in story[:rounds]:
                serve(api, answers)
                _run([sys.executable, "-m", "etl", "sync", "--quiet"], folder, environment)
            if revision == "0001":
                alembic = [sys.executable, "-m", "alembic", "-c", str(program / "alembic.ini")]
                _run([*alembic, "downgrade", revision], folder, environment)
            dumps[dialect] = _dumped(dialect, url)
    return OldDatabase(revision, PROGRAMS[revision], rounds, story, dumps)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def _dumped(dialect: str, url: str) -> str:
    parsed = make_url(url)
    if dialect == "sqlite":
        with contextlib.closing(sqlite3.connect(str(parsed.database))) as connection:
            return "\n".join(connection.iterdump())
    login = ["-h", "127.0.0.1", "-U" if dialect == "postgresql" else "-u", "etl"]
    if dialect == "postgresql":
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        command = [str(find_program("pg_dump", folders)), *login, "-p", str(parsed.port)]
        command += ["--no-owner", "--no-privileges", "--rows-per-insert=100", "--no-comments"]
    else:
        command = [str(find_program("mariadb-dump", [])), *login, "-P", str(parsed.port)]
        command += ["--skip-comments", "--skip-add-locks", "--no-tablespaces", "--skip-triggers"]
    environment = {"PATH": os.defpath, "PGPASSWORD": PASSWORD, "MYSQL_PWD": PASSWORD}
    said = _run([*command, str(parsed.database)], Path(tempfile.gettempdir()), environment)
    # What only their own clients understand begins with a backslash.
    return "\n".join(line for line in said.splitlines() if not line.startswith("\\"))


if __name__ == "__main__":
    make(sys.argv[1:])
