"""The large demo: a year of an invented shop, read again and again, into `heatmap-demo.db`.

Every reading is a run of `sync` over real HTTP. What a demo cannot do is wait for days between
two of them: instead, what is stored becomes so much older. The last run is of this moment.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from etl.config.model import Config, require_keys
from etl.database.connection import Database, open_database
from etl.database.schema import metadata
from etl.database.types import UtcDateTime
from etl.demo.rounds import FILE, Echo, demo_config, remove_old, without_proxy
from etl.errors import EtlError
from etl.fake_datadog import FakeDatadog
from etl.fake_datadog.year import DAYS, Year
from etl.ledger.results import RunResult
from etl.pipeline.run import Options
from etl.pipeline.sync import sync

_DAILY = 28
_READINGS = (*range(0, DAYS - _DAILY, 7), *range(DAYS - _DAILY, DAYS + 1))
"""The days with a run: one a week, in the last four weeks each."""
_OFF = (DAYS - 18, DAYS - 17)
"""But for these: the machine was switched off."""
_REFUSED = (DAYS - 10, DAYS - 9)
"""Days on which the keys were refused."""
_EMPTY = {"/search": range(287, 294), "/account/settings": range(DAYS, DAYS + 1)}
"""Days on which a view's answer is empty: what it listed before is held."""
_BROKEN, _BROKEN_FROM = "/orders/?", DAYS - 2
"""A view whose answers are no JSON, and since when."""

_FOUND = ("new", "changed", "vanished", "returned", "held")
_DATADOGS = ("created_at", "modified_at")
_RUN_IDS = (("sync_runs", "run_id"), ("sync_run_views", "run_id"), ("view_state", "last_run_id"))


def run_year(folder: Path, echo: Echo) -> None:
    """A year of readings into a new `heatmap-demo.db` in `folder`; prints a line for each month.

    Raises `EtlError` when a file of that name is not a demo's, or when the tables do not hold
    what the fake Datadog lists in the end.
    """
    file = folder / FILE
    remove_old(file)
    year = Year(datetime.now(UTC))
    with without_proxy(), FakeDatadog(year.world) as datadog:
        # An answer that is no JSON is given up at once: here it would stay what it is.
        config = demo_config(
            file,
            datadog.url,
            year.world,
            HEATMAP_ETL_VIEWS="discover",
            HEATMAP_ETL_DATADOG_MAX_WAIT_S="0",
            HEATMAP_ETL_KEEP_RUNS="104w",  # else the ledger would be that of 90 days
        )
        with closing(open_database(config.database_url, label=config.database_label)) as database:
            echo(f"A year of an invented shop, read from a fake Datadog on {datadog.url} into")
            echo(f"{FILE}: once a week, in the last four weeks once a day. About half a minute.")
            echo("")
            _read(year, config, database, echo)
            listed = _check(year, database)
    echo("")
    echo(f"Checked by SQL: the {listed} snapshots without removed_at are those that the fake")
    echo("Datadog lists in the end, and those of an empty answer, which are held.")
    echo(f"All is invented, and in one file: {file}")
    echo(f"Next, the dashboard in a browser: heatmap-etl dashboard --database {file}")


def _read(year: Year, config: Config, database: Database, echo: Echo) -> None:
    wrong = replace(config, keys=replace(require_keys(config), api_key="expired"))
    options, months, read_on = Options(started_by="cron"), _Months(echo), 0
    while True:
        if year.day in _READINGS and year.day not in _OFF:
            database.transaction(partial(_grow_older, days=year.day - read_on))
            read_on = year.day
            used = wrong if year.day in _REFUSED else config
            months.add(year.world.now, sync(used, database, options, stop=threading.Event()))
        if year.day == DAYS:
            break
        year.pass_day()
        _spoil(year)
    months.show()
    database.transaction(_rename_runs)


def _spoil(year: Year) -> None:
    """Makes the answers of this day as bad as they are to be."""
    for view_name, days in _EMPTY.items():
        if year.day == days.start:
            year.take_away(view_name)
        elif year.day == days.stop:
            year.give_back(view_name)
    if year.day == _BROKEN_FROM:
        year.world.put(b"<html>", _BROKEN)


class _Months:
    """Adds runs up by the month, and prints a line for each."""

    def __init__(self, echo: Echo) -> None:
        self._echo, self._month = echo, ""
        self._counts: Counter[str] = Counter()
        self._line("month", ("runs", "bad", *_FOUND))

    def add(self, now: datetime, run: RunResult) -> None:
        """A run of that moment; the line of a month is printed when it is over."""
        if self._month and f"{now:%Y-%m}" != self._month:
            self.show()
            self._counts.clear()
        self._month = f"{now:%Y-%m}"
        self._counts.update({name: run.total(name) for name in _FOUND})
        self._counts.update(runs=1, bad=run.status != "ok")

    def show(self) -> None:
        """The line of this month, so far."""
        self._line(self._month, [str(self._counts[name]) for name in ("runs", "bad", *_FOUND)])

    def _line(self, first: str, cells: Sequence[str]) -> None:
        self._echo(f"  {first:7}" + "".join(f"{cell:>10}" for cell in cells))


# --- a day passes in the file -------------------------------------------------------------


def _grow_older(connection: Connection, *, days: int) -> None:
    """Every instant that we wrote is so much earlier; Datadog's own stay what they are."""
    if not days:  # there is no schema yet
        return
    for table in metadata.sorted_tables:
        ours = [c for c in table.columns if c.name not in _DATADOGS]
        instants = [c.name for c in ours if isinstance(c.type, UtcDateTime)]
        moved = [f"{i} = date({i}, '-{days} days') || substr({i}, 11)" for i in instants]
        if moved:
            connection.exec_driver_sql(f"UPDATE {table.name} SET {', '.join(moved)}")  # noqa: S608


def _rename_runs(connection: Connection) -> None:
    """The id of a run begins with its start, so it moved too."""
    runs = connection.exec_driver_sql("SELECT run_id, started_at FROM sync_runs").fetchall()
    for run_id, started_at in runs:
        start = datetime.fromisoformat(started_at)
        names = (f"{start:%Y%m%dT%H%M%SZ}-{run_id[-8:]}", run_id)
        for table, column in _RUN_IDS:
            sql = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"  # noqa: S608
            connection.exec_driver_sql(sql, names)


# --- checked ------------------------------------------------------------------------------


def _check(year: Year, database: Database) -> int:
    """How many snapshots are listed; raises when the tables say anything else than the world."""
    live = "SELECT id FROM snapshots WHERE removed_at IS NULL AND {} ORDER BY id"
    held, broken = "missing_since IS NOT NULL", f"synced_view = '{_BROKEN}'"

    def ids(condition: str) -> list[str]:
        sql = live.format(condition)
        return list(database.read(lambda c: c.exec_driver_sql(sql).scalars().all()))

    views = [name for name in year.world.view_names if name != _BROKEN]
    truth = sorted(record["id"] for name in views for record in year.world.records(name))
    if ids(f"NOT ({held} OR {broken})") != truth or not ids(held) or not ids(broken):
        raise EtlError("the tables do not hold what the fake Datadog lists: please report this bug")
    return len(ids("1 = 1"))
