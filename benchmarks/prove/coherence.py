"""What must hold in the tables whatever happened: the spans of each snapshot, and the ledger.

Each function yields a line for everything that does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby, pairwise
from typing import Any

from sqlalchemy import text

from etl.database.connection import Database
from etl.database.schema import COUNTS
from etl.ledger.runs import FULFILS

LISTED_AS = (
    "new",
    "changed",
    "unchanged",
    "returned",
    "foreign_records",
    "duplicates",
    "rejected",
)
"""Each record of a listing is one of these."""
CONTENT = (
    "source, view_key, synced_view, application_id, created_at, created_by, created_by_handle,"
    " created_by_user_id, device_type, event_id, is_device_type_selected_by_user, modified_at,"
    " org_id, session_id, snapshot_name, start_ms, view_id, view_name, extra, content_hash"
)

Row = Mapping[str, Any]


def rows(database: Database, query: str) -> list[dict[str, Any]]:
    """What a query gives. Raises `EtlError`."""
    return database.read(lambda c: [dict(row) for row in c.execute(text(query)).mappings()])


def versions(database: Database) -> list[dict[str, Any]]:
    """Every version of every snapshot, in order. `ended_by`: how it ended; "": it has not."""
    query = (
        f"SELECT snapshot_id, version, began, changed_columns, {CONTENT}, valid_from, valid_to,"
        " ended AS ended_by FROM snapshot_history UNION ALL"
        f" SELECT id, version, began, changed_columns, {CONTENT}, valid_from, removed_at, CASE WHEN"
        " removed_at IS NULL THEN '' ELSE 'removed' END FROM snapshots ORDER BY 1, 2"
    )
    return rows(database, query)


def instant(value: Any) -> datetime:
    """SQLite gives text, the others an instant."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def faults_of_spans(found: list[dict[str, Any]]) -> Iterator[str]:
    """`found`: as `versions` gives it."""
    for name, group in groupby(found, key=lambda version: version["snapshot_id"]):
        told = list(group)
        if [one["version"] for one in told] != list(range(1, len(told) + 1)):
            yield f"{name}: its versions are {[one['version'] for one in told]}"
        if told[0]["began"] not in ("baseline", "added"):
            yield f"{name}: it began as {told[0]['began']}"
        for one in told:
            is_over = one["ended_by"] != ""
            if is_over and not one["valid_from"] < one["valid_to"]:
                yield f"{name}, version {one['version']}: it ended before it began"
        for one, later in pairwise(told):
            yield from _faults_between(one, later)


def _faults_between(one: Row, later: Row) -> Iterator[str]:
    where = f"{one['snapshot_id']}, version {later['version']}"
    began = {"changed": "changed", "removed": "returned"}.get(one["ended_by"])
    if later["began"] != began:
        ended = one["ended_by"] or "live"
        yield f"{where}: it began as {later['began']} after one that was {ended}"
    elif began == "changed" and later["valid_from"] != one["valid_to"]:
        yield f"{where}: there is a gap before it"
    elif began == "returned" and not one["valid_to"] <= later["valid_from"]:
        yield f"{where}: it began before the one before it ended"


def faults_of_ledger(database: Database, found: list[dict[str, Any]]) -> Iterator[str]:
    """`found`: as `versions` gives it. Nothing works on the source now."""
    runs = {run["run_id"]: run for run in rows(database, "SELECT * FROM sync_runs")}
    of_views = rows(database, "SELECT * FROM sync_run_views ORDER BY run_id")
    for run in runs.values():
        if run["status"] == "running":
            yield f"run {run['run_id']} was never closed"
    yield from _faults_of_counts(of_views, found)
    for run_id, group in groupby(of_views, key=lambda row: row["run_id"]):
        inside = list(group)
        if run_id not in runs:
            yield f"run {run_id} has views and no row"
        elif (run := runs[run_id])["status"] in FULFILS:
            wrong = [n for n in COUNTS if run[n] != sum(row[n] for row in inside)]
            if wrong:
                yield f"run {run_id}: its totals of {', '.join(wrong)} are not those of its views"


def _faults_of_counts(of_views: list[dict[str, Any]], found: list[dict[str, Any]]) -> Iterator[str]:
    for row in of_views:
        if row["verdict"] != "failed" and row["listed"] != sum(row[name] for name in LISTED_AS):
            yield f"run {row['run_id']}, {row['view_name']}: its counts do not add up"
    counted = {name: sum(row[name] for row in of_views) for name in COUNTS}
    stored = {
        "new": sum(one["version"] == 1 for one in found),
        "changed": sum(one["began"] == "changed" for one in found),
        "returned": sum(one["began"] == "returned" for one in found),
        "vanished": sum(one["ended_by"] == "removed" for one in found),
    }
    for name, count in stored.items():
        if counted[name] != count:
            yield f"the ledger counts {counted[name]} {name}, the tables hold {count}"
