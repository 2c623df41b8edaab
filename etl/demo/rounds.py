"""The demo: four runs against the bundled fake Datadog, explained step by step, then SQL queries.

It works as a user does: `load_config` from variables, `sync` over real HTTP, plain SQL on the
tables of `heatmap-demo.db`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sqlite3
import tempfile
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from sqlalchemy import Connection

from etl.config.load import load_config
from etl.config.model import Config
from etl.database.connection import Database, open_database
from etl.errors import EtlError
from etl.fake_datadog import API_KEY, APP_KEY, Event, FakeDatadog, World
from etl.fake_datadog.world import Kind
from etl.formatting import many
from etl.ledger.results import RunResult
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.runtime.console import as_called

FILE = "heatmap-demo.db"
SOURCE = "demo"
VIEWS = ("/home", "/checkout/?", "/product/?", "/a b/ü")
SEED = 20  # few snapshots, and in the second tick one comes back
HOURS = 6
LONGEST_CELL = 40

Echo: TypeAlias = "Callable[[str], None]"
Rows: TypeAlias = "Sequence[Sequence[object]]"

QUERIES: tuple[tuple[str, str], ...] = (
    (
        "What is pinned now, per view and device?",
        """\
SELECT synced_view, device_type,
  COUNT(*) AS pinned, MAX(created_at) AS newest
FROM current_snapshots
GROUP BY synced_view, device_type
ORDER BY synced_view, device_type""",
    ),
    (
        "What was removed, and since when?",
        """\
SELECT synced_view, snapshot_name, created_by, removed_at
FROM snapshots
WHERE removed_at IS NOT NULL
ORDER BY removed_at, id""",
    ),
    (
        "What was the background of a re-pointed snapshot before? (valid_to NULL: still is)",
        """\
SELECT SUBSTR(snapshot_id, 1, 8) AS id, version,
  SUBSTR(session_id, 1, 8) AS replay, start_ms, valid_from, valid_to
FROM snapshot_versions
WHERE snapshot_id IN (
  SELECT snapshot_id FROM snapshot_changes WHERE event = 'changed'
)
ORDER BY snapshot_id, version""",
    ),
    (
        "What was listed at the end of round 1? (any moment works)",
        """\
SELECT synced_view, COUNT(*) AS listed_then
FROM snapshot_versions
CROSS JOIN (SELECT MIN(finished_at) AS instant FROM sync_runs) moment
WHERE valid_from <= instant
  AND (valid_to IS NULL OR valid_to > instant)
GROUP BY synced_view
ORDER BY synced_view""",
    ),
    (
        "What did each run do, and can it be trusted? (yes, if every view is complete)",
        """\
SELECT r.started_at, r.status, r.views,
  SUM(CASE WHEN v.verdict = 'complete' THEN 1 ELSE 0 END) AS complete,
  SUM(v.listed) AS listed,
  SUM(v.new) AS new, SUM(v.changed) AS changed,
  SUM(v.vanished) AS removed, SUM(v.returned) AS returned
FROM sync_runs r
LEFT JOIN sync_run_views v ON v.run_id = r.run_id
GROUP BY r.run_id, r.started_at, r.status, r.views
ORDER BY r.started_at""",
    ),
)
"""Question and SQL, the same on SQLite, PostgreSQL and MariaDB."""

_LISTED = "SELECT id, event_id FROM snapshots WHERE removed_at IS NULL"
_LAST_CHANGES = """\
SELECT id, CASE WHEN removed_at IS NOT NULL THEN 'removed' ELSE began END
FROM snapshots
WHERE valid_from >= (SELECT MAX(started_at) FROM sync_runs)
   OR removed_at >= (SELECT MAX(started_at) FROM sync_runs)"""
_KINDS: dict[Kind, tuple[str, str]] = {
    "new": ("pinned", "added"),
    "repointed": ("re-pointed", "changed"),
    "unpinned": ("unpinned", "removed"),
    "pinned again": ("pinned again", "returned"),
}
"""The changes of the fake Datadog: in words, and as `_LAST_CHANGES` selects them."""


def run_demo(folder: Path, echo: Echo) -> None:
    """Fill a new `heatmap-demo.db` in `folder`, and print each step by `echo`.

    Raises `EtlError` when a file of that name is not a demo's, or when the tables do not hold
    what the fake Datadog lists.
    """
    file = folder / FILE
    remove_old_file(file)
    # The fake world has its own clock: it starts so that the newest snapshots are of today.
    start_at = datetime.now(UTC) - timedelta(hours=2 * HOURS + 1)
    world = World(SEED, views=VIEWS, start_at=start_at)
    with without_proxy(), FakeDatadog(world) as datadog:
        config = demo_config(file, datadog.url, world)
        database = open_database(config.database_url, label=config.database_label)
        with closing(database):
            _introduce(datadog.url, world, echo)
            play(config, database, world, echo)
            _show_queries(database, echo)
    echo("")
    echo(f"The fake Datadog is gone, the tables stay: {file}")
    program, named = as_called(), shlex.quote(str(file))
    echo("")
    echo("Try next:")
    echo(f"  {program} status --database {named}")
    echo(f"  {program} export current_snapshots --database {named}")
    echo("")
    echo("A year of history, to look at in a browser:")
    echo(f"  {program} demo --large {shlex.quote(str(folder))}")
    echo("")
    echo("With a Datadog account of your own:")
    echo(f"  {program} init")


def demo_config(file: Path, api_url: str, world: World, **more: str) -> Config:
    """The configuration from these variables alone."""
    path = quote(str(file.absolute()), errors="surrogateescape")
    environ = {
        "HEATMAP_ETL_DATABASE_URL": f"sqlite:///{path}",
        "HEATMAP_ETL_VIEWS": json.dumps(world.view_names),
        "HEATMAP_ETL_DATADOG_SOURCE": SOURCE,
        "HEATMAP_ETL_DATADOG_API_URL": api_url,
        "DD_API_KEY": API_KEY,
        "DD_APP_KEY": APP_KEY,
        **more,
    }
    # In an empty folder: a `.env` or heatmap-etl.toml in the current one may hold real keys.
    with tempfile.TemporaryDirectory() as empty:
        return load_config(environ=environ, cwd=Path(empty))


# --- the old file -------------------------------------------------------------------------


def remove_old_file(file: Path) -> None:
    """Remove the file of an earlier demo; raises `EtlError` when it is not one."""
    if not os.path.lexists(file):
        return
    if not _is_demo(file):
        raise EtlError(f"{file} is not a database of the demo; move it away, then run it again")
    try:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{file}{suffix}").unlink(missing_ok=True)
    except OSError as error:
        raise EtlError(f"cannot remove the old {file}: {error.strerror}; remove it") from None


def _is_demo(file: Path) -> bool:
    """Whether the file holds our tables, and only rows that a demo wrote."""
    foreign_rows = """\
SELECT source FROM sources WHERE source <> :demo OR api_url NOT LIKE 'http://127.0.0.1:%'
UNION ALL SELECT source FROM snapshots WHERE source <> :demo
UNION ALL SELECT source FROM sync_runs WHERE source <> :demo"""
    if not file.is_file():  # SQLite would wait for what a pipe holds
        return False
    try:
        uri = f"{file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute(foreign_rows, {"demo": SOURCE}).fetchone() is None
    except sqlite3.Error:
        return False


@contextlib.contextmanager
def without_proxy() -> Iterator[None]:
    """Use no proxy from the environment, even for 127.0.0.1: nothing may leave the machine."""
    previous = os.environ.get("no_proxy")
    os.environ["no_proxy"] = "*"
    try:
        yield
    finally:
        if previous is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = previous


# --- the rounds ---------------------------------------------------------------------------


def _introduce(url: str, world: World, echo: Echo) -> None:
    server = f"A fake Datadog, {many(len(world.view_names), 'view')}, on {url}"
    echo(f"{server}: no account needed, nothing leaves the machine.")
    echo("A snapshot is a moment of a session replay that somebody pinned as the background")
    echo("for a heatmap. Datadog lists only what is pinned now; heatmap-etl asks again and again")
    echo(f"and keeps what was before. Here it asks four times, and writes into {FILE}.")


def play(config: Config, database: Database, world: World, echo: Echo) -> None:
    """Four rounds, each checked by SQL; the second and third find changes."""
    _round(1, "the first sync: everything is new", config, database, echo)
    records = [record for view in world.view_names for record in world.records(view)]
    listed = _check(database, world, {record["id"]: "baseline" for record in records})
    echo("  complete: the whole list was read, so what is missing from it is really gone.")
    echo(f"  Checked by SQL: the tables hold the {listed} snapshots that Datadog lists.")
    for number in (2, 3):
        events = world.tick(HOURS)
        title = f"{HOURS} hours later in the fake Datadog: {_summary(events)}"
        _round(number, title, config, database, echo)
        listed = _check(database, world, {e.snapshot_id: _KINDS[e.kind][1] for e in events})
        echo(f"  Checked by SQL: exactly these {len(events)} changes are in the tables, and the")
        echo(f"  {listed} snapshots without removed_at are those that Datadog lists now.")
    run = _sync(4, config, database)
    _check(database, world, {})
    echo("")
    echo(f"Round 4, at once: nothing changed, {run.total('unchanged')} snapshots as they were:")
    echo("0 rows of snapshots and history written. The ledger notes the run all the same.")


def _round(number: int, title: str, config: Config, database: Database, echo: Echo) -> None:
    counts = ("new", "changed", "vanished", "returned")
    run = _sync(number, config, database)
    rows: list[list[object]] = [
        [v.view.label, v.verdict, v.counts["listed"], *(v.counts[n] or None for n in counts)]
        for v in run.views
    ]
    rows.append(["all", "", run.total("listed"), *(run.total(n) or None for n in counts)])
    echo("")
    echo(f"Round {number}, {title}")
    names = ["removed" if name == "vanished" else name for name in counts]
    print_table(("view", "verdict", "listed", *names), rows, echo, null="-")


def _sync(number: int, config: Config, database: Database) -> RunResult:
    run = sync(config, database, Options(), stop=threading.Event())
    if run.status != "ok":
        errors = "; ".join(view.error or view.reason for view in run.views if view.is_bad)
        raise EtlError(f"round {number} of the demo ended {run.status}: {errors}")
    return run


def _summary(events: Sequence[Event]) -> str:
    counts = Counter(event.kind for event in events)
    return ", ".join(f"{counts[k]} {word}" for k, (word, _) in _KINDS.items() if counts[k])


def _check(database: Database, world: World, changes: dict[str, str]) -> int:
    """Compare the tables with the world: its snapshots, and `changes` by their ids.

    Returns how many snapshots are listed; raises `EtlError` when the tables differ.
    """
    records = [record for view in world.view_names for record in world.records(view)]
    listed = {(record["id"], record["attributes"]["event_id"]) for record in records}
    stored = [tuple(row) for row in _select(database, _LISTED)[1]]
    stored_changes = {str(i): str(event) for i, event in _select(database, _LAST_CHANGES)[1]}
    if set(stored) != listed or stored_changes != changes:
        raise EtlError("the tables do not hold what the fake Datadog lists: please report this bug")
    return len(stored)


def _show_queries(database: Database, echo: Echo) -> None:
    echo("")
    echo(f"Now ask the tables; each query can be pasted into: sqlite3 -header -column {FILE}")
    echo("removed_at and valid_from say when a reading noticed it. Here the readings are only")
    echo("moments apart: the hours passed in the fake Datadog, not on this machine's clock.")
    for number, (question, sql) in enumerate(QUERIES, start=1):
        echo("")
        echo(f"{number}. {question}")
        echo("")
        for line in f"{sql};".splitlines():
            echo(f"  {line}")
        echo("")
        print_table(*_select(database, sql), echo)


def _select(database: Database, sql: str) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Names of the columns, and the rows as the driver returns them."""

    def select(connection: Connection) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        result = connection.exec_driver_sql(sql)
        return tuple(result.keys()), [tuple(row) for row in result]

    return database.read(select)


# --- tables -------------------------------------------------------------------------------


def print_table(names: Sequence[str], rows: Rows, echo: Echo, *, null: str = "NULL") -> None:
    """Print a table: numbers aligned to the right, everything else to the left."""
    end = _end_of_instants(rows)
    cells = [[null if value is None else _cell(value, end) for value in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(names, *cells, strict=True)]
    numeric = [_is_numeric(column) for column in zip(*rows, strict=True)]
    for row in (names, ["-" * width for width in widths], *cells):
        columns = zip(row, widths, numeric or [False] * len(names), strict=True)
        echo(f"  {'  '.join(_pad(*column) for column in columns)}".rstrip())


def _is_numeric(column: Sequence[object]) -> bool:
    return all(isinstance(value, int | None) for value in column)


def _pad(cell: str, width: int, is_number: bool) -> str:
    blanks = " " * (width - _width(cell))
    return blanks + cell if is_number else cell + blanks


def _cell(value: object, end: int) -> str:
    text = str(value)
    if _is_instant(value):
        return text[:end]
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if _width(clean) <= LONGEST_CELL:
        return clean
    while _width(clean) >= LONGEST_CELL:
        clean = clean[:-1]
    return f"{clean}…"


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me")
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )


def _is_instant(value: object) -> bool:
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _end_of_instants(rows: Rows) -> int:
    """Where to cut them: after the seconds, or after the milliseconds if some would look equal."""
    instants = {str(value) for row in rows for value in row if _is_instant(value)}
    return 19 if len({instant[:19] for instant in instants}) == len(instants) else 23
