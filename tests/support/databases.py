"""Fresh databases for tests: empty ones, and ones with our schema made by the migrations.

The migrations run once per dialect; what a test gets is a copy. MariaDB cannot copy a database, so
there a used one is emptied and handed out again.
"""

import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from tests.support.servers import MariaDB, PostgreSQL, Servers

VERSION_TABLE = "heatmap_etl_version"

Migrate = Callable[[str], None]


class Databases(ABC):
    """Databases of one dialect. `free` may be given any URL that `empty` or `migrated` made."""

    def __init__(self, migrate: Migrate) -> None:
        self._migrate = migrate

    @abstractmethod
    def empty(self) -> str: ...

    @abstractmethod
    def migrated(self) -> str: ...

    @abstractmethod
    def free(self, url: str) -> None: ...


class SQLiteDatabases(Databases):
    def __init__(self, migrate: Migrate, folder: Path) -> None:
        super().__init__(migrate)
        self._folder = folder
        self._numbers = count(1)
        self._template: Path | None = None

    def empty(self) -> str:
        return f"sqlite:///{self._next_path()}"

    def migrated(self) -> str:
        if self._template is None:
            self._template = self._make_template()
        path = self._next_path()
        shutil.copyfile(self._template, path)
        return f"sqlite:///{path}"

    def free(self, url: str) -> None:
        path = _name(url)
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)

    def _next_path(self) -> Path:
        return self._folder / f"etl-{next(self._numbers)}.db"

    def _make_template(self) -> Path:
        path = self._folder / "template.db"
        self._migrate(f"sqlite:///{path}")
        # The copy takes one file only, so nothing may stay behind in the write-ahead log.
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("pragma wal_checkpoint(truncate)")
        return path


class PostgreSQLDatabases(Databases):
    def __init__(self, migrate: Migrate, server: PostgreSQL) -> None:
        super().__init__(migrate)
        self._server = server
        self._template: str | None = None

    def empty(self) -> str:
        return self._server.url(self._server.create_database())

    def migrated(self) -> str:
        if self._template is None:
            self._template = self._make_template()
        return self._server.url(self._server.clone_database(self._template))

    def free(self, url: str) -> None:
        self._server.drop_database(_name(url))

    def _make_template(self) -> str:
        name = self._server.create_database()
        self._migrate(self._server.url(name))
        # A database that somebody is connected to cannot be copied.
        self._server.execute(f'alter database "{name}" allow_connections false')
        ends = "select pg_terminate_backend(pid) from pg_stat_activity where datname = "
        self._server.execute(f"{ends}'{name}'")
        return name


class MariaDBDatabases(Databases):
    def __init__(self, migrate: Migrate, server: MariaDB) -> None:
        super().__init__(migrate)
        self._server = server
        self._lent: dict[str, list[tuple[Any, ...]]] = {}
        self._idle: list[tuple[str, list[tuple[Any, ...]]]] = []

    def empty(self) -> str:
        return self._server.url(self._server.create_database())

    def migrated(self) -> str:
        name, shape = self._idle.pop() if self._idle else self._make_migrated()
        self._lent[name] = shape
        return self._server.url(name)

    def free(self, url: str) -> None:
        name = _name(url)
        shape = self._lent.pop(name, None)
        # A test that changed the schema must not hand it on.
        if shape is None or self._shape(name) != shape:
            self._server.drop_database(name)
            return
        self._server.disconnect(name)
        self._delete_rows(name)
        self._idle.append((name, shape))

    def _make_migrated(self) -> tuple[str, list[tuple[Any, ...]]]:
        name = self._server.create_database()
        self._migrate(self._server.url(name))
        return name, self._shape(name)

    def _shape(self, name: str) -> list[tuple[Any, ...]]:
        columns = "table_name, column_name, column_type, is_nullable, collation_name, column_key"
        of_database = f"table_schema = '{name}' order by 1, 2"
        return [
            *self._server.execute(
                f"select {columns} from information_schema.columns where {of_database}"
            ),
            *self._tables(name),
            *self._server.execute(f"select * from `{name}`.{VERSION_TABLE}"),
        ]

    def _tables(self, name: str) -> list[tuple[Any, ...]]:
        return self._server.execute(
            "select table_name, auto_increment is not null from information_schema.tables"
            f" where table_schema = '{name}' and table_type = 'BASE TABLE'"
            f" and table_name <> '{VERSION_TABLE}' order by 1"
        )

    def _delete_rows(self, name: str) -> None:
        # DELETE is far faster than TRUNCATE, which makes the file anew but alone resets a counter.
        statements = [
            f"{'truncate' if counts else 'delete from'} `{name}`.`{table}`"
            for table, counts in self._tables(name)
        ]
        block = "; ".join(["set foreign_key_checks = 0", *statements])
        self._server.execute(f"begin not atomic {block}; end")


class AllDatabases:
    """Databases of every dialect; a server starts when its first database is asked for."""

    def __init__(self, servers: Servers, folder: Path, migrate: Migrate) -> None:
        self._servers = servers
        self._migrate = migrate
        self._made: dict[str, Databases] = {"sqlite": SQLiteDatabases(migrate, folder)}

    def of(self, dialect: str) -> Databases:
        if dialect not in self._made:
            self._made[dialect] = self._on_server(dialect)
        return self._made[dialect]

    def _on_server(self, dialect: str) -> Databases:
        server = self._servers.get(dialect)
        if isinstance(server, PostgreSQL):
            return PostgreSQLDatabases(self._migrate, server)
        assert isinstance(server, MariaDB)
        return MariaDBDatabases(self._migrate, server)


def _name(url: str) -> str:
    name = make_url(url).database
    assert name is not None
    return name
