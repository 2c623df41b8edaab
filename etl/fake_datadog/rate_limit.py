"""The rate limit: a number of requests in each calendar-aligned window."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permit:
    """Whether a request is allowed, and the rate-limit headers of its response."""

    allowed: bool
    headers: dict[str, str]


class RateLimit:
    """Counts requests by the name of their limit. `clock` gives seconds since the epoch."""

    def __init__(self, limit: int, period_s: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._period_s = period_s
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[str, tuple[int, int]] = {}  # name -> window, requests in it

    def take(self, name: str) -> Permit:
        """Count one more request under this name."""
        now = self._clock()
        window = int(now // self._period_s)
        with self._lock:
            last_window, used = self._used.get(name, (window, 0))
            used = used + 1 if last_window == window else 1
            self._used[name] = (window, used)
        reset = max(1, math.ceil((window + 1) * self._period_s - now))
        headers = {
            "X-RateLimit-Limit": str(self._limit),
            "X-RateLimit-Period": str(self._period_s),
            "X-RateLimit-Remaining": str(max(0, self._limit - used)),
            "X-RateLimit-Reset": str(reset),
            "X-RateLimit-Name": name,
        }
        return Permit(used <= self._limit, headers)
