"""How long a run may take, and how long it may show no progress: longer, and it hangs.

Both are what its waits can add up to, by the configuration, and not what is usual: to end a run
that is only slow does more harm than to notice late that one hangs.
"""

from __future__ import annotations

import math
from typing import Protocol

STEP_S = 300.0
"""The longest piece of work of our own that reports nothing in between. It unpacks and decodes the
largest body, or tries a transaction once, which may wait for locks (SQLite: 30 s; servers: 10 s a
statement) and store some hundred thousand rows."""
VIEW_STORED_S = 10.0
"""What a view may take to be stored, when a run over many of them is added up."""
SIDE_QUESTIONS = 2
"""Questions of a run that belong to no view: which views there are, and which applications."""


class Waits(Protocol):
    """The settings of `[datadog]` that bound a wait; a `Config` has them."""

    @property
    def max_wait_s(self) -> float:
        """All waits for one view together."""

    @property
    def timeout_s(self) -> float:
        """The wait for the head of one answer."""

    @property
    def concurrency(self) -> int:
        """Questions at the same time."""


def longest_question_s(waits: Waits) -> float:
    """Seconds until a question is answered or given up: its waits, and the exchange begun last."""
    return waits.max_wait_s + _longest_exchange_s(waits)


def longest_silence_s(waits: Waits) -> float:
    """Seconds in which an exchange or a try of a transaction must end, or the run hangs."""
    return longest_question_s(waits) + STEP_S


def longest_run_s(waits: Waits, views: int, parts: int = 0) -> float:
    """Seconds that a run over `views` views may take.

    They are read `concurrency` at a time, and once more where the answer was another view's. Those
    that look cut are then resolved one after another: asked again, and in `parts` parts in all,
    which share the waits of their view.
    """
    rounds = 2 * math.ceil(views / waits.concurrency)
    questions = (SIDE_QUESTIONS + rounds + views) * longest_question_s(waits)
    return questions + parts * _longest_exchange_s(waits) + views * VIEW_STORED_S + STEP_S


def _longest_exchange_s(waits: Waits) -> float:
    """Its head, then its body, which has no less than a head where little is left."""
    return waits.timeout_s + max(waits.max_wait_s, waits.timeout_s)
