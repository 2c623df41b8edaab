"""The page of results, `benchmarks/PROOF.md`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.prove.part import Result

FILE = Path(__file__).resolve().parents[1] / "PROOF.md"

Proved = tuple[str, str, Result]
"""Title of the part, its promise, and what was found."""


def written(proved: list[Proved], *, at: datetime) -> str:
    return "\n".join(_lines(sorted(proved, key=lambda one: one[0]), at)) + "\n"


def _lines(proved: list[Proved], at: datetime) -> Iterator[str]:
    tried = sum(sum(result.tried.values()) for _, _, result in proved)
    broken = sum(len(result.broken) for _, _, result in proved)
    seeds = sorted({result.seed for _, _, result in proved})
    how = "`make prove-quick`" if any(r.is_quick for _, _, r in proved) else "`make prove`"
    yield "# Proof"
    yield ""
    yield f"This page was written by {how}. Each figure is a count of things that were tried."
    yield "The same seed tries the same things again. See [README.md](README.md) for how."
    yield ""
    yield f"- Tried: {tried:,}. Promises that did not hold: {broken:,}."
    yield f"- Seed {', '.join(map(str, seeds))}; {at:%Y-%m-%d}; revision {machine.revision()}."
    yield f"- {machine.facts()[0]}; {machine.facts()[1]}."
    versions = {name: v for _, _, result in proved for name, v in result.versions.items()}
    if versions:
        named = (f"{name} {version}" for name, version in sorted(versions.items()))
        yield f"- {', '.join(named)}."
    yield ""
    yield "| part | tried | did not hold | time |"
    yield "| --- | ---: | ---: | ---: |"
    for title, _, result in proved:
        count = sum(result.tried.values())
        yield f"| {title} | {count:,} | {len(result.broken)} | {result.seconds:,.0f} s |"
    for title, promise, result in proved:
        yield from _part(title, promise, result)


def _part(title: str, promise: str, result: Result) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    yield promise
    yield ""
    yield "| tried | times |"
    yield "| --- | ---: |"
    for kind, count in result.tried.items():
        yield f"| {kind} | {count:,} |"
    if result.measured:
        yield ""
        for what, value in result.measured.items():
            yield f"- {what}: {value}"
    if result.broken:
        yield ""
        yield "**Did not hold:**"
        yield ""
        for line in result.broken:
            yield f"- {line}"
