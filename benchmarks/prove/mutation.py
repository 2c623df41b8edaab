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

from benchmarks.prove.mutants import Mutant, mutants_of
from benchmarks.prove.part import Effort, Findings

TITLE = "Mutation"
QUICK_S = 60
ROOT = Path(__file__).resolve().parents[2]
SURVIVORS = ROOT / "benchmarks/prove/survivors.toml"
SAMPLE = 40
MODULES = (
    *sorted(f"etl/transform/{file.name}" for file in (ROOT / "etl/transform").glob("[a-z]*.py")),
    "etl/extract/completeness.py",
    "etl/load/diff.py",
    "etl/load/ownership.py",
    "etl/load/removals.py",
    "etl/schedule/cron.py",
)
TESTS = (
    "tests/unit/transform",
    "tests/unit/extract/test_completeness.py",
    "tests/unit/load/test_diff.py",
    "tests/unit/load/test_ownership.py",
    "tests/unit/load/test_removals.py",
    "tests/unit/load/test_diff_over_runs.py",
    "tests/unit/schedule/test_cron.py",
    "tests/unit/prove/test_server.py::test_nothing_is_wrong",
)


def prove(effort: Effort) -> Findings:
    os.environ["DATABASES"] = "sqlite"
    os.environ["CI"] = "1"  # the same examples of Hypothesis each time
    from benchmarks.prove.mutation_tests import run_session

    everything = all_mutants()
    explained = explanations()
    mutants = everything
    if effort.is_quick:
        mutants = random.Random(effort.seed).sample(everything, SAMPLE)
    outcome = run_session(ROOT, mutants, TESTS)
    findings = Findings()
    if outcome.broken:
        findings.broken = [f"{test} fails without a mutant" for test in outcome.broken]
        return findings
    counts = Counter(mutant.path.removeprefix("etl/").removesuffix(".py") for mutant in mutants)
    for module, number in sorted(counts.items()):
        findings.tried[f"mutants of {module}"] = number
    alive = [*outcome.survived, *outcome.unreached]
    unexplained = [name for name in alive if name not in explained]
    score = 100 * (1 - len(alive) / len(mutants))
    findings.measured["killed"] = f"{len(outcome.killed):,} of {len(mutants):,}, {score:.1f} %"
    findings.measured["survive, and stand in `survivors.toml` with a reason"] = str(
        len(alive) - len(unexplained)
    )
    findings.measured["tests"] = f"{outcome.tests:,}, of which those run that reach the line"
    findings.broken += [f"no test kills: {name}" for name in unexplained]
    names = {mutant.name for mutant in everything}
    stale = [name for name in explained if name not in names]
    findings.broken += [f"survivors.toml explains what is not there: {name}" for name in stale]
    return findings


def all_mutants() -> list[Mutant]:
    """Of every module, in the order of the modules and their lines."""
    return [mutant for path in MODULES for mutant in mutants_of(ROOT, path)]


def explanations() -> dict[str, str]:
    """Why a mutant cannot be killed, by its name."""
    found: dict[str, str] = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))
    return found
