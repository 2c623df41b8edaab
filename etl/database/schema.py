"""The catalogue of the tables: every column, with what it means. SQLAlchemy Core.

It feeds the migrations, the database's own comments and `docs/data-dictionary.md`.
Attributes of a snapshot have Datadog's names, `start` alone is `start_ms`. All
instants are UTC to the microsecond. Text is exact everywhere: on MariaDB the
collation pads nothing and folds nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)

from etl.database.dialects.types import JsonText, LongText, UtcDateTime

HEAD = "0006"
"""The revision that this program needs; a test compares it with `migrations/`."""
VERSION_TABLE = "heatmap_etl_version"
COPYING = "copy-"
"""What stands there instead begins with this while `db copy` fills the tables.

Every version of this program, and Alembic, refuses a revision that it does not know.
"""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# For `create_table` in `ddl`. In the tables here they would make every run load the
# dialects of MySQL, only to check the option names.
TABLE_OPTIONS: dict[str, str] = {
    "mariadb_engine": "InnoDB",
    "mariadb_row_format": "DYNAMIC",  # the older ones index 767 bytes of a column
    "mariadb_default_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_nopad_bin",  # utf8mb4_bin ignores trailing spaces
    "mysql_engine": "InnoDB",
    "mysql_row_format": "DYNAMIC",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_0900_bin",
}


def table_options(dialect_name: str) -> dict[str, Any]:
    """The options that tables of ours have on one kind of database, by its name in SQLAlchemy.

    Those of another would only make SQLAlchemy load it, to check their names.
    """
    return {key: v for key, v in TABLE_OPTIONS.items() if key.startswith(f"{dialect_name}_")}


def _col(name: str, type_: Any, comment: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, type_, nullable=nullable, comment=comment)


def _key(name: str, comment: str, length: int = 255) -> Column[Any]:
    return _col(name, String(length), comment, nullable=False)


def _must(name: str, type_: Any, comment: str) -> Column[Any]:
    return _col(name, type_, comment, nullable=False)


def _table(name: str, comment: str, *items: Any) -> Table:
    return Table(name, metadata, *items, comment=comment)


def _by(*columns: str) -> Index:
    """An index that the SQL views read by, see `benchmarks/QUERIES.md`.

    Its kind on PostgreSQL and its prefixes on MariaDB are in the migration only: to have them here,
    SQLAlchemy would load every dialect.
    """
    return Index(None, *columns)


def _source() -> Column[Any]:
    return _key("source", "Label of the Datadog organization, from the configuration")


def _view_key() -> Column[Any]:
    return _key("view_key", "Hash of source, view name and filters: one configured view", 32)


def _content() -> list[Column[Any]]:
    """The attributes of a snapshot; NULL: missing, null, or not of the type (see extra)."""
    return [
        _col("application_id", LongText, "RUM application the snapshot belongs to"),
        _col("created_at", UtcDateTime, "When the snapshot was created"),
        _col("created_by", LongText, "Display name of the user who created it"),
        _col("created_by_handle", LongText, "E-mail handle of the user who created it"),
        _col("created_by_user_id", BigInteger, "Numeric id of the user who created it"),
        _col("device_type", LongText, "Device the view was captured on: desktop, mobile, tablet"),
        _col("event_id", LongText, "RUM event the snapshot was taken from"),
        _col(
            "is_device_type_selected_by_user",
            Boolean,
            "Whether the device type was selected by the user rather than detected",
        ),
        _col("modified_at", UtcDateTime, "When the snapshot was last modified"),
        _col("org_id", BigInteger, "Numeric id of the Datadog organization"),
        _col("session_id", LongText, "RUM session that is replayed as the background"),
        _col("snapshot_name", LongText, "Name the user gave it"),
        _col("start_ms", BigInteger, "Offset from the start of the session, in ms (API: start)"),
        _col("view_id", LongText, "RUM view that is replayed as the background"),
        _col("view_name", LongText, "View name as the record says it"),
        _col(
            "extra",
            JsonText,
            "JSON of what the typed columns cannot hold exactly; NULL when there is nothing",
        ),
    ]


def _content_hash() -> Column[Any]:
    return _must("content_hash", String(64), "Hash of the content columns, with its version prefix")


def _version_columns() -> list[Column[Any]]:
    return [
        _must("version", Integer, "1, 2, ...: counts the contents and returns of this id"),
        _must("began", String(16), "How this version began: baseline, added, changed, returned"),
        _col("changed_columns", LongText, "Content columns that differ from the version before"),
        _must("valid_from", UtcDateTime, "Reading that first showed this version"),
    ]


def _owner_columns() -> list[Column[Any]]:
    return [
        _source(),
        _view_key(),
        _must("synced_view", LongText, "Name of the configured view that owns the row"),
    ]


snapshots = _table(
    "snapshots",
    "Includes removed rows; for what is listed now use current_snapshots.",
    _key("id", "Datadog's id of the snapshot"),
    *_owner_columns(),
    *_content(),
    _content_hash(),
    _must("first_seen_at", UtcDateTime, "Reading that first showed this id; never changes"),
    *_version_columns(),
    _col("missing_since", UtcDateTime, "Set while a removal is held"),
    _col("removed_at", UtcDateTime, "Reading that no longer listed it; NULL while listed"),
    PrimaryKeyConstraint("id"),
    Index(None, "view_key"),
    _by("synced_view"),
    _by("application_id", "valid_from", "removed_at", "created_at"),
)

snapshot_history = _table(
    "snapshot_history",
    "Every earlier content of a snapshot; append-only. The latest is in snapshots.",
    _key("snapshot_id", "Datadog's id of the snapshot"),
    *_owner_columns(),
    *_content(),
    _content_hash(),
    *_version_columns(),
    _must("valid_to", UtcDateTime, "Reading that ended this version"),
    _must("ended", String(16), "How this version ended: changed or removed"),
    PrimaryKeyConstraint("snapshot_id", "version"),
    _by("synced_view"),
    _by("application_id", "valid_from", "valid_to", "ended"),
)

_COUNTS = {
    "listed": "Records in the listing",
    "new": "Ids seen for the first time",
    "changed": "Rows whose content changed",
    "unchanged": "Rows as they were",
    "returned": "Removed ids that are listed again",
    "foreign_records": "Records of ids that another configured view owns (--json: foreign)",
    "duplicates": "Further records of an id within the listing",
    "rejected": "Records that cannot be a row, see rejected_records",
    "vanished": "Rows no longer listed, now with removed_at",
    "held": "Rows no longer listed whose removal is held",
    "requests": "HTTP requests sent, retries included",
}


def _counts() -> list[Column[Any]]:
    return [_must(name, BigInteger, comment) for name, comment in _COUNTS.items()]


sync_runs = _table(
    "sync_runs",
    "The ledger: one row for each run.",
    _key("run_id", "Start of the run and a random part", 64),
    _source(),
    _must("job", String(64), "What ran: sync"),
    _must("started_by", String(16), "cron, schedule or manual"),
    _col("slot_at", UtcDateTime, "Scheduled instant this run fulfils; NULL for cron and manual"),
    _must("missed_slots", Integer, "Earlier slots that this run makes up for"),
    _must("host", LongText, "Machine it ran on"),
    _must("pid", BigInteger, "Process id on that machine"),
    _must("status", String(16), "running, ok, partial, failed, stopped or died"),
    _must("started_at", UtcDateTime, "When it started"),
    _col("finished_at", UtcDateTime, "When it ended; NULL while it runs"),
    _must("views", BigInteger, "Configured views it was to read"),
    _must("views_failed", BigInteger, "Views that failed"),
    *_counts(),
    _col("error", LongText, "Why it did not end well"),
    _col(
        "clock_skew_s",
        Double,
        "Seconds by which this machine's clock was ahead of the server's; negative: behind",
    ),
    PrimaryKeyConstraint("run_id"),
    Index(None, "source", "started_at"),
)

sync_run_views = _table(
    "sync_run_views",
    "The ledger: one row for each run and configured view.",
    _key("run_id", "Run, see sync_runs", 64),
    _view_key(),
    _must("view_name", LongText, "View name that was asked for"),
    _col("application_id", LongText, "Application filter of the configured view"),
    _col("device_type", LongText, "Device filter of the configured view"),
    _must("verdict", String(16), "What the listing proves: complete, unproven, truncated, failed"),
    _col("reason", LongText, "Why this verdict"),
    *_counts(),
    _must("seconds", Double, "Time from the first request to the answer, waiting included"),
    _col("read_at", UtcDateTime, "Instant of the reading; NULL when it failed"),
    _col("page_limit", BigInteger, "Records asked for"),
    _col("rate_limit_remaining", BigInteger, "Requests left in the rate-limit window"),
    _col("error_class", String(64), "Kind of failure"),
    _col("error", LongText, "Failure, for people"),
    PrimaryKeyConstraint("run_id", "view_key"),
    _by("view_key", "read_at"),
)

view_state = _table(
    "view_state",
    "What is known of each configured view: its last reading and its health.",
    _view_key(),
    _source(),
    _must("view_name", LongText, "View name asked for"),
    _col("application_id", LongText, "Application filter"),
    _col("device_type", LongText, "Device filter"),
    _col("first_read_at", UtcDateTime, "First reading"),
    _col("last_read_at", UtcDateTime, "Last reading"),
    _col("last_complete_at", UtcDateTime, "Last reading with the verdict complete"),
    _col("last_trusted_at", UtcDateTime, "Last reading that was complete or unproven"),
    _col("last_nonempty_at", UtcDateTime, "Last reading that listed anything"),
    _col("needs_acceptance", Boolean, "Held removals wait for sync --accept-removals"),
    _col("answer_digest", String(64), "Digest of the last reading's answer"),
    _col("shortcut_digest", String(64), "Set while an equal answer need not even be decoded"),
    _must("listed", BigInteger, "Records in the last reading"),
    _must("duplicates", BigInteger, "Duplicates in the last reading"),
    _must("rejected", BigInteger, "Rejects in the last reading"),
    _must("foreign_records", BigInteger, "Records owned by other views in the last reading"),
    _must("held", BigInteger, "Rows whose removal is held"),
    _col("last_run_id", String(64), "Last run that tried"),
    _col("last_run_at", UtcDateTime, "When that run tried"),
    _col("verdict", String(16), "Verdict of that run"),
    _col("reason", LongText, "Why this verdict, or the failure"),
    _must("consecutive_failures", BigInteger, "Runs in a row that failed to read it"),
    _col(
        "is_watched",
        Boolean,
        "Whether the last run still had it among its views; NULL before a run said so",
    ),
    PrimaryKeyConstraint("view_key"),
)

sources = _table(
    "sources",
    "One row for each Datadog organization, and the lease of whoever works on it.",
    _source(),
    _must("site", String(255), "Datadog site, such as datadoghq.com"),
    _must("api_url", LongText, "Where the API is"),
    _must("app_url", LongText, "Where the application is, for links"),
    _col("org_id", BigInteger, "Organization these keys belong to: the first one seen"),
    _col("learned_cap", BigInteger, "Records beyond which the API was seen to cut answers"),
    _col("learned_cap_probed_at", UtcDateTime, "When that cap was last confirmed"),
    _col("largest_accepted_limit", BigInteger, "Limit to ask for where the API refused a larger"),
    _col("largest_accepted_limit_at", UtcDateTime, "When the API refused a larger one"),
    _col("privacy", String(255), "Privacy setting the stored rows stand under; NULL: keep"),
    _col("applications_read_at", UtcDateTime, "When the list of applications was last asked for"),
    _col("discovered_at", UtcDateTime, "When views were last discovered"),
    _col("rate_limit_name", LongText, "Name of the rate limit, as the API last gave it"),
    _must("normalizer_version", Integer, "Version of the normalizer that wrote the rows"),
    _must("first_seen_at", UtcDateTime, "First run"),
    _col("lease_holder", String(255), "Process that works on it: pid and its start time"),
    _col("lease_host", String(255), "Machine of that process"),
    _col("lease_token", String(64), "Random token every committing transaction compares"),
    _col("lease_expires_at", UtcDateTime, "When the lease may be taken, by the database's clock"),
    _col(
        "name_matching",
        String(255),
        "How the view filter was seen to match other names than the one asked for; NULL: not",
    ),
    PrimaryKeyConstraint("source"),
)

side_questions = _table(
    "side_questions",
    "Questions that no listing depends on, and that got no answer when last asked.",
    _source(),
    _key("question", "What was asked: applications, discovery, organization or validation", 64),
    _must("failures", BigInteger, "Times in a row that it got no answer"),
    _must("failed_at", UtcDateTime, "When it last got no answer"),
    _must("ask_again_at", UtcDateTime, "Until then it is not asked"),
    _must("error", LongText, "Why it got no answer"),
    PrimaryKeyConstraint("source", "question"),
)

applications = _table(
    "applications",
    "RUM applications of each organization.",
    _source(),
    _key("application_id", "Datadog's id of the application"),
    _col("name", LongText, "Its name"),
    _col("type", LongText, "browser, ios, android, ..."),
    _col("is_active", Boolean, "Whether it is active"),
    _must("first_seen_at", UtcDateTime, "When it was first listed"),
    _must("last_seen_at", UtcDateTime, "When it was last listed"),
    PrimaryKeyConstraint("source", "application_id"),
)

discovered_views = _table(
    "discovered_views",
    "Views that RUM saw traffic on, by application.",
    _key("discovered_key", "Hash of source, view name and application", 32),
    _source(),
    _must("view_name", LongText, "View name as RUM has it"),
    _col("application_id", LongText, "RUM application"),
    _must("views_30d", BigInteger, "Views counted in 30 days, as far as RUM retained them"),
    _must("first_seen_at", UtcDateTime, "When it was first discovered"),
    _must("sampled_at", UtcDateTime, "When it was last counted"),
    PrimaryKeyConstraint("discovered_key"),
    Index(None, "source"),
)

rejected_records = _table(
    "rejected_records",
    "Records that cannot be a row of snapshots, kept as they came.",
    _source(),
    _view_key(),
    _key("raw_hash", "Hash of raw", 32),
    _must("reason", LongText, "Why it cannot be a row"),
    _must("raw", JsonText, "The record, as canonical JSON"),
    _must("first_seen_at", UtcDateTime, "First reading that had it"),
    _must("last_seen_at", UtcDateTime, "Last changed answer that had it"),
    _must("count", BigInteger, "Times it stood in a changed answer"),
    _col("resolved_at", UtcDateTime, "Reading that no longer had it; NULL while it is there"),
    PrimaryKeyConstraint("source", "view_key", "raw_hash"),
)

schema_drift = _table(
    "schema_drift",
    "Attributes that are unknown, or not of the type Datadog's specification names.",
    _source(),
    _key("name", "Attribute; beside the attributes: $top.name"),
    _key("kind", "What is unusual about it", 64),
    _must("example", LongText, "One value, as JSON text, shortened"),
    _must("first_seen_at", UtcDateTime, "First reading that had it"),
    _must("last_seen_at", UtcDateTime, "Last changed answer that had it"),
    _must("count", BigInteger, "Records with it in changed answers"),
    PrimaryKeyConstraint("source", "name", "kind"),
)

COUNTS = tuple(_COUNTS)
