"""Create the tables: snapshots and their history, ledger, state, sources, rejects, drift.

Why: the first revision. No code runs on what was before.
MariaDB and MySQL commit each statement of DDL: every step here is harmless when
it is run again after being cut anywhere.

Revision: 0001
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Integer,
    PrimaryKeyConstraint,
    String,
)

from etl.database.ddl import create_index, create_table
from etl.database.dialects.types import JsonText, LongText, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "rejected_records",
    "schema_drift",
    "snapshot_history",
    "snapshots",
    "sources",
    "sync_run_views",
    "sync_runs",
    "view_state",
)


def upgrade() -> None:
    create_table(
        "rejected_records",
        Column(
            "source",
            String(length=255),
            nullable=False,
            comment="Label of the Datadog organization, from the configuration",
        ),
        Column(
            "view_key",
            String(length=32),
            nullable=False,
            comment="Hash of source, view name and filters: one configured view",
        ),
        Column("raw_hash", String(length=32), nullable=False, comment="Hash of raw"),
        Column("reason", LongText(), nullable=False, comment="Why it cannot be a row"),
        Column("raw", JsonText(), nullable=False, comment="The record, as canonical JSON"),
        Column("first_seen_at", UtcDateTime(), nullable=False, comment="First reading that had it"),
        Column(
            "last_seen_at", UtcDateTime(), nullable=False, comment="Last changed answer that had it"
        ),
        Column("count", BigInteger(), nullable=False, comment="Times it stood in a changed answer"),
        Column(
            "resolved_at",
            UtcDateTime(),
            nullable=True,
            comment="Reading that no longer had it; NULL while it is there",
        ),
        PrimaryKeyConstraint("source", "view_key", "raw_hash", name="pk_rejected_records"),
        comment="Records that cannot be a row of snapshots, kept as they came.",
    )
    create_table(
        "schema_drift",
        Column(
            "source",
            String(length=255),
            nullable=False,
            comment="Label of the Datadog organization, from the configuration",
        ),
        Column(
            "name",
            String(length=255),
            nullable=False,
            comment="Attribute; beside the attributes: $top.name",
        ),
        Column("kind", String(length=64), nullable=False, comment="What is unusual about it"),
        Column("example", LongText(), nullable=False, comment="One value, as JSON text, shortened"),
        Column("first_seen_at", UtcDateTime(), nullable=False, comment="First reading that had it"),
        Column(
            "last_seen_at", UtcDateTime(), nullable=False, comment="Last changed answer that had it"
        ),
        Column("count", BigInteger(), nullable=False, comment="Records with it in changed answers"),
        PrimaryKeyConstraint("source", "name", "kind", name="pk_schema_drift"),
        comment="Attributes that are unknown, or not of the type Datadog's specification names.",
    )
    create_table(
        "snapshot_history",
        Column(
            "snapshot_id",
            String(length=255),
            nullable=False,
            comment="Datadog's id of the snapshot",
        ),
        Column(
            "source",
            String(length=255),
            nullable=False,
            comment="Label of the Datadog organization, from the configuration",
        ),
        Column(
            "view_key",
            String(length=32),
            nullable=False,
            comment="Hash of source, view name and filters: one configured view",
        ),
        Column(
            "synced_view",
            LongText(),
            nullable=False,
            comment="Name of the configured view that owns the row",
        ),
        Column(
            "application_id",
            LongText(),
            nullable=True,
            comment="RUM application the snapshot belongs to",
        ),
        Column("created_at", UtcDateTime(), nullable=True, comment="When the snapshot was created"),
        Column(
            "created_by",
            LongText(),
            nullable=True,
            comment="Display name of the user who created it",
        ),
        Column(
            "created_by_handle",
            LongText(),
            nullable=True,
            comment="E-mail handle of the user who created it",
        ),
        Column(
            "created_by_user_id",
            BigInteger(),
            nullable=True,
            comment="Numeric id of the user who created it",
        ),
        Column(
            "device_type",
            LongText(),
            nullable=True,
            comment="Device the view was captured on: desktop, mobile, tablet",
        ),
        Column(
            "event_id", LongText(), nullable=True, comment="RUM event the snapshot was taken from"
        ),
        Column(
            "is_device_type_selected_by_user",
            Boolean(),
            nullable=True,
            comment="Whether the device type was selected by the user rather than detected",
        ),
        Column(
            "modified_at",
            UtcDateTime(),
            nullable=True,
            comment="When the snapshot was last modified",
        ),
        Column(
            "org_id", BigInteger(), nullable=True, comment="Numeric id of the Datadog organization"
        ),
        Column(
            "session_id",
            LongText(),
            nullable=True,
            comment="RUM session that is replayed as the background",
        ),
        Column("snapshot_name", LongText(), nullable=True, comment="Name the user gave it"),
        Column(
            "start_ms",
            BigInteger(),
            nullable=True,
            comment="Offset from the start of the session, in ms (API: start)",
        ),
        Column(
            "view_id",
            LongText(),
            nullable=True,
            comment="RUM view that is replayed as the background",
        ),
        Column("view_name", LongText(), nullable=True, comment="View name as the record says it"),
        Column(
            "extra",
            JsonText(),
            nullable=True,
            comment="JSON of what the typed columns cannot hold exactly; "
            "NULL when there is nothing",
        ),
        Column(
            "content_hash",
            String(length=64),
            nullable=False,
            comment="Hash of the content columns, with its version prefix",
        ),
        Column(
            "version",
            Integer(),
            nullable=False,
            comment="1, 2, ...: counts the contents and returns of this id",
        ),
        Column(
            "began",
            String(length=16),
            nullable=False,
            comment="How this version began: baseline, added, changed, returned",
        ),
        Column(
            "changed_columns",
            LongText(),
            nullable=True,
            comment="Content columns that differ from the version before",
        ),
        Column(
            "valid_from",
            UtcDateTime(),
            nullable=False,
            comment="Reading that first showed this version",
        ),
        Column(
            "valid_to", UtcDateTime(), nullable=False, comment="Reading that ended this version"
        ),
        Column(
            "ended",
            String(length=16),
            nullable=False,
            comment="How this version ended: changed or removed",
        ),
        PrimaryKeyConstraint("snapshot_id", "version", name="pk_snapshot_history"),
        comment="Every earlier content of a snapshot; append-only. The latest is in snapshots.",
    )
    create_table(
        "snapshots",
        Column("id", String(length=255), nullable=False, comment="Datadog's id of the snapshot"),
        Column(
            "source",
            String(length=255),
            nullable=False,
            comment="Label of the Datadog organization, from the configuration",
        ),
        Column(
            "view_key",
            String(length=32),
            nullable=False,
            comment="Hash of source, view name and filters: one configured view",
        ),
        Column(
            "synced_view",
            LongText(),
            nullable=False,
            comment="Name of the configured view that owns the row",
        ),
        Column(
            "application_id",
            LongText(),
            nullable=True,
            comment="RUM application the snapshot belongs to",
        ),
        Column("created_at", UtcDateTime(), nullable=True, comment="When the snapshot was created"),
        Column(
            "created_by",
            LongText(),
            nullable=True,
            comment="Display name of the user who created it",
        ),
        Column(
            "created_by_handle",
            LongText(),
            nullable=True,
            comment="E-mail handle of the user who created it",
        ),
        Column(
            "created_by_user_id",
            BigInteger(),
            nullable=True,
            comment="Numeric id of the user who created it",
        ),
        Column(
            "device_type",
            LongText(),
            nullable=True,
            comment="Device the view was captured on: desktop, mobile, tablet",
        ),
        Column(
            "event_id", LongText(), nullable=True, comment="RUM event the snapshot was taken from"
        ),
        Column(
            "is_device_type_selected_by_user",
            Boolean(),
            nullable=True,
            comment="Whether the device type was selected by the user rather than detected",
        ),
        Column(
            "modified_at",
            UtcDateTime(),
            nullable=True,
            comment="When the snapshot was last modified",
        ),
        Column(
            "org_id", BigInteger(), nullable=True, comment="Numeric id of the Datadog organization"
        ),
        Column(
            "session_id",
            LongText(),
            nullable=True,
            comment="RUM session that is replayed as the background",
        ),
        Column("snapshot_name", LongText(), nullable=True, comment="Name the user gave it"),
        Column(
            "start_ms",
            BigInteger(),
            nullable=True,
            comment="Offset from the start of the session, in ms (API: start)",
        ),
        Column(
            "view_id",
            LongText(),
            nullable=True,
            comment="RUM view that is replayed as the background",
        ),
        Column("view_name", LongText(), nullable=True, comment="View name as the record says it"),
        Column(
            "extra",
            JsonText(),
            nullable=True,
            comment="JSON of what the typed columns cannot hold exactly; "
            "NULL when there is nothing",
        ),
        Column(
            "content_hash",
            String(length=64),
            nullable=False,
            comment="Hash of the content columns, with its version prefix",
        ),
        Column(
            "first_seen_at",
            UtcDateTime(),
            nullable=False,
            comment="Reading that first showed this id; never changes",
        ),
        Column(
            "version",
            Integer(),
            nullable=False,
            comment="1, 2, ...: counts the contents and returns of this id",
        ),
        Column(
            "began",
            String(length=16),
            nullable=False,
            comment="How this version began: baseline, added, changed, returned",
        ),
        Column(
            "changed_columns",
            LongText(),
            nullable=True,
            comment="Content columns that differ from the version before",
        ),
        Column(
            "valid_from",
            UtcDateTime(),
            nullable=False,
            comment="Reading that first showed this version",
        ),
        Column(
            "missing_since", UtcDateTime(), nullable=True, comment="Set while a removal is held"
        ),
        Column(
            "removed_at",
            UtcDateTime(),
            nullable=True,
            comment="Reading that no longer listed it; NULL while listed",
        ),
        PrimaryKeyConstraint("id", name="pk_snapshots"),
        comment="Includes removed rows; for what is listed now use current_snapshots.",
    )
    create_index("ix_snapshots_view_key", "snapshots", ["view_key"])

    create_table(
        "sources",
        Column(
            "source",
            String(length=255),
            nullable=False,
            comment="Label of the Datadog organization, from the configuration",
        ),
        Column(
            "site",
            String(length=255),
            nullable=False,
            comment="Datadog site, such as datadoghq.com",
        ),
        Column("api_url", LongText(), nullable=False, comment="Where the API is"),
        Column(
            "app_url", LongText(), nullable=False, comment="Where the application is, for links"
        ),
        Column(
            "rate_limit_name",
            LongText(),
            nullable=True,
            comment="Name of the rate limit, as the API last gave it",
        ),
        Column(
            "normalizer_version",
            Integer(),
            nullable=False,
            comment="Version of the normalizer that wrote the rows",
        ),
        Column("first_seen_at", UtcDateTime(), nullable=False, comment="First run"),
        Column(
            "lease_holder",
            String(length=255),
            nullable=True,
            comment="Process that works on it: pid and its start time",
        ),
        Column("lease_host", String(length=255), nullable=True, comment="Machine of that process"),
        Column(
            "lease_token",
            String(length=64),
            nullable=True,
            comment="Random token every committing transaction compares",
        ),
        Column(
            "lease_expires_at",
            UtcDateTime(),
            nullable=True,
            comment="When the lease may be taken, by the database's clock",
        ),
        PrimaryKeyConstraint("source", name="pk_sources"),
        comment="One row for each Datadog organization, and the lease of whoever works on it.",
    )
    create_table(
        "sync_run_views",
        Column("run_id", String(length=64), nullable=False, comment="Run, see sync_runs"),
        Column(
            "view_key",
            String(length=32),
            nullable=False,
            comment="Hash of source, view name and filters: one configured view",
        ),
        Column("view_name", LongText(), nullable=False, comment="View name that was asked for"),
        Column(
            "application_id",
            LongText(),
            nullable=True,
            comment="Application filter of the configured view",
        ),
        Column(
            "device_type", LongText(), nullable=True, comment="Device filter of the configured view"
        ),
        Column(
            "verdict",
            String(length=16),
            nullable=False,
            comment="What the listing proves: complete, unproven, truncated, failed",
        ),
        Column("reason", LongText(), nullable=True, comment="Why this verdict"),
        Column("listed", BigInteger(), nullable=False, comment="Records in the listing"),
        Column("new", BigInteger(), nullable=False, comment="Ids seen for the first time"),
        Column("changed", BigInteger(), nullable=False, comment="Rows whose content changed"),
        Column("unchanged", BigInteger(), nullable=False, comment="Rows as they were"),
        Column(
            "returned", BigInteger(), nullable=False, comment="Removed ids that are listed again"
        ),
        Column(
            "foreign_records",
            BigInteger(),
            nullable=False,
            comment="Records of ids that another configured view owns (--json: foreign)",
        ),
        Column(
            "duplicates",
            BigInteger(),
            nullable=False,
            comment="Further records of an id within the listing",
        ),
        Column(
            "rejected",
            BigInteger(),
            nullable=False,
            comment="Records that cannot be a row, see rejected_records",
        ),
        Column(
            "vanished",
            BigInteger(),
            nullable=False,
            comment="Rows no longer listed, now with removed_at",
        ),
        Column(
            "held",
            BigInteger(),
            nullable=False,
            comment="Rows no longer listed whose removal is held",
        ),
        Column(
            "requests", BigInteger(), nullable=False, comment="HTTP requests sent, retries included"
        ),
        Column(
            "seconds",
            Double(),
            nullable=False,
            comment="Time from the first request to the answer, waiting included",
        ),
        Column(
            "read_at",
            UtcDateTime(),
            nullable=True,
            comment="Instant of the reading; NULL when it failed",
        ),
        Column("page_limit", BigInteger(), nullable=True, comment="Records asked for"),
        Column(
            "rate_limit_remaining",
            BigInteger(),
            nullable=True,
            comment="Requests left in the rate-limit window",
        ),
        Column("error_class", String(length=64), nullable=True, comment="Kind of failure"),
        Column("error", LongText(), nullable=True, comment="Failure, for people"),
        PrimaryKeyConstraint("run_id", "view_key", name="pk_sync_run_views"),
        comment="The ledger: one row for each run and configured view.",
    )
    create_table(
        "sync_runs",
        Column(
            "run_id",
            String(length=64),
            nullable=False,
            comment="Start of the run and a random part",
        ),
        Column(
            "source",
            String(length=255),
            nullable=False,
            comment="Label of the Datadog organization, from the configuration",
        ),
        Column("job", String(length=64), nullable=False, comment="What ran: sync"),
        Column("started_by", String(length=16), nullable=False, comment="cron, schedule or manual"),
        Column(
            "slot_at",
            UtcDateTime(),
            nullable=True,
            comment="Scheduled instant this run fulfils; NULL for cron and manual",
        ),
        Column(
            "missed_slots",
            Integer(),
            nullable=False,
            comment="Earlier slots that this run makes up for",
        ),
        Column("host", LongText(), nullable=False, comment="Machine it ran on"),
        Column("pid", BigInteger(), nullable=False, comment="Process id on that machine"),
        Column(
            "status",
            String(length=16),
            nullable=False,
            comment="running, ok, partial, failed, stopped or died",
        ),
        Column("started_at", UtcDateTime(), nullable=False, comment="When it started"),
        Column(
            "finished_at", UtcDateTime(), nullable=True, comment="When it ended; NULL while it runs"
        ),
        Column("views", BigInteger(), nullable=False, comment="Configured views it was to read"),
        Column("views_failed", BigInteger(), nullable=False, comment="Views that failed"),
        Column("listed", BigInteger(), nullable=False, comment="Records in the listing"),
        Column("new", BigInteger(), nullable=False, comment="Ids seen for the first time"),
        Column("changed", BigInteger(), nullable=False, comment="Rows whose content changed"),
        Column("unchanged", BigInteger(), nullable=False, comment="Rows as they were"),
        Column(
            "returned", BigInteger(), nullable=False, comment="Removed ids that are listed again"
        ),
        Column(
            "foreign_records",
            BigInteger(),
            nullable=False,
            comment="Records of ids that another configured view owns (--json: foreign)",
        ),
        Column(
            "duplicates",
            BigInteger(),
            nullable=False,
            comment="Further records of an id within the listing",
        ),
        Column(
            "rejected",
            BigInteger(),
            nullable=False,
            comment="Records that cannot be a row, see rejected_records",
        ),
        Column(
            "vanished",
            BigInteger(),
            nullable=False,
            comment="Rows no longer listed, now with removed_at",
        ),
        Column(
            "held",
            BigInteger(),
            nullable=False,
            comment="Rows no longer listed whose removal is held",
        ),
        Column(
            "requests", BigInteger(), nullable=False, comment="HTTP requests sent, retries included"
        ),
        Column("error", LongText(), nullable=True, comment="Why it did not end well"),
        PrimaryKeyConstraint("run_id", name="pk_sync_runs"),
        comment="The ledger: one row for each run.",
    )
    create_index("ix_sync_runs_source_started_at", "sync_runs", ["source", "started_at"])

    create_table(
        "view_state",
        Column(
            "view_key",
            String(length=32),
            nullable=False,
            comment="Hash of source, view name and filters: one configured view",
        ),
        Column(
            "source",
            String(length=255),
            nullable=False,
            comment="Label of the Datadog organization, from the configuration",
        ),
        Column("view_name", LongText(), nullable=False, comment="View name asked for"),
        Column("application_id", LongText(), nullable=True, comment="Application filter"),
        Column("device_type", LongText(), nullable=True, comment="Device filter"),
        Column("first_read_at", UtcDateTime(), nullable=True, comment="First reading"),
        Column("last_read_at", UtcDateTime(), nullable=True, comment="Last reading"),
        Column(
            "last_complete_at",
            UtcDateTime(),
            nullable=True,
            comment="Last reading with the verdict complete",
        ),
        Column(
            "answer_digest",
            String(length=64),
            nullable=True,
            comment="Digest of the last reading's answer",
        ),
        Column(
            "shortcut_digest",
            String(length=64),
            nullable=True,
            comment="Set while an equal answer need not even be decoded",
        ),
        Column("listed", BigInteger(), nullable=False, comment="Records in the last reading"),
        Column(
            "duplicates", BigInteger(), nullable=False, comment="Duplicates in the last reading"
        ),
        Column("rejected", BigInteger(), nullable=False, comment="Rejects in the last reading"),
        Column(
            "foreign_records",
            BigInteger(),
            nullable=False,
            comment="Records owned by other views in the last reading",
        ),
        Column("held", BigInteger(), nullable=False, comment="Rows whose removal is held"),
        Column("last_run_id", String(length=64), nullable=True, comment="Last run that tried"),
        Column("last_run_at", UtcDateTime(), nullable=True, comment="When that run tried"),
        Column("verdict", String(length=16), nullable=True, comment="Verdict of that run"),
        Column("reason", LongText(), nullable=True, comment="Why this verdict, or the failure"),
        Column(
            "consecutive_failures",
            BigInteger(),
            nullable=False,
            comment="Runs in a row that failed to read it",
        ),
        PrimaryKeyConstraint("view_key", name="pk_view_state"),
        comment="What is known of each configured view: its last reading and its health.",
    )


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table, if_exists=True)
