"""A year of one organization, written by SQL: what the queries over the SQL views are measured on.

In comes an empty database; afterwards it holds 400 views that were read every hour, a million
snapshots and two million earlier versions of them. Rows of all views are interleaved, the worst
there is.
"""

# ruff: noqa: E501 - statements are easier to read with a column list on a line
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from etl.database.connection import Database
from etl.database.cursor import driver_cursor
from etl.database.migrations import upgrade


@dataclass(frozen=True)
class Size:
    """How much there is: `views` are read `hours` times."""

    views: int
    snapshots: int
    history: int
    hours: int

    @classmethod
    def of(cls, scale: float) -> Size:
        n = max(scale, 0.001)
        return cls(400, int(1_000_000 * n), int(2_000_000 * n), max(int(8760 * n), 24))


_START = 1735689600  # 2025-01-01
_YEAR = 365 * 86400


@dataclass(frozen=True)
class Words:
    """What differs in SQL: numbers 1 to N as rows `n`, and an instant from seconds."""

    numbers: str
    instant: str
    day: str

    def at(self, seconds: str) -> str:
        """The instant so many seconds after the start of the year."""
        return self.instant.format(f"({_START} + {seconds})")


WORDS = {
    "sqlite": Words(
        "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {0})"
        " SELECT n FROM c) k",
        "(datetime({0}, 'unixepoch') || '.000000')",
        "date(noticed_at)",
    ),
    "postgresql": Words(
        "generate_series(1::bigint, {0}) AS k(n)",
        "to_timestamp({0})",
        "date_trunc('day', noticed_at)",
    ),
    "mysql": Words(
        "(SELECT seq AS n FROM seq_1_to_{0}) k",
        "(TIMESTAMP '1970-01-01 00:00:00' + INTERVAL {0} SECOND)",
        "DATE(noticed_at)",
    ),
}

_CONTENT = """\
'acme' AS source, {view_key} AS view_key, {view} AS synced_view, {application} AS application_id,
{created} AS created_at, {person} AS created_by, {handle} AS created_by_handle,
{n} % 50 AS created_by_user_id,
CASE {n} % 3 WHEN 0 THEN 'desktop' WHEN 1 THEN 'mobile' ELSE 'tablet' END AS device_type,
{uuid} AS event_id, FALSE AS is_device_type_selected_by_user, {created} AS modified_at,
42 AS org_id, {uuid} AS session_id, {name} AS snapshot_name, {n} % 100000 AS start_ms,
{uuid} AS view_id, {view} AS view_name, NULL AS extra, {uuid} AS content_hash"""


def fill(database: Database, size: Size) -> None:
    """All rows, by a few statements, before the indexes that the SQL views read by."""
    family = database.family
    upgrade(database, "0002")
    with database.connect() as connection:
        for statement in statements(family, WORDS[family], size):
            with connection.begin():
                if family == "sqlite":
                    connection.exec_driver_sql("PRAGMA cache_size = -1000000")
                connection.exec_driver_sql(
                    statement.replace("%", "%%") if family != "sqlite" else statement
                )
    upgrade(database)
    with database.connect() as connection:
        if family == "postgresql":  # as its daemon does by itself; SQLite users never do
            with driver_cursor(connection, begins=False) as cursor:
                cursor.execute("VACUUM ANALYZE")


def _concat(family: str, *parts: str) -> str:
    return f"CONCAT({', '.join(parts)})" if family == "mysql" else f"({' || '.join(parts)})"


def _padded(family: str, number: str, width: int) -> str:
    if family == "sqlite":
        return f"printf('%0{width}d', {number})"
    return f"LPAD(CAST({number} AS {'CHAR' if family == 'mysql' else 'TEXT'}), {width}, '0')"


def statements(family: str, words: Words, size: Size) -> Iterator[str]:
    """INSERTs into empty tables."""

    def joined(*parts: str) -> str:
        return _concat(family, *parts)

    def content(n: str, view: str, created: str) -> str:
        zeros = joined("'00000000-0000-4000-8000-'", _padded(family, n, 12))
        app = joined("'00000000-0000-4000-8000-'", _padded(family, f"({view}) % 12", 12))
        return _CONTENT.format(
            n=n,
            view_key=joined("'key-'", _padded(family, view, 8)),
            view=joined("'/view-'", f"({view})", "'/?'"),
            application=app,
            created=created,
            person=joined("'Person '", f"({n} % 50)"),
            handle=joined("'person-'", f"({n} % 50)", "'@example.com'"),
            uuid=zeros,
            name=joined("'Snapshot '", n),
        )

    def spread(n: str, of: int) -> str:
        """Seconds of the year, in no order of the ids."""
        return f"(({n} * 7919) % {of}) * {_YEAR} / {of}"

    views = size.views
    when = words.at(spread("n", 999_983))
    # Half of the history is of earlier in the year than what follows it; order is all that counts.
    yield f"""INSERT INTO sources (source, site, api_url, app_url, normalizer_version, first_seen_at)
SELECT 'acme', 'datadoghq.com', 'https://api', 'https://app.datadoghq.com', 1, {words.at("0")}"""
    yield f"""INSERT INTO applications (source, application_id, name, type, first_seen_at, last_seen_at)
SELECT 'acme', {joined("'00000000-0000-4000-8000-'", _padded(family, "n - 1", 12))},
{joined("'app '", "n")}, 'browser', {words.at("0")}, {words.at("0")}
FROM {words.numbers.format(12)}"""
    yield f"""INSERT INTO view_state (view_key, source, view_name, first_read_at, last_read_at,
last_complete_at, last_trusted_at, listed, duplicates, rejected, foreign_records, held,
last_run_id, last_run_at, verdict, reason, consecutive_failures)
SELECT {joined("'key-'", _padded(family, "n - 1", 8))}, 'acme', {joined("'/view-'", "(n - 1)", "'/?'")},
{words.at("0")}, {words.at(str(_YEAR))}, {words.at(str(_YEAR))}, {words.at(str(_YEAR))}, 2500, 0, 0, 0, 0,
{joined("'run-'", _padded(family, str(size.hours), 8))}, {words.at(str(_YEAR))}, 'complete', 'whole', 0
FROM {words.numbers.format(views)}"""
    yield f"""INSERT INTO discovered_views (discovered_key, source, view_name, application_id,
views_30d, first_seen_at, sampled_at)
SELECT {joined("'d-'", "n")}, 'acme', {joined("'/view-'", "(n - 1)", "'/?'")},
{joined("'00000000-0000-4000-8000-'", _padded(family, "(n - 1) % 12", 12))}, n * 13 % 10007,
{words.at("0")}, {words.at(str(_YEAR))} FROM {words.numbers.format(1000)}"""
    later = words.at(f"({spread('n', 999_983)} + 259200)")
    place = "first_seen_at, version, began, changed_columns, valid_from"
    yield f"""INSERT INTO snapshots (id, source, view_key, synced_view, application_id, created_at,
created_by, created_by_handle, created_by_user_id, device_type, event_id,
is_device_type_selected_by_user, modified_at, org_id, session_id, snapshot_name, start_ms, view_id,
view_name, extra, content_hash, {place}, removed_at)
SELECT {joined("'snapshot-'", "n")}, {content("n", f"n % {views}", when)},
{when}, 3, 'changed', 'session_id', {when},
CASE WHEN n % {views * 5} < {views} THEN {later} END FROM {words.numbers.format(size.snapshots)}"""
    mine = f"(n - 1) % {size.snapshots} + 1"
    earlier = words.at(f"(({spread('n', 999_983)}) * 9 / 10)")
    yield f"""INSERT INTO snapshot_history (snapshot_id, source, view_key, synced_view, application_id,
created_at, created_by, created_by_handle, created_by_user_id, device_type, event_id,
is_device_type_selected_by_user, modified_at, org_id, session_id, snapshot_name, start_ms, view_id,
view_name, extra, content_hash, version, began, changed_columns, valid_from, valid_to, ended)
SELECT {joined("'snapshot-'", f"({mine})")}, {content("n", f"({mine}) % {views}", when)},
(n - 1) / {size.snapshots} + 1, CASE WHEN n <= {size.snapshots} THEN 'added' ELSE 'changed' END,
'session_id', {earlier}, {when}, CASE WHEN n % {views * 10} < {views} THEN 'removed' ELSE 'changed' END
FROM {words.numbers.format(size.history)}"""
    counts = "listed, new, changed, unchanged, returned, foreign_records, duplicates, rejected,"
    counts += " vanished, held, requests"
    run = joined(
        "'run-'",
        _padded(
            family,
            f"((n - 1) / {views} + 1)" if family != "mysql" else f"((n - 1) DIV {views} + 1)",
            8,
        ),
    )
    hour = f"((n - 1) / {views} + 1)" if family != "mysql" else f"((n - 1) DIV {views} + 1)"
    yield f"""INSERT INTO sync_runs (run_id, source, job, started_by, missed_slots, host, pid, status,
started_at, finished_at, views, views_failed, {counts})
SELECT {joined("'run-'", _padded(family, "n", 8))}, 'acme', 'sync', 'cron', 0, 'host', 1, 'ok',
{words.at("n * 3600")}, {words.at("n * 3600 + 60")}, {views}, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1
FROM {words.numbers.format(size.hours)}"""
    yield f"""INSERT INTO sync_run_views (run_id, view_key, view_name, verdict, reason, {counts}, seconds,
read_at, page_limit)
SELECT {run}, {joined("'key-'", _padded(family, f"(n - 1) % {views}", 8))},
{joined("'/view-'", f"((n - 1) % {views})", "'/?'")}, 'complete', 'smaller than another answer',
2500, 0, 0, 2500, 0, 0, 0, 0, 0, 0, 1, 0.25, {words.at(f"{hour} * 3600 + n % {views} / 10")}, 1000
FROM {words.numbers.format(size.hours * views)}"""
