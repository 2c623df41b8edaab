"""Whatever a server leaves out or mixes up, `complete` is never wrong, and no removal is false.

Invented organizations go through all that judges and decides, in memory: from the fetcher to the
rows. What each one has is known, and its server cuts, mixes up and changes its answers.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from typing import cast
from unittest.mock import patch

from benchmarks.prove.answerer import Answerer, InMemory, InTurn
from benchmarks.prove.memory_tables import ROLLED_BACK, MemoryWriter, Row, Tables, Written
from benchmarks.prove.organizations import (
    LISTED,
    ROUND_NUMBERS,
    Organization,
    Spec,
    Turn,
    invent,
    snapshot_of,
    turns,
)
from benchmarks.prove.part import Effort, Findings
from etl.config.model import Config
from etl.config.views import View
from etl.datadog.client import Client
from etl.extract import fetch
from etl.extract.api_state import ApiState
from etl.extract.fetch import BATCH_BODIES
from etl.extract.spill_file import SpillFile, spill_folders
from etl.extract.verify import Stored, Verifier
from etl.load.loader import Loader
from etl.pipeline.run import initial_state
from tests.support.project import make_config

TITLE = "A bad server"
QUICK_S = 40
ORGANIZATIONS = {True: 20_000, False: 1_000_000}
PROCESSES = 2
CHUNK = 500
JSON_EACH = 32
"""One organization of so many answers with JSON, which is decoded."""
_MOST_TOLD = 20

_SOURCE = "datadoghq.com"
_key = cache(View.key)


@dataclass(slots=True)
class Tally:
    """Of some organizations."""

    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Story:
    """One organization over its runs: what is stored, and what is known of the truth."""

    organization: Organization
    is_json: bool
    tally: Tally
    tables: Tables = field(default_factory=Tables)
    api_state: ApiState = field(default_factory=ApiState)
    org_id: int | None = None
    run: int = 0

    def broken(self, what: str, view: View, written: Written | None, ids: object) -> None:
        number = self.organization.number
        why = f"{written.verdict}, {written.reason}" if written else "not read"
        self.tally.broken.append(
            f"{what} (organization {number}, run {self.run}, {view.name}: {ids}; {why})"
        )


def prove(effort: Effort) -> Findings:
    number = int(os.environ.get("PROVE_ORGANIZATIONS", ORGANIZATIONS[effort.is_quick]))
    chunks = [(effort.seed, start, min(start + CHUNK, number)) for start in range(0, number, CHUNK)]
    whole = Tally()
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        for tally in pool.imap_unordered(tell_some, chunks):
            whole.counts += tally.counts
            whole.broken += tally.broken
    return _findings(whole, effort.seed)


def _findings(whole: Tally, seed: int) -> Findings:
    counts, findings = whole.counts, Findings()
    for kind in ("organizations", "runs of an organization", "listings", "requests"):
        findings.tried[kind] = counts[kind]
    for kind in sorted(k for k in counts if k.startswith("checked: ")):
        findings.tried[kind.removeprefix("checked: ")] = counts[kind]
    verdicts = {k.removeprefix("verdict: "): n for k, n in counts.items() if k[:9] == "verdict: "}
    for verdict, times in sorted(verdicts.items(), key=lambda item: -item[1]):
        share = 100 * times / counts["listings"]
        findings.measured[f"verdict {verdict}"] = f"{times:,} listings, {share:.1f} %"
    per_view = counts["requests of plain views"] / max(1, counts["plain views"])
    findings.measured["requests for each unsuspicious view"] = f"{per_view:.4f}"
    unseen = counts["cap that nothing shows"]
    findings.measured["runs under a cap that no number shows, where nothing can be known"] = (
        f"{unseen:,} of {counts['runs of an organization']:,}"
    )
    findings.broken = [f"{line}, seed {seed}" for line in sorted(whole.broken)[:_MOST_TOLD]]
    if len(whole.broken) > _MOST_TOLD:
        findings.broken.append(f"and {len(whole.broken) - _MOST_TOLD} more")
    if per_view > 1.05:
        findings.broken.append(f"{per_view:.4f} requests for each unsuspicious view")
    return findings


def tell_some(some: tuple[int, int, int]) -> Tally:
    """The organizations of these numbers, in this process."""
    seed, start, end = some
    logging.disable(logging.CRITICAL)
    gc.set_threshold(100_000)
    tally = Tally()
    with ExitStack() as patches:
        # What is the same each time is not computed millions of times.
        patches.enter_context(patch.object(View, "key", _key))
        folders = spill_folders(None, os.environ)
        patches.enter_context(patch.object(fetch, "spill_folders", lambda *_: folders))
        for number in range(start, end):
            tell(number, seed, tally)
    return tally


def tell(number: int, seed: int, tally: Tally) -> None:
    """One organization over its runs; every promise is compared with the truth."""
    organization = invent(number, seed)
    story = Story(organization, number % JSON_EACH == 0, tally)
    tally.counts["organizations"] += 1
    for turn in turns(organization):
        story.run += 1
        _run(story, turn)


@cache
def _config(views: tuple[str, ...], limit: int) -> Config:
    return replace(
        make_config("sqlite:///unused.db", "https://api.invalid", views), page_limit=limit
    )


def _run(story: Story, turn: Turn) -> None:
    organization, rng = story.organization, story.organization.rng
    config = _config(organization.views, organization.limit)
    views = list(config.views)
    if rng.random() < 0.3:
        rng.shuffle(views)
    accepts = rng.random() < 0.7
    answerer = Answerer(organization, turn, is_json=story.is_json)
    pinned, rows = dict(organization.items), dict(story.tables.rows_by_id)
    cap_before = story.api_state.learned_cap
    writer = MemoryWriter(
        story.tables,
        story.api_state,
        config.source,
        fails_at=1 if not organization.is_calm and rng.random() < 0.05 else 0,
    )
    state = initial_state(config, views, story.api_state, accepts_removals=accepts)
    stop = threading.Event()
    loader = Loader(writer, state, config.source, stop)
    with InTurn(cast("Client", answerer), config, story.api_state, stop) as fetcher:
        if not story.is_json:
            fetcher.buffer.spill_file = cast("SpillFile", InMemory())
        fetcher.at_once = rng.choice((1, BATCH_BODIES, BATCH_BODIES))
        verifier = Verifier(
            fetcher,
            story.api_state,
            lambda: (turn.applications, "" if turn.applications else "not permitted"),
            _stored(story),
            organization.views,
        )
        for results in verifier.results(views):
            loader.load(results)
        loader.load_deferred(lambda: {7})
        findings = verifier.findings()
    story.tables = writer.tables
    story.org_id = loader.state.organization.org_id
    story.api_state = writer.next_state(story.api_state, findings, story.org_id)
    _count(story, answerer, writer)
    Judge(story, turn, answerer, writer.written, pinned, rows, cap_before).judge(accepts=accepts)


def _stored(story: Story) -> Stored:
    rows = story.tables.rows_by_id

    def parts() -> tuple[set[str | None], set[str | None]]:
        stored = [row.snapshot for row in rows.values()]
        return {s.application_id for s in stored}, {s.device_type for s in stored}

    def names(view: View) -> set[str]:
        key = _key(view, _SOURCE)
        named = {row.snapshot.view_name for row in rows.values() if row.view_key == key}
        return {name for name in named if name is not None}

    return Stored(parts, names)


def _count(story: Story, answerer: Answerer, writer: MemoryWriter) -> None:
    counts = story.tally.counts
    counts["runs of an organization"] += 1
    counts["listings"] += len(writer.written)
    counts["requests"] += answerer.number
    for written in writer.written.values():
        in_parts = " in parts" if " part" in written.reason else ""
        counts[f"verdict: {written.verdict}{in_parts}"] += 1


@dataclass(slots=True)
class Judge:
    """Compares what one run wrote with the truth.

    `pinned`: what was there before the run, `rows`: what was stored then.
    """

    story: Story
    turn: Turn
    answerer: Answerer
    written: dict[View, Written]
    pinned: dict[str, Spec]
    rows: dict[str, Row]
    cap_before: int | None

    def judge(self, *, accepts: bool) -> None:
        for view, written in self.written.items():
            if written.verdict != "failed" and not self.story.organization.is_prefix:
                self._nothing_sent_is_lost(view, written)
        self._two_wrong_answers_are_a_failure()
        if not self._is_betrayed():
            self.story.tally.counts["cap that nothing shows"] += 1
            return
        self._removals_are_true()
        for view, written in self.written.items():
            if written.verdict == "complete":
                self._complete_is_true(view, written)
        if self.turn.is_honest and not self.story.organization.is_prefix:
            self._plain_views_cost_one_request(accepts=accepts)

    # --- the promises ---------------------------------------------------------------------

    def _complete_is_true(self, view: View, written: Written) -> None:
        """What was there all the time is listed, with the content that it has."""
        self.story.tally.counts["checked: listings said to be complete"] += 1
        organization, rows = self.story.organization, self.story.tables.rows_by_id
        key = _key(view, _SOURCE)
        for identifier, spec in self.pinned.items():
            if not organization.matches(view.name, spec[1]):
                continue
            if identifier in self.answerer.gone or identifier in self.turn.odd:
                continue
            row = rows.get(identifier)
            if row is None or row.is_removed:
                is_known = not self._could_not_know(spec[2][0], view)
                if is_known and not self._is_foreign(row, view):
                    self.story.broken("complete, but lacks", view, written, identifier)
            elif row.view_key == key and row.snapshot != snapshot_of(spec):
                self.story.broken("complete, with an earlier content", view, written, identifier)

    def _removals_are_true(self) -> None:
        """No row is removed whose view lists it all the time."""
        organization = self.story.organization
        views = {_key(view, _SOURCE): view for view in self.written}
        for identifier, row in self.story.tables.rows_by_id.items():
            before = self.rows.get(identifier)
            if not row.is_removed or before is None or before.is_removed:
                continue
            self.story.tally.counts["checked: removals"] += 1
            view, spec = views[row.view_key], self.pinned.get(identifier)
            if identifier in self.turn.odd_twice:
                continue  # rule 2: an id that cannot be read again does not stop removals
            is_there = spec and organization.matches(view.name, spec[1])
            if is_there and identifier not in self.answerer.gone:
                self.story.broken("removed, but is there", view, self.written[view], identifier)

    def _nothing_sent_is_lost(self, view: View, written: Written) -> None:
        """What was sent is listed, unless it went while the run still asked."""
        rows, known = self.story.tables.rows_by_id, self.answerer.gone | self.turn.odd
        for identifier in self.answerer.sent.get(view.name, ()):
            if identifier not in known:
                row = rows.get(identifier)
                if row is None or (row.is_removed and not self._is_foreign(row, view)):
                    self.story.broken("sent, and not stored", view, written, identifier)

    def _two_wrong_answers_are_a_failure(self) -> None:
        if self.story.organization.is_prefix:
            return
        for view, written in self.written.items():
            if self.answerer.wrong.get(view.name, 0) > 1:
                self.story.tally.counts["checked: views answered wrongly twice"] += 1
                if written.verdict != "failed":
                    self.story.broken("answered wrongly twice", view, written, "no failure")

    def _plain_views_cost_one_request(self, *, accepts: bool) -> None:
        """A view whose number of records says nothing is complete at once, and what it no longer
        lists is removed."""
        sizes = {name: found[0] for name, found in self.answerer.sizes.items()}
        counts = self.story.tally.counts
        for view, written in self.written.items():
            if written.reason == ROLLED_BACK or self._is_suspicious(sizes[view.name], sizes):
                continue
            counts["plain views"] += 1
            counts["requests of plain views"] += self.answerer.requests[view.name]
            if written.verdict != "complete":
                self.story.broken("plainly whole", view, written, sizes[view.name])
            elif accepts:
                self._what_is_gone_is_removed(view, written)

    def _what_is_gone_is_removed(self, view: View, written: Written) -> None:
        organization, key = self.story.organization, _key(view, _SOURCE)
        for identifier, row in self.story.tables.rows_by_id.items():
            if (
                row.view_key == key
                and not row.is_removed
                and (identifier not in organization.items)
            ):  # one that moved may wait for a failed view
                self.story.broken("gone, but not removed", view, written, identifier)

    # --- what can be known ----------------------------------------------------------------

    def _is_suspicious(self, size: int, sizes: dict[str, int]) -> bool:
        """As rule 1 has it, once all have answered."""
        if size == 0 or size < max(sizes.values()):
            return False
        if size in ROUND_NUMBERS or size == self.cap_before or size >= min(self.answerer.limits):
            return True
        same = sum(other == size for other in sizes.values())
        return same >= 3 and 5 * same >= sum(other > 0 for other in sizes.values())

    def _is_betrayed(self) -> bool:
        """Whether a number of the run shows the cap, by rule 1."""
        cap, organization = self.turn.cap, self.story.organization
        if cap is None or cap in ROUND_NUMBERS or cap == self.cap_before:
            return True
        limits = self.answerer.limits
        if len(limits) > 1 or cap in limits:
            return limits == {cap}
        sizes = [
            max(self.answerer.sizes[view.name])
            for view, written in self.written.items()
            if view.name in self.answerer.sizes and written.verdict != "failed"
        ]
        at_cap = sum(size == cap for size in sizes)
        if at_cap >= 3 and 5 * at_cap >= sum(size > 0 for size in sizes):
            return True
        # All that was there at some time of the run.
        items = (self.pinned | organization.items).values()
        return all(
            sum(organization.matches(view, spec[1]) for spec in items) + self.turn.doubles <= cap
            for view in organization.views
        )

    def _is_foreign(self, row: Row | None, view: View) -> bool:
        """Whether it is the row of another view, which gave no answer in this run: by rule 6 it
        waits for that answer."""
        failed = [_key(v, _SOURCE) for v, w in self.written.items() if w.verdict == "failed"]
        return row is not None and row.view_key in failed and row.view_key != _key(view, _SOURCE)

    def _could_not_know(self, application: str | None, view: View) -> bool:
        """Whether it is on no list, and no stored row and no answer for the view ever named it."""
        if application in LISTED:
            return False
        named = {row.snapshot.application_id for row in self.rows.values()}
        sent = self.answerer.sent.get(view.name, set())
        named |= {self.pinned[i][2][0] for i in sent if i in self.pinned}
        return application not in named


def examples(seed: int, numbers: range) -> Iterator[str]:
    """What does not hold for these organizations, for whoever looks for the cause."""
    yield from tell_some((seed, numbers.start, numbers.stop)).broken
