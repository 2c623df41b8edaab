"""The floor: fetch, decode, COPY or executemany, one merge. As fast as a script can be made.

    python floor.py [--digests] API_URL DATABASE_URL VIEWS.json

No history, no ledger, no verdict, no retry, no check of what came. It fills the columns of
our table that a reading brings (id, fifteen attributes, hash), with an index for each of ours:
by the view's key, by its name, by application and time.
With `--digests` a body whose digest is that of the last time is not looked at.
"""

import hashlib
import http.client
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

TYPES = {
    "application_id": "text",
    "created_at": "timestamptz",
    "created_by": "text",
    "created_by_handle": "text",
    "created_by_user_id": "bigint",
    "device_type": "text",
    "event_id": "text",
    "is_device_type_selected_by_user": "boolean",
    "modified_at": "timestamptz",
    "org_id": "bigint",
    "session_id": "text",
    "snapshot_name": "text",
    "start": "bigint",
    "view_id": "text",
    "view_name": "text",
}
NAMES = ("id", "view_key", *TYPES, "content_hash")
LIST = ", ".join(NAMES)
COLUMNS = ", ".join(
    (
        *("id varchar(255) PRIMARY KEY", "view_key varchar(32) NOT NULL"),
        *(f"{name} {kind}" for name, kind in TYPES.items()),
        "content_hash varchar(64) NOT NULL",
    )
)
ASSIGN = ", ".join(f"{name} = excluded.{name}" for name in NAMES[1:])
SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS snapshots ({COLUMNS})",
    "CREATE INDEX IF NOT EXISTS ix_snapshots_view_key ON snapshots (view_key)",
    "CREATE INDEX IF NOT EXISTS ix_snapshots_view_name ON snapshots (view_name)",
    "CREATE INDEX IF NOT EXISTS ix_snapshots_application ON snapshots (application_id, created_at)",
    "CREATE TABLE IF NOT EXISTS digests (view_key varchar(32) PRIMARY KEY, digest varchar(64))",
)
Row = tuple[Any, ...]


def attributes(instant: Any) -> Any:
    kinds = {"text": str, "bigint": int, "boolean": bool, "timestamptz": instant}
    fields = [(name, kinds[kind] | None, None) for name, kind in TYPES.items()]
    return msgspec.defstruct("Attributes", fields, gc=False)


def decoder(instant: Any) -> "msgspec.json.Decoder[Any]":
    fields = [("id", str), ("attributes", attributes(instant))]
    record = msgspec.defstruct("Record", fields, gc=False)
    return msgspec.json.Decoder(msgspec.defstruct("Body", [("data", list[record])], gc=False))


def bodies(api_url: str, views: list[str]) -> Iterator[tuple[str, bytes]]:
    """Key of each view, and its answer."""
    with closing(http.client.HTTPConnection(urlsplit(api_url).netloc)) as api:
        for view in views:
            query = f"filter%5Bview_name%5D={quote(view, safe='')}&page%5Blimit%5D=5000"
            api.request("GET", f"/api/v2/replay/heatmap/snapshots?{query}")
            answer = api.getresponse()
            assert answer.status == 200, answer.status
            yield hashlib.sha256(view.encode()).hexdigest()[:32], answer.read()


def rows(instant: Any, answers: Iterable[tuple[str, bytes]]) -> Iterator[Row]:
    decode, encode = decoder(instant).decode, msgspec.json.Encoder().encode
    astuple, sha256 = msgspec.structs.astuple, hashlib.sha256
    for view_key, body in answers:
        for record in decode(body).data:
            digest = sha256(encode(record.attributes)).hexdigest()[:32]
            yield record.id, view_key, *astuple(record.attributes), digest


def changed(
    answers: Iterable[tuple[str, bytes]], digests: dict[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Those whose digest is new, which is noted."""
    for view_key, body in answers:
        digest = hashlib.sha256(body).hexdigest()
        if digests.get(view_key) != digest:
            digests[view_key] = digest
            yield view_key, body


def into_postgresql(url: str, answers: Iterable[tuple[str, bytes]], is_digesting: bool) -> None:
    import psycopg

    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for statement in SCHEMA:
            cursor.execute(statement.encode())
        digests: dict[str, str] = {}
        if is_digesting:
            digests = dict(cursor.execute("SELECT view_key, digest FROM digests").fetchall())
            answers = changed(answers, digests)
        known = dict(digests)
        first = next(iter(answers := iter(answers)), None)
        if first is None:
            return
        cursor.execute("CREATE TEMP TABLE incoming (LIKE snapshots) ON COMMIT DROP")
        with cursor.copy(f"COPY incoming ({LIST}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
            copy.set_types([{"bigint": "int8", "boolean": "bool"}.get(k, k) for k in KINDS])
            for row in rows(datetime, _chain(first, answers)):
                copy.write_row(row)
        # Joined away first: ON CONFLICT would lock each row that it then leaves as it is.
        cursor.execute(
            f"INSERT INTO snapshots ({LIST}) SELECT {LIST} FROM incoming i WHERE NOT EXISTS"
            " (SELECT FROM snapshots s WHERE s.id = i.id AND s.content_hash = i.content_hash)"
            f" ON CONFLICT (id) DO UPDATE SET {ASSIGN}".encode()
        )
        cursor.executemany(
            "INSERT INTO digests VALUES (%s, %s) ON CONFLICT (view_key) DO UPDATE"
            " SET digest = excluded.digest",
            sorted(digests.items() - known.items()),
        )


def _chain(first: tuple[str, bytes], rest: Iterable[tuple[str, bytes]]) -> Iterator[Any]:
    yield first
    yield from rest


KINDS = ("text", "text", *TYPES.values(), "text")


def into_sqlite(file: str, answers: Iterable[tuple[str, bytes]], is_digesting: bool) -> None:
    import sqlite3

    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            connection.execute(statement)
        digests: dict[str, str] = {}
        if is_digesting:
            digests = dict(connection.execute("SELECT view_key, digest FROM digests"))
            answers = changed(answers, digests)
        known = dict(digests)
        stored = None
        marks = ", ".join("?" * len(NAMES))

        def new() -> Iterator[Row]:
            """Read once, before anything is written: what is unchanged need not be sent."""
            nonlocal stored
            for row in rows(str, answers):
                if stored is None:
                    stored = dict(connection.execute("SELECT id, content_hash FROM snapshots"))
                if stored.get(row[0]) != row[-1]:
                    yield row

        connection.executemany(
            f"INSERT INTO snapshots ({LIST}) VALUES ({marks})"
            f" ON CONFLICT (id) DO UPDATE SET {ASSIGN}",
            new(),
        )
        connection.executemany(
            "INSERT OR REPLACE INTO digests VALUES (?, ?)", sorted(digests.items() - known.items())
        )
        connection.execute("COMMIT")


def main(arguments: list[str]) -> None:
    is_digesting = "--digests" in arguments
    api_url, database, views = (a for a in arguments if a != "--digests")
    answers = bodies(api_url, json.loads(Path(views).read_text(encoding="utf-8")))
    scheme, _, place = database.partition("://")
    if scheme.startswith("postgresql"):
        into_postgresql(f"postgresql://{place}", answers, is_digesting)
    else:
        into_sqlite(unquote(place.removeprefix("/")), answers, is_digesting)


if __name__ == "__main__":
    main(sys.argv[1:])
