"""A clock that moves only while somebody waits, so that waiting costs no time."""

import threading
import time


class FakeTime(threading.Event):
    """Both the stop event and the clock: waiting costs no time and is written down."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.now = 1000.0
        self.waits: list[float] = []
        self._stop_at = stop_at
        self._guard = threading.Lock()

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        with self._guard:
            self.now += timeout
            self.waits.append(timeout)
            if len(self.waits) == self._stop_at:
                self.set()
        return self.is_set()

    def monotonic(self) -> float:
        return self.now


def long_window_s() -> int:
    """Seconds of a rate limit that do not end within a minute: the windows are of the calendar."""
    return next(s for s in (3600, 4000, 4400) if s - time.time() % s > 60)
