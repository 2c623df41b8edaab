"""New databases for the parts of the proof, on the servers of the tests."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Self

from sqlalchemy.engine import make_url

from etl.config.database_url import parse_database
from etl.database.connection import Database, open_database
from tests.support.servers import Servers

WORDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}


class Places:
    """`new("mariadb")` is the URL of an empty database; a server starts with its first one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers = Servers()
        self._numbers = count(1)
        self._one_at_a_time = threading.Lock()  # else two threads start the same server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.stop()

    def new(self, dialect: str) -> str:
        if dialect == "sqlite":
            return f"sqlite:///{self._folder / f'{next(self._numbers)}.db'}"
        with self._one_at_a_time:
            server = self._servers.get(dialect)
            return server.url(server.create_database())

    def drop(self, url: str) -> None:
        parsed = make_url(url)
        assert parsed.database is not None
        if parsed.get_backend_name() == "sqlite":
            for file in Path(parsed.database).parent.glob(f"{Path(parsed.database).name}*"):
                file.unlink()
            return
        with self._one_at_a_time:
            self._servers.get(parsed.get_backend_name()).drop_database(parsed.database)

    def version(self, dialect: str) -> str:
        if dialect == "sqlite":
            return sqlite3.sqlite_version
        asked = {"postgresql": "show server_version", "mariadb": "select version()"}[dialect]
        with self._one_at_a_time:
            found = self._servers.get(dialect).execute(asked)
        return str(found[0][0]).split()[0].partition("-")[0]


def opened(url: str) -> closing[Database]:
    parsed = parse_database(url, Path.cwd())
    return closing(open_database(parsed.url, label=parsed.label))
