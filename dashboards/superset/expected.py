"""The expected content of each chart of the bundle, by our own SQL.

Portable SQL over the tables where that is short, else over the SQL views. `:now` is an instant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, bindparam, text

from etl.database.dialects.types import UtcDateTime

Rows = Sequence[dict[str, Any]]
Reduce = Callable[[Rows], Any]


def value(rows: Rows) -> Any:
    """The only number."""
    (number,) = rows[0].values()
    return number


def by(*names: str) -> Reduce:
    """Count the rows for each combination of these columns."""
    return lambda rows: Counter(tuple(row[name] for name in names) for row in rows)


def summed_by(name: str) -> Reduce:
    """Sum the numbers of a pivoted chart by a column."""

    def add(rows: Rows) -> Any:
        sums: Counter[str] = Counter()
        for row in rows:
            sums[row[name]] += sum(v for k, v in row.items() if k != name and v is not None)
        return sums

    return add


def summed_by_others(name: str) -> Reduce:
    """Sum the numbers of a pivoted chart for each of its columns other than `name`."""

    def add(rows: Rows) -> Any:
        sums: Counter[str] = Counter()
        for row in rows:
            sums.update({k: v for k, v in row.items() if k != name and v is not None})
        return sums

    return add


def pairs(sql_rows: Rows) -> Any:
    """Rows of two columns as a Counter."""
    return Counter({row["name"]: row["number"] for row in sql_rows})


_TRAFFIC = "FROM view_coverage WHERE sampled_age_days <= 30"

CHARTS: dict[str, tuple[str, Reduce, Reduce]] = {
    "Snapshots pinned now": (
        "SELECT COUNT(*) AS n FROM snapshots WHERE removed_at IS NULL",
        value,
        value,
    ),
    "Changes in 30 days": (
        (
            "SELECT COUNT(*) AS n FROM snapshot_changes WHERE event <> 'baseline'"
            " AND noticed_at >= :month_ago"
        ),
        value,
        value,
    ),
    "Replays expired": (
        "SELECT COUNT(*) AS n FROM current_snapshots WHERE replay_expires_at < :now",
        value,
        value,
    ),
    "Views with trouble": (
        (
            "SELECT COUNT(*) AS n FROM sync_health WHERE is_watched"
            " AND (verdict IN ('truncated', 'failed') OR held > 0)"
        ),
        value,
        value,
    ),
    "Busiest views without a snapshot": (
        f"SELECT view_name AS name, views_30d AS number {_TRAFFIC} AND snapshots = 0",
        summed_by("view_name"),
        pairs,
    ),
    "Busiest views whose newest snapshot is older than 90 days": (
        (
            "SELECT view_name, MAX(views_30d) AS views_30d, "
            f"MIN(newest_age_days) AS newest_age_days"
            f" {_TRAFFIC} AND snapshots > 0"
            " GROUP BY view_name, application_id HAVING MIN(newest_age_days) > 90"
        ),
        by("view_name", "views_30d", "newest_age_days"),
        by("view_name", "views_30d", "newest_age_days"),
    ),
    "Changes per week": (
        (
            "SELECT event AS name, COUNT(*) AS number FROM snapshot_changes"
            " WHERE event <> 'baseline' AND noticed_at >= :year_ago GROUP BY event"
        ),
        summed_by_others("noticed_at"),
        pairs,
    ),
    "Who pins what: snapshots pinned now": (
        (
            "SELECT created_by, synced_view, COUNT(*) AS count FROM snapshots"
            " WHERE removed_at IS NULL GROUP BY created_by, synced_view"
        ),
        by("created_by", "synced_view", "count"),
        by("created_by", "synced_view", "count"),
    ),
    "Snapshots pinned now, by view and device": (
        (
            "SELECT device_type AS name, COUNT(*) AS number FROM snapshots"
            " WHERE removed_at IS NULL GROUP BY device_type"
        ),
        summed_by_others("synced_view"),
        pairs,
    ),
    "When replays expire (estimate)": (
        (
            "SELECT 'count' AS name, COUNT(*) AS number FROM current_snapshots"
            " WHERE replay_expires_at IS NOT NULL"
        ),
        summed_by_others("replay_expires_at"),
        pairs,
    ),
    "Stale backgrounds: the replay is gone, or goes within 90 days": (
        (
            "SELECT synced_view, snapshot_name, replay_url FROM current_snapshots"
            " WHERE replay_expires_at < :in_90_days ORDER BY replay_expires_at LIMIT 50"
        ),
        by("synced_view", "snapshot_name", "replay_url"),
        by("synced_view", "snapshot_name", "replay_url"),
    ),
    "Sync health: the last run of each view, trouble first": (
        (
            "SELECT view_name, verdict, listed, held, consecutive_failures FROM view_state"
            " WHERE is_watched"
        ),
        by("view_name", "verdict", "listed", "held", "consecutive_failures"),
        by("view_name", "verdict", "listed", "held", "consecutive_failures"),
    ),
    "Latest 50 changes": (
        (
            "SELECT event, synced_view, snapshot_name, created_by FROM snapshot_changes"
            " WHERE event <> 'baseline' ORDER BY noticed_at DESC, snapshot_id LIMIT 50"
        ),
        by("event", "synced_view", "snapshot_name", "created_by"),
        by("event", "synced_view", "snapshot_name", "created_by"),
    ),
    "Newest 50 snapshots": (
        (
            "SELECT synced_view, snapshot_name, created_by, device_type FROM snapshots"
            " WHERE removed_at IS NULL ORDER BY created_at DESC, id LIMIT 50"
        ),
        by("synced_view", "snapshot_name", "created_by", "device_type"),
        by("synced_view", "snapshot_name", "created_by", "device_type"),
    ),
}
"""Title: SQL, and what is compared of the chart's rows and of the SQL's."""


def expected(engine: Engine, title: str, instants: dict[str, datetime]) -> Any:
    """What the chart of this title must hold."""
    sql, _, reduce = CHARTS[title]
    used = {name: at for name, at in instants.items() if f":{name}" in sql}
    query = text(sql).bindparams(*(bindparam(name, type_=UtcDateTime()) for name in used))
    with engine.connect() as connection:
        return reduce([dict(row) for row in connection.execute(query, used).mappings()])
