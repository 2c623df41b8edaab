"""Faults on purpose: which answers are spoiled, and how."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from etl.fake_datadog.api import SNAPSHOTS, Reply, Request, refused_keys

SLOW_S = 40.0
"""Longer than a client waits by default."""
CLOCK_OFFSET_S = -7200.0
KINDS: Mapping[str, str] = {
    "429": "the rate limit is used up",
    "500": "a server error",
    "empty": "every view lists nothing",
    "cut": "half of the answer, then the connection ends",
    "slow": f"the answer comes {SLOW_S:g} s late",
    "auth": "403, the keys are refused",
    "clock": "the Date is two hours back, as if this machine's clock were ahead",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault, and the share of the answers that it spoils."""

    kind: str
    share: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `KIND` or `KIND:SHARE`; raises ValueError that says what is expected."""
        kind, colon, share = text.partition(":")
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
        with contextlib.suppress(ValueError):
            if 0 <= (number := float(share) if colon else 1.0) <= 1:
                return cls(kind, number)
        raise ValueError(f"the share must be a number from 0 to 1, such as {kind}:0.2")

    def __str__(self) -> str:
        return f"{self.kind} ({KINDS[self.kind]}) in {100 * self.share:g} % of the answers"


class Faults:
    """Draws the faults of each answer; `done` counts them, `is_off` ends them.

    The seed, the question and how often it was asked decide. Which thread of a client comes first
    does not matter, and a server that is started again spoils the same answers.
    """

    def __init__(self, faults: Iterable[Fault] = (), seed: int = 1) -> None:
        self.faults = tuple(faults)
        self.is_off = False
        self.done: Counter[str] = Counter()
        self._seed = seed
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def draw(self, request: Request) -> frozenset[str]:
        """The kinds of fault that the answer to this request has."""
        if self.is_off or not self.faults:
            return frozenset()
        question = f"{request.method} {request.path} {sorted(request.query.items())}"
        with self._lock:
            self._asked[question] += 1
            key = f"{self._asked[question]} {question}"
            drawn = frozenset(f.kind for f in self.faults if self._chance(f.kind, key) < f.share)
            self.done.update(drawn)
        return drawn

    def _chance(self, kind: str, key: str) -> float:
        return random.Random(f"{self._seed} {kind} {key}").random()  # noqa: S311 - repeatable


def refusal(kinds: frozenset[str]) -> Reply | None:
    """The answer instead of the real one; None: the fault is of another kind."""
    if "429" in kinds:
        return Reply(429, b'{"errors":["Too many requests"]}')
    if "500" in kinds:
        return Reply(500, b'{"errors":["Internal Server Error"]}')
    return refused_keys() if "auth" in kinds else None


def spoiled(reply: Reply, kinds: frozenset[str], request: Request) -> Reply:
    """The reply as these faults leave it."""
    is_list = (request.method, request.path) == ("GET", SNAPSHOTS)
    if "empty" in kinds and is_list and reply.status == 200:
        reply = replace(reply, body=b'{"data":[]}')
    offset_s = CLOCK_OFFSET_S if "clock" in kinds else 0.0
    return replace(reply, is_cut="cut" in kinds, clock_offset_s=offset_s)
