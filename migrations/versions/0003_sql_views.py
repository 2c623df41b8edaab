"""Add the SQL views for BI, what they need to know of a view, and the indexes they read by.

Why: dashboards read views that only grow, so that tables may change. Code of the
revision before keeps running with it: yes, the new column may be NULL.
MariaDB and MySQL commit each statement of DDL: every step here is harmless when
it is run again after being cut anywhere. A later revision that gives a view
more columns appends them, and creates it in the same way: on PostgreSQL and
MariaDB that keeps grants, and what others built on it.

Revision: 0003, after 0002
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import Boolean, Column, TextClause, inspect, text
from sqlalchemy.engine.reflection import ObjectKind

from etl.database.sql_views import comments

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WATCHED = "Whether the last run still had it among its views; NULL before a run said so"
INDEXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("snapshots", ("synced_view",)),
    ("snapshots", ("application_id", "valid_from", "removed_at", "created_at")),
    ("snapshot_history", ("synced_view",)),
    ("snapshot_history", ("application_id", "valid_from", "valid_to", "ended")),
    ("sync_run_views", ("view_key", "read_at")),
)
PREFIXES = {"application_id": 40, "synced_view": 120}
"""Characters that MariaDB and MySQL index of text without a bound."""

VIEWS = {
    "current_snapshots": """
SELECT s.id, s.source, s.view_key, s.synced_view,
  COALESCE(w.is_watched, w.view_key IS NOT NULL) AS is_watched,
  s.application_id, a.name AS application_name, s.device_type, s.snapshot_name, s.view_name,
  s.created_at, {days_since[s.created_at]} AS age_days,
  s.created_by, s.created_by_handle, s.created_by_user_id, s.modified_at,
  s.session_id, s.view_id, s.event_id, s.start_ms,
  {replay_url} AS replay_url, {replay_expires_at} AS replay_expires_at,
  s.is_device_type_selected_by_user, s.org_id, s.extra, s.content_hash,
  s.first_seen_at,
  CASE WHEN s.missing_since IS NULL THEN w.last_read_at ELSE (
    SELECT r.read_at FROM sync_run_views r
    WHERE r.view_key = s.view_key AND r.read_at < s.missing_since
    ORDER BY r.read_at DESC LIMIT 1
  ) END AS last_seen_at,
  s.version, s.began, s.changed_columns, s.valid_from, s.missing_since
FROM snapshots s
LEFT JOIN view_state w ON w.view_key = s.view_key
LEFT JOIN sources o ON o.source = s.source
LEFT JOIN applications a ON a.source = s.source AND a.application_id = s.application_id
WHERE s.removed_at IS NULL
""",
    "snapshot_versions": """
SELECT s.id AS snapshot_id, s.version, s.valid_from, s.removed_at AS valid_to,
  s.removed_at IS NULL AS is_current, s.began,
  CASE WHEN s.removed_at IS NOT NULL THEN 'removed' END AS ended,
  {version_columns}
FROM snapshots s
{version_joins}
UNION ALL
SELECT s.snapshot_id, s.version, s.valid_from, s.valid_to,
  FALSE AS is_current, s.began,
  s.ended,
  {version_columns}
FROM snapshot_history s
{version_joins}
""",
    "snapshot_changes": """
SELECT s.began AS event, s.valid_from AS noticed_at,
  CASE WHEN s.began <> 'baseline' THEN {reading_before[s.valid_from]} END AS not_before,
  s.id AS snapshot_id, s.version, s.changed_columns,
  {change_columns}
FROM snapshots s
{version_joins}
UNION ALL
SELECT 'removed', s.removed_at,
  {reading_before[s.removed_at]},
  s.id, s.version, NULL,
  {change_columns}
FROM snapshots s
{version_joins}
WHERE s.removed_at IS NOT NULL
UNION ALL
SELECT s.began, s.valid_from,
  CASE WHEN s.began <> 'baseline' THEN {reading_before[s.valid_from]} END,
  s.snapshot_id, s.version, s.changed_columns,
  {change_columns}
FROM snapshot_history s
{version_joins}
UNION ALL
SELECT 'removed', s.valid_to,
  {reading_before[s.valid_to]},
  s.snapshot_id, s.version, NULL,
  {change_columns}
FROM snapshot_history s
{version_joins}
WHERE s.ended = 'removed'
""",
    "view_coverage": """
SELECT c.source, c.view_name, c.application_id, a.name AS application_name, c.device_type,
  TRUE AS has_snapshot, c.snapshots, c.newest_at, c.oldest_at, c.last_modified_at,
  {days_since[c.newest_at]} AS newest_age_days,
  d.views_30d, d.sampled_at, {days_since[d.sampled_at]} AS sampled_age_days,
  c.watched = 1 AS is_watched, c.last_read_at
FROM (
  SELECT s.source, s.synced_view AS view_name, s.application_id, s.device_type,
    COUNT(*) AS snapshots, MAX(s.created_at) AS newest_at, MIN(s.created_at) AS oldest_at,
    MAX(s.modified_at) AS last_modified_at,
    MAX(CASE WHEN COALESCE(w.is_watched, w.view_key IS NOT NULL) THEN 1 ELSE 0 END) AS watched,
    MAX(w.last_read_at) AS last_read_at
  FROM snapshots s
  LEFT JOIN view_state w ON w.view_key = s.view_key
  WHERE s.removed_at IS NULL
  GROUP BY s.source, s.synced_view, s.application_id, s.device_type
) c
LEFT JOIN discovered_views d ON d.source = c.source AND d.view_name = c.view_name
  AND (d.application_id = c.application_id
    OR (d.application_id IS NULL AND c.application_id IS NULL))
LEFT JOIN applications a ON a.source = c.source AND a.application_id = c.application_id
UNION ALL
SELECT d.source, d.view_name, d.application_id, a.name, NULL,
  FALSE, 0, NULL, NULL, NULL,
  NULL,
  d.views_30d, d.sampled_at, {days_since[d.sampled_at]},
  MAX(CASE WHEN w.view_key IS NOT NULL AND COALESCE(w.is_watched, TRUE)
    AND (w.application_id IS NULL OR w.application_id = d.application_id)
    THEN 1 ELSE 0 END) = 1,
  MAX(CASE WHEN w.application_id IS NULL OR w.application_id = d.application_id
    THEN w.last_read_at END)
FROM discovered_views d
LEFT JOIN view_state w ON w.source = d.source AND w.view_name = d.view_name
LEFT JOIN applications a ON a.source = d.source AND a.application_id = d.application_id
GROUP BY d.source, d.view_name, d.application_id, a.name, d.views_30d, d.sampled_at
HAVING COUNT((
  SELECT 1 FROM snapshots s
  WHERE s.view_key = w.view_key AND s.removed_at IS NULL
    AND (s.application_id = d.application_id
      OR (s.application_id IS NULL AND d.application_id IS NULL))
  LIMIT 1
)) = 0
UNION ALL
SELECT w.source, w.view_name, w.application_id, a.name, w.device_type,
  FALSE, 0, NULL, NULL, NULL,
  NULL,
  NULL, NULL, NULL,
  TRUE, w.last_read_at
FROM view_state w
LEFT JOIN applications a ON a.source = w.source AND a.application_id = w.application_id
WHERE COALESCE(w.is_watched, TRUE)
  AND (
    SELECT 1 FROM snapshots s WHERE s.view_key = w.view_key AND s.removed_at IS NULL LIMIT 1
  ) IS NULL
  AND NOT EXISTS (
    SELECT 1 FROM discovered_views d
    WHERE d.source = w.source AND d.view_name = w.view_name
      AND (w.application_id IS NULL OR w.application_id = d.application_id)
  )
""",
    "sync_health": """
SELECT w.source, w.view_key, w.view_name, w.application_id, a.name AS application_name,
  w.device_type, COALESCE(w.is_watched, TRUE) AS is_watched,
  w.verdict, w.verdict IN ('complete', 'unproven') AS is_trusted, w.reason,
  w.consecutive_failures, w.first_read_at, w.last_run_at, w.last_read_at,
  {minutes_since[w.last_read_at]} AS read_age_minutes,
  w.last_trusted_at, w.last_complete_at, w.last_nonempty_at,
  w.listed, w.duplicates, w.rejected, w.foreign_records, w.held,
  COALESCE(w.needs_acceptance, FALSE) AS needs_acceptance,
  w.last_run_id, r.requests, r.seconds, r.error_class, r.error
FROM view_state w
LEFT JOIN applications a ON a.source = w.source AND a.application_id = w.application_id
LEFT JOIN sync_run_views r ON r.run_id = w.last_run_id AND r.view_key = w.view_key
""",
}
"""What differs from one database to the next stands in braces, see `_fragments`."""

VERSION_COLUMNS = """\
s.changed_columns, s.source, s.view_key, s.synced_view,
  s.application_id, a.name AS application_name, s.device_type, s.snapshot_name, s.view_name,
  s.created_at, s.created_by, s.created_by_handle, s.created_by_user_id, s.modified_at,
  s.session_id, s.view_id, s.event_id, s.start_ms,
  {replay_url} AS replay_url, {replay_expires_at} AS replay_expires_at,
  s.is_device_type_selected_by_user, s.org_id, s.extra, s.content_hash"""
CHANGE_COLUMNS = """\
s.source, s.view_key, s.synced_view,
  s.application_id, a.name AS application_name, s.device_type, s.snapshot_name, s.view_name,
  s.created_at, s.created_by, s.created_by_handle, s.modified_at,
  {replay_url} AS replay_url"""
VERSION_JOINS = """\
LEFT JOIN sources o ON o.source = s.source
LEFT JOIN applications a ON a.source = s.source AND a.application_id = s.application_id"""

# A held removal happened before the reading that missed it first, and a reading that was cut
# short proves no absence: neither is the earliest moment it can have happened.
READING_BEFORE = """\
(
    SELECT r.read_at FROM sync_run_views r
    WHERE r.view_key = s.view_key AND r.read_at < {0}
      AND r.verdict IN ('complete', 'unproven') AND r.held = 0
    ORDER BY r.read_at DESC LIMIT 1
  )"""

# An id of other characters would have to be percent-encoded, which SQL cannot do everywhere.
SAFE = {
    "sqlite": "{0} NOT GLOB '*[^-A-Za-z0-9_]*'",
    "postgresql": "{0} !~ '[^-A-Za-z0-9_]'",
    "mysql": "{0} NOT REGEXP '[^-A-Za-z0-9_]'",
}
REPLAY_URL = {
    "sqlite": "o.app_url || '/rum/replay/sessions/' || s.session_id || {seed}",
    "postgresql": "o.app_url || '/rum/replay/sessions/' || s.session_id || {seed}",
    "mysql": "CONCAT(o.app_url, '/rum/replay/sessions/', s.session_id, {seed})",
}
SEED = {
    "sqlite": "'?seed=' || s.view_id",
    "postgresql": "'?seed=' || s.view_id",
    "mysql": "CONCAT('?seed=', s.view_id)",
}
# SQLite knows no end of month: 30 November and 15 months is 2 March. The others stop at
# the last day of February. Without AT TIME ZONE, PostgreSQL adds months of the session's zone.
IN_15_MONTHS = {
    "sqlite": """\
CASE WHEN strftime('%d', {0}, '+15 months') = strftime('%d', {0})
      THEN date({0}, '+15 months')
      ELSE date({0}, 'start of month', '+16 months', '-1 day') END || substr({0}, 11)""",
    "postgresql": "({0} AT TIME ZONE 'UTC' + INTERVAL '15 months') AT TIME ZONE 'UTC'",
    "mysql": "{0} + INTERVAL 15 MONTH",
}
FAR_FUTURE = {
    "sqlite": "'9998-01-01 00:00:00.000000'",
    "postgresql": "TIMESTAMPTZ '9998-01-01 00:00:00+00'",
    "mysql": "TIMESTAMP '9998-01-01 00:00:00.000000'",
}
SECONDS_SINCE = {
    "sqlite": "(CAST(strftime('%s', 'now') AS INTEGER) - CAST(strftime('%s', {0}) AS INTEGER))",
    "postgresql": "CAST(FLOOR(EXTRACT(EPOCH FROM (CURRENT_TIMESTAMP - {0}))) AS BIGINT)",
    "mysql": "TIMESTAMPDIFF(SECOND, {0}, UTC_TIMESTAMP(6))",
}
QUOTIENT = {"sqlite": "{0} / {1}", "postgresql": "{0} / {1}", "mysql": "{0} DIV {1}"}


def upgrade() -> None:
    if "is_watched" not in _columns("view_state"):
        op.add_column("view_state", Column("is_watched", Boolean(), comment=WATCHED))
    present = _indexes()
    for table, columns in INDEXES:
        if _index_name(table, columns) not in present:
            _create_index(table, columns)
    for name, select in VIEWS.items():
        _create_view(name, select)
    _comment()


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW IF EXISTS {name}")
    present = _indexes()
    for table, columns in INDEXES:
        name = _index_name(table, columns)
        if name in present:
            op.drop_index(name, table)
    if "is_watched" in _columns("view_state"):
        op.drop_column("view_state", "is_watched")


def _family() -> str:
    name = op.get_bind().dialect.name
    return "mysql" if name == "mariadb" else name


def _columns(table: str) -> set[str]:
    return {column["name"] for column in inspect(op.get_bind()).get_columns(table)}


def _indexes() -> set[str | None]:
    tables = sorted({table for table, _ in INDEXES})
    found = inspect(op.get_bind()).get_multi_indexes(filter_names=tables)
    return {index["name"] for indexes in found.values() for index in indexes}


def _index_name(table: str, columns: tuple[str, ...]) -> str:
    return "_".join(["ix", table, *columns])


def _create_index(table: str, columns: tuple[str, ...]) -> None:
    options: dict[str, Any] = {}
    if _family() == "mysql":
        lengths = {column: PREFIXES[column] for column in columns if column in PREFIXES}
        options[f"{op.get_bind().dialect.name}_length"] = lengths
    if _family() == "postgresql":
        # PostgreSQL refuses an entry of more than 2,700 bytes in any other kind of index.
        options["postgresql_using"] = "hash" if columns == ("synced_view",) else "btree"
    op.create_index(_index_name(table, columns), table, list(columns), **options)


def _create_view(name: str, select: str) -> None:
    if _family() == "sqlite":
        op.execute(f"DROP VIEW IF EXISTS {name}")
    create = "CREATE VIEW" if _family() == "sqlite" else "CREATE OR REPLACE VIEW"
    op.execute(_plain(f"{create} {name} AS {_filled(select)}"))


def _comment() -> None:
    """MariaDB, MySQL and SQLite keep no comments on views."""
    if _family() != "postgresql":
        return
    look, said = inspect(op.get_bind()), []
    found = look.get_multi_columns(kind=ObjectKind.VIEW, filter_names=list(VIEWS))
    for (_, name), columns in found.items():
        of_view, of_columns = comments(name)
        said.append(f"COMMENT ON VIEW {name} IS {_quoted(of_view)}")
        for column in sorted({column["name"] for column in columns} & set(of_columns)):
            what = _quoted(of_columns[column])
            said.append(f"COMMENT ON COLUMN {name}.{column} IS {what}")
    op.execute(_plain("; ".join(said)))  # each alone would be a round trip


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"


def _plain(sql: str) -> TextClause:
    """Without parameters: a colon in it is a colon."""
    return text(sql.replace(":", r"\:"))


# --- what differs from one database to the next -------------------------------------------


class _Of(dict[str, str]):
    """`{name[s.column]}` in a template: the fragment, filled with the column."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.fragment = fragment

    def __missing__(self, argument: str) -> str:
        return self.fragment.format(argument)


def _filled(select: str) -> str:
    fragments = _fragments(_family())
    columns = {
        "version_columns": VERSION_COLUMNS.format(**fragments),
        "change_columns": CHANGE_COLUMNS.format(**fragments),
        "version_joins": VERSION_JOINS,
    }
    return select.format(**fragments, **columns).strip()


def _fragments(family: str) -> dict[str, object]:
    safe, since, quotient = SAFE[family], SECONDS_SINCE[family], QUOTIENT[family]
    is_session = f"s.session_id <> '' AND {safe.format('s.session_id')}"
    is_view = f"s.view_id <> '' AND {safe.format('s.view_id')}"
    seed = f"CASE WHEN {is_view} THEN {SEED[family]} ELSE '' END"
    last_saved = "COALESCE(s.modified_at, s.created_at)"
    later = IN_15_MONTHS[family].format(last_saved)
    url = REPLAY_URL[family].format(seed=seed)
    return {
        "replay_url": f"CASE WHEN {is_session}\n    THEN {url} END",
        "replay_expires_at": f"CASE WHEN s.session_id <> '' AND {last_saved} < "
        f"{FAR_FUTURE[family]}\n    THEN {later} END",
        "reading_before": _Of(READING_BEFORE),
        "days_since": _Of(quotient.format(since, 86400)),
        "minutes_since": _Of(quotient.format(since, 60)),
    }
