"""How long the typical queries of a dashboard take over the SQL views when the tables are large.

    python -m benchmarks.queries [--scale 0.01] [--databases sqlite,postgresql] [--folder DIR]

Fills each database by SQL with a year of one organization: 400 views that are read every hour
(3.5 million rows of the ledger), a million snapshots, two million earlier versions. Then it runs
each query several times and writes medians and plans to `benchmarks/QUERIES.md`.
"""

from __future__ import annotations

import argparse
import math
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

from benchmarks import beside
from benchmarks.year import WORDS, Size, fill
from etl.config.database_url import parse_database
from etl.database.connection import Database, open_database
from etl.database.migrations import upgrade
from tests.support.servers import SERVERS

REPORT = Path(__file__).parent / "QUERIES.md"
BOUNDS_MS = {"sqlite": 500, "postgresql": 200}
REPEATS = 5
LOADS = 2
EXPECT = """\
Where the load is above the number of cores, queries wait for other programs, and medians are
several times the processor time: hold that against the bound.

Rows of all views are interleaved, the worst there is. The age of the newest snapshot of each view
of one application reads 66,000 rows from nearly as many pages here, and takes about as long as the
bound, or longer. What asks for all applications at once reads every row it counts, and takes up to
seconds. Nothing is summed up beforehand for either: it would cost 12 to 20 ms of processor time on
SQLite for each changed view of 2,500 snapshots in each run. An index that holds all that coverage
needs would answer in 60 ms on SQLite, and be the largest of all.
"""
VIEW_NAME, APPLICATION = "/view-17/?", "00000000-0000-4000-8000-000000000005"
SINCE = "2025-12-02 00:00:00+00"  # 30 days before the last reading
MOMENT = "2025-07-01 12:00:00+00"


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

# --- measure ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Median and slowest of the repeats, processor time of one, in ms; its rows; the plan."""

    median_ms: float
    slowest_ms: float
    cpu_ms: float
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
    began = _cpu_s(connection, family)
    for _ in range(REPEATS):
        before = time.perf_counter()
        rows = len(connection.execute(text(sql), parameters).all())
        times.append((time.perf_counter() - before) * 1000)
        if sum(times) > 5_000:
            break
    cpu_ms = (_cpu_s(connection, family) - began) * 1000 / len(times)
    explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN ANALYZE "}
    found = connection.execute(text(explain.get(family, "EXPLAIN ") + sql), parameters)
    plan = [" | ".join(str(cell) for cell in row) for row in found]
    return Measured(statistics.median(times), max(times), cpu_ms, rows, "\n".join(plan))


def _cpu_s(connection: Connection, family: str) -> float:
    """Processor time so far of who answers: this process, or the server's for this connection.

    Without the workers that PostgreSQL starts for what is large; not for MariaDB, whose threads
    tell nothing.
    """
    if family == "sqlite":
        return time.process_time()
    if family != "postgresql":
        return math.nan
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Database]:
    """An empty database."""
    if name == "sqlite":
        url, server = f"sqlite:///{folder / 'queries.db'}", None
    else:
        server = SERVERS[name].launch()
        url = server.url(server.create_database())
    try:
        parsed = parse_database(url, folder)
        with closing(open_database(parsed.url, label=parsed.label)) as database:
            yield database
    finally:
        if server:
            server.stop()


@dataclass(frozen=True)
class Found:
    """Of one database: each query by its title, and seconds of runs of `sync` by what they did."""

    queries: dict[str, Measured]
    runs: dict[str, float]


def measure_filled(database: Database, name: str, folder: Path) -> Found:
    """Queries first: the runs write."""
    queries = measure_all(database, name)
    return Found(queries, measure_runs(database, name, folder))


def measure_runs(large: Database, name: str, folder: Path) -> dict[str, float]:
    """Medians; an empty database is a new one each time."""
    view = f"one view of {beside.ROWS:,} snapshots, one in a hundred changed"
    load = f"first load of {beside.VIEWS} views of about {beside.ROWS:,}"
    times: dict[str, list[float]] = {f"{view}; large database": beside.again(large)}
    with empty(name, folder) as database:
        times[f"{view}; empty database"] = beside.again(database)
    for _ in range(LOADS):
        for has_indexes in (True, False):
            with empty(name, folder) as database:
                if not has_indexes:
                    beside.drop_indexes(database)
                kind = "with" if has_indexes else "without"
                title = f"{load}; empty database, {kind} the indexes of the SQL views"
                times.setdefault(title, []).append(beside.first(database, "first"))
    for title, seconds in times.items():
        print(f"{name}: {statistics.median(seconds):9.2f} s   {title}", flush=True)
    return {title: statistics.median(seconds) for title, seconds in times.items()}


@contextmanager
def empty(name: str, folder: Path) -> Iterator[Database]:
    """A database with our schema and nothing else."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as inner,
        opened(name, Path(inner)) as database,
    ):
        upgrade(database)
        yield database


def run(name: str, folder: Path, size: Size) -> Found:
    with opened(name, folder) as database:
        before = time.perf_counter()
        fill(database, size)
        print(f"{name}: filled in {time.perf_counter() - before:.0f} s", flush=True)
        return measure_filled(database, name, folder)


def report(name: str, found: Found) -> str:
    """One section: medians, then plans."""
    bound = BOUNDS_MS.get(name)
    lines = [
        f"## {name}",
        "",
        "| Query | Median, ms | Slowest, ms | CPU, ms | Rows |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {title} | {m.median_ms:.0f} | {m.slowest_ms:.0f} | {m.cpu_ms:.0f} | {m.rows} |"
        for title, m in found.queries.items()
    ]
    lines += ["", f"Bound for one view, one application: {bound} ms." if bound else "", ""]
    lines += ["| Run of `sync` | Median, s |", "| --- | --- |"]
    lines += [f"| {title} | {seconds:.2f} |" for title, seconds in found.runs.items()]
    lines += [""]
    for title, m in found.queries.items():
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
                name, folder = database.engine.dialect.name, given.folder or Path.cwd()
                sections.append(report(name, measure_filled(database, name, folder)))
    else:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            names = given.databases.split(",")
            sections += [report(name, run(name, Path(folder), size)) for name in names]
    head = f"""# Queries over the SQL views

Written by `python -m benchmarks.queries`; {size.snapshots:,} snapshots, {size.history:,} earlier
versions, {size.hours * size.views:,} rows of the ledger, {size.views} views. Python
{platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f} while it ran.
CPU: processor time of SQLite, or of the connection's process in PostgreSQL without its workers.

{EXPECT}
"""
    REPORT.write_text(head + "\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
