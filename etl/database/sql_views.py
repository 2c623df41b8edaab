"""The catalogue of the SQL views, which BI tools read: every column, with what it means.

Tables may change; the views only grow. Their SQL is in the migrations. The catalogue feeds the
comments in PostgreSQL, `docs/data-dictionary.md`, dbt's sources and `export`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Inspector, MetaData, Table
from sqlalchemy.exc import SQLAlchemyError

from etl.database.dialects import dialect_of
from etl.database.dialects.types import LongText, UtcDateTime
from etl.database.schema import (
    discovered_views,
    snapshot_history,
    snapshots,
    sync_run_views,
    view_state,
)

metadata = MetaData()
"""Not the metadata of the tables, so that no migration takes a view for a table."""


def _col(name: str, type_: Any, comment: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, type_, nullable=nullable, comment=comment)


def _must(name: str, type_: Any, comment: str) -> Column[Any]:
    return _col(name, type_, comment, nullable=False)


def _of(table: Table, names: str, *, nullable: bool | None = None) -> list[Column[Any]]:
    """Columns as the table has them."""
    return [
        Column(
            c.name, c.type, nullable=c.nullable if nullable is None else nullable, comment=c.comment
        )
        for c in (table.c[name] for name in names.split())
    ]


def _view(name: str, comment: str, *items: Column[Any] | list[Column[Any]]) -> Table:
    columns = [c for item in items for c in (item if isinstance(item, list) else [item])]
    return Table(name, metadata, *columns, comment=comment)


def _application_name() -> Column[Any]:
    return Column(
        "application_name", LongText(), comment="Name of the RUM application, where known"
    )


def _is_watched(comment: str) -> Column[Any]:
    return _must("is_watched", Boolean(), comment)


def _replay_url() -> Column[Any]:
    return _col(
        "replay_url",
        LongText(),
        "Link to the replay in Datadog; NULL without a session, or when its id is no plain one",
    )


def _replay() -> list[Column[Any]]:
    return [
        _replay_url(),
        _col(
            "replay_expires_at",
            UtcDateTime(),
            "An estimate: Datadog keeps the replay of a saved snapshot 15 months, "
            "counted here from modified_at or else created_at",
        ),
    ]


_OWNER = "source view_key synced_view"
_PERSON = "created_by created_by_handle created_by_user_id"
_REPLAYED = "session_id view_id event_id start_ms"
_REST = "is_device_type_selected_by_user org_id extra content_hash"
_OWNER_WATCHED = "Whether the view that owns it is still among those that are read"
_WATCHED = "Whether it is still among the views that are read"


def _age(name: str, unit: str, of: str) -> Column[Any]:
    return _col(name, BigInteger(), f"Whole {unit} since {of}")


current_snapshots = _view(
    "current_snapshots",
    "What is listed now: one row for each snapshot without removed_at.",
    _of(snapshots, f"id {_OWNER}"),
    _is_watched(_OWNER_WATCHED),
    _of(snapshots, "application_id"),
    _application_name(),
    _of(snapshots, "device_type snapshot_name view_name created_at"),
    _age("age_days", "days", "created_at"),
    _of(snapshots, f"{_PERSON} modified_at {_REPLAYED}"),
    _replay(),
    _of(snapshots, f"{_REST} first_seen_at"),
    _col(
        "last_seen_at",
        UtcDateTime(),
        "Last reading of the view that owns it; while a removal is held, the one before "
        "missing_since",
    ),
    _of(snapshots, "version began changed_columns valid_from missing_since"),
)

snapshot_versions = _view(
    "snapshot_versions",
    "Every content a snapshot ever had, the present one included: one row for each version. "
    "What was listed at a moment: valid_from <= moment, and valid_to NULL or > moment.",
    _of(snapshot_history, "snapshot_id version valid_from"),
    _col("valid_to", UtcDateTime(), "Reading that ended this version; NULL while it lasts"),
    _must("is_current", Boolean(), "Whether this version is listed now"),
    _of(snapshot_history, "began"),
    _of(snapshot_history, "ended", nullable=True),
    _of(snapshot_history, f"changed_columns {_OWNER} application_id"),
    _application_name(),
    _of(snapshot_history, "device_type snapshot_name view_name created_at"),
    _of(snapshot_history, f"{_PERSON} modified_at {_REPLAYED}"),
    _replay(),
    _of(snapshot_history, _REST),
)

snapshot_changes = _view(
    "snapshot_changes",
    "What happened to snapshots: one row for each event, with the content it led to, "
    "or the last one before a removal.",
    _must(
        "event",
        snapshots.c.began.type,
        "baseline (listed by the first reading of its view, so older than that), "
        "added, changed, removed, returned",
    ),
    _must("noticed_at", UtcDateTime(), "Reading that showed it"),
    _col(
        "not_before",
        UtcDateTime(),
        "It happened between this and noticed_at: the last reading before that was complete or "
        "unproven and held nothing; NULL for a baseline, or when the ledger has none any more",
    ),
    _of(snapshot_history, "snapshot_id"),
    _must("version", snapshots.c.version.type, "Version that began, or that the removal ended"),
    _of(snapshots, f"changed_columns {_OWNER} application_id"),
    _application_name(),
    _of(snapshots, "device_type snapshot_name view_name created_at"),
    _of(snapshots, "created_by created_by_handle modified_at"),
    _replay_url(),
)

view_coverage = _view(
    "view_coverage",
    "Snapshots against traffic: one row for each view name, application and device with "
    "snapshots, for each view with traffic and none, and for each view that is read and has "
    "neither.",
    _of(view_state, "source"),
    _must("view_name", LongText(), "Name of the configured view, or of a view RUM saw traffic on"),
    _of(snapshots, "application_id"),
    _application_name(),
    _col("device_type", LongText(), "Device of these snapshots; NULL where there are none"),
    _must("has_snapshot", Boolean(), "Whether a snapshot is listed now"),
    _must("snapshots", BigInteger(), "Snapshots listed now"),
    _col("newest_at", UtcDateTime(), "created_at of the newest of them"),
    _col("oldest_at", UtcDateTime(), "created_at of the oldest of them"),
    _col("last_modified_at", UtcDateTime(), "Latest modified_at among them"),
    _age("newest_age_days", "days", "newest_at"),
    _col(
        "views_30d",
        BigInteger(),
        "Views counted in the 30 days before sampled_at, as far as RUM retained them; counted by "
        "view and application, so each device has the same: take MAX, not SUM",
    ),
    _of(discovered_views, "sampled_at", nullable=True),
    _age("sampled_age_days", "days", "sampled_at"),
    _is_watched(_WATCHED),
    _of(view_state, "last_read_at"),
)

sync_health = _view(
    "sync_health",
    "How fresh and how trustworthy each view is: one row for each view that was ever configured.",
    _of(view_state, "source view_key view_name application_id"),
    _application_name(),
    _of(view_state, "device_type"),
    _is_watched(_WATCHED),
    _of(view_state, "verdict"),
    _col("is_trusted", Boolean(), "Whether that verdict is complete or unproven"),
    _of(view_state, "reason consecutive_failures first_read_at last_run_at last_read_at"),
    _age("read_age_minutes", "minutes", "last_read_at"),
    _of(view_state, "last_trusted_at last_complete_at last_nonempty_at"),
    _of(view_state, "listed duplicates rejected foreign_records held"),
    _must("needs_acceptance", Boolean(), view_state.c.needs_acceptance.comment or ""),
    _of(view_state, "last_run_id"),
    _of(sync_run_views, "requests seconds", nullable=True),
    _of(sync_run_views, "error_class error"),
)

NAMES = tuple(metadata.tables)


def comments(name: str) -> tuple[str, dict[str, str]]:
    """The comment of a view, and of each of its columns."""
    view = metadata.tables[name]
    return view.comment or "", {column.name: column.comment or "" for column in view.columns}


def foreign_view(inspector: Inspector) -> str:
    """A foreign table or view that has the name of one of our views; "" for none.

    A view of ours has no column that is not in the catalogue: views only grow.
    """
    as_stored = dialect_of(inspector).as_stored
    views = {as_stored(name): name for name in inspector.get_view_names()}
    present = views | {as_stored(name): name for name in inspector.get_table_names()}
    for name in NAMES:
        if name in present and (name not in views or _surplus(inspector, views[name], name)):
            return present[name]
    return ""


def _surplus(inspector: Inspector, stored_name: str, name: str) -> set[str]:
    """Columns of a view that are not in the catalogue."""
    try:
        columns = inspector.get_columns(stored_name)
    except SQLAlchemyError:
        return set()  # a view on a table that was dropped; the upgrade creates it anew
    return {column["name"].lower() for column in columns} - set(metadata.tables[name].c.keys())
