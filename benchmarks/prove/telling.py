"""A story that is told to a database, and the comparison of its tables with the oracle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sqlalchemy import select

from benchmarks.prove.oracle import COUNTS, DISTINCT, Oracle, Reading, Row, Seen, Version
from benchmarks.prove.story import APPLICATIONS, HOLD_ABOVE, HOLD_MIN, VIEWS, Answers
from etl.config.credentials import Keys
from etl.config.model import Config
from etl.config.views import View
from etl.database import schema
from etl.database.connection import Database
from tests.support.api import Api
from tests.support.project import make_config
from tests.support.rum import application

SOURCE = "datadoghq.com"
SPAN = ("version", "began", "changed_columns", "valid_from")
ENDED = ("valid_to", "ended")

TableRow = dict[str, Any]


def configure(url: str, api_url: str, **changes: Any) -> Config:
    """The configuration that a story is told with."""
    from dataclasses import replace

    config = make_config(url, api_url, VIEWS)
    settings = {
        "hold_above": HOLD_ABOVE,
        "hold_min": HOLD_MIN,
        "keys": Keys("api-key", "app-key"),
        "max_wait_s": 30.0,
        **changes,
    }
    return replace(config, **settings)


def serve(api: Api, answers: Answers) -> None:
    """From now on the API answers so."""
    api.applications = {"data": [application(i, name=f"App {i[:4]}") for i in APPLICATIONS]}
    api.views = {view: json.dumps({"data": records}).encode() for view, records in answers.items()}


@dataclass
class Telling:
    """A story told to `database`, round after round, and the oracle that hears the same."""

    database: Database
    story: Sequence[Answers]
    oracle: Oracle = field(default_factory=Oracle)
    rounds: int = 0
    """How many of them were told."""
    heard: set[str] = field(default_factory=set)
    """Runs of which the oracle knows."""

    def hear(self, number: int | None = None) -> None:
        """Tell the oracle of all runs that are new in the ledger. All of them were of one round."""
        answers = self.story[self.rounds if number is None else number]
        runs = sorted(rows_of(self.database, "sync_runs"), key=lambda run: run["started_at"])
        of_views = rows_of(self.database, "sync_run_views")
        for run in runs:
            if run["run_id"] not in self.heard:
                self.heard.add(run["run_id"])
                self.oracle.tell(answers, readings(of_views, run["run_id"]))
        if number is None:
            self.rounds += 1

    def hear_each_run(self, rounds: int) -> None:
        """Each run of the ledger was one round of the story."""
        runs = rows_of(self.database, "sync_runs")
        ids = [run["run_id"] for run in sorted(runs, key=lambda run: run["started_at"])]
        assert len(ids) == rounds, f"{len(ids)} runs are in the ledger, {rounds} were told"
        for number, run_id in enumerate(ids):
            self.heard = set(ids) - {run_id}
            self.hear(number)
        self.heard, self.rounds = set(ids), rounds

    def check(self, source: str = SOURCE, *, hidden: Collection[str] = ()) -> None:
        check_tables(self.oracle, self.database, source, hidden=hidden)
        check_ledger(self.oracle, self.database, source)


def readings(of_views: Iterable[TableRow], run_id: str) -> list[Reading]:
    """The readings of one run that the ledger says were applied."""
    return sorted(
        Reading(row["read_at"], run_id, row["view_name"])
        for row in of_views
        if row["run_id"] == run_id and row["read_at"] is not None
    )


def rows_of(database: Database, table: str) -> list[TableRow]:
    """All rows of a table of ours, with typed values."""
    query = select(schema.metadata.tables[table])
    return database.read(lambda connection: [row._asdict() for row in connection.execute(query)])


def as_stored(rows: Iterable[TableRow], *keys: str) -> dict[Any, TableRow]:
    """By key; one key for two rows is a row too many."""
    found: dict[Any, TableRow] = {}
    for row in rows:
        key = tuple(row[name] for name in keys) if len(keys) > 1 else row[keys[0]]
        assert key not in found, f"{key} is there twice"
        found[key] = row
    return found


# --- rows, spans, states -------------------------------------------------------------------


def check_tables(
    oracle: Oracle,
    database: Database,
    source: str = SOURCE,
    *,
    hidden: Collection[str] = (),
    unknown: Collection[str] = (),
) -> None:
    """Raises AssertionError with the first difference.

    Columns of the content that are `hidden` may differ; those of `view_state` that are `unknown`
    are NULL.
    """
    snapshots = as_stored(rows_of(database, "snapshots"), "id")
    history = as_stored(rows_of(database, "snapshot_history"), "snapshot_id", "version")
    check_spans(snapshots, history)
    _same_keys("snapshots", snapshots, oracle.rows)
    for identifier, row in oracle.rows.items():
        _same(f"row {identifier}", _of_row(row, source), snapshots[identifier], hidden)
    past = {
        (identifier, version.version): version
        for identifier, versions in oracle.history.items()
        for version in versions
    }
    _same_keys("snapshot_history", history, past)
    for key, version in past.items():
        _same(f"version {key}", _of_version(version, source), history[key], hidden)
    _check_states(oracle, database, source, unknown)
    _check_seen(oracle, database, source)


def check_spans(snapshots: dict[str, TableRow], history: dict[tuple[str, int], TableRow]) -> None:
    """Each id has the versions 1, 2, ... without a gap, and no two of them at one time."""
    by_id: dict[str, list[TableRow]] = {identifier: [] for identifier in snapshots}
    for (identifier, _), row in sorted(history.items()):
        assert identifier in by_id, f"{identifier} has a history and no row"
        by_id[identifier].append(row)
    for identifier, earlier in by_id.items():
        row = snapshots[identifier]
        versions = [*(one["version"] for one in earlier), row["version"]]
        assert versions == list(range(1, len(versions) + 1)), f"{identifier}: versions {versions}"
        for before, after in pairwise([*earlier, row]):
            assert before["valid_from"] < before["valid_to"] <= after["valid_from"], (
                f"{identifier}: version {before['version']} overlaps the next one"
            )
            is_return = after["began"] == "returned"
            assert is_return == (before["ended"] == "removed"), f"{identifier}: began and ended"
            assert is_return or before["valid_to"] == after["valid_from"], f"{identifier}: a gap"
        removed_at = row["removed_at"]
        assert removed_at is None or removed_at > row["valid_from"], f"{identifier}: removed_at"


def _of_row(row: Row, source: str) -> dict[str, Any]:
    return {
        **_of_version(row.now, source),
        "first_seen_at": row.first_seen_at,
        "missing_since": row.missing_since,
        "removed_at": row.removed_at,
    }


def _of_version(version: Version, source: str) -> dict[str, Any]:
    names = (*SPAN, *(ENDED if version.ended else ()))
    return {
        "source": source,
        "synced_view": version.view,
        "view_key": View(version.view).key(source),
        **version.content,
        **{name: getattr(version, name) for name in names},
    }


def _check_states(
    oracle: Oracle, database: Database, source: str, unknown: Collection[str]
) -> None:
    states = as_stored(rows_of(database, "view_state"), "view_name")
    _same_keys("view_state", states, oracle.views)
    for view, state in oracle.views.items():
        expected = {
            "source": source,
            "view_key": View(view).key(source),
            "first_read_at": state.first_read_at,
            "last_read_at": state.last_read_at,
            "last_complete_at": state.last_read_at,
            "last_trusted_at": state.last_read_at,
            "last_nonempty_at": state.last_nonempty_at,
            "last_run_id": state.last_run_id,
            "verdict": "complete",
            "consecutive_failures": 0,
            "is_watched": True,
            **{name: state.counts[name] for name in COUNTS if name in states[view]},
            **dict.fromkeys(unknown),
        }
        _same(f"state of {view}", expected, states[view])
        assert not states[view]["needs_acceptance"], f"state of {view}: needs_acceptance"


def _check_seen(oracle: Oracle, database: Database, source: str) -> None:
    rejects = as_stored(rows_of(database, "rejected_records"), "view_key", "raw_hash")
    by_raw = {(key[0], json.dumps(json.loads(row["raw"]), sort_keys=True)): row
              for key, row in rejects.items()}  # fmt: skip
    expected = {(View(view).key(source), raw): seen for (view, raw), seen in oracle.rejects.items()}
    assert len(by_raw) == len(rejects), "a reject is there twice"
    _same_keys("rejected_records", by_raw, expected)
    for key, seen in expected.items():
        _same(f"reject {key[1]}", {"source": source, **_of_seen(seen)}, by_raw[key])
    drift = as_stored(rows_of(database, "schema_drift"), "name", "kind")
    _same_keys("schema_drift", drift, oracle.drift)
    for name, seen in oracle.drift.items():
        of_drift = _of_seen(seen)
        del of_drift["resolved_at"]
        _same(f"drift {name}", {"source": source, **of_drift}, drift[name])


def _of_seen(seen: Seen) -> dict[str, Any]:
    names = ("first_seen_at", "last_seen_at", "count", "resolved_at")
    return {name: getattr(seen, name) for name in names}


def _same_keys(what: str, found: Collection[Any], expected: Collection[Any]) -> None:
    lost, double = set(expected) - set(found), set(found) - set(expected)
    assert not lost, f"{what}: {len(lost)} rows are lost, such as {min(lost)}"
    assert not double, f"{what}: {len(double)} rows are too many, such as {min(double)}"


def _same(
    what: str, expected: dict[str, Any], found: TableRow, hidden: Collection[str] = ()
) -> None:
    for name, value in expected.items():
        held = found[name]
        if name == "extra" and held is not None:
            held = json.loads(held)
        if name not in hidden:
            assert held == value, f"{what}: {name} is {held!r} instead of {value!r}"


# --- the ledger ----------------------------------------------------------------------------


def check_ledger(oracle: Oracle, database: Database, source: str = SOURCE) -> None:
    """Every run is closed, its counts add up, and are what the oracle counts.

    Runs that are no longer in the ledger are not missed: `keep.runs` may have deleted them.
    """
    runs = as_stored(rows_of(database, "sync_runs"), "run_id")
    views = as_stored(rows_of(database, "sync_run_views"), "run_id", "view_name")
    for run_id, run in runs.items():
        assert run["status"] in ("ok", "died"), f"run {run_id} is {run['status']}: {run['error']}"
        assert run["source"] == source, f"run {run_id}: source is {run['source']}"
        assert run["finished_at"] >= run["started_at"], f"run {run_id} ended before it began"
        of_run = [row for row in views.values() if row["run_id"] == run_id]
        if run["status"] == "ok":
            assert len(of_run) == len(VIEWS), f"run {run_id} is ok with {len(of_run)} views"
            for name in (*COUNTS, "requests"):
                total = sum(row[name] for row in of_run)
                assert run[name] == total, f"run {run_id}: {name} is {run[name]}, not {total}"
    for (run_id, view), row in views.items():
        assert run_id in runs, f"the ledger has views of {run_id}, and no such run"
        assert row["verdict"] == "complete", f"{view} in {run_id}: {row['verdict']} {row['reason']}"
        assert row["view_key"] == View(view).key(source), f"{view} in {run_id}: view_key"
        parts = sum(row[name] for name in DISTINCT)
        assert row["listed"] == parts, (
            f"{view} in {run_id}: {row['listed']} listed, {parts} counted"
        )
        counted = oracle.counts.get((run_id, view), Counter())
        found = {name: row[name] for name in COUNTS}
        assert found == {name: counted[name] for name in COUNTS}, (
            f"{view} in {run_id}: {found} instead of {dict(counted)}"
        )
    kept = {key for key in oracle.counts if key[0] in runs}
    _same_keys("sync_run_views", views, kept)


def open_runs(database: Database) -> int:
    return sum(row["status"] == "running" for row in rows_of(database, "sync_runs"))


def leases(database: Database) -> int:
    return sum(row["lease_token"] is not None for row in rows_of(database, "sources"))
