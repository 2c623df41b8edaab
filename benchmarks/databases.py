"""Fresh databases to load into, and what is in them afterwards.

The servers are throw-away ones like those of the tests, but with the settings they come with:
here durability is part of what is measured.
"""

import shutil
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine

from benchmarks import environments
from tests.support.servers import ADMIN, MariaDB, PostgreSQL, Server

DRIVERS = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql", "sqlite": "sqlite"}


def _without(command: list[str], *names: str) -> list[str]:
    """The server's command without the settings that make it fast and forgetful."""
    kept: list[str] = []
    for part in command:
        if any(name in part for name in names):
            if kept[-1] == "-c":
                kept.pop()
            continue
        kept.append(part)
    return kept


class StockPostgreSQL(PostgreSQL):
    def _command(self) -> list[str]:
        return _without(super()._command(), "fsync", "synchronous_commit", "full_page_writes")


class StockMariaDB(MariaDB):
    def _command(self) -> list[str]:
        flags = ("flush-log-at-trx-commit", "skip-innodb-doublewrite", "buffer-pool-size")
        return _without(super()._command(), *flags)


class Databases:
    """Databases of one dialect; a server is started when it is first needed."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self._server: Server | None = None
        self._numbers = count(1)
        self._folder = environments.FOLDER / "databases"

    def new(self) -> str:
        """URL of an empty database, with neither driver nor settings in it."""
        if self.dialect == "sqlite":
            self._folder.mkdir(parents=True, exist_ok=True)
            file = self._folder / f"{next(self._numbers)}.db"
            self.drop(url := f"sqlite:///{file}")
            return url
        return self.server.url(self.server.create_database())

    @property
    def server(self) -> Server:
        if self._server is None:
            kinds: dict[str, type[Server]] = {
                "postgresql": StockPostgreSQL,
                "mariadb": StockMariaDB,
            }
            self._server = kinds[self.dialect].launch()
        return self._server

    def drop(self, url: str) -> None:
        if self.dialect != "sqlite":
            self.server.drop_database(_name(url))
            return
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(_file(url) + suffix).unlink(missing_ok=True)

    def settle(self, url: str) -> None:
        """What the server would do on its own before the next run, an hour later."""
        if self.dialect == "postgresql":
            admin = self.server.url(_name(url), user=ADMIN)
            self.run(admin, "VACUUM ANALYZE")
            self.run(admin, "CHECKPOINT")

    def journal(self, url: str) -> int | None:
        """Bytes of write-ahead log so far; None where only the process can tell."""
        if self.dialect != "postgresql":
            return None
        ((position,),) = self.rows(url, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
        return int(position)

    def rows(self, url: str, sql: str) -> Sequence[Sequence[Any]]:
        engine = create_engine(sqlalchemy_url(url))
        with engine.connect() as connection:
            found = connection.exec_driver_sql(sql).fetchall()
        engine.dispose()
        return found

    def stream(self, url: str, sql: str) -> Iterator[Sequence[Any]]:
        """Millions of rows, a few thousand at a time."""
        engine = create_engine(sqlalchemy_url(url), execution_options={"stream_results": True})
        with engine.connect() as connection:
            yield from connection.exec_driver_sql(sql).yield_per(5000)
        engine.dispose()

    def run(self, url: str, sql: str) -> None:
        engine = create_engine(sqlalchemy_url(url), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(sql)
        engine.dispose()

    def version(self) -> str:
        if self.dialect == "sqlite":
            import sqlite3

            return sqlite3.sqlite_version
        statement = "show server_version" if self.dialect == "postgresql" else "select version()"
        return str(self.server.execute(statement)[0][0])

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        if self.dialect == "sqlite":
            shutil.rmtree(self._folder, ignore_errors=True)


def sqlalchemy_url(url: str) -> str:
    """With the driver that our environment has."""
    dialect, _, rest = url.partition("://")
    return f"{DRIVERS[dialect]}://{rest}"


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _file(url: str) -> str:
    return url.removeprefix("sqlite:///")
