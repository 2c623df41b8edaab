"""Fresh databases for tests: empty ones, and ones with our schema made by the migrations.

The migrations run once per dialect; what a test gets is a copy. On a server one that was used is
emptied and handed out again, unless its test changed more than rows.
"""

import shutil
import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from etl.database.connection import Database
from tests.support.poolers import PgBouncer
from tests.support.servers import MariaDB, PostgreSQL, Server, Servers

VERSION_TABLE = "heatmap_etl_version"

Migrate = Callable[[str], None]
Shape = list[tuple[Any, ...]]


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


class ReusedDatabases(Databases):
    """Those of a server, where to empty one is far quicker than to make one."""

    def __init__(self, migrate: Migrate, server: Server) -> None:
        super().__init__(migrate)
        self._server = server
        self._lent: dict[str, Shape] = {}
        self._idle: list[tuple[str, Shape]] = []

    def empty(self) -> str:
        return self._server.url(self._server.create_database())

    def migrated(self) -> str:
        if self._idle:
            name, shape = self._idle.pop()
        else:
            name = self._make_migrated()
            shape = self._shape(name)
        self._lent[name] = shape
        return self._server.url(name)

    def free(self, url: str) -> None:
        name = _name(url)
        shape = self._lent.pop(name, None)
        # A test that changed the schema must not hand it on.
        if shape is None or not self._delete_rows(name, shape):
            self._server.drop_database(name)
        else:
            self._idle.append((name, shape))

    @abstractmethod
    def _make_migrated(self) -> str: ...

    @abstractmethod
    def _shape(self, name: str) -> Shape:
        """All that a test could leave behind, but for rows."""

    @abstractmethod
    def _delete_rows(self, name: str, shape: Shape) -> bool:
        """Also where sessions are left; returns whether the shape is still that one."""


# The catalogs themselves: what is created or changed has another row in one of them.
_CATALOGS = f"""
select c.relname::text, c.relkind, c.relowner, c.relacl::text, c.reloptions, c.relhasrules,
  c.relhastriggers, c.relrowsecurity, c.relforcerowsecurity, c.relnatts, c.relchecks, (
    select string_agg(concat(attname, atttypid, atttypmod, attnotnull, atthasdef, attidentity,
      attcollation, attacl::text, attisdropped), ',' order by attnum)
    from pg_attribute a where a.attrelid = c.oid
  )
from pg_class c where c.oid >= 16384
union all select concat(d, version_num), 'd', 0, null, null, null, null, null, null,
  (select count(*) from pg_proc where oid >= 16384),
  (select count(*) from pg_type where oid >= 16384),
  concat(
    (select string_agg(concat(nspname, nspacl), ',' order by 1) from pg_namespace
      where nspname not like 'pg_t%'),
    (select count(*) from pg_publication), (select count(*) from pg_policy),
    (select count(*) from pg_event_trigger), (select count(*) from pg_extension),
    (select string_agg(s::text, ',' order by 1) from pg_db_role_setting s),
    (select string_agg(concat(rolname, rolconnlimit), ',' order by 1) from pg_roles)
  )
from pg_database d, {VERSION_TABLE} where datname = current_database()
order by 1, 2"""
_OTHERS = """
select pg_terminate_backend(pid, 5000) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
  and backend_type = 'client backend'"""
_TRUNCATE = f"""
do $$ begin execute (
  select 'truncate ' || string_agg(format('%I', relname), ', ') from pg_class
  where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> '{VERSION_TABLE}'
); end $$"""


class PostgreSQLDatabases(ReusedDatabases):
    _server: PostgreSQL
    _template: str | None = None

    def _make_migrated(self) -> str:
        if self._template is None:
            self._template = self._make_template()
        return self._server.clone_database(self._template)

    def _make_template(self) -> str:
        name = self._server.create_database()
        self._migrate(self._server.url(name))
        # A database that somebody is connected to cannot be copied.
        self._server.execute(f'alter database "{name}" allow_connections false')
        ends = "select pg_terminate_backend(pid) from pg_stat_activity where datname = "
        self._server.execute(f"{ends}'{name}'")
        return name

    def _shape(self, name: str) -> Shape:
        with self._server.connect(name) as connection:
            return list(connection.execute(_CATALOGS).fetchall())

    def _delete_rows(self, name: str, shape: Shape) -> bool:
        import psycopg

        try:
            with self._server.connect(name) as connection:
                connection.execute(_OTHERS)
                if list(connection.execute(_CATALOGS).fetchall()) != shape:
                    return False
                connection.execute(_TRUNCATE)
        except psycopg.Error:  # a test may have dropped what is asked for here
            return False
        return True


class PooledDatabases(PostgreSQLDatabases):
    """Each is new: a pooler keeps connections to one that was used."""

    def free(self, url: str) -> None:
        self._server.drop_database(_name(url))


class MariaDBDatabases(ReusedDatabases):
    _server: MariaDB

    def _make_migrated(self) -> str:
        name = self._server.create_database()
        self._migrate(self._server.url(name))
        return name

    def _shape(self, name: str) -> Shape:
        columns = "table_name, column_name, column_type, is_nullable, collation_name, column_key"
        of_database = f"table_schema = '{name}' order by 1, 2"
        return [
            *self._server.execute(
                f"select {columns} from information_schema.columns where {of_database}"
            ),
            *self._tables(name),
            *self._server.execute(f"select * from `{name}`.{VERSION_TABLE}"),
        ]

    def _tables(self, name: str) -> Shape:
        return self._server.execute(
            "select table_name, auto_increment is not null from information_schema.tables"
            f" where table_schema = '{name}' and table_type = 'BASE TABLE'"
            f" and table_name <> '{VERSION_TABLE}' order by 1"
        )

    def _delete_rows(self, name: str, shape: Shape) -> bool:
        self._server.disconnect(name)
        if self._shape(name) != shape:
            return False
        # DELETE is far faster than TRUNCATE, which makes the file anew but alone resets a counter.
        statements = [
            f"{'truncate' if counts else 'delete from'} `{name}`.`{table}`"
            for table, counts in self._tables(name)
        ]
        block = "; ".join(["set foreign_key_checks = 0", *statements])
        self._server.execute(f"begin not atomic {block}; end")
        return True


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
        if isinstance(server, MariaDB):
            return MariaDBDatabases(self._migrate, server)
        if isinstance(server, PgBouncer):
            return PooledDatabases(self._migrate, server)
        return PostgreSQLDatabases(self._migrate, server)


def alembic_check(database: Database) -> None:
    """`alembic check` with our env.py; raises when the tables are not those of the metadata."""
    # Late: most tests need no Alembic.
    from alembic import command

    from etl.database.migrations import alembic_config

    config = alembic_config()
    # Else it is the one there was at the first import: that of some test, long closed.
    config.stdout = sys.stdout
    with database.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.check(config)


def _name(url: str) -> str:
    name = make_url(url).database
    assert name is not None
    return name
