"""A short history of one organization, written by hand: five readings of `/home` and what they saw.

day 1  baseline of /home: kept, moved (desktop); /cart: nothing
day 2  new is added, moved is re-pointed
day 3  the reading of /home fails
day 4  new is gone
day 5  new is back with another name; held is missed for the first time
/old   was configured once: gone is removed, left stays
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from etl.database import schema
from etl.database.connection import Database

SOURCE = "acme"
APP = "aaaaaaaa-1111-2222-3333-bbbbbbbbbbbb"
SHOP = "cccccccc-1111-2222-3333-dddddddddddd"
SESSION = "6f1ed002-ab5b-4f0f-8f3e-000000000001"
MICROSECOND = timedelta(microseconds=1)


def day(number: int, *, hour: int = 10) -> datetime:
    """An instant of January 2026, with microseconds."""
    return datetime(2026, 1, number, hour, 0, 0, 123456, tzinfo=UTC)


def snapshot(identifier: str, view: str, **values: Any) -> dict[str, Any]:
    return {
        "id": identifier,
        "source": SOURCE,
        "view_key": view.strip("/"),
        "synced_view": view,
        "application_id": APP,
        "created_at": day(1, hour=8),
        "created_by": "Ada",
        "created_by_handle": "ada@example.com",
        "created_by_user_id": 7,
        "device_type": "desktop",
        "event_id": "event-1",
        "is_device_type_selected_by_user": False,
        "modified_at": None,
        "org_id": 42,
        "session_id": SESSION,
        "snapshot_name": identifier.title(),
        "start_ms": 1500,
        "view_id": "view-1",
        "view_name": view,
        "extra": None,
        "content_hash": "1:0",
        "first_seen_at": day(1),
        "version": 1,
        "began": "baseline",
        "changed_columns": None,
        "valid_from": day(1),
        "missing_since": None,
        "removed_at": None,
        **values,
    }


def past(row: dict[str, Any], valid_to: datetime, ended: str, **values: Any) -> dict[str, Any]:
    """An earlier version of a row."""
    of_now = ("id", "first_seen_at", "missing_since", "removed_at")
    kept = {name: value for name, value in row.items() if name not in of_now}
    return {"snapshot_id": row["id"], **kept, "valid_to": valid_to, "ended": ended, **values}


NEW = snapshot("new", "/home", device_type="mobile", created_at=day(2, hour=7), created_by="Bo",
    first_seen_at=day(2), version=2, began="returned", changed_columns="snapshot_name",
    snapshot_name="New again", valid_from=day(5))  # fmt: skip
MOVED = snapshot("moved", "/home", version=2, began="changed", modified_at=day(2, hour=9),
    changed_columns="modified_at,session_id,view_id", valid_from=day(2), view_id=None)  # fmt: skip
SNAPSHOTS = [
    snapshot("kept", "/home"),
    NEW,
    MOVED,
    snapshot("held", "/home", session_id=None, view_id=None, missing_since=day(5)),
    snapshot("gone", "/old", application_id=None, removed_at=day(2)),
    snapshot("left", "/old", application_id=None, session_id="a b/ü", device_type=None),
]
HISTORY = [
    past(NEW, day(4), "removed", version=1, began="added", snapshot_name="New",
         changed_columns=None, valid_from=day(2)),
    past(MOVED, day(2), "changed", version=1, began="baseline", changed_columns=None,
         valid_from=day(1), modified_at=None, session_id="session-0", view_id="a b"),
]  # fmt: skip


def run(number: int) -> dict[str, Any]:
    return {
        "run_id": f"run-{number}",
        "source": SOURCE,
        "job": "sync",
        "started_by": "manual",
        "missed_slots": 0,
        "host": "h",
        "pid": 1,
        "status": "partial" if number == 3 else "ok",
        "started_at": day(number) - timedelta(minutes=1),
        "finished_at": day(number) + timedelta(minutes=1),
        "views": 2,
        "views_failed": int(number == 3),
        **dict.fromkeys(schema.COUNTS, 0),
    }


def reading(number: int, view: str, verdict: str = "complete", **values: Any) -> dict[str, Any]:
    return {
        "run_id": f"run-{number}",
        "view_key": view.strip("/"),
        "view_name": view,
        "verdict": verdict,
        "seconds": 0.5,
        "read_at": None if verdict == "failed" else day(number),
        "error_class": "DatadogError" if verdict == "failed" else None,
        "error": "no usable answer" if verdict == "failed" else None,
        **dict.fromkeys(schema.COUNTS, 0),
        **values,
    }


def state(view: str, *, last: int, first: int | None = 1, **values: Any) -> dict[str, Any]:
    return {
        "view_key": view.strip("/"),
        "source": SOURCE,
        "view_name": view,
        "first_read_at": day(first) if first else None,
        "last_read_at": day(last),
        "last_complete_at": day(last),
        "last_trusted_at": day(last),
        "listed": 0,
        "duplicates": 0,
        "rejected": 0,
        "foreign_records": 0,
        "held": 0,
        "last_run_id": f"run-{last}",
        "last_run_at": day(last) - timedelta(minutes=1),
        "verdict": "complete",
        "reason": "smaller than another answer of the run",
        "consecutive_failures": 0,
        "is_watched": True,
        **values,
    }


def traffic(view: str, application: str | None, views: int) -> dict[str, Any]:
    return {
        "discovered_key": f"{view}{application}"[:32],
        "source": SOURCE,
        "view_name": view,
        "application_id": application,
        "views_30d": views,
        "first_seen_at": day(1),
        "sampled_at": day(5),
    }


def write(
    database: Database,
    *,
    app_url: str = "https://app.datadoghq.eu",
    later: timedelta = timedelta(0),
) -> None:
    """Write all of it into tables that are empty, every instant by so much later."""
    source = {
        "source": SOURCE,
        "site": "datadoghq.eu",
        "api_url": "https://api.datadoghq.eu",
        "app_url": app_url,
        "normalizer_version": 1,
        "first_seen_at": day(1),
        "discovered_at": day(5),
    }
    application = {
        "source": SOURCE,
        "application_id": APP,
        "name": "web",
        "type": "browser",
        "is_active": True,
        "first_seen_at": day(1),
        "last_seen_at": day(5),
    }
    readings = [
        *(reading(n, "/home", held=int(n == 5)) for n in (1, 2, 4, 5)),
        reading(3, "/home", "failed"),
        *(reading(n, "/cart") for n in range(1, 6)),
        *(reading(n, "/old") for n in (1, 2)),
    ]
    states = [
        state("/home", last=5, held=1, listed=3),
        state("/cart", last=5),
        state("/old", last=2, is_watched=False),
    ]
    counted = [
        traffic("/home", APP, 900),
        traffic("/home", SHOP, 80),
        traffic("/checkout/?", APP, 500),
        traffic("/old", None, 3),
    ]
    rows: dict[Any, list[dict[str, Any]]] = {
        schema.sources: [source],
        schema.applications: [application],
        schema.snapshots: SNAPSHOTS,
        schema.snapshot_history: HISTORY,
        schema.sync_runs: [run(n) for n in range(1, 6)],
        schema.sync_run_views: readings,
        schema.view_state: states,
        schema.discovered_views: counted,
    }
    with database.connect() as connection, connection.begin():
        for table, values in rows.items():
            connection.execute(insert(table), [moved(row, later) for row in values])


def moved(row: dict[str, Any], later: timedelta) -> dict[str, Any]:
    """The row with its instants by so much later."""
    return {
        name: value + later if isinstance(value, datetime) else value for name, value in row.items()
    }
