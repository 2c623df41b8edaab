"""What BI clients make of the SQL views; what each needs, `docs/bi.md` says, and here it is run."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Double, Integer, insert, select, text
from sqlalchemy.types import TypeEngine

from etl.config.database_url import parse_database
from etl.database import schema, sql_views
from etl.database.connection import Database, open_database
from etl.database.dialects.types import UtcDateTime
from tests.support import known_history
from tests.support.clients import missing_packages
from tests.support.environments import CLIENTS
from tests.support.grafana import sql_with_macros
from tests.support.known_history import day, snapshot
from tests.support.paths import ROOT
from tests.support.servers import wanted_dialects

READER = ROOT / "tests" / "support" / "clients" / "read_views.py"

OF_DIALECT = {
    "sqlite": [
        *("sqlite3", "pandas", "pandas_sqlite3", "polars", "polars_adbc", "duckdb"),
        *("jdbc", "jdbc_timestamps", "odbc"),
    ],
    "postgresql": [
        *("pandas", "polars", "polars_adbc", "polars_connectorx", "duckdb"),
        *("jdbc", "jdbc_timestamps", "odbc"),
    ],
    "mariadb": ["pandas", "polars", "polars_connectorx", "jdbc", "jdbc_timestamps", "odbc"],
}

Read = dict[str, list[dict[str, list[Any]]]]
"""Rows of each view; each value with the client's type of it."""

ODD = snapshot(
    "odd",
    "/ünï/漢字",
    created_at=datetime(1931, 2, 3, 4, 5, 6, 678901, tzinfo=UTC),
    modified_at=datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC),
    org_id=2**53 + 1,
    created_by_user_id=-(2**63),
    start_ms=2**63 - 1,
    is_device_type_selected_by_user=True,
    snapshot_name="\N{SNOWMAN}'\"%\\\n" + "x" * 100_000,
    extra='{"a":"\\u0000"}',
    valid_from=day(1).replace(microsecond=1),
)
FAR = snapshot(
    "far",
    "/home",
    created_at=datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),  # also in +05:45
    is_device_type_selected_by_user=None,
    org_id=None,
    created_by_user_id=None,
    valid_from=day(1).replace(microsecond=2),
)


def kind(of: TypeEngine[Any]) -> str:
    for types, name in (
        (UtcDateTime, "instant"),
        (Boolean, "boolean"),
        (Integer, "integer"),
        (Double, "number"),
    ):
        if isinstance(of, types):
            return name
    return "text"


VIEWS = {
    view.name: {column.name: kind(column.type) for column in view.columns}
    for view in sql_views.metadata.tables.values()
}


@pytest.fixture
def stored(dialect: str, new_database: Callable[..., str]) -> Iterator[tuple[str, Database]]:
    """URL and database with a known history, and two rows at the edges of what can be stored."""
    url = new_database(dialect)
    parsed = parse_database(url, Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    known_history.write(database)
    with database.connect() as connection, connection.begin():
        connection.execute(insert(schema.snapshots), [ODD, FAR])
    yield url, database
    database.close()


def read(url: str, clients: list[str]) -> dict[str, Read]:
    """What each client reads."""
    missing = [] if CLIENTS.is_there() else ["build/clients (make databases)"]
    missing += [f"{package} (Debian)" for package in missing_packages()]
    if missing and wanted_dialects() == {"sqlite"}:
        pytest.skip("not in DATABASES: any server, with which the clients would be installed")
    if missing:
        pytest.skip(f"LOUD: not tested: not found: {', '.join(missing)}")
    command = [str(CLIENTS.python), "-W", "error", str(READER), url, *clients]
    done = subprocess.run(
        command, input=json.dumps(VIEWS), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Read] = json.loads(done.stdout)
    return found


def expected(database: Database, *, seconds: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Rows of each view as our own types read them."""

    def plain(value: Any) -> Any:
        if not isinstance(value, datetime):
            return value
        whole = value.replace(microsecond=0) if seconds else value
        return whole.replace(tzinfo=None).isoformat(" ", "microseconds")

    with database.connect(write=False) as connection:
        return {
            view.name: [
                {name: plain(value) for name, value in row._mapping.items()}
                for row in connection.execute(select(view))
            ]
            for view in sql_views.metadata.tables.values()
        }


def is_age(column: str) -> bool:
    return "age_" in column


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what grows while it is read, in an order of their own."""
    kept = [{name: row[name] for name in row if not is_age(name)} for row in rows]
    return sorted(kept, key=lambda row: json.dumps(row, sort_keys=True))


def ages(views: dict[str, list[dict[str, Any]]]) -> list[int]:
    found = [row[name] for rows in views.values() for row in rows for name in row if is_age(name)]
    return sorted(age for age in found if age is not None)


def values(rows: list[dict[str, list[Any]]]) -> list[dict[str, Any]]:
    return [{name: value for name, (value, _) in row.items()} for row in rows]


def only(rows: list[dict[str, Any]], identifier: str) -> dict[str, Any]:
    (row,) = [row for row in rows if row["id"] == identifier]
    return row


@pytest.mark.slow
def test_clients_read_what_is_stored(stored: tuple[str, Database], dialect: str) -> None:
    url, database = stored
    exact, whole_seconds = expected(database), expected(database, seconds=True)
    for client, views in read(url, OF_DIALECT[dialect]).items():
        in_seconds = (dialect, client) == ("sqlite", "jdbc_timestamps")
        wanted = whole_seconds if in_seconds else exact
        found = {view: values(rows) for view, rows in views.items()}
        for view in VIEWS:
            assert comparable(found[view]) == comparable(wanted[view]), (client, view)
        grown = [later - age for age, later in zip(ages(wanted), ages(found), strict=True)]
        assert all(0 <= growth <= 4 for growth in grown), client

        odd = only(found["current_snapshots"], "odd")
        numbers = ("org_id", "created_by_user_id", "start_ms", "is_device_type_selected_by_user")
        assert [odd[name] for name in numbers] == [2**53 + 1, -(2**63), 2**63 - 1, 1], client
        fraction = "000000" if in_seconds else "678901"
        assert odd["created_at"] == f"1931-02-03 04:05:06.{fraction}", client


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["sqlite"])
def test_what_the_page_says_of_clients_on_sqlite(stored: tuple[str, Database]) -> None:
    found = read(stored[0], ["duckdb", "jdbc_unset"])
    types: dict[str, dict[str, set[str]]] = {"instant": {}, "boolean": {}}
    for view, rows in found["duckdb"].items():
        for row in rows:
            for name, (value, of_client) in row.items():
                if value is not None and VIEWS[view][name] in types:
                    types[VIEWS[view][name]].setdefault(of_client, set()).add(name)
    assert types["instant"]["str"] == {"replay_expires_at"}
    assert types["boolean"]["int"] == {
        "is_device_type_selected_by_user",
        "is_watched",
        "needs_acceptance",
    }
    # Fails with the first sqlite-jdbc that needs no setting: then the page can lose it.
    odd = only(values(found["jdbc_unset"]["current_snapshots"]), "odd")
    assert odd["created_at"] == "1931-02-03 04:16:24.901000"


# --- Grafana ------------------------------------------------------------------------------

# What the SQLite plugin makes of its macros.
IN_SQLITE = {
    "$__timeGroup(noticed_at, '1d')": (
        "cast((CAST(strftime('%s', noticed_at) AS INTEGER) / 86400) as int) * 86400"
    ),
    "$__timeFilter(noticed_at)": (
        "CAST(strftime('%s', noticed_at) AS INTEGER) BETWEEN 1767312000 AND 1767657600"
    ),
}


def test_grafanas_macros_group_and_filter_by_the_day(
    stored: tuple[str, Database], dialect: str
) -> None:
    query = (
        "SELECT $__timeGroup(noticed_at, '1d') AS time, count(*) FROM snapshot_changes"
        " WHERE $__timeFilter(noticed_at) AND event <> 'baseline' GROUP BY 1 ORDER BY 1"
    )
    if dialect == "sqlite":
        for macro, expanded in IN_SQLITE.items():
            query = query.replace(macro, expanded)
    else:
        span = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)
        query = sql_with_macros(query, dialect, *span)
    with stored[1].connect(write=False) as connection:
        if dialect == "mariadb":
            # "Session timezone" of the data source; the server of the tests is elsewhere.
            connection.execute(text("SET time_zone = '+00:00'"))
        found = connection.execute(text(query.replace(":", r"\:"))).all()
    days = {int(time): count for time, count in found}
    midnights = [int(day(n).timestamp()) // 86400 * 86400 for n in (2, 4, 5)]
    assert days == dict(zip(midnights, (3, 1, 1), strict=True))


# --- the page -----------------------------------------------------------------------------


def test_the_page_names_the_versions_that_are_tried() -> None:
    page = (ROOT / "docs" / "bi.md").read_text(encoding="utf-8")
    lock = (ROOT / "tests/support/clients/requirements.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9-]+)==([\w.]+)", lock, re.MULTILINE))
    names = {"pandas": "pandas", "polars": "polars", "DuckDB": "duckdb", "pyodbc": "pyodbc"}
    names |= {"ConnectorX": "connectorx", "ADBC": "adbc-driver-postgresql"}
    for name, package in names.items():
        assert f"{name} {locked[package]}" in page
    for setting in ("date_string_format=yyyy-MM-dd HH:mm:ss", "SET TIME ZONE 'UTC'"):
        assert setting in READER.read_text(encoding="utf-8")
        assert setting in page
