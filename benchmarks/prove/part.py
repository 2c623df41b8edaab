"""What a part of the proof gets, and what it gives back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried, and from which seed.

    `folder` is empty, this part's own, and goes away afterwards.
    """

    is_quick: bool
    seed: int
    folder: Path
    databases: tuple[str, ...] = ("sqlite", "postgresql", "mariadb")

    def times(self, *, whole: int, quick: int) -> int:
        return quick if self.is_quick else whole


@dataclass(slots=True)
class Findings:
    """What was tried, how often, and what was found.

    `tried` counts things of a kind, by words for a reader: `kill -9 in mid-run, SQLite`.
    `measured` are other figures in words: `longest run`: `41 s of 120 s`. `versions` are those of
    servers and libraries. `broken` are the promises that did not hold, each in one line with what
    repeats it; when it is empty, the part is green.
    """

    tried: Counter[str] = field(default_factory=Counter)
    measured: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def add(self, others: Findings) -> None:
        """Take over all that was found in another thread."""
        self.tried.update(others.tried)
        self.measured |= others.measured
        self.versions |= others.versions
        self.broken += others.broken

    @contextmanager
    def trial(self, kind: str, *, again: str) -> Iterator[None]:
        """Counts one trial of `kind`; an AssertionError in it is a broken promise, not the end.

        `again` says what repeats it, such as `seed 7, round 12`.
        """
        self.tried[kind] += 1
        try:
            yield
        except AssertionError as error:
            first = (str(error).strip() or "assertion failed").splitlines()[0]
            self.broken.append(f"{kind} ({again}): {first[:500]}")


class Part(Protocol):
    """A module of `benchmarks.prove.parts`. Its docstring's first line stands in PROOF.md."""

    TITLE: str
    QUICK_S: float
    """What the quick one takes, for the order of the parts."""

    def prove(self, effort: Effort) -> Findings: ...


class Result(msgspec.Struct):
    """Of one part, as its process writes it; `seconds` are of the wall clock."""

    name: str
    seed: int
    is_quick: bool
    seconds: float
    tried: dict[str, int]
    measured: dict[str, str]
    versions: dict[str, str]
    broken: list[str]
