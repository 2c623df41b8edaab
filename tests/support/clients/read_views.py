"""Reads the SQL views as BI clients do, and prints what they got as JSON.

Run by the Python of `build/clients`, which has these clients and nothing of ours:
`read_views.py URL CLIENT...`, with {view: {column: kind}} on stdin. Out come
{client: {view: rows}}; each row is {column: [value, the client's type of it]}, an instant as text
in UTC.
"""

import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

Row = dict[str, Any]
Kinds = dict[str, str]
Read = Callable[[str, Kinds], Iterable[Row]]
JARS = "/usr/share/java"


def main() -> None:
    address, *clients = sys.argv[1:]
    views: dict[str, Kinds] = json.load(sys.stdin)
    found = {}
    for client in clients:
        read = CLIENTS[client](urlsplit(address))
        found[client] = {
            view: [_plain_row(row, kinds) for row in read(view, kinds)]
            for view, kinds in views.items()
        }
    json.dump(found, sys.stdout)


def _plain_row(row: Row, kinds: Kinds) -> dict[str, list[Any]]:
    return {
        name: [_plain(row[name], kind), type(row[name]).__name__] for name, kind in kinds.items()
    }


def _plain(value: Any, kind: str) -> Any:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if kind == "instant":
        instant = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        aware = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
        naive = aware.astimezone(UTC).replace(tzinfo=None)
        return naive.isoformat(" ", "microseconds")
    if kind in ("integer", "boolean"):
        if value != (whole := int(value)) and value != str(whole):
            raise ValueError(f"{value!r} is no {kind}")
        return whole
    if kind == "number":
        return float(value)
    # psycopg reads PostgreSQL's json.
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _path(url: SplitResult) -> str:
    return url.path[1:]


def _all(view: str) -> str:
    return f"SELECT * FROM {view}"


# --- one function for each client: from where, to rows of a view ---------------------------


def sqlite3(url: SplitResult) -> Read:
    import sqlite3

    connection = sqlite3.connect(f"file:{_path(url)}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return lambda view, _: map(dict, connection.execute(_all(view)))


def _engine(url: SplitResult) -> Any:
    from sqlalchemy import URL, create_engine

    drivers = {"postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}
    password = unquote(url.password or "") or None
    where = (url.username, password, url.hostname, url.port, _path(url))
    return create_engine(URL.create(drivers.get(url.scheme, url.scheme), *where))


def pandas(url: SplitResult) -> Read:
    import pandas as pd

    engine = _engine(url)

    def read(view: str, kinds: Kinds) -> list[Row]:
        query = _all(view)
        if url.scheme == "postgresql" and "extra" in kinds:
            # psycopg reads json, and pandas makes of that what Python would print.
            columns = ", ".join(name for name in kinds if name != "extra")
            query = f"SELECT {columns}, CAST(extra AS TEXT) AS extra FROM {view}"
        # Without dtype_backend an integer beside a NULL is a float, and beyond 2**53 another one.
        frame = pd.read_sql(query, engine, dtype_backend="numpy_nullable")
        return frame.astype(object).to_dict("records")

    return read


def pandas_sqlite3(url: SplitResult) -> Read:
    import sqlite3

    import pandas as pd

    connection = sqlite3.connect(_path(url))

    def read(view: str, kinds: Kinds) -> list[Row]:
        instants = [name for name, kind in kinds.items() if kind == "instant"]
        frame = pd.read_sql(
            _all(view), connection, dtype_backend="numpy_nullable", parse_dates=instants
        )
        return frame.astype(object).to_dict("records")

    return read


def polars(url: SplitResult) -> Read:
    import polars as pl

    engine = _engine(url)
    return lambda view, _: pl.read_database(_all(view), engine, infer_schema_length=None).to_dicts()


def polars_adbc(url: SplitResult) -> Read:
    import polars as pl

    address = f"sqlite:///{_path(url)}" if url.scheme == "sqlite" else url.geturl()
    return lambda view, _: pl.read_database_uri(_all(view), address, engine="adbc").to_dicts()


def polars_connectorx(url: SplitResult) -> Read:
    import polars as pl

    address = url.geturl().replace("mariadb://", "mysql://")
    return lambda view, _: pl.read_database_uri(_all(view), address, engine="connectorx").to_dicts()


def duckdb(url: SplitResult) -> Read:
    import duckdb

    kind = "sqlite" if url.scheme == "sqlite" else "postgres"
    package = Path(__import__(f"duckdb_extension_{kind}_scanner").__file__).parent
    (extension,) = package.rglob(f"v{duckdb.__version__}/*.duckdb_extension")
    connection = duckdb.connect()
    connection.execute(f"LOAD '{extension}'")
    # Far from UTC: what leans on the zone of the session is wrong by hours.
    connection.execute("SET TimeZone = 'America/St_Johns'")
    address = _path(url) if kind == "sqlite" else url.geturl()
    connection.execute(f"ATTACH '{address}' AS heatmap (TYPE {kind}, READ_ONLY)")
    connection.execute("SHOW ALL TABLES")  # fails where one of them cannot be read

    def read(view: str, _: Kinds) -> list[Row]:
        rows = connection.execute(f"SELECT * FROM heatmap.{view}")
        names = [column[0] for column in rows.description]
        return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]

    return read


def odbc(url: SplitResult) -> Read:
    import pyodbc

    server = f"SERVER={url.hostname};PORT={url.port};DATABASE={_path(url)}"
    login = f"UID={url.username};PWD={{{unquote(url.password or '')}}}"
    address = {
        "sqlite": f"DRIVER=SQLite3;DATABASE={_path(url)}",
        "postgresql": f"DRIVER=PostgreSQL Unicode;{server};{login};BoolsAsChar=0;"
        "ConnSettings=SET TIME ZONE 'UTC'",
        "mariadb": f"DRIVER=MariaDB Unicode;{server};{login}",
    }
    connection = pyodbc.connect(address[url.scheme])

    def read(view: str, _: Kinds) -> list[Row]:
        rows = connection.execute(_all(view))
        names = [column[0] for column in rows.description]
        return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]

    return read


def jdbc(url: SplitResult) -> Read:
    """Instants as text, in a JVM that is far from UTC."""
    return _jdbc(url, zone="Asia/Kathmandu", instants="getString")


def jdbc_timestamps(url: SplitResult) -> Read:
    """Instants as `java.sql.Timestamp`, with the settings of `docs/bi.md`."""
    options = {
        "sqlite": "?date_string_format=yyyy-MM-dd HH:mm:ss",
        "mariadb": "?useLegacyDatetimeCode=false&serverTimezone=UTC",
    }
    zone = "UTC" if url.scheme == "sqlite" else "Asia/Kathmandu"
    return _jdbc(url, options.get(url.scheme, ""), zone=zone, instants="getTimestamp")


def jdbc_unset(url: SplitResult) -> Read:
    """The same without the settings."""
    return _jdbc(url, zone="UTC", instants="getTimestamp")


def _jdbc(url: SplitResult, options: str = "", *, zone: str, instants: str) -> Read:
    import jpype

    if not jpype.isJVMStarted():
        jars = ("sqlite-jdbc", "postgresql", "mariadb-java-client")
        jpype.startJVM(classpath=[f"{JARS}/{jar}.jar" for jar in jars])
    zones = jpype.JClass("java.util.TimeZone")
    zones.setDefault(zones.getTimeZone(zone))
    properties = jpype.JClass("java.util.Properties")()
    if url.scheme == "sqlite":
        address = f"jdbc:sqlite:{_path(url)}{options}"
    else:
        address = f"jdbc:{url.scheme}://{url.hostname}:{url.port}/{_path(url)}{options}"
        properties.setProperty("user", url.username)
        properties.setProperty("password", unquote(url.password or ""))
    connection = jpype.JClass("java.sql.DriverManager").getConnection(address, properties)
    getters = {"instant": instants, "integer": "getLong", "boolean": "getBoolean"}
    getters |= {"number": "getDouble", "text": "getString"}

    def read(view: str, kinds: Kinds) -> list[Row]:
        found = connection.createStatement().executeQuery(_all(view))
        rows = []
        while found.next():
            row = {}
            for name, kind in kinds.items():
                value = getattr(found, getters[kind])(name)
                row[name] = None if found.wasNull() else _of_java(value)
            rows.append(row)
        return rows

    return read


def _of_java(value: Any) -> Any:
    if type(value).__name__ != "java.sql.Timestamp":
        return value if isinstance(value, int | float) else str(value)
    instant = value.toInstant()
    seconds = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(instant.getEpochSecond()))
    return seconds + timedelta(microseconds=int(instant.getNano()) / 1000)


CLIENTS: dict[str, Callable[[SplitResult], Read]] = {
    client.__name__: client
    for client in (
        *(sqlite3, pandas, pandas_sqlite3, polars, polars_adbc, polars_connectorx),
        *(duckdb, jdbc, jdbc_timestamps, jdbc_unset, odbc),
    )
}

if __name__ == "__main__":
    main()
