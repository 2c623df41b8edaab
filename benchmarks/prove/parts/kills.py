"""Wherever `kill -9` ends a process, nothing is lost, nothing is double, and no run is left open.

A kill is at a random moment of what an undisturbed process takes; one that came too late counts as
none. After some kills of one thing it is done undisturbed, and the tables are compared with the
oracle, which is told the same story and hears from the ledger which readings were applied.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count, pairwise
from statistics import median
from typing import Any

from sqlalchemy import insert

from benchmarks.prove import old_databases
from benchmarks.prove.forks import KILLED, Ended, Forks, Order
from benchmarks.prove.oracle import PERSONAL
from benchmarks.prove.part import Effort, Findings
from benchmarks.prove.places import WORDS, Places, opened
from benchmarks.prove.story import PERSONS, invent
from benchmarks.prove.telling import SOURCE, Telling, leases, open_runs, rows_of, serve
from etl.database import schema
from etl.database.connection import Database
from etl.database.migrations import schema_state
from tests.support.api import Api

TITLE = "Kills"
QUICK_S = 60

HASH_KEY = "a-key-of-the-proof-for-hashes"
ROUNDS = 20
OLD_RUNS = 45
"""So many may be pruned, which are several transactions."""
KEPT_S = 90 * 86400.0


def prove(effort: Effort) -> Findings:
    findings = Findings()
    with Places(effort.folder) as places:
        findings.versions = {WORDS[d]: places.version(d) for d in effort.databases}
        with ThreadPoolExecutor(len(effort.databases)) as pool:
            found = list(pool.map(lambda d: prove_on(d, places, effort), effort.databases))
    late = 0
    for world in found:
        findings.add(world.findings)
        late += world.late
    findings.tried = Counter(dict(sorted(findings.tried.items())))
    kills = sum(n for kind, n in findings.tried.items() if kind.startswith("kill -9"))
    findings.measured["kills"] = f"{kills:,}; {late:,} more came too late and count as none"
    return findings


def prove_on(dialect: str, places: Places, effort: Effort) -> World:
    with Forks() as forks, Api() as api:
        chance = random.Random(f"kills {effort.seed} {dialect}")
        world = World(dialect, places, forks, api, chance, effort)
        for what, (act, whole, quick) in ACTS.items():
            kills = effort.times(whole=whole, quick=quick)
            kind = f"kill -9 {what}, {WORDS[dialect]}"
            for number in count(1):
                left = kills - world.findings.tried[kind]
                if left <= 0 or number > 3 * kills:
                    break
                world.kind, world.left = kind, left
                again = f"--seed {effort.seed}, {what}, story {number}"
                with world.findings.trial(f"story with kills, {WORDS[dialect]}", again=again):
                    act(world)
            if (done := world.findings.tried[kind]) < kills:
                world.findings.broken.append(f"{kind}: only {done} of {kills} came in time")
    return world


@dataclass
class World:
    """One kind of database, and what is tried there."""

    dialect: str
    places: Places
    forks: Forks
    api: Api
    chance: random.Random
    effort: Effort
    findings: Findings = field(default_factory=Findings)
    kind: str = ""
    left: int = 0
    """Kills of this kind that are still to do."""
    late: int = 0
    took: dict[str, deque[float]] = field(default_factory=dict)
    """How long the last few undisturbed processes took, by what they did."""

    @contextmanager
    def database(self, *, of: str = "") -> Iterator[tuple[str, Database]]:
        """A new database, without tables."""
        url = self.places.new(of or self.dialect)
        with opened(url) as database:
            yield url, database
        self.places.drop(url)

    def compare(
        self, telling: Telling, source: str = SOURCE, *, hidden: Collection[str] = ()
    ) -> None:
        """All tables with the oracle; and nothing is left open."""
        self.findings.tried[f"comparison with the oracle, {WORDS[self.dialect]}"] += 1
        telling.check(source, hidden=hidden)
        assert not open_runs(telling.database), "a run was left open"
        assert not leases(telling.database), "a lease was left"

    def order(self, act: str, url: str, **changes: Any) -> Order:
        return Order(act, url, self.api.url, None, changes)

    def do(self, order: Order) -> Ended:
        """Undisturbed."""
        ended = self.forks(order)
        assert ended.code == 0, f"{order.act} ended with {ended.code}: {ended.said}"
        self.took.setdefault(_name(order), deque(maxlen=5)).append(ended.seconds)
        return ended

    def kill_some(
        self, order: Order, most: int = 5, *, earliest: float = 0.0, after: Callable[[], bool]
    ) -> bool:
        """Begin it a few times, and kill it at some moment.

        Each time `after` looks at the tables, and says whether it is done nevertheless, so that it
        cannot begin again. Returns what `after` said last.
        """
        longest = median(self.took.get(_name(order)) or [0.3])
        for _ in range(self.chance.randint(1, most)):
            if self.left <= 0:
                return False
            order.kill_after_s = self.chance.uniform(earliest, 1.0) * longest
            ended = self.forks(order)
            order.kill_after_s = None
            if ended.code == KILLED:
                self.findings.tried[self.kind] += 1
                self.left -= 1
            else:
                self.late += 1
                assert ended.code == 0, f"{order.act} ended with {ended.code}: {ended.said}"
            if after():
                return True
        return False

    def begin_story(self, url: str, database: Database, rounds: int = 0) -> Telling:
        """A database with the tables, to which so many rounds were told undisturbed."""
        self.do(self.order("upgrade", url))
        telling = Telling(database, invent(self.chance.randrange(10**9), ROUNDS))
        for answers in telling.story[:rounds]:
            serve(self.api, answers)
            self.do(self.order("sync", url))
            telling.hear()
        return telling


def _name(order: Order) -> str:
    return f"{order.act} {sorted(order.changes)}"


def at_most_one_is_open(database: Database) -> Callable[[], bool]:
    def look() -> bool:
        number = open_runs(database)
        assert number <= 1, f"{number} runs are open"
        return False

    return look


def nothing() -> bool:
    """There is nothing to look at before it is done, and it can always begin again."""
    return False


# --- what is killed ------------------------------------------------------------------------


def kill_runs(world: World) -> None:
    """Several times in each round of a story."""
    with world.database() as (url, database):
        telling = world.begin_story(url, database)
        for answers in telling.story:
            serve(world.api, answers)
            order = world.order("sync", url)
            world.kill_some(order, after=at_most_one_is_open(database))
            world.do(order)
            telling.hear()
            world.compare(telling)
            if world.left <= 0:
                return


def kill_upgrades(world: World) -> None:
    """From any earlier revision; the tables then hold what they held, and go on."""
    old = old_databases.read(world.chance.choice(old_databases.names()))
    with world.database() as (url, database):
        order = world.order("upgrade", url)
        old_databases.load(old.dumps[world.dialect], url)
        if _name(order) not in world.took:
            world.took[_name(order)] = deque([0.5], maxlen=5)
        world.kill_some(order, after=nothing)
        world.do(order)
        assert schema_state(database).state == "current", "the schema is not current"
        telling = old_databases.heard(old, database)
        serve(world.api, old.story[old.told])
        world.do(world.order("sync", url))
        telling.hear()
        world.compare(telling)


def kill_first_upgrades(world: World) -> None:
    """Of a database without tables."""
    with world.database() as (url, database):
        order = world.order("upgrade", url)
        world.kill_some(order, after=nothing)
        telling = world.begin_story(url, database, 1)
        world.compare(telling)


def kill_privacy(world: World) -> None:
    """First persons are hashed, then dropped."""
    with world.database() as (url, database):
        telling = world.begin_story(url, database, 4)
        for setting in ("hash", "drop"):
            changes = {"created_by": setting, "hash_key": HASH_KEY}
            order = world.order("privacy", url, **changes)
            world.kill_some(order, most=4, after=nothing)
            world.do(order)
            hears_of_no_person(database, telling, is_hashed=setting == "hash")
            world.compare(telling, hidden=PERSONAL)
            # The next run hides them alike, and so finds nothing changed.
            run = world.order("sync", url, **changes)
            world.do(run)
            telling.hear(telling.rounds - 1)
            world.compare(telling, hidden=PERSONAL)
            hears_of_no_person(database, telling, is_hashed=setting == "hash")


def hears_of_no_person(database: Database, telling: Telling, *, is_hashed: bool) -> None:
    """No table holds a person; who is hashed has one hash, and one alone."""
    found: dict[tuple[str, Any], set[Any]] = {}
    for table in schema.metadata.tables:
        for row in rows_of(database, table):
            text = json.dumps(row, default=str, ensure_ascii=False).lower()
            seen = [name for name in PERSONS if name.lower() in text]
            assert not seen, f"{table} still has {seen[0]}"
    for row in rows_of(database, "snapshots"):
        for name in PERSONAL:
            told = telling.oracle.rows[row["id"]].now.content[name]
            found.setdefault((name, told), set()).add(row[name])
    for (name, told), hidden in found.items():
        assert len(hidden) == 1, f"{name} {told!r} is hidden in {len(hidden)} ways"
        assert (hidden == {None}) != is_hashed, f"{name} {told!r} is {hidden}"
        assert told not in hidden, f"{name} {told!r} is not hidden"
    if is_hashed:
        assert len({value for values in found.values() for value in values}) == len(found)


def kill_copies(world: World) -> None:
    """To any kind of database."""
    to = world.chance.choice(world.effort.databases)
    with world.database() as (url, database), world.database(of=to) as (target, copied):
        telling = world.begin_story(url, database, 2)
        order = world.order("copy", url, to=target)
        world.took.setdefault(_name(order), deque([1.0], maxlen=5))
        if not world.kill_some(order, most=4, after=lambda: is_whole(copied)):
            world.do(order)
        for table in schema.metadata.tables:
            here, there = ordered(rows_of(database, table)), ordered(rows_of(copied, table))
            assert here == there, f"{table} differs from its copy"
        world.compare(telling)
        other = Telling(copied, telling.story, telling.oracle, telling.rounds, telling.heard)
        world.compare(other)
        serve(world.api, telling.story[telling.rounds])
        world.do(world.order("sync", target))
        other.hear()
        world.compare(other)


def is_whole(copied: Database) -> bool:
    """Whether the copy was ended: its schema is current, also before its first row."""
    return schema_state(copied).state == "current" and bool(rows_of(copied, "sources"))


def ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=repr)


def kill_renames(world: World) -> None:
    """From one label to the next, and on."""
    with world.database() as (url, database):
        telling = world.begin_story(url, database, 3)
        labels = [SOURCE, "organization-2", "Ünï ☃", "datadoghq.eu"]
        for old, new in pairwise(labels):
            order = world.order("rename", url, old=old, new=new)
            if not world.kill_some(order, most=3, after=has_one_label(database, old, new)):
                world.do(order)
            assert labels_of(database) == {new}, f"the source is {labels_of(database)}"
            world.compare(telling, source=new)
            world.do(world.order("sync", url, source=new))
            telling.hear(telling.rounds - 1)
            world.compare(telling, source=new)


def labels_of(database: Database) -> set[str]:
    tables = [t for t in schema.metadata.sorted_tables if "source" in t.c]
    return {row["source"] for table in tables for row in rows_of(database, table.name)}


def has_one_label(database: Database, old: str, new: str) -> Callable[[], bool]:
    """Whether it is the new one, in all tables."""

    def look() -> bool:
        labels = labels_of(database)
        assert labels in ({old}, {new}), f"the source is {labels}"
        return labels == {new}

    return look


def kill_pruning(world: World) -> None:
    """Runs that are older than `keep.runs` leave the ledger, whole or not at all."""
    with world.database() as (url, database):
        telling = world.begin_story(url, database, 2)
        order = world.order("sync", url, keep_runs_s=KEPT_S)
        world.took.setdefault(_name(order), deque([0.3], maxlen=5))
        for answers in telling.story[2:5]:
            serve(world.api, answers)
            grow_old(database)
            # Pruning comes last in a run.
            world.kill_some(order, most=3, earliest=0.3, after=prunes_whole_runs(database))
            grow_old(database)
            world.do(order)
            left = [row for row in rows_of(database, "sync_runs") if is_old(row)]
            assert not left, f"{len(left)} old runs are left"
            telling.hear()
            world.compare(telling)
            assert telling.heard <= {row["run_id"] for row in rows_of(database, "sync_runs")}
            if world.left <= 0:
                return


def grow_old(database: Database) -> None:
    """Add runs of long ago: copies of the latest one that ended well."""
    runs, views = schema.sync_runs, schema.sync_run_views
    present = {row["run_id"] for row in rows_of(database, "sync_runs")}
    latest = max(
        (row for row in rows_of(database, "sync_runs") if row["status"] == "ok"),
        key=lambda row: row["started_at"],
    )
    of_latest = [r for r in rows_of(database, "sync_run_views") if r["run_id"] == latest["run_id"]]
    then = timedelta(seconds=KEPT_S + 3600)
    instants = {n: latest[n] - then for n in ("started_at", "finished_at")}
    ids = [f"old-{number}" for number in range(OLD_RUNS) if f"old-{number}" not in present]

    def write(connection: Any) -> None:
        if ids:
            rows = [{**latest, "run_id": i, **instants} for i in ids]
            connection.execute(insert(runs), rows)
            connection.execute(
                insert(views), [{**row, "run_id": i} for i in ids for row in of_latest]
            )

    database.transaction(write)


def is_old(row: dict[str, Any]) -> bool:
    return bool(row["run_id"].startswith("old-"))


def prunes_whole_runs(database: Database) -> Callable[[], bool]:
    def look() -> bool:
        at_most_one_is_open(database)()
        runs = {row["run_id"] for row in rows_of(database, "sync_runs") if is_old(row)}
        views = {row["run_id"] for row in rows_of(database, "sync_run_views") if is_old(row)}
        assert runs == views, f"{len(runs ^ views)} runs were pruned by half"
        return False

    return look


ACTS: dict[str, tuple[Callable[[World], None], int, int]] = {
    "in a run": (kill_runs, 245, 24),
    "in db upgrade": (kill_upgrades, 30, 2),
    "in the first db upgrade": (kill_first_upgrades, 10, 1),
    "in privacy apply": (kill_privacy, 24, 3),
    "in db copy": (kill_copies, 15, 2),
    "in db rename-source": (kill_renames, 12, 2),
    "in a run that prunes the ledger": (kill_pruning, 16, 2),
}
"""What is killed, and how often on each database: in the whole proof, and in the quick one."""
