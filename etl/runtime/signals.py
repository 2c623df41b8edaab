"""SIGINT and SIGTERM -> one event that ends all work.

After the first signal no new request is sent, and what is under way commits or is given up. The
second signal ends the process at once. The first one does the same after `GIVE_UP_S`,
whatever the process hangs on: the next run finds the transaction rolled back and closes the run as
died.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from etl.errors import Stopped

if TYPE_CHECKING:
    import socket

GIVE_UP_S = 9.0
_POLL_S = 0.1
_NUMBERS = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger(__name__)


class StopSignal:
    """`stop` is set once a signal came; `number` says which."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.number = 0

    def raise_if_set(self) -> None:
        """Raises `Stopped` when a signal came."""
        if self.number:
            raise Stopped(self.number)


class ChildEvent(threading.Event):
    """An event that counts as set, too, once its parent is set."""

    def __init__(self, parent: threading.Event) -> None:
        super().__init__()
        self._parent = parent

    def is_set(self) -> bool:
        """Whether this event or its parent is set."""
        return super().is_set() or self._parent.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until either is set; looks at the parent ten times a second."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = _POLL_S if end is None else end - time.monotonic()
            if left <= 0:
                break
            super().wait(min(left, _POLL_S))
        return self.is_set()


def end_within(seconds: float, *, exit_code: int) -> None:
    """End this process after `seconds`, unless it has ended by itself."""
    timer = threading.Timer(seconds, os._exit, [exit_code])
    timer.daemon = True
    timer.start()


@contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Watch for signals in a thread: the main one may wait inside a driver, and not notice."""
    import socket  # not for --help

    stop_signal = StopSignal()
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    # First the descriptor, then the handlers that rely on it, and the other way round at the end:
    # a signal in between would be lost.
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    handlers = {n: signal.signal(n, _leave_to_watcher) for n in _NUMBERS if not _is_ignored(n)}
    watcher = threading.Thread(
        target=_watch, args=(reading, stop_signal), name="signals", daemon=True
    )
    watcher.start()
    try:
        yield stop_signal
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        writing.close()
        watcher.join()
        reading.close()


def _is_ignored(number: int) -> bool:
    """As under `nohup` and in background jobs of a shell; it stays ignored."""
    return signal.getsignal(number) is signal.SIG_IGN


def _leave_to_watcher(_number: int, _frame: object) -> None:
    """Do nothing: the watcher has the number. The default handler would end the process here."""


def _watch(reading: socket.socket, stop_signal: StopSignal) -> None:
    first = reading.recv(1)
    if not first:
        return
    stop_signal.number = first[0]
    stop_signal.stop.set()
    log.warning("stopping: what is under way is finished first; a second signal ends it at once")
    reading.settimeout(GIVE_UP_S)
    try:
        if not reading.recv(1):
            return
    except TimeoutError:
        log.error("still not ended %.0f s after the signal; given up", GIVE_UP_S)  # noqa: TRY400
    os._exit(128 + stop_signal.number)
