"""When one HTTP exchange must have ended, whatever it waits for, and what it waits for now."""

from __future__ import annotations

import time


class Deadline:
    """The end of one exchange: its head within `head_s` seconds, all of it within `all_s`.

    Where `all_s` is the shorter one, so much is left for the body once the head is there.
    `stage`: what has not happened yet, for messages, such as "the head did not arrive".
    """

    def __init__(self, head_s: float, all_s: float) -> None:
        self.stage = ""
        self.all_s = all_s
        self._seconds = head_s
        self._head_s = head_s
        self._started = time.monotonic()

    def left(self) -> float:
        """Seconds that are left; 0 or less: it has passed."""
        return self._started + self._seconds - time.monotonic()

    def wait_for_the_rest(self) -> None:
        """The head is there: from now on the exchange as a whole is bounded."""
        self.stage = "the answer did not end"
        took_s = time.monotonic() - self._started
        self._seconds = max(self.all_s, took_s + min(self.all_s, self._head_s))

    def leave_out(self, seconds: float) -> None:
        """Do not count a wait that neither the network nor the other side has caused."""
        self._started += seconds

    def __str__(self) -> str:
        return f"took too long: {self.stage} within {round(self._seconds, 1):g} s"
