"""What a run of `sync` costs in a large database, and with the indexes of the SQL views.

In comes a database; out go seconds of runs in this process, over an API on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from etl.config.views import View
from etl.database import schema
from etl.database.connection import Database
from tests.support.api import Api, record
from tests.support.project import Project, make_config

ROWS = 1003  # in a view; round numbers look as if the answer had been cut
CHANGED = 10
VIEWS = 50
ROUNDS = 7
OLDER = {"ix_snapshots_view_key"}
"""Of the revisions before the one that made the SQL views."""


def again(database: Database, name: str = "again") -> list[float]:
    """Runs over one view in which one row of a hundred has changed."""
    with Api() as api:
        records = [_record(name, n, 0) for n in range(ROWS)]
        api.views[name] = records
        project = _project(database, api, [name])
        project.run()
        times = []
        for turn in range(1, ROUNDS + 1):
            for n in range(turn, ROWS, ROWS // CHANGED):
                records[n] = _record(name, n, turn)
            times.append(_seconds(project))
        return times


def first(database: Database, name: str) -> float:
    """The first load of many views."""
    names = [f"{name}-{number}" for number in range(VIEWS)]
    with Api() as api:
        for number, view in enumerate(names):
            # None has the number of another: three alike would look like a limit.
            api.views[view] = [_record(view, n, 0) for n in range(ROWS + number)]
        return _seconds(_project(database, api, names))


def drop_indexes(database: Database) -> None:
    """Those that only the SQL views read by."""
    indexes = [index for table in schema.metadata.tables.values() for index in table.indexes]
    with database.connect() as connection, connection.begin():
        for index in indexes:
            if index.name in _by_which_views_read():
                index.drop(connection)


def _by_which_views_read() -> set[str]:
    tables = (schema.snapshots, schema.snapshot_history, schema.sync_run_views)
    return {str(index.name) for table in tables for index in table.indexes} - OLDER


def _project(database: Database, api: Api, names: Sequence[str]) -> Project:
    url = database.engine.url.render_as_string(hide_password=False)
    config = make_config(url, api.url, [View(name) for name in names])
    # Nothing of the year's ledger is pruned: others measure on it too.
    config = replace(config, source="acme", page_limit=10_000, max_wait_s=60.0, keep_runs_s=1e9)
    return Project(config, database)


def _seconds(project: Project) -> float:
    before = time.perf_counter()
    run = project.run()
    seconds = time.perf_counter() - before
    if run.status != "ok":
        raise RuntimeError(f"{run.status}: {run}")
    return seconds


def _record(view: str, number: int, turn: int) -> dict[str, object]:
    day = number % 28 + 1
    return record(
        f"{view}-{number}",
        application_id=f"00000000-0000-4000-8000-{number % 12:012}",
        created_at=f"2026-01-{day:02}T10:00:00Z",
        modified_at=f"2026-01-{day:02}T10:00:00Z",
        session_id=f"6f1ed002-ab5b-4f0f-8f3e-{number:06}{turn:06}",
        device_type=("desktop", "mobile", "tablet")[number % 3],
        view_name=view,
    )
