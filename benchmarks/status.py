"""How long `status` takes after a year of hourly runs over 400 views, against an empty ledger.

    .venv/bin/python benchmarks/status.py [RUNS VIEWS]

Builds both ledgers in SQLite by SQL, asks each several times in turn, and prints the medians and
their ratio. The larger one has 3.5 million rows in sync_run_views.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from etl.cli.output.status import status_lines
from etl.config.model import Config
from etl.config.views import View
from etl.database.connection import Database, open_database
from etl.database.migrations import upgrade
from etl.database.schema import COUNTS
from etl.monitor.status import read_status

ROUNDS = 7
COUNT_COLUMNS = ", ".join(COUNTS)
ZEROS = ", ".join("0" for _ in COUNTS)


def ledger(folder: Path, runs: int, views: int) -> tuple[Config, Database]:
    url = f"sqlite:///{folder}/{runs}.db"
    names = tuple(View(f"/view/{n}") for n in range(views))
    config = Config(None, url, url, None, names, "acme", "datadoghq.com", "", "", None, "")
    database = open_database(url, label=url)
    upgrade(database)
    keys = ", ".join(f"('{v.key('acme')}', '{v.name}')" for v in names)
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {runs})"
    at = "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || i || ' hours')"
    statements = [
        (
            f"{numbers} INSERT INTO sync_runs (run_id, source, job, started_by, slot_at,"
            " missed_slots, host, pid, status, started_at, finished_at, views, views_failed, "
            f"{COUNT_COLUMNS}) SELECT 'run-' || i, 'acme', 'sync', 'schedule', {at}, 0,"
            f" 'h', 1, 'ok', {at}, {at}, {views}, 0, {ZEROS} FROM n"
        ),
        "CREATE TEMPORARY TABLE named (view_key, view_name)",
        f"INSERT INTO named VALUES {keys}",
        (
            f"INSERT INTO sync_run_views (run_id, view_key, view_name, verdict, seconds,"
            f" {COUNT_COLUMNS})"
            f" SELECT run_id, view_key, view_name, 'complete', 0.1, {ZEROS} FROM sync_runs, named"
        ),
        (
            "INSERT INTO view_state (view_key, source, view_name, verdict, last_run_id, listed,"
            " duplicates, rejected, foreign_records, held, consecutive_failures)"
            " SELECT view_key, 'acme', view_name, 'complete', 'run-1', 1, 0, 0, 0, 0, 0 FROM named"
        ),
    ]
    with database.connect() as connection, connection.begin():
        for statement in statements:
            connection.execute(text(statement))
    return config, database


def seconds(config: Config, database: Database) -> float:
    begun = time.perf_counter()
    status_lines(read_status(config, database, max_age_s=7200.0))
    return time.perf_counter() - begun


def main() -> None:
    runs, views = (int(n) for n in (sys.argv[1:] or ["8760", "400"]))
    with tempfile.TemporaryDirectory() as folder:
        small, large = (ledger(Path(folder), count, views) for count in (10, runs))
        pairs = [(seconds(*small), seconds(*large)) for _ in range(ROUNDS)]
        few, many = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"status after 10 runs over {views} views: {1000 * few:.1f} ms")
        print(f"status after {runs:,} runs ({runs * views:,} rows): {1000 * many:.1f} ms")
        print(f"ratio: {many / few:.2f}")
        for _, database in (small, large):
            database.close()


if __name__ == "__main__":
    main()
