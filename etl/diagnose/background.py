"""Work that may hang, in a thread of its own, so that nobody waits for it without an end."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

from etl.runtime.run_context import with_log_fields

T = TypeVar("T")

_TICK_S = 0.1


class Background(Generic[T]):
    """The items of an iterator that runs in a daemon thread from now on.

    `is_over` is set when the last one was taken. What it raises is raised in the one who takes.
    """

    def __init__(self, items: Iterator[T], stop: threading.Event) -> None:
        self.is_over = False
        self._stop = stop
        self._started = time.monotonic()
        self._queue: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                for item in items:
                    self._queue.put((item,))
                self._queue.put(None)
            except BaseException as error:  # noqa: BLE001 - raised in the thread that takes
                self._queue.put(error)

        threading.Thread(target=with_log_fields(work), name="background", daemon=True).start()

    def taken_within(self, seconds: float) -> Iterator[T]:
        """The next items, until so many seconds have passed since the start, or `stop` is set."""
        end = self._started + seconds
        while not self.is_over and not self._stop.is_set():
            left_s = end - time.monotonic()
            try:
                found = self._queue.get(timeout=min(_TICK_S, max(left_s, 0.001)))
            except queue.Empty:
                if left_s <= 0:
                    return
                continue
            if isinstance(found, BaseException):
                raise found
            if found is None:
                self.is_over = True
                return
            yield found[0]
