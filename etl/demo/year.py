"""The large demo: a year of an invented shop, read again and again, into `heatmap-demo.db`.

Every reading is a run of `sync` over real HTTP. A demo cannot wait for days between two readings:
instead, all stored instants are moved into the past. The last run is of the present.
"""

from __future__ import annotations

import shlex
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import Connection

from etl.config.model import Config, require_keys
from etl.database.connection import Database, open_database
from etl.database.dialects.types import UtcDateTime
from etl.database.schema import metadata
from etl.demo.rounds import FILE, Echo, demo_config, remove_old_file, without_proxy
from etl.errors import EtlError
from etl.fake_datadog import FakeDatadog
from etl.fake_datadog.year import DAYS, Year
from etl.ledger.results import RunResult
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.runtime.console import as_called

_DAILY = 28
_READINGS = (*range(0, DAYS - _DAILY, 7), *range(DAYS - _DAILY, DAYS + 1))
"""The days with a run: one in each week, every day in the last four weeks."""
_DAYS_OFF = (DAYS - 18, DAYS - 17)
"""Days without a run: the machine was switched off."""
_DAYS_REFUSED = (DAYS - 10, DAYS - 9)
"""Days on which the keys were refused."""
_EMPTY = {"/search": range(287, 294), "/account/settings": range(DAYS, DAYS + 1)}
"""Days on which a view lists nothing: its removals are held."""
_BROKEN, _BROKEN_FROM = "/orders/?", DAYS - 2
"""A view whose response is not JSON, and the day from which on."""

_COUNTS = ("new", "changed", "vanished", "returned", "held")
_DATADOG_INSTANTS = ("created_at", "modified_at")
_RUN_ID_COLUMNS = (
    ("sync_runs", "run_id"),
    ("sync_run_views", "run_id"),
    ("view_state", "last_run_id"),
)


def run_year(folder: Path, echo: Echo) -> None:
    """Read a year into a new `heatmap-demo.db` in `folder`; prints a line for each month.

    Raises `EtlError` when a file of that name is not a demo's, or when the tables do not hold
    what the fake Datadog lists in the end.
    """
    file = folder / FILE
    remove_old_file(file)
    year = Year(datetime.now(UTC))
    with without_proxy(), FakeDatadog(year.world) as datadog:
        # No retries for a response that is not JSON: here it would never change.
        config = demo_config(
            file,
            datadog.url,
            year.world,
            HEATMAP_ETL_VIEWS="discover",
            HEATMAP_ETL_DATADOG_MAX_WAIT_S="0",
            HEATMAP_ETL_KEEP_RUNS="104w",  # the default would keep 90 days of the ledger
        )
        with closing(open_database(config.database_url, label=config.database_label)) as database:
            echo(f"A year of an invented shop, read from a fake Datadog on {datadog.url} into")
            echo(f"{FILE}: once a week, in the last four weeks once a day. About half a minute.")
            echo("")
            _read(year, config, database, echo)
            listed = _check(year, database)
    echo("")
    echo(f"Checked by SQL: the {listed} snapshots without removed_at are those that the fake")
    echo("Datadog lists in the end, and those that are held after an empty answer.")
    echo(f"All is invented, and in one file: {file}")
    echo("")
    echo("The dashboard, in a browser:")
    if find_spec("datasette") is None:
        echo(f"  {_to_install()}      in the checkout")
    echo(f"  {as_called()} dashboard --database {shlex.quote(str(file))}")


def _to_install() -> str:
    """What brings the dashboard to this Python; a virtual environment may have no pip."""
    if find_spec("pip") is None:
        return "make dashboard"
    return f"{shlex.quote(sys.executable)} -m pip install '.[dashboard]'"


def _read(year: Year, config: Config, database: Database, echo: Echo) -> None:
    expired = replace(config, keys=replace(require_keys(config), api_key="expired"))
    options, months, last_day = Options(started_by="cron"), _Months(echo), 0
    while True:
        if year.day in _READINGS and year.day not in _DAYS_OFF:
            database.transaction(partial(_move_back, days=year.day - last_day))
            last_day = year.day
            used = expired if year.day in _DAYS_REFUSED else config
            run = sync(used, database, options, stop=threading.Event())
            # As the file will have it: midnight may pass while the year is read.
            months.add(run.started_at - timedelta(days=DAYS - year.day), run)
        if year.day == DAYS:
            break
        year.pass_day()
        _break_responses(year)
    months.show()
    database.transaction(_rename_runs)


def _break_responses(year: Year) -> None:
    """Make the responses of this day empty or invalid where the plan says so."""
    for view_name, days in _EMPTY.items():
        if year.day == days.start:
            year.empty_view(view_name)
        elif year.day == days.stop:
            year.restore_view(view_name)
    if year.day == _BROKEN_FROM:
        year.world.put(b"<html>", _BROKEN)


class _Months:
    """Sums up runs by month, and prints a line for each month."""

    def __init__(self, echo: Echo) -> None:
        self._echo, self._month = echo, ""
        self._counts: Counter[str] = Counter()
        names = ["removed" if name == "vanished" else name for name in _COUNTS]
        self._line("month", ("runs", "bad", *names))

    def add(self, now: datetime, run: RunResult) -> None:
        """Count a run of that moment; prints the line of the month before when a new one begins."""
        if self._month and f"{now:%Y-%m}" != self._month:
            self.show()
            self._counts.clear()
        self._month = f"{now:%Y-%m}"
        self._counts.update({name: run.total(name) for name in _COUNTS})
        self._counts.update(runs=1, bad=run.status != "ok")

    def show(self) -> None:
        """Print the line of the current month."""
        self._line(self._month, [str(self._counts[name]) for name in ("runs", "bad", *_COUNTS)])

    def _line(self, first: str, cells: Sequence[str]) -> None:
        self._echo(f"  {first:7}" + "".join(f"{cell:>10}" for cell in cells))


# --- instants in the file -----------------------------------------------------------------


def _move_back(connection: Connection, *, days: int) -> None:
    """Move every stored instant into the past by so many days, except those from Datadog."""
    if not days:  # the first day: there is no schema yet
        return
    for table in metadata.sorted_tables:
        own = [c for c in table.columns if c.name not in _DATADOG_INSTANTS]
        instants = [c.name for c in own if isinstance(c.type, UtcDateTime)]
        assignments = [f"{i} = date({i}, '-{days} days') || substr({i}, 11)" for i in instants]
        if assignments:
            connection.exec_driver_sql(f"UPDATE {table.name} SET {', '.join(assignments)}")  # noqa: S608


def _rename_runs(connection: Connection) -> None:
    """Give runs new ids: an id begins with the start of its run, which has moved."""
    runs = connection.exec_driver_sql("SELECT run_id, started_at FROM sync_runs").fetchall()
    for run_id, started_at in runs:
        start = datetime.fromisoformat(started_at)
        names = (f"{start:%Y%m%dT%H%M%SZ}-{run_id[-8:]}", run_id)
        for table, column in _RUN_ID_COLUMNS:
            sql = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"  # noqa: S608
            connection.exec_driver_sql(sql, names)


# --- check --------------------------------------------------------------------------------


def _check(year: Year, database: Database) -> int:
    """How many snapshots are listed; raises `EtlError` when tables and world differ."""
    query = "SELECT id FROM snapshots WHERE removed_at IS NULL AND {} ORDER BY id"
    held, broken = "missing_since IS NOT NULL", f"synced_view = '{_BROKEN}'"

    def ids(condition: str) -> list[str]:
        sql = query.format(condition)
        return list(database.read(lambda c: c.exec_driver_sql(sql).scalars().all()))

    views = [name for name in year.world.view_names if name != _BROKEN]
    listed = sorted(record["id"] for name in views for record in year.world.records(name))
    if ids(f"NOT ({held} OR {broken})") != listed or not ids(held) or not ids(broken):
        raise EtlError("the tables do not hold what the fake Datadog lists: please report this bug")
    return len(ids("1 = 1"))
