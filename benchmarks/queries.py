"""How long the typical queries of a dashboard take over the SQL views when the tables are large.

    python -m benchmarks.queries [--scale 0.01] [--databases sqlite,postgresql] [--folder DIR]

Fills each database by SQL with a year of one organization: 400 views that are read every hour
(3.5 million rows of the ledger), a million snapshots, two million earlier versions. Then it runs
each query several times and writes medians and plans to `benchmarks/QUERIES.md`.
"""

# ruff: noqa: E501 - statements are easier to read with a column list on a line
from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from etl.config.database import parse_database
from etl.database import Database, open_database, upgrade
from tests.servers import SERVERS

REPORT = Path(__file__).parent / "QUERIES.md"
BOUNDS_MS = {"sqlite": 500, "postgresql": 200}
REPEATS = 5
VIEW_NAME, APPLICATION = "/view-17/?", "00000000-0000-4000-8000-000000000005"
SINCE = "2025-12-02 00:00:00+00"  # 30 days before the last reading
MOMENT = "2025-07-01 12:00:00+00"


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


@dataclass(frozen=True)
class Query:
    """A question with its SQL; bound: `view_name`, `application`, `since`, `moment`."""

    title: str
    sql: str


QUERIES = (
    Query(
        "current_snapshots: table of one view, newest first",
        "SELECT id, snapshot_name, application_name, device_type, created_by, created_at,"
        " replay_url, last_seen_at FROM current_snapshots WHERE synced_view = :view_name"
        " ORDER BY created_at DESC LIMIT 100",
    ),
    Query(
        "current_snapshots: who pinned, 30 days, one view",
        "SELECT created_by, COUNT(*) FROM current_snapshots WHERE synced_view = :view_name"
        " AND created_at >= :since GROUP BY created_by",
    ),
    Query(
        "current_snapshots: by device, 30 days, one application",
        "SELECT device_type, COUNT(*) FROM current_snapshots WHERE created_at >= :since"
        " AND application_id = :application GROUP BY device_type",
    ),
    Query(
        "current_snapshots: by device, 30 days, all",
        "SELECT device_type, COUNT(*) FROM current_snapshots WHERE created_at >= :since"
        " GROUP BY device_type",
    ),
    Query(
        "snapshot_versions: everything of one snapshot",
        "SELECT * FROM snapshot_versions WHERE snapshot_id = 'snapshot-4711' ORDER BY version",
    ),
    Query(
        "snapshot_versions: what one view listed at a moment",
        "SELECT device_type, COUNT(*) FROM snapshot_versions WHERE synced_view = :view_name"
        " AND valid_from <= :moment AND (valid_to IS NULL OR valid_to > :moment)"
        " GROUP BY device_type",
    ),
    Query(
        "snapshot_changes: events of 30 days, one view, with the span each happened in",
        "SELECT event, noticed_at, not_before, snapshot_name, application_name, replay_url"
        " FROM snapshot_changes WHERE synced_view = :view_name AND noticed_at >= :since"
        " ORDER BY noticed_at DESC LIMIT 100",
    ),
    Query(
        "snapshot_changes: per day and event, 30 days, one view",
        "SELECT {day}, event, COUNT(*) FROM snapshot_changes WHERE noticed_at >= :since"
        " AND synced_view = :view_name GROUP BY 1, 2",
    ),
    Query(
        "snapshot_changes: per day and event, 30 days, one application",
        "SELECT {day}, event, COUNT(*) FROM snapshot_changes WHERE noticed_at >= :since"
        " AND application_id = :application GROUP BY 1, 2",
    ),
    Query(
        "snapshot_changes: per day and event, 30 days, all",
        "SELECT {day}, event, COUNT(*) FROM snapshot_changes WHERE noticed_at >= :since"
        " AND event <> 'baseline' GROUP BY 1, 2",
    ),
    Query(
        "view_coverage: one view",
        "SELECT * FROM view_coverage WHERE view_name = :view_name",
    ),
    Query(
        "view_coverage: busiest views without a snapshot, one application",
        "SELECT view_name, views_30d FROM view_coverage WHERE application_id = :application"
        " AND NOT has_snapshot ORDER BY views_30d DESC LIMIT 20",
    ),
    Query(
        "view_coverage: busiest views whose newest snapshot is old, one application",
        "SELECT view_name, MAX(views_30d), MAX(newest_at) FROM view_coverage"
        " WHERE application_id = :application AND views_30d > 0 AND has_snapshot"
        " GROUP BY view_name ORDER BY 2 DESC LIMIT 20",
    ),
    Query(
        "view_coverage: busiest views without a snapshot, all",
        "SELECT view_name, application_name, views_30d FROM view_coverage"
        " WHERE NOT has_snapshot ORDER BY views_30d DESC LIMIT 20",
    ),
    Query(
        "view_coverage: everything",
        "SELECT COUNT(*), SUM(snapshots) FROM view_coverage",
    ),
    Query("sync_health: everything", "SELECT * FROM sync_health ORDER BY view_name"),
)

# --- data ---------------------------------------------------------------------------------

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
    """All rows, by a few statements."""
    family = database.family
    words = WORDS[family]
    for statement in statements(family, words, size):
        with database.connect() as connection, connection.begin():
            connection.exec_driver_sql(
                statement.replace("%", "%%") if family != "sqlite" else statement
            )
    with database.connect() as connection:
        plain = connection.execution_options(isolation_level="AUTOCOMMIT")
        if family == "postgresql":  # as its daemon does by itself; SQLite users never do
            plain.exec_driver_sql("ANALYZE")


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
last_run_id, last_run_at, verdict, reason, consecutive_failures, is_watched)
SELECT {joined("'key-'", _padded(family, "n - 1", 8))}, 'acme', {joined("'/view-'", "(n - 1)", "'/?'")},
{words.at("0")}, {words.at(str(_YEAR))}, {words.at(str(_YEAR))}, {words.at(str(_YEAR))}, 2500, 0, 0, 0, 0,
{joined("'run-'", _padded(family, str(size.hours), 8))}, {words.at(str(_YEAR))}, 'complete', 'whole', 0, TRUE
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
CASE WHEN n % 5 = 0 THEN {later} END FROM {words.numbers.format(size.snapshots)}"""
    mine = f"(n - 1) % {size.snapshots} + 1"
    earlier = words.at(f"(({spread('n', 999_983)}) * 9 / 10)")
    yield f"""INSERT INTO snapshot_history (snapshot_id, source, view_key, synced_view, application_id,
created_at, created_by, created_by_handle, created_by_user_id, device_type, event_id,
is_device_type_selected_by_user, modified_at, org_id, session_id, snapshot_name, start_ms, view_id,
view_name, extra, content_hash, version, began, changed_columns, valid_from, valid_to, ended)
SELECT {joined("'snapshot-'", f"({mine})")}, {content("n", f"({mine}) % {views}", when)},
(n - 1) / {size.snapshots} + 1, CASE WHEN n <= {size.snapshots} THEN 'added' ELSE 'changed' END,
'session_id', {earlier}, {when}, CASE WHEN n % 10 = 0 THEN 'removed' ELSE 'changed' END
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


# --- measure ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Median and slowest of the repeats, in ms; the rows of one; the plan."""

    median_ms: float
    slowest_ms: float
    rows: int
    plan: str


def measured(connection: Connection, family: str, query: Query) -> Measured:
    """The query as a BI tool would send it, rows fetched."""
    sql = query.sql.format(day=WORDS[family].day)
    parameters = {"view_name": VIEW_NAME, "application": APPLICATION}
    parameters |= {"since": SINCE, "moment": MOMENT}
    if family != "postgresql":
        parameters |= {"since": SINCE[:19], "moment": MOMENT[:19]}
    times, rows = [], 0
    for _ in range(REPEATS):
        before = time.perf_counter()
        rows = len(connection.execute(text(sql), parameters).all())
        times.append((time.perf_counter() - before) * 1000)
        if sum(times) > 5_000:
            break
    explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN ANALYZE "}
    found = connection.execute(text(explain.get(family, "EXPLAIN ") + sql), parameters)
    plan = [" | ".join(str(cell) for cell in row) for row in found]
    return Measured(statistics.median(times), max(times), rows, "\n".join(plan))


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Database]:
    """A database with our schema."""
    if name == "sqlite":
        url, server = f"sqlite:///{folder / 'queries.db'}", None
    else:
        server = SERVERS[name].launch()
        url = server.url(server.create_database())
    try:
        parsed = parse_database(url, folder)
        with closing(open_database(parsed.url, label=parsed.label)) as database:
            upgrade(database)
            yield database
    finally:
        if server:
            server.stop()


def run(name: str, folder: Path, size: Size) -> dict[str, Measured]:
    with opened(name, folder) as database:
        before = time.perf_counter()
        fill(database, size)
        print(f"{name}: filled in {time.perf_counter() - before:.0f} s", flush=True)
        return measure_all(database, name)


def report(name: str, found: dict[str, Measured]) -> str:
    """One section: medians, then plans."""
    bound = BOUNDS_MS.get(name)
    lines = [
        f"## {name}",
        "",
        "| Query | Median, ms | Slowest, ms | Rows |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {title} | {m.median_ms:.0f} | {m.slowest_ms:.0f} | {m.rows} |"
        for title, m in found.items()
    ]
    lines += ["", f"Bound for one view, one application: {bound} ms." if bound else "", ""]
    for title, m in found.items():
        lines += [f"{title}:", "", "```text", m.plan, "```", ""]
    return "\n".join(lines)


def measure_all(database: Database, name: str) -> dict[str, Measured]:
    """Every query, in the order of the list."""
    found = {}
    with database.connect(write=False) as connection:
        for query in QUERIES:
            found[query.title] = measured(connection, database.family, query)
            ms = found[query.title].median_ms
            print(f"{name}: {ms:9.1f} ms  {query.title}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--folder", type=Path, help="where the SQLite file goes (3 GB)")
    parser.add_argument("--url", action="append", default=[], help="a database filled before")
    given = parser.parse_args(arguments)
    size = Size.of(given.scale)
    sections = []
    if given.url:
        for url in given.url:
            parsed = parse_database(url, Path.cwd())
            with closing(open_database(parsed.url, label=parsed.label)) as database:
                sections.append(report(database.family, measure_all(database, database.family)))
    else:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            names = given.databases.split(",")
            sections += [report(name, run(name, Path(folder), size)) for name in names]
    head = f"""# Queries over the SQL views

Written by `python -m benchmarks.queries`; {size.snapshots:,} snapshots, {size.history:,} earlier
versions, {size.hours * size.views:,} rows of the ledger, {size.views} views. Python
{platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f} while it ran.

"""
    REPORT.write_text(head + "\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
