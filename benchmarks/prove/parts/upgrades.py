"""A database of any earlier revision is upgraded, and then holds what an undisturbed telling holds.

Each one was filled by the program of its time (`benchmarks.prove.old_databases`). It is refused as
it is, with the command to run. Upgraded, it has every value that it had, and nothing in the columns
that came later. The program of today tells the rest of the story, and the tables are compared with
the oracle for the whole of it. At the end it is marked as one of a revision to come, and refused.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, MetaData, inspect, select, text

from benchmarks.prove import old_databases
from benchmarks.prove.old_databases import OldDatabase
from benchmarks.prove.part import Effort, Findings
from benchmarks.prove.places import WORDS, Places, opened
from benchmarks.prove.telling import Telling, check_tables, configure, serve
from etl.cli.commands.db import upgrade_schema
from etl.config.model import Config
from etl.database import schema
from etl.database.connection import Database
from etl.errors import SchemaMismatch
from etl.ledger.results import RunResult
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from tests.support.api import Api

TITLE = "Upgrades"
QUICK_S = 30

SOURCES_0002 = (
    "org_id", "learned_cap", "learned_cap_probed_at", "largest_accepted_limit",
    "largest_accepted_limit_at", "privacy", "applications_read_at", "discovered_at",
)  # fmt: skip
VIEW_STATE_0002 = ("last_trusted_at", "last_nonempty_at", "needs_acceptance")
ADDED: dict[str, dict[str, tuple[str, ...]]] = {
    "0002": {"sources": SOURCES_0002, "view_state": VIEW_STATE_0002},
    "0003": {"view_state": ("is_watched",)},
    "0004": {"sources": ("name_matching",)},
    "0005": {"sync_runs": ("clock_skew_s",)},
    "0006": {},
}
"""What each revision added: an older one could not know it, and it is NULL after the upgrade.

The next reading fills what it can. What stays unknown: the clock of a run before 0005.
"""
CHANGED = {"view_state": ("shortcut_digest",)}
"""What an upgrade clears: no answer equal to the last one hides what a revision changed."""

Raw = dict[str, list[dict[str, Any]]]


def prove(effort: Effort) -> Findings:
    findings = Findings()
    with Places(effort.folder) as places, Api() as api:
        for name, dialect in chosen(effort):
            old = old_databases.read(name)
            kind = f"revision {old.revision} on {WORDS[dialect]}"
            with findings.trial(kind, again=f"database {name}"):
                url = places.new(dialect)
                more = effort.times(whole=len(old.story), quick=3)
                prove_one(old, old.dumps[dialect], url, api, findings, more)
                places.drop(url)
        findings.versions = {WORDS[d]: places.version(d) for d in effort.databases}
    return findings


def chosen(effort: Effort) -> Iterator[tuple[str, str]]:
    """All of them; in the quick proof all revisions on SQLite, and some on the others."""
    names = old_databases.names()
    if not effort.is_quick:
        yield from ((name, dialect) for dialect in effort.databases for name in names)
        return
    chance = random.Random(effort.seed)
    revisions = sorted({name.partition("-")[0] for name in names})
    for dialect in effort.databases:
        picked = revisions if dialect == "sqlite" else chance.sample(revisions, k=2)
        for revision in picked:
            yield chance.choice([n for n in names if n.startswith(revision)]), dialect


def prove_one(
    old: OldDatabase, dump: str, url: str, api: Api, findings: Findings, more: int
) -> None:
    """`more`: how many of the other rounds are told."""
    old_databases.load(dump, url)
    config = configure(url, api.url)
    with opened(url) as database:
        before = raw_rows(database)
        said = refusal(lambda: run(config, database))
        assert said.exit_code == 2, f"refused with exit code {said.exit_code}"
        assert "run: heatmap-etl db upgrade" in str(said), f"refused without advice: {said}"
        assert raw_rows(database) == before, "a run that was refused has changed rows"
        upgrade_schema(database)
        check_kept(before, raw_rows(database), old.revision)
        telling = old_databases.heard(old, database)
        unknown = {n for r, added in ADDED.items() if r > old.revision
                   for n in added.get("view_state", ())}  # fmt: skip
        check_tables(telling.oracle, database, unknown=unknown)
        findings.tried["rounds told by an earlier program"] += old.told
        for answers in old.story[old.told :][:more]:
            serve(api, answers)
            result = run(config, database)
            assert result.status == "ok", f"a run after the upgrade is {result.status}"
            telling.hear()
            telling.check()
            findings.tried["rounds told after the upgrade"] += 1
        check_sql_views(telling, database)
        of_future(database, config)


def refusal(act: Callable[[], object]) -> SchemaMismatch:
    """What the program says where the revision is not its own."""
    try:
        act()
    except SchemaMismatch as error:
        return error
    raise AssertionError("it was not refused")


def run(config: Config, database: Database) -> RunResult:
    return sync(config, database, Options(), stop=threading.Event())


def check_kept(before: Raw, after: Raw, revision: str) -> None:
    """Every row has what it had, and nothing in the columns that came later."""
    for table, rows in before.items():
        if table == schema.VERSION_TABLE:
            continue
        changed = CHANGED.get(table, ())
        added = {n for r, of in ADDED.items() if r > revision for n in of.get(table, ())}
        assert len(after[table]) == len(rows), f"{table}: {len(after[table])} of {len(rows)} rows"
        for old, new in zip(rows, after[table], strict=True):
            for column, value in old.items():
                expected = None if column in changed else value
                assert new[column] == expected, f"{table}: {column} changed from {value!r}"
            more = new.keys() - old.keys()
            assert more == added, f"{table}: it got {more}, the list says {added}"
            assert all(new[column] is None for column in more), f"{table}: one of {more} is set"
    assert not any(after[table] for table in after.keys() - before.keys()), "a new table has rows"


def raw_rows(database: Database) -> Raw:
    """All tables as they are, whatever their revision: rows in the order of their keys."""

    def read(connection: Connection) -> Raw:
        found = MetaData()
        found.reflect(connection, only=inspect(connection).get_table_names())
        rows = {}
        for name, table in found.tables.items():
            query = select(table).order_by(*table.primary_key.columns)
            rows[name] = [row._asdict() for row in connection.execute(query)]
        return rows

    return database.read(read)


def check_sql_views(telling: Telling, database: Database) -> None:
    oracle = telling.oracle
    live = {row["id"] for row in asked(database, "SELECT id FROM current_snapshots")}
    assert live == oracle.live().keys(), "current_snapshots lists others than are listed"
    versions = len(asked(database, "SELECT version FROM snapshot_versions"))
    expected = len(oracle.rows) + sum(map(len, oracle.history.values()))
    assert versions == expected, f"snapshot_versions has {versions} rows instead of {expected}"
    for view in ("snapshot_changes", "view_coverage", "sync_health"):
        assert asked(database, f"SELECT * FROM {view}"), f"{view} is empty"


def asked(database: Database, query: str) -> list[dict[str, Any]]:
    def read(connection: Connection) -> list[dict[str, Any]]:
        return [row._asdict() for row in connection.execute(text(query))]

    return database.read(read)


def of_future(database: Database, config: Config) -> None:
    """An older program, which this one is to a revision to come, touches nothing."""
    revision = text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    database.transaction(lambda connection: connection.execute(revision))
    before = raw_rows(database)
    for act in (lambda: run(config, database), lambda: upgrade_schema(database)):
        said = refusal(act)
        assert said.exit_code == 2, f"refused with exit code {said.exit_code}"
        assert "install a newer heatmap-etl" in str(said), f"refused without advice: {said}"
    assert raw_rows(database) == before, "what was refused has changed rows"
