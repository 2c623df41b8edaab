"""The catalogue of the SQL views, which BI tools read: every column, with what it means.

Tables may change; the SQL views only grow. Their SQL is in the migrations. The catalogue feeds the
comments in PostgreSQL, `docs/data-dictionary.md`, dbt's sources and `export`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Inspector, MetaData, Table
from sqlalchemy.exc import SQLAlchemyError

from etl.database.dialects import dialect_of
from etl.database.dialects.types import LongText, UtcDateTime
from etl.database.schema import (
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
        "application_name", LongText(), comment="Name of the RUM application; NULL: not known"
    )


def _is_watched(comment: str) -> Column[Any]:
    return _must("is_watched", Boolean(), comment)


def _replay_url() -> Column[Any]:
    return _col(
        "replay_url",
        LongText(),
        "Link to the replay in Datadog; NULL: no session, or its id has unusual characters",
    )


def _replay() -> list[Column[Any]]:
    return [
        _replay_url(),
        _col(
            "replay_expires_at",
            UtcDateTime(),
            "Estimate of when Datadog deletes the replay: 15 months after modified_at, or after "
            "created_at where that is NULL; NULL: no session, or neither is known",
        ),
    ]


_OWNER = "source view_key synced_view"
_PERSON = "created_by created_by_handle created_by_user_id"
_REPLAYED = "session_id view_id event_id start_ms"
_REST = "is_device_type_selected_by_user org_id extra content_hash"
_OWNER_WATCHED = "True: the configured view that the row belongs to is still read"
_WATCHED = "True: the view is still read"


def _last_run(name: str) -> Column[Any]:
    """A column of the ledger, for the last run of a view."""
    of_run = sync_run_views.c[name]
    words = (of_run.comment or "").split(";")[0]
    nothing = "nothing failed, or " if of_run.nullable else ""
    none = f"{nothing}the ledger no longer has that run"
    return _col(name, of_run.type, f"{words}, in the last run; NULL: {none}")


def _age(name: str, unit: str, of: str) -> Column[Any]:
    return _col(name, BigInteger(), f"Whole {unit} since {of}; NULL: {of} is NULL")


current_snapshots = _view(
    "current_snapshots",
    "What is pinned now: one row for each snapshot that is not removed. A row with a held "
    "removal is here too: its missing_since is set.",
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
        "Time of the last reading of its view; while a removal is held, of the last reading that "
        "listed it; NULL: not known",
    ),
    _of(snapshots, "version began changed_columns valid_from missing_since"),
)

snapshot_versions = _view(
    "snapshot_versions",
    "Every content that a snapshot has or had: one row for each version. At a moment of the "
    "past those rows were valid whose valid_from is not later, and valid_to is later or NULL.",
    _of(snapshot_history, "snapshot_id version valid_from"),
    _col(
        "valid_to",
        UtcDateTime(),
        "Time of the reading that ended this version; NULL: it has not ended",
    ),
    _must("is_current", Boolean(), "True: this version has not ended"),
    _of(snapshot_history, "began"),
    _col(
        "ended",
        snapshot_history.c.ended.type,
        "How this version ended: changed or removed; NULL: it has not ended",
    ),
    _of(snapshot_history, f"changed_columns {_OWNER} application_id"),
    _application_name(),
    _of(snapshot_history, "device_type snapshot_name view_name created_at"),
    _of(snapshot_history, f"{_PERSON} modified_at {_REPLAYED}"),
    _replay(),
    _of(snapshot_history, _REST),
)

snapshot_changes = _view(
    "snapshot_changes",
    "What happened to snapshots: one row for each event, with the content after it. A removal "
    "has the last content before it.",
    _must(
        "event",
        snapshots.c.began.type,
        "What happened: baseline (the first reading of its view listed it; it is older than "
        "that), added, changed, removed or returned",
    ),
    _must("noticed_at", UtcDateTime(), "Time of the reading that showed the event"),
    _col(
        "not_before",
        UtcDateTime(),
        "The event happened after this and before noticed_at. Time of the last reading before it "
        "that was complete or unproven and held nothing; NULL: a baseline, or the ledger no longer "
        "has that reading",
    ),
    _of(snapshot_history, "snapshot_id"),
    _must(
        "version",
        snapshots.c.version.type,
        "Number of the version that began, or that the removal ended",
    ),
    _of(snapshots, f"changed_columns {_OWNER} application_id"),
    _application_name(),
    _of(snapshots, "device_type snapshot_name view_name created_at"),
    _of(snapshots, "created_by created_by_handle modified_at"),
    _replay_url(),
)

view_coverage = _view(
    "view_coverage",
    "Snapshots compared with page views. One row for each view, application and device with "
    "snapshots. Without snapshots: one row for each view and application with page views, and one "
    "for each view that is read and has neither.",
    _of(view_state, "source"),
    _must(
        "view_name", LongText(), "Name of the configured view, or of a view with page views in RUM"
    ),
    _col("application_id", LongText(), "Id of the RUM application; NULL: not known"),
    _application_name(),
    _col("device_type", LongText(), "Kind of device; NULL: no snapshots, or they name none"),
    _must("has_snapshot", Boolean(), "True: at least one snapshot is not removed"),
    _must("snapshots", BigInteger(), "Number of snapshots that are not removed, held ones too"),
    _col("newest_at", UtcDateTime(), "Latest created_at of these snapshots; NULL: none has one"),
    _col("oldest_at", UtcDateTime(), "Earliest created_at of these snapshots; NULL: none has one"),
    _col(
        "last_modified_at",
        UtcDateTime(),
        "Latest modified_at of these snapshots; NULL: none has one",
    ),
    _age("newest_age_days", "days", "newest_at"),
    _col(
        "views_30d",
        BigInteger(),
        "Page views in the 30 days before sampled_at, as far as RUM has kept them. Counted by view "
        "and application: the rows of its devices all have the same number; take MAX, not SUM; "
        "NULL: not counted",
    ),
    _col("sampled_at", UtcDateTime(), "When page views were last counted; NULL: not counted"),
    _age("sampled_age_days", "days", "sampled_at"),
    _is_watched(_WATCHED),
    _of(view_state, "last_read_at"),
)

sync_health = _view(
    "sync_health",
    "How fresh each view is, and how far it can be trusted: one row for each view that was ever "
    "configured.",
    _of(view_state, "source view_key view_name application_id"),
    _application_name(),
    _of(view_state, "device_type"),
    _is_watched(_WATCHED),
    _of(view_state, "verdict"),
    _col(
        "is_trusted", Boolean(), "True: the verdict is complete or unproven; NULL: no verdict yet"
    ),
    _of(view_state, "reason consecutive_failures first_read_at last_run_at last_read_at"),
    _age("read_age_minutes", "minutes", "last_read_at"),
    _of(view_state, "last_trusted_at last_complete_at last_nonempty_at"),
    _of(view_state, "listed duplicates rejected foreign_records held"),
    _must("needs_acceptance", Boolean(), "True: held removals wait for sync --accept-removals"),
    _of(view_state, "last_run_id"),
    _last_run("requests"),
    _last_run("seconds"),
    _last_run("error_class"),
    _last_run("error"),
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
        return set()  # a view on a table that was dropped; the upgrade creates it again
    return {column["name"].lower() for column in columns} - set(metadata.tables[name].c.keys())
