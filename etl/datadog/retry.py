"""When a failed request may be sent again: after how long, and for how long in all."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable

from etl.causes import GIVEN_UP
from etl.errors import DatadogError, DatadogHostUnknown, DatadogUnavailable

BASE_S, CAP_S = 0.2, 5.0
SIDE_WAIT_S = 5.0
"""For a question that no listing depends on: enough for an answer that is slow, and little enough
to be paid while the lease is held."""
SHORTEST_EXCHANGE_S = 1.0
"""For one request of such a question, however little is left."""
SIDE_TRIES = 2
"""One more after a connection that broke; what fails twice in a few seconds is down for longer."""
UNKNOWN_HOST_WAIT_S = 10.0
"""A name that does not resolve is mistyped more often than missing for long."""

log = logging.getLogger("etl.datadog.client")  # one logger for all that happens to a request


class Retryable(Exception):
    """A try that failed in a way that may pass.

    `error` is raised when there is no other try. `wait_s`: how long the server asks to wait; None:
    it does not say. `began`: when the request was sent; None: none was.
    """

    def __init__(
        self, error: DatadogError, *, wait_s: float | None = None, began: float | None = None
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s
        self.began = began


class RetryBudget:
    """The seconds that one view may spend on waits and failed tries.

    Threads share a budget; waits that overlap are paid once. Instants are those of `monotonic`.
    `stop` ends every wait. `most_tries`: how often one question is asked; None: as the time allows.
    """

    def __init__(
        self,
        seconds: float,
        *,
        most_tries: int | None = None,
        stop: threading.Event | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.left = seconds
        self.limit = f"max_wait_s = {seconds:g}"  # what bounds it, for messages
        self._most_tries = most_tries
        self._stop = stop or threading.Event()
        self._monotonic = monotonic
        self._jitter = jitter
        self._paid_until = -math.inf
        self._lock = threading.Lock()

    def sleep_or_raise(self, fault: Retryable, tries: int) -> None:
        """Pay for the failed try, and wait before the next one. `tries`: how many have failed.

        Raises the error of `fault` when the budget does not pay for the wait, and
        DatadogUnavailable when stopped. Failed tries count as waiting: twelve time-outs of 30 s
        are no better than a wait of six minutes.
        """
        now = self._monotonic()
        if fault.began is not None:
            self.spend(fault.began, now)
        if isinstance(fault.error, DatadogHostUnknown) and tries == 1:
            self.shorten(UNKNOWN_HOST_WAIT_S)
        seconds = fault.wait_s or backoff_s(tries, self._jitter())
        self._check_running()
        if self._most_tries and tries >= self._most_tries:
            raise _given_up(fault.error, f"{tries} tries failed")
        if not self.allows(now, seconds):
            log.info("%s; another %.1f s would exceed %s", fault.error, seconds, self.limit)
            raise _given_up(fault.error, f"another wait would exceed {self.limit}")
        self.spend(now, now + seconds)
        self.sleep(seconds, fault.error)

    def sleep(self, seconds: float, why: DatadogError) -> None:
        """Wait, whatever the budget; raises DatadogUnavailable when stopped."""
        self._check_running()
        log.info("%s; waiting %.1f s", why, seconds)
        self._stop.wait(seconds)
        self._check_running()

    def allows(self, begun: float, seconds: float) -> bool:
        """Whether the budget pays for a wait of `seconds` that begins at `begun`."""
        with self._lock:
            return self._price(begun, begun + seconds) <= self.left

    def spend(self, begun: float, ended: float) -> None:
        """Pay for a wait, or for a try that failed."""
        with self._lock:
            self.left -= self._price(begun, ended)
            self._paid_until = max(self._paid_until, ended)

    def shorten(self, seconds: float) -> None:
        """Reduce what is left to at most `seconds`."""
        with self._lock:
            if seconds < self.left:
                self.left, self.limit = seconds, f"{seconds:g} s"

    def _check_running(self) -> None:
        if self._stop.is_set():
            raise stopped()

    def _price(self, begun: float, ended: float) -> float:
        return max(0.0, ended - max(begun, self._paid_until))


def backoff_s(tries: int, chance: float) -> float:
    """Seconds of exponential backoff with full jitter; `chance`: a random number from 0 to 1."""
    return chance * min(CAP_S, BASE_S * 2.0 ** min(tries - 1, 30))


def stopped(requests: int = 0) -> DatadogUnavailable:
    """The error of a request that is not sent (again), because the process must stop."""
    return DatadogUnavailable("stopped while waiting", requests=requests)


def _given_up(error: DatadogError, why: str) -> DatadogError:
    text = f"{error}{GIVEN_UP}{why}"
    return type(error)(text, status=error.status, detail=error.detail)
