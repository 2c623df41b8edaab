"""The story of the proof: it has what it promises, and its outcome hangs on no chance."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from benchmarks.prove import old_databases
from benchmarks.prove.oracle import Oracle, Reading
from benchmarks.prove.story import LARGEST, VIEWS, Answers, invent

SEEDS = range(8)
ROUNDS = 20
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def told(story: list[Answers], order: int) -> Oracle:
    """Each view is read once in each round, at the same instant, whatever the order."""
    oracle, chance = Oracle(), random.Random(order)
    for number, answers in enumerate(story):
        at = BEGIN + timedelta(minutes=number)
        readings = [
            Reading(at + timedelta(seconds=n), f"run-{number}", view)
            for n, view in enumerate(VIEWS)
        ]
        chance.shuffle(readings)
        oracle.tell(answers, readings)
    return oracle


def test_the_same_seed_tells_the_same_and_more_rounds_begin_alike() -> None:
    assert invent(7, 5) == invent(7, 9)[:5]
    assert invent(7, 5) != invent(8, 5)


def test_in_no_round_does_it_matter_which_view_is_written_first() -> None:
    stories = [invent(seed, ROUNDS) for seed in SEEDS]
    # Those that are kept are the same for each revision.
    stories += [old_databases.read(f"0001-{seed}").story for seed in old_databases.STORIES]
    for story in stories:
        assert told(story, 1) == told(story, 2)


def test_everything_that_can_happen_to_a_snapshot_happens() -> None:
    happened: Counter[str] = Counter()
    for seed in SEEDS:
        oracle = told(invent(seed, ROUNDS), seed)
        for counts in oracle.counts.values():
            happened.update(counts)
        happened["resolved"] += sum(s.resolved_at is not None for s in oracle.rejects.values())
        for identifier, versions in oracle.history.items():
            views = [*(one.view for one in versions), oracle.rows[identifier].now.view]
            happened["moved"] += len(set(views)) > 1
    for what in ("new", "changed", "returned", "vanished", "held", "moved", "resolved"):
        assert happened[what] >= len(SEEDS), happened
    for what in ("foreign_records", "duplicates", "rejected"):
        assert happened[what] >= len(SEEDS), happened


def test_the_largest_view_proves_all_others() -> None:
    """Its size is none at which servers cut, and no other view is as large."""
    for seed in SEEDS:
        for answers in invent(seed, ROUNDS):
            sizes = {view: len(records) for view, records in answers.items()}
            largest = sizes.pop(LARGEST)
            assert 30 < largest < 40
            assert max(sizes.values()) <= 30
