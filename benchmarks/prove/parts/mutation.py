"""A fault put into the code that judges and decides makes a test fail.

One expression or statement at a time is changed, and the tests that reach it run. Texts for people
are left out. A mutant that no test can kill stands in `survivors.toml`, with the reason. It has a
mutator of its own: it forks a process in which all is loaded, which tries a thousand mutants in the
time in which a tool that starts pytest for each tries some dozens.
"""

from __future__ import annotations

import os
import random
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from benchmarks.prove.mutants import Mutant, mutants_of
from benchmarks.prove.part import Effort, Findings

TITLE = "Mutation"
QUICK_S = 40
ROOT = Path(__file__).resolve().parents[3]
SURVIVORS = ROOT / "benchmarks/prove/survivors.toml"
SAMPLE = 60


class Room(NamedTuple):
    """Modules, and the tests that must notice what is wrong in them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS = (
    Room(
        tuple(
            sorted(f"etl/transform/{f.name}" for f in (ROOT / "etl/transform").glob("[a-z]*.py"))
        ),
        ("tests/unit/transform",),
    ),
    Room(("etl/extract/completeness.py",), ("tests/unit/extract/test_completeness.py",)),
    Room(
        ("etl/load/diff.py", "etl/load/ownership.py", "etl/load/removals.py"),
        (
            "tests/unit/load/test_diff.py",
            "tests/unit/load/test_ownership.py",
            "tests/unit/load/test_removal_guard.py",
            "tests/unit/load/test_diff_over_runs.py",
        ),
    ),
    Room(("etl/schedule/cron.py",), ("tests/unit/schedule/test_cron.py",)),
)


def prove(effort: Effort) -> Findings:
    os.environ["DATABASES"] = "sqlite"
    os.environ["CI"] = "1"  # the same examples of Hypothesis each time
    from benchmarks.prove.mutation_tests import Outcome, run_session

    mutants, rooms = all_mutants(), list(ROOMS)
    if effort.is_quick:  # some of one room: each room costs a run of all its tests
        rng = random.Random(effort.seed)
        room = _room_of(rng.choice(mutants))
        inside = [mutant for mutant in mutants if mutant.path in room.modules]
        mutants, rooms = rng.sample(inside, min(SAMPLE, len(inside))), [room]
    outcome, findings = Outcome(), Findings()
    for room in rooms:
        inside = [mutant for mutant in mutants if mutant.path in room.modules]
        outcome.add(run_session(ROOT, inside, room.tests))
    findings.broken = [f"{test} fails without a mutant" for test in outcome.broken]
    if outcome.broken:
        return findings
    counts = Counter(mutant.path.removeprefix("etl/").removesuffix(".py") for mutant in mutants)
    for module, number in sorted(counts.items()):
        findings.tried[f"mutants of {module}"] = number
    explained = explanations()
    alive = [*outcome.survived, *outcome.unreached]
    unexplained = [name for name in alive if name not in explained]
    score = 100 * (1 - len(alive) / len(mutants))
    findings.measured["killed"] = f"{len(outcome.killed):,} of {len(mutants):,}, {score:.1f} %"
    findings.measured["survive, and stand in `survivors.toml` with a reason"] = str(
        len(alive) - len(unexplained)
    )
    findings.measured["tests"] = f"{outcome.tests:,}, of which those run that reach the line"
    findings.broken += [f"no test kills: {name}" for name in unexplained]
    names = {mutant.name for mutant in all_mutants()}
    findings.broken += [
        f"survivors.toml explains what is not there: {name}" for name in explained.keys() - names
    ]
    findings.broken += [
        f"survivors.toml explains what a test kills: {name}"
        for name in outcome.killed
        if name in explained
    ]
    return findings


def all_mutants() -> list[Mutant]:
    """Of every module, in the order of the modules and their lines."""
    return [mutant for room in ROOMS for path in room.modules for mutant in mutants_of(ROOT, path)]


def explanations() -> dict[str, str]:
    """Why a mutant cannot be killed, by its name."""
    found: dict[str, str] = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))
    return found


def _room_of(mutant: Mutant) -> Room:
    return next(room for room in ROOMS if mutant.path in room.modules)
