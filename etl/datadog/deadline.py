"""When one HTTP exchange must have ended, whatever it waits for, and what it waits for now."""

from __future__ import annotations

import time


class Deadline:
    """The end of one exchange: its head within `head_s` seconds, all of it within `all_s`.

    `stage`: what has not happened yet, for messages, such as "the head did not arrive".
    """

    def __init__(self, head_s: float, all_s: float) -> None:
        self.stage = ""
        self._seconds = min(head_s, all_s)
        self._all_s = all_s
        self._started = time.monotonic()

    def left(self) -> float:
        """Seconds that are left; 0 or less: it has passed."""
        return self._started + self._seconds - time.monotonic()

    def wait_for_the_rest(self) -> None:
        """The head is there: from now on the exchange as a whole is bounded."""
        self.stage = "the answer did not end"
        self._seconds = self._all_s

    def leave_out(self, seconds: float) -> None:
        """Do not count a wait that neither the network nor the other side has caused."""
        self._started += seconds

    def __str__(self) -> str:
        return f"took too long: {self.stage} within {round(self._seconds, 1):g} s"
