"""When 40 % of all requests fail, each row is stored in the end, and no removal is false.

Runs through `tests.support.faulty_world`, on each database. After each run, and after a last one in
which nothing fails, the tables are compared with what was true then.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.prove import coherence
from benchmarks.prove.part import Effort, Findings
from etl.datadog import retry
from etl.ledger.results import RunResult, ViewResult
from etl.pipeline.progress_bound import STEP_S, VIEW_STORED_S, longest_run_s
from tests.support.faulty_world import HARMLESS, MISDEEDS, FaultyWorld, Pin
from tests.support.project import Project, make_config, open_project
from tests.support.servers import Servers

TITLE = "A bad network"
QUICK_S = 45.0
RUNS, QUICK_RUNS = 70, 20
VIEWS = [f"/view{number:02}" for number in range(50)]
SHARE = 0.4
"""Of the requests, this many must fail at least, or the network was not bad enough."""


def prove(effort: Effort) -> Findings:
    """In a process for each database: the resolver and the environment are of a whole process."""
    dice = random.Random(f"network {effort.seed}")
    databases = [dice.choice(effort.databases)] if effort.is_quick else effort.databases
    runs = effort.times(whole=RUNS, quick=QUICK_RUNS)
    lanes = []
    for database in databases:
        folder = effort.folder / database
        folder.mkdir()
        lanes.append(Lane(database, runs, dice.randrange(10**9), folder))
    found, broken = Findings(), Counter[str]()
    spoilt = attempts = 0
    longest_s = 0.0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(lanes), mp_context=context) as pool:
        for lane in pool.map(Lane.go, lanes):
            found.add(lane.findings)
            broken.update(lane.done)
            spoilt, attempts = spoilt + lane.spoilt, attempts + lane.attempts
            longest_s = max(longest_s, lane.longest_s)
    for kind, (_, forms) in MISDEEDS.items():
        count = sum(broken[f"{kind}: {form}"] for form in forms)
        found.tried[f"{kind} ({', '.join(forms)})"] = count
    found.measured |= {
        "requests": f"{attempts:,}, of which {spoilt:,} failed ({spoilt / attempts:.0%})",
        "ways to fail": f"{sum(form.partition(':')[0] not in HARMLESS for form in broken)}",
        "longest run": f"{longest_s:.1f} s, its bound is {lanes[0].bound_s:.0f} s",
    }
    return found


@dataclass
class Lane:
    """So many runs on one database, in a process of its own."""

    database: str
    runs: int
    seed: int
    folder: Path
    findings: Findings = field(default_factory=Findings)
    done: Counter[str] = field(default_factory=Counter)
    spoilt: int = 0
    attempts: int = 0
    longest_s: float = 0.0
    bound_s: float = 0.0

    def __post_init__(self) -> None:
        config = make_config("sqlite:///x.db", "https://api.datadog.test", VIEWS)
        waits = replace(config, **WAITS)
        # Without what a run may take to decode and store: that is far more than it needs here.
        self.bound_s = longest_run_s(waits, len(VIEWS)) - STEP_S - VIEW_STORED_S * len(VIEWS)

    def go(self) -> Lane:
        """Returns itself with all that was found."""
        logging.disable(logging.CRITICAL)
        retry.BASE_S = 0.01
        with (
            placed(self.database, self.folder) as url,
            FaultyWorld(self.folder, VIEWS, self.seed) as world,
        ):
            os.environ["HTTPS_PROXY"] = world.proxy_url
            os.environ["SSL_CERT_FILE"] = str(world.certificate)
            project = open_project(make_config(url, world.url, VIEWS))
            with closing(project.database):
                Told(self, project, world).tell()
            self.done = world.faults.done
            self.spoilt, self.attempts = world.faults.spoilt, world.faults.attempts
        return self


WAITS: dict[str, Any] = {"max_wait_s": 1.2, "timeout_s": 0.4, "concurrency": 25}
ORDERLY: dict[str, Any] = {"max_wait_s": 60.0, "timeout_s": 20.0}  # on a busy machine, too


@contextmanager
def placed(database: str, folder: Path) -> Iterator[str]:
    """URL of a new database."""
    if database == "sqlite":
        yield f"sqlite:///{folder / 'network.db'}"
        return
    servers = Servers()
    try:
        server = servers.get(database)
        yield server.url(server.create_database())
    finally:
        servers.stop()


class Told:
    """The story of one lane: what was true in each run, and what the tables said after it."""

    def __init__(self, lane: Lane, project: Project, world: FaultyWorld) -> None:
        self._lane, self._project, self._world = lane, project, world
        self._true: list[dict[str, Pin]] = []  # all that was listed, by run
        self._began: list[RunResult] = []
        self._verdicts: Counter[str] = Counter()
        self._removed: dict[str, Any] = {}

    def tell(self) -> None:
        lane, world = self._lane, self._world
        self._project.configure(**WAITS)
        for number in range(lane.runs):
            world.begin(number)
            with self._trial("run through a bad network", number):
                self._run_badly()
            world.truth.change()
        world.begin(lane.runs)
        world.faults.is_off = True
        self._project.configure(**ORDERLY)
        with self._trial("run in order after those", lane.runs):
            run = self._run()
            assert {view.verdict for view in run.views} == {"complete"}, "not all was read"
            self._check_rows(run)
            assert self._contents() == world.truth.listed(), "the rows differ from what is listed"
        with self._trial("history and ledger after those", lane.runs):
            self._check_history()
        with self._trial("ways to fail that came about", lane.runs):
            came = {form.partition(":")[0] for form in world.faults.done}
            assert came == set(MISDEEDS), f"never: {', '.join(MISDEEDS.keys() - came)}"
        with self._trial("share of requests that failed", lane.runs):
            share = world.faults.spoilt / world.faults.attempts
            assert share >= SHARE, f"only {share:.1%}"
            verdicts = self._verdicts
            assert verdicts["complete"] > verdicts["failed"], f"hardly one was read: {verdicts}"
        with self._trial("keys sent to another host", lane.runs):
            assert not world.strange, world.strange[0]

    def _trial(self, kind: str, number: int) -> Any:
        lane = self._lane
        again = f"seed {lane.seed} of the lane, run {number}"
        return lane.findings.trial(f"{kind}, {lane.database}", again=again)

    def _run_badly(self) -> None:
        lane, began = self._lane, time.monotonic()
        run = self._run()
        took = time.monotonic() - began
        lane.longest_s = max(lane.longest_s, took)
        assert took < lane.bound_s, f"it took {took:.0f} s"
        assert run.status in ("ok", "partial"), f"it is {run.status}: {run.error}"
        assert len(run.views) == len(VIEWS), f"it knows {len(run.views)} views"
        for view in run.views:
            assert view.reason, f"{view.view.name} is {view.verdict} without a reason"
            assert view.error or view.verdict != "failed", f"{view.view.name} failed without a word"
        self._verdicts.update(view.verdict for view in run.views)
        self._check_rows(run)

    def _run(self) -> RunResult:
        self._true.append(self._world.truth.listed())
        self._began.append(run := self._project.run())
        return run

    def _check_rows(self, run: RunResult) -> None:
        """No removal is false, and where it says that a view is complete, it is."""
        true = self._true[-1]
        stored = self._project.snapshots()
        removed = {i: row["removed_at"] for i, row in stored.items() if row["removed_at"]}
        fresh = {i for i, at in removed.items() if self._removed.get(i) != at}
        self._removed = removed
        assert not fresh & true.keys(), f"falsely removed: {sorted(fresh & true.keys())}"
        found: dict[str, dict[str, Pin]] = {view: {} for view in VIEWS}
        for row in stored.values():
            if not (row["removed_at"] or row["missing_since"]):
                found[row["synced_view"]][row["id"]] = pin_of(row)
        for view in run.views:
            if view.verdict == "complete":
                self._check_complete(view, found[view.view.name], true)

    def _check_complete(
        self, view: ViewResult, found: dict[str, Pin], true: dict[str, Pin]
    ) -> None:
        name = view.view.name
        listed = {i: pin for i, pin in true.items() if pin.view == name}
        wrong = sorted(i for i in found.keys() | listed.keys() if found.get(i) != listed.get(i))
        assert not wrong, f"{name} is complete, but {', '.join(wrong)} differ"

    def _contents(self) -> dict[str, Pin]:
        rows = self._project.snapshots().values()
        return {row["id"]: pin_of(row) for row in rows if row["removed_at"] is None}

    def _check_history(self) -> None:
        """Each version was once true, each removal was true, and all adds up."""
        found = coherence.versions(self._project.database)
        faults = list(coherence.faults_of_spans(found))
        faults += coherence.faults_of_ledger(self._project.database, found)
        assert not faults, "; ".join(faults[:3])
        runs = coherence.rows(self._project.database, "SELECT run_id FROM sync_runs")
        assert len(runs) == len(self._began), f"{len(runs)} runs are in the ledger"
        for version in found:
            name, identifier = version["snapshot_name"], version["snapshot_id"]
            began = self._run_of(version["valid_from"])
            told = {
                str(true[identifier].name) for true in self._true[: began + 1] if identifier in true
            }
            assert name in told, f"{identifier}: {name} was never true"
            if version["ended_by"] == "removed":
                ended = self._run_of(version["valid_to"])
                assert identifier not in self._true[ended], f"{identifier} was falsely removed"

    def _run_of(self, at: Any) -> int:
        """The number of the run of this instant."""
        moment = coherence.instant(at)
        return max(n for n, run in enumerate(self._began) if run.started_at <= moment)


def pin_of(row: dict[str, Any]) -> Pin:
    edition = int(row["snapshot_name"].rpartition(" ")[2])
    return Pin(row["id"], row["view_name"], row["application_id"], row["device_type"], edition)
