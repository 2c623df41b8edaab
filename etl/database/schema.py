"""The catalogue of the tables: every column, with what it means. SQLAlchemy Core.

It feeds the comments in the database (`comments`) and `docs/data-dictionary.md`. A comment says
what the column holds, then what is special, and what NULL means. Attributes of a snapshot have
Datadog's names; only `start` is called `start_ms`. All instants are UTC to the microsecond. Text
is exact everywhere: on MariaDB the collation pads nothing and folds nothing.
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
"""While `db copy` fills the tables, the text there begins with this.

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
    return _key("source", "Label of the Datadog organization, as configured (datadog.source)")


def _view_key() -> Column[Any]:
    return _key(
        "view_key", "Key of the configured view: a hash of source, view name and filters", 32
    )


def _sent(name: str, type_: Any, comment: str) -> Column[Any]:
    return _col(name, type_, f"{comment}; NULL: not sent, or sent as another type (see extra)")


def _person(name: str, type_: Any, comment: str) -> Column[Any]:
    return _sent(name, type_, f"{comment}; hashed or dropped where privacy.created_by says so")


def _content() -> list[Column[Any]]:
    """The attributes of a snapshot."""
    return [
        _sent("application_id", LongText, "Id of the RUM application"),
        _sent("created_at", UtcDateTime, "When the snapshot was created in Datadog"),
        _person("created_by", LongText, "Name of the user who created it"),
        _person("created_by_handle", LongText, "E-mail address of the user who created it"),
        _person("created_by_user_id", BigInteger, "Id of the user who created it"),
        _sent("device_type", LongText, "Kind of device it shows: desktop, mobile or tablet"),
        _sent("event_id", LongText, "Id of the RUM event that the snapshot was taken from"),
        _sent(
            "is_device_type_selected_by_user",
            Boolean,
            "True: a user chose the device type; false: Datadog detected it",
        ),
        _sent("modified_at", UtcDateTime, "When the snapshot was last changed in Datadog"),
        _sent("org_id", BigInteger, "Id of the Datadog organization"),
        _sent("session_id", LongText, "Id of the RUM session that the background comes from"),
        _sent("snapshot_name", LongText, "Name of the snapshot in Datadog"),
        _sent("start_ms", BigInteger, "Milliseconds from the start of the session to the snapshot"),
        _sent("view_id", LongText, "Id of the RUM view event that the background comes from"),
        _sent("view_name", LongText, "Name of the view, as the record has it"),
        _col(
            "extra",
            JsonText,
            "JSON of all that the other columns cannot hold exactly; NULL: nothing",
        ),
    ]


def _content_hash() -> Column[Any]:
    return _must("content_hash", String(64), "Hash of the content, after the version of the hash")


def _version_columns() -> list[Column[Any]]:
    return [
        _must("version", Integer, "Number of this version of the snapshot: 1, 2, ..."),
        _must(
            "began",
            String(16),
            "How this version began: baseline (listed by the first reading of its view), "
            "added, changed or returned",
        ),
        _col(
            "changed_columns",
            LongText,
            "Columns that differ from the version before, with commas between; NULL: none differs, "
            "or this is the first version",
        ),
        _must("valid_from", UtcDateTime, "Time of the reading that first showed this version"),
    ]


def _owner_columns() -> list[Column[Any]]:
    return [
        _source(),
        _view_key(),
        _must("synced_view", LongText, "Name of the configured view that the row belongs to"),
    ]


snapshots = _table(
    "snapshots",
    "Includes removed rows; for what is pinned now use current_snapshots.",
    _key("id", "Datadog's id of the snapshot"),
    *_owner_columns(),
    *_content(),
    _content_hash(),
    _must(
        "first_seen_at", UtcDateTime, "Time of the reading that first listed this id; never changes"
    ),
    *_version_columns(),
    _col(
        "missing_since",
        UtcDateTime,
        "Time of the first reading without it, while its removal is held; NULL: no removal is held",
    ),
    _col(
        "removed_at",
        UtcDateTime,
        "Time of the reading that removed it: it was no longer listed; NULL: not removed",
    ),
    PrimaryKeyConstraint("id"),
    Index(None, "view_key"),
    _by("synced_view"),
    _by("application_id", "valid_from", "removed_at", "created_at"),
)

snapshot_history = _table(
    "snapshot_history",
    "Every earlier content of a snapshot. Rows are only added. The latest content is in snapshots.",
    _key("snapshot_id", "Datadog's id of the snapshot"),
    *_owner_columns(),
    *_content(),
    _content_hash(),
    *_version_columns(),
    _must("valid_to", UtcDateTime, "Time of the reading that ended this version"),
    _must("ended", String(16), "How this version ended: changed or removed"),
    PrimaryKeyConstraint("snapshot_id", "version"),
    _by("synced_view"),
    _by("application_id", "valid_from", "valid_to", "ended"),
)

_COUNTS = {
    "listed": "Number of records in the listing",
    "new": "Number of snapshots listed for the first time",
    "changed": "Number of snapshots with changed content",
    "unchanged": "Number of snapshots with the same content as before",
    "returned": "Number of removed snapshots that are listed again",
    "foreign_records": "Number of records that belong to another configured view (--json: foreign)",
    "duplicates": "Number of records with an id that the listing had already",
    "rejected": "Number of records that cannot be stored as a snapshot, see rejected_records",
    "vanished": "Number of snapshots removed: they are no longer listed",
    "held": "Number of snapshots that are no longer listed, with the removal held",
    "requests": "Number of HTTP requests sent, with those sent again",
}


def _counts() -> list[Column[Any]]:
    return [_must(name, BigInteger, comment) for name, comment in _COUNTS.items()]


sync_runs = _table(
    "sync_runs",
    "The ledger of runs: one row for each run.",
    _key("run_id", "Id of the run: its start and a random part", 64),
    _source(),
    _must("job", String(64), "What ran: always sync"),
    _must("started_by", String(16), "Who started it: cron, schedule or manual"),
    _col(
        "slot_at",
        UtcDateTime,
        "Time in the schedule that this run was for; NULL: started by cron or by hand",
    ),
    _must(
        "missed_slots", Integer, "Number of earlier times in the schedule at which no run started"
    ),
    _must("host", LongText, "Name of the machine it ran on"),
    _must("pid", BigInteger, "Process id on that machine"),
    _must("status", String(16), "State of the run: running, ok, partial, failed, stopped or died"),
    _must("started_at", UtcDateTime, "When the run started"),
    _col("finished_at", UtcDateTime, "When the run ended; NULL: it still runs"),
    _must("views", BigInteger, "Number of configured views that it had to read"),
    _must("views_failed", BigInteger, "Number of views that failed"),
    *_counts(),
    _col("error", LongText, "Why the run did not end well; NULL: no such reason"),
    _col(
        "clock_skew_s",
        Double,
        "Seconds that the clock of this machine was ahead of Datadog's; negative: behind; "
        "NULL: not known",
    ),
    PrimaryKeyConstraint("run_id"),
    Index(None, "source", "started_at"),
)

sync_run_views = _table(
    "sync_run_views",
    "The ledger of views: one row for each run and configured view.",
    _key("run_id", "Id of the run, see sync_runs", 64),
    _view_key(),
    _must("view_name", LongText, "Name of the view that was asked for"),
    _col("application_id", LongText, "Application filter of the configured view; NULL: none"),
    _col("device_type", LongText, "Device filter of the configured view; NULL: none"),
    _must(
        "verdict",
        String(16),
        "How far the listing can be trusted: complete, unproven, truncated or failed",
    ),
    _col("reason", LongText, "Why this verdict; NULL: no reason, see error"),
    *_counts(),
    _must("seconds", Double, "Seconds from the first request to the last answer, with all waiting"),
    _col("read_at", UtcDateTime, "Time of the reading; NULL: it failed"),
    _col("page_limit", BigInteger, "Number of records asked for; NULL: it failed"),
    _col(
        "rate_limit_remaining",
        BigInteger,
        "Number of requests left in the rate limit after it; NULL: not known",
    ),
    _col("error_class", String(64), "Kind of failure; NULL: none"),
    _col("error", LongText, "What failed, in words; NULL: nothing"),
    PrimaryKeyConstraint("run_id", "view_key"),
    _by("view_key", "read_at"),
)

view_state = _table(
    "view_state",
    "One row for each configured view: its last reading and its health.",
    _view_key(),
    _source(),
    _must("view_name", LongText, "Name of the view that is asked for"),
    _col("application_id", LongText, "Application filter; NULL: none"),
    _col("device_type", LongText, "Device filter; NULL: none"),
    _col("first_read_at", UtcDateTime, "Time of the first reading; NULL: never read"),
    _col("last_read_at", UtcDateTime, "Time of the last reading; NULL: never read"),
    _col(
        "last_complete_at",
        UtcDateTime,
        "Time of the last reading with the verdict complete; NULL: never",
    ),
    _col(
        "last_trusted_at",
        UtcDateTime,
        "Time of the last reading with the verdict complete or unproven; NULL: never",
    ),
    _col(
        "last_nonempty_at",
        UtcDateTime,
        "Time of the last reading that listed a snapshot; NULL: never",
    ),
    _col(
        "needs_acceptance",
        Boolean,
        "True: held removals wait for sync --accept-removals; NULL: false",
    ),
    _col(
        "answer_digest", String(64), "Digest of the answer of the last reading; NULL: none is kept"
    ),
    _col(
        "shortcut_digest",
        String(64),
        "Digest of an answer that is not decoded when it comes again; NULL: decode every answer",
    ),
    _must("listed", BigInteger, "Number of records in the last reading"),
    _must(
        "duplicates",
        BigInteger,
        "Number of records in the last reading with an id that it had already",
    ),
    _must(
        "rejected",
        BigInteger,
        "Number of records in the last reading that cannot be stored as a snapshot",
    ),
    _must(
        "foreign_records",
        BigInteger,
        "Number of records in the last reading that belong to another configured view",
    ),
    _must("held", BigInteger, "Number of snapshots whose removal is held"),
    _col("last_run_id", String(64), "Id of the last run that tried to read it; NULL: none yet"),
    _col("last_run_at", UtcDateTime, "When the last run tried to read it; NULL: none yet"),
    _col(
        "verdict",
        String(16),
        "Verdict of the last run: complete, unproven, truncated or failed; NULL: none yet",
    ),
    _col("reason", LongText, "Why this verdict, or what failed; NULL: none yet"),
    _must("consecutive_failures", BigInteger, "Number of runs in a row that failed to read it"),
    _col(
        "is_watched",
        Boolean,
        "True: the last run still read this view, or was to; NULL: no run has said",
    ),
    PrimaryKeyConstraint("view_key"),
)

sources = _table(
    "sources",
    "One row for each Datadog organization, with the lease of the process that works on it.",
    _source(),
    _must("site", String(255), "Datadog site, such as datadoghq.com"),
    _must("api_url", LongText, "URL of the API"),
    _must("app_url", LongText, "URL of Datadog in the browser, for links"),
    _col(
        "org_id",
        BigInteger,
        "Id of the organization that the keys belong to, as first seen; NULL: not known",
    ),
    _col(
        "learned_cap",
        BigInteger,
        "Number of records at which the API was seen to cut answers; NULL: never seen",
    ),
    _col(
        "learned_cap_probed_at", UtcDateTime, "When the API was last seen to cut there; NULL: never"
    ),
    _col(
        "largest_accepted_limit",
        BigInteger,
        "Largest number of records that the API lets us ask for; NULL: it never refused",
    ),
    _col(
        "largest_accepted_limit_at",
        UtcDateTime,
        "When the API refused a larger number; NULL: never",
    ),
    _col("privacy", String(255), "Privacy setting that the stored rows follow; NULL: keep"),
    _col(
        "applications_read_at",
        UtcDateTime,
        "When the list of applications was last read; NULL: never",
    ),
    _col("discovered_at", UtcDateTime, "When views were last discovered; NULL: never"),
    _col(
        "rate_limit_name",
        LongText,
        "Name of the rate limit, as the API last sent it; NULL: never sent",
    ),
    _must("normalizer_version", Integer, "Version of the code that turned records into rows"),
    _must("first_seen_at", UtcDateTime, "When the first run started"),
    _col("lease_holder", String(255), "Process that works on it: its pid and start; NULL: none"),
    _col("lease_host", String(255), "Machine of that process; NULL: no process"),
    _col(
        "lease_token",
        String(64),
        "Random token of that process; it writes only while this one is here; NULL: no process",
    ),
    _col(
        "lease_expires_at",
        UtcDateTime,
        "When another process may take the lease, by the clock of the database; NULL: now",
    ),
    _col(
        "name_matching",
        String(255),
        "How the API was seen to match names other than the one asked for; NULL: never seen",
    ),
    PrimaryKeyConstraint("source"),
)

side_questions = _table(
    "side_questions",
    "Optional questions to the API that got no answer when last asked. No listing needs them.",
    _source(),
    _key("question", "What was asked: applications, discovery, organization or validation", 64),
    _must("failures", BigInteger, "Number of times in a row without an answer"),
    _must("failed_at", UtcDateTime, "When it last got no answer"),
    _must("ask_again_at", UtcDateTime, "When it will be asked again, at the earliest"),
    _must("error", LongText, "Why there was no answer"),
    PrimaryKeyConstraint("source", "question"),
)

applications = _table(
    "applications",
    "One row for each RUM application of an organization.",
    _source(),
    _key("application_id", "Datadog's id of the application"),
    _col("name", LongText, "Name of the application; NULL: not sent"),
    _col("type", LongText, "Kind of application: browser, ios, android, ...; NULL: not sent"),
    _col("is_active", Boolean, "True: Datadog says that it is active; NULL: not sent"),
    _must("first_seen_at", UtcDateTime, "When the list of applications first had it"),
    _must("last_seen_at", UtcDateTime, "When the list of applications last had it"),
    PrimaryKeyConstraint("source", "application_id"),
)

discovered_views = _table(
    "discovered_views",
    "Views with page views in RUM: one row for each view and application.",
    _key("discovered_key", "Key: a hash of source, view name and application", 32),
    _source(),
    _must("view_name", LongText, "Name of the view in RUM"),
    _col("application_id", LongText, "Id of the RUM application; NULL: not known"),
    _must(
        "views_30d",
        BigInteger,
        "Page views in the 30 days before sampled_at, as far as RUM has kept them",
    ),
    _must("first_seen_at", UtcDateTime, "When the view was first discovered"),
    _must("sampled_at", UtcDateTime, "When page views were last counted"),
    PrimaryKeyConstraint("discovered_key"),
    Index(None, "source"),
)

rejected_records = _table(
    "rejected_records",
    "Records that cannot be stored as a snapshot, kept as they came.",
    _source(),
    _view_key(),
    _key("raw_hash", "Hash of the record", 32),
    _must("reason", LongText, "Why the record cannot be stored as a snapshot"),
    _must("raw", JsonText, "The record as JSON, with sorted keys"),
    _must("first_seen_at", UtcDateTime, "Time of the first reading that had it"),
    _must("last_seen_at", UtcDateTime, "Time of the last changed answer that had it"),
    _must("count", BigInteger, "Number of changed answers that had it"),
    _col(
        "resolved_at",
        UtcDateTime,
        "Time of the reading that no longer had it; NULL: it is still sent",
    ),
    PrimaryKeyConstraint("source", "view_key", "raw_hash"),
)

schema_drift = _table(
    "schema_drift",
    "Attributes that Datadog's specification does not have, or has with another type.",
    _source(),
    _key(
        "name",
        "Name of the attribute; $top.NAME: a member of the record; $body.NAME: of the answer",
    ),
    _key("kind", "What is wrong with it, such as: unknown attribute, wrong type", 64),
    _must("example", LongText, "One value as JSON, cut when it is long"),
    _must("first_seen_at", UtcDateTime, "Time of the first reading that had it"),
    _must("last_seen_at", UtcDateTime, "Time of the last changed answer that had it"),
    _must("count", BigInteger, "Number of records in changed answers that had it"),
    PrimaryKeyConstraint("source", "name", "kind"),
)

COUNTS = tuple(_COUNTS)
