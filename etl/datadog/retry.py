"""How long one view may still wait, over all the requests that are made for it."""

from __future__ import annotations

import math
import threading


class Patience:
    """Seconds that are left; threads share it, and waits that overlap are paid once.

    Instants are those of any monotonic clock, the same one in every call.
    """

    def __init__(self, seconds: float) -> None:
        self.left = seconds
        self.limit = f"max_wait_s = {seconds:g}"  # what bounds it, for messages
        self._paid_until = -math.inf
        self._lock = threading.Lock()

    def allows(self, begun: float, seconds: float) -> bool:
        """Whether a wait that begins then can be paid."""
        with self._lock:
            return self._price(begun, begun + seconds) <= self.left

    def spend(self, begun: float, ended: float) -> None:
        """Pay for a wait, or for a try that failed."""
        with self._lock:
            self.left -= self._price(begun, ended)
            self._paid_until = max(self._paid_until, ended)

    def shorten(self, seconds: float) -> None:
        """Leave no more than this."""
        with self._lock:
            if seconds < self.left:
                self.left, self.limit = seconds, f"{seconds:g} s"

    def _price(self, begun: float, ended: float) -> float:
        return max(0.0, ended - max(begun, self._paid_until))
