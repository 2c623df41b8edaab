"""How far this machine's clock is from the server's, by the `Date` of every answer.

The skew is this machine's clock minus the server's: positive where this machine is ahead. A `Date`
has whole seconds, and was made between the sending of the request and the arrival of the head. So
the truth lies in an interval, of which the value nearest to zero counts: a slow answer raises no
alarm.

The answer with the least skew counts, because a cache on the way falsifies only single answers: one
that says nothing of itself makes a `Date` older. Answers with a 200 go before all
others, which a proxy may have made by a clock of its own. The monotonic clock tells a machine whose
clock was moved meanwhile from an answer that is old.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from etl.datadog.dates import server_date
from etl.formatting import CLOCKS_DIFFER, skew_text

WORTH_A_WORD_S = CLOCKS_DIFFER.total_seconds()
OLD_DATE = "an old Date"
"""In place of a header that says that an answer comes from a cache: its `Date` alone says so."""

_RESOLUTION_S = 1.0


def skew_between(sent_at: datetime, head_at: datetime, date: datetime) -> tuple[float, float]:
    """Seconds by which this machine is ahead: of what is possible the nearest to zero, the most."""
    lowest = (sent_at - date).total_seconds() - _RESOLUTION_S
    highest = (head_at - date).total_seconds()
    return (lowest if lowest > 0 else min(highest, 0.0)), highest


class Sample(NamedTuple):
    """What one answer shows. `most_s`: the skew is not larger.

    `offset_s`: this machine's clock minus its monotonic clock, then.
    """

    skew_s: float
    most_s: float
    offset_s: float
    is_200: bool

    def skew_at(self, offset_s: float) -> float:
        """What it says of the moment at which the two clocks of this machine differ by so much."""
        return self.skew_s + offset_s - self.offset_s


class ServerClock:
    """The skew of one run, for all of its clients and threads.

    `began_s`: this machine's clock minus its monotonic clock when the run began.
    """

    def __init__(self, began_s: float | None = None) -> None:
        self.confirming = threading.RLock()  # held while somebody asks for the skew alone
        self.is_confirming = self.is_confirmed = False
        self._lock = threading.Lock()
        self._began_s = began_s
        self._best: Sample | None = None
        self._offset_s = 0.0  # of the latest answer

    def note(
        self,
        status: int,
        headers: Mapping[str, str],
        *,
        head_at: datetime,
        monotonic_s: float,
        took_s: float,
    ) -> Sample | None:
        """Take an answer into account, whose head came at `head_at`, by the monotonic clock at
        `monotonic_s`, `took_s` after the request: this machine's clock may have moved meanwhile.

        Returns what it shows; None: nothing.
        """
        date = server_date(headers)
        if date is None:
            return None
        offset_s = head_at.timestamp() - monotonic_s
        sent_at = head_at - timedelta(seconds=took_s)
        sample = Sample(*skew_between(sent_at, head_at, date), offset_s, status == 200)
        with self._lock:
            self._offset_s = offset_s
            if self._best is None or _rank(sample, offset_s) <= _rank(self._best, offset_s):
                self._best = sample
        return sample

    @property
    def skew_s(self) -> float | None:
        """The skew at the latest answer; None: no answer has shown one."""
        with self._lock:
            return self._best.skew_at(self._offset_s) if self._best else None

    @property
    def skew_at_start_s(self) -> float | None:
        """The skew when the run began; None: not known."""
        with self._lock:
            if self._best is None or self._began_s is None:
                return None
            return self._best.skew_at(self._began_s)

    @property
    def margin_s(self) -> float:
        """By how much a skew may be larger than it is said to be."""
        with self._lock:
            return self._best.most_s - self._best.skew_s if self._best else 0.0

    def is_old(self, sample: Sample) -> bool:
        """Whether the answer must have been kept: others of the run show a clock that is right."""
        with self._lock:
            best = self._best
        return best is not None and sample.skew_s - best.skew_at(sample.offset_s) > WORTH_A_WORD_S


def _rank(sample: Sample, offset_s: float) -> tuple[bool, float]:
    return not sample.is_200, abs(sample.skew_at(offset_s))


def skew_warning(skew_s: float | None, host: str) -> str:
    """What to tell of a clock that is not right; "" for one that is, or where nothing is known."""
    if skew_s is None or abs(skew_s) <= WORTH_A_WORD_S:
        return ""
    apart = f"{skew_text(skew_s)}{' of' * (skew_s > 0)} that of {host}"
    return f"this machine's clock is {apart}: set it, or have NTP set it"
