"""The daemon is after eight hours what it was in the first, and no slot is lost on the way.

Compressed: a second stands for a minute. What comes round once a day or a week (applications, views
without snapshots, the learned limit, pruning) comes round once in 60 runs. Three daemons run at
once, one on each database.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks.prove.part import Effort, Findings
from benchmarks.soak import Soak, run

TITLE = "Time"
QUICK_S = 60.0


def prove(effort: Effort) -> Findings:
    findings = Findings()
    seconds = effort.times(whole=480, quick=40)

    def soaked(database: str) -> Soak:
        folder = effort.folder / database
        folder.mkdir()
        return run(database, seconds, folder, effort.seed)

    with ThreadPoolExecutor(len(effort.databases)) as pool:
        for soak in pool.map(soaked, effort.databases):
            add(findings, soak, effort.seed)
    return findings


def add(findings: Findings, soak: Soak, seed: int) -> None:
    on = soak.database
    findings.tried[f"slots accounted for, {on}"] = len(soak.ledger) + soak.missed
    findings.tried[f"answers of Datadog spoiled, {on}"] = sum(soak.faults.values())
    findings.tried[f"requests to --listen, {on}"] = sum(soak.answers.values())
    first, last = soak.quarters()
    findings.measured[f"from the first to the last quarter, {on}"] = (
        f"memory {first.memory_kib / 1024:.1f} → {last.memory_kib / 1024:.1f} MiB,"
        f" descriptors {first.descriptors:.0f} → {last.descriptors:.0f},"
        f" threads {first.threads:.0f} → {last.threads:.0f},"
        f" connections {first.connections:.0f} → {last.connections:.0f}"
    )
    statuses = ", ".join(f"{n:,} {status}" for status, n in sorted(soak.statuses.items()))
    findings.measured[f"runs, {on}"] = f"{statuses}; slots missed and counted: {soak.missed}"
    findings.broken += [f"{on} (seed {seed}): {problem}" for problem in soak.problems[:20]]
