"""Whatever happens to the database, the daemon recovers within two slots, and each row is right.

The daemon runs, the database is spoilt in the middle of a run, and put right a few seconds later.
All waits of the program are a fifteenth of what they are: a slot of 4 s stands for one of a minute.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Self, TypeVar

import pytest

from benchmarks.prove import coherence
from benchmarks.prove.compressed_daemon import SCRIPT
from benchmarks.prove.outages import PLACES, Outage, Place, Served
from benchmarks.prove.part import Effort, Findings
from benchmarks.prove.undisturbed import Undisturbed, contents
from etl.database.connection import Database, opened
from etl.errors import EtlError
from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog, World
from etl.ledger.runs import FULFILS
from tests.support.project import make_config
from tests.support.servers import PASSWORD, free_port

T = TypeVar("T")

TITLE = "A bad database"
QUICK_S = 70.0
SLOT = timedelta(seconds=4)
MOST_SLOTS = 2
VIEWS = [f"/page{number}" for number in range(6)]
ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 90.0
KEYS = {"DD_API_KEY": API_KEY, "DD_APP_KEY": APP_KEY}
GROWTH = 40
"""More snapshots for each view, where a disk is full: else there would be room for a few."""


def prove(effort: Effort) -> Findings:
    """Each place in a thread of its own: they wait most of the time."""
    dice = random.Random(f"databases {effort.seed}")
    lanes = []
    for place in PLACES:
        folder = effort.folder / place.kind.replace(", ", "-").replace(" ", "-")
        folder.mkdir()
        lanes.append(Lane(place(folder), dice.randrange(10**9)))
    if effort.is_quick:
        share_out(lanes, dice)
    else:
        for lane in lanes:
            for _ in range(lane.place.rounds):
                lane.order += dice.sample(lane.place.outages(), k=len(lane.place.outages()))
    found, slots, quiet, deadlocks = Findings(), Counter[int](), Counter[str](), 0
    with ThreadPoolExecutor(len(lanes)) as pool:
        for lane in pool.map(Lane.go, [lane for lane in lanes if lane.order]):
            found.add(lane.findings)
            slots.update(lane.slots)
            quiet.update(lane.quiet)
            deadlocks += lane.deadlocks
    found.measured |= {
        "slots until a run was good again": ", ".join(
            f"{count} in slot {number}" for number, count in sorted(slots.items())
        ),
        "outages in which a try again was enough": f"{quiet.total()}",
        "deadlocks": f"{deadlocks}",
    }
    return found


def share_out(lanes: list[Lane], dice: random.Random) -> None:
    """Each kind of outage once, on the one with the least work of those places that have it."""
    having: dict[str, list[tuple[Lane, Outage]]] = {}
    for lane in lanes:
        for outage in lane.place.outages():
            having.setdefault(outage.name, []).append((lane, outage))
    for name in dice.sample(sorted(having), k=len(having)):
        choices = dice.sample(having[name], k=len(having[name]))
        lane, outage = min(choices, key=lambda choice: len(choice[0].order))
        lane.order.append(outage)


@dataclass
class Lane:
    """One place, one daemon, and one outage after the other.

    `slots`: in which slot after an outage a run was good again. `quiet`: outages that the daemon
    did not warn of, because its tries again were enough.
    """

    place: Place
    seed: int
    order: list[Outage] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    slots: Counter[int] = field(default_factory=Counter)
    quiet: Counter[str] = field(default_factory=Counter)
    deadlocks: int = 0

    def go(self) -> Lane:
        """Returns itself with all that was found."""
        try:
            with self.place, ExitStack() as stack:
                self.findings.versions[self.place.kind.partition(",")[0]] = self.place.version()
                world = World(self.seed, 12, VIEWS)
                datadog = stack.enter_context(FakeDatadog(world, latency_s=0.1))
                daemon = stack.enter_context(Daemon(self.place, datadog.url))
                Story(self, datadog, daemon, stack).tell()
        except pytest.skip.Exception as error:
            self.findings.broken.append(f"{self.place.kind}: not tried: {error}")
        return self


class Daemon:
    """`heatmap-etl schedule --listen`, as a context manager."""

    def __init__(self, place: Place, api_url: str) -> None:
        self.folder, self.port = place.folder, free_port()
        self.config, self._log = self.folder / "heatmap-etl.toml", self.folder / "log"
        lines = [
            f"database_url = {json.dumps(place.url)}",
            f"views = {json.dumps(VIEWS)}",
            "[datadog]",
            f"api_url = {json.dumps(api_url)}",
            "concurrency = 2",
            "[lease]",
            "seconds = 4",
        ]
        self._by_hand = self.folder / "by-hand.toml"
        self._by_hand.write_text("\n".join(lines), encoding="utf-8")
        lines += ["[schedule]", f"every = '{SLOT.total_seconds():.0f}s'"]
        self.config.write_text("\n".join(lines), encoding="utf-8")

    def __enter__(self) -> Self:
        listen = ["schedule", "--listen", f"127.0.0.1:{self.port}"]
        options = ["--config", str(self.config), "--log-format", "json", *listen]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, *options],
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def ask(self, page: str) -> int:
        """The status of one page of it."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{page}", timeout=60) as got:
                return int(got.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def waits_to_say(self, page: str, status: int) -> None:
        wait_until(lambda: self.ask(page) == status, f"{page} never answers {status}")

    def said(self) -> str:
        """All of its log."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def warnings(self) -> int:
        """How many lines of its log warn, so far."""
        return len(re.findall(r'"(?:WARNING|ERROR)"', self.said(), re.IGNORECASE))

    def sync_by_hand(self) -> subprocess.Popen[str]:
        """At the same time, as a person would."""
        command = [sys.executable, "-m", "etl", "--config", str(self._by_hand), "sync", "--quiet"]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> None:
        """By SIGTERM."""
        assert self._process.poll() is None, f"the daemon ended with {self._process.returncode}"
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0, "it does not end in order"


ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", **KEYS}


def wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


class Story:
    """What happens to one place."""

    def __init__(self, lane: Lane, datadog: FakeDatadog, daemon: Daemon, stack: ExitStack) -> None:
        self._lane, self._datadog, self._daemon = lane, datadog, daemon
        self._dice = random.Random(lane.seed)
        self._undisturbed = stack.enter_context(Undisturbed(lane.place.folder, datadog, VIEWS))
        self._stalls = stack.enter_context(Stalls())

    def tell(self) -> None:
        lane = self._lane
        long_ago = datetime(2000, 1, 1, tzinfo=UTC)
        self._wait_for_good_run(begun=long_ago, ended=long_ago)
        self._compare()
        for number, outage in enumerate(lane.order):
            kind = f"{outage.name}, {lane.place.kind}"
            with lane.findings.trial(kind, again=f"seed {lane.seed} of the lane, outage {number}"):
                self._try_out(outage)
        again = f"seed {lane.seed} of the lane"
        if (
            sum(one.name == "deadlocked" for one in lane.order) > 1
        ):  # one alone may come at a bad time
            with lane.findings.trial(f"deadlocks that came about, {lane.place.kind}", again=again):
                assert lane.deadlocks, "not one"
        with lane.findings.trial(f"daemon that ends in order, {lane.place.kind}", again=again):
            self._daemon.end()
            said = self._daemon.said()
            assert "Traceback" not in said, f"a bug: {said[said.index('Traceback') :][:2000]!r}"
            assert PASSWORD not in said, "a password is in the log"
        with lane.findings.trial(f"history and ledger after those, {lane.place.kind}", again=again):
            faults = self._read(self._faults)
            assert not faults, "; ".join(faults[:3])

    # --- one outage -----------------------------------------------------------------------

    def _try_out(self, outage: Outage) -> None:
        dice, daemon = self._dice, self._daemon
        comes_first = outage.comes_first or outage.needs_growth or dice.random() < 0.5
        hold_s = dice.uniform(4, 6) if comes_first else dice.uniform(0.3, 4)
        if not comes_first:
            changed_at = self._change(outage)
            self._wait_for_a_request()
            time.sleep(dice.uniform(0, 0.6))
        warnings, by_hand = daemon.warnings(), None
        deadlocks = self._deadlocks(outage)
        with outage.spoil(dice):
            end = time.monotonic() + hold_s
            if comes_first:
                changed_at = self._change(outage)
            if dice.random() < 0.4:
                by_hand = daemon.sync_by_hand()
            if outage.is_away:
                daemon.waits_to_say("/readyz", 503)
            time.sleep(max(0.0, end - time.monotonic()))
            assert daemon.ask("/healthz") == 200, "/healthz does not answer 200"
        mended_at = datetime.now(UTC)
        self._stalls.seconds = 0.0
        slot_at = self._wait_for_good_run(begun=changed_at, ended=mended_at)
        late_s = max(0.0, (slot_at - mended_at).total_seconds() - self._stalls.seconds)
        slots = math.ceil(late_s / SLOT.total_seconds())
        self._lane.slots[slots] += 1
        self._lane.deadlocks += self._deadlocks(outage) - deadlocks
        self._lane.quiet[outage.name] += daemon.warnings() == warnings
        self._compare()
        assert slots <= MOST_SLOTS, f"a run was good again only in slot {slots}"
        daemon.waits_to_say("/readyz", 200)
        daemon.waits_to_say("/status", 200)
        if by_hand:
            check_by_hand(by_hand)

    def _deadlocks(self, outage: Outage) -> int:
        """So far; a server counts from its start."""
        place = self._lane.place
        if isinstance(place, Served) and outage.name == "deadlocked":
            return place.deadlocks()
        return 0

    def _change(self, outage: Outage) -> datetime:
        """What people do; returns when."""
        world = self._datadog.world
        world.tick(hours=12)
        if outage.needs_growth:
            for view in VIEWS:
                for _ in range(GROWTH):
                    world.pin(view)
        return datetime.now(UTC)

    def _wait_for_a_request(self) -> None:
        before = self._datadog.request_count
        wait_until(lambda: self._datadog.request_count > before, "the daemon asks for nothing")

    def _wait_for_good_run(self, *, begun: datetime, ended: datetime) -> datetime:
        """One that began and ended later than that; returns its slot."""
        found: list[datetime] = []
        query = "SELECT slot_at, started_at, finished_at FROM sync_runs WHERE status = 'ok'"
        instant = coherence.instant

        def look() -> bool:
            with contextlib.suppress(EtlError):  # it is not there yet
                for run in self._read(
                    lambda d: coherence.rows(d, f"{query} AND slot_at IS NOT NULL")
                ):
                    is_later = instant(run["started_at"]) >= begun
                    if is_later and instant(run["finished_at"]) >= ended:
                        found.append(instant(run["slot_at"]))
            return bool(found)

        wait_until(look, "no run is good again")
        return min(found)

    # --- what the tables say --------------------------------------------------------------

    def _read(self, action: Callable[[Database], T]) -> T:
        """On a connection that is closed then: an idle one is in the way of some outages."""
        config = make_config(self._lane.place.url, self._datadog.url, VIEWS)
        with opened(config) as database:
            return action(database)

    def _compare(self) -> None:
        """With an undisturbed reading of the same."""
        self._undisturbed.compare(self._read(contents))

    def _faults(self, database: Database) -> list[str]:
        found = coherence.versions(database)
        return [
            *coherence.faults_of_spans(found),
            *coherence.faults_of_ledger(database, found),
            *faults_of_slots(database),
        ]


def faults_of_slots(database: Database) -> Iterator[str]:
    """Each slot is run once, or counted in `missed_slots` of the run that made up for it."""
    runs = coherence.rows(
        database,
        "SELECT slot_at, missed_slots, status FROM sync_runs WHERE slot_at IS NOT NULL"
        " ORDER BY slot_at, started_at",
    )
    done = [
        (coherence.instant(r["slot_at"]), r["missed_slots"]) for r in runs if r["status"] in FULFILS
    ]
    for (before, _), (at, missed) in pairwise(done):
        if at - before != SLOT * (1 + missed):
            yield f"between the slots {before} and {at} {missed} are counted as missed"


def check_by_hand(run: subprocess.Popen[str]) -> None:
    """It goes well, or says in lines why not."""
    said = run.communicate(timeout=PATIENCE_S)[0]
    assert run.returncode in (0, 1, 2, 75), f"sync by hand ended with {run.returncode}: {said}"
    assert "Traceback" not in said, f"sync by hand: {said[-2000:]!r}"
    assert PASSWORD not in said, "sync by hand tells the password"
    assert bool(said.strip()) or run.returncode == 0, f"{run.returncode} without a word"


class Stalls:
    """A context manager: for how many seconds this machine let nobody work. `seconds` adds up."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def _look(self) -> None:
        while not self._is_over.is_set():
            before = time.monotonic()
            self._is_over.wait(0.1)
            self.seconds += max(0.0, time.monotonic() - before - 0.2)
