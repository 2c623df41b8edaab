"""Questions that no listing depends on, and for how long one without an answer is left alone. Pure.

RUM's list of applications gives names, lets more be proven, and names the organization of the
keys; RUM's count of views finds new ones. A run is as true without, so that none may cost each
run a wait.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from etl.errors import DatadogError

APPLICATIONS, DISCOVERY = "applications", "discovery"
VALIDATION = "validation"
"""Which of the keys was refused."""
ORGANIZATION = "organization"
"""Whose keys these are. The list of applications says it too; but before rows leave that nobody
lists any more it is asked also where the list is left alone."""

SHORTEST_PAUSE = timedelta(hours=1)
LONGEST_PAUSE = timedelta(days=1)


class Unanswered(msgspec.Struct, frozen=True):
    """A question that got no answer when last asked: `failures` times in a row. Instants: UTC."""

    question: str
    failures: int
    failed_at: datetime
    ask_again_at: datetime
    error: str

    def is_left_alone(self, now: datetime) -> bool:
        """Whether it is too early to ask again; a failure in the future is a clock set back."""
        return self.failed_at <= now < self.ask_again_at


def unanswered(
    question: str, error: DatadogError, before: Unanswered | None, now: datetime
) -> Unanswered:
    """What is kept of a failure at `now`. `before`: of the failure before it, None for none."""
    failures = before.failures + 1 if before else 1
    pause = pause_after(failures, is_refused=error.status in (403, 404))
    return Unanswered(question, failures, now, now + pause, str(error))


def pause_after(failures: int, *, is_refused: bool) -> timedelta:
    """For how long a question is left alone that got no answer so many times in a row.

    `is_refused`: these keys may not ask it, or there is no such endpoint; a person has to change
    that, and hardly within hours.
    """
    doubled = SHORTEST_PAUSE * 2.0 ** min(failures - 1, 10)
    return LONGEST_PAUSE if is_refused else min(LONGEST_PAUSE, doubled)
