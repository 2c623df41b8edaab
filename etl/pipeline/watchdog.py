"""Sees a run that hangs, ends it, and lets whoever waits for it go on.

A run works in a thread of its own. When it has made no progress for longer than its waits can add
up to (`progress_bound`), it is asked to end and its connections to Datadog are broken. Then it
closes itself in the ledger, as failed. A thread that still hangs after that is abandoned: its run
is closed in its place, its lease is given back, and `RunAbandoned` says so to the caller.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from etl.errors import EtlError, RunAbandoned, RunStuck
from etl.formatting import duration
from etl.pipeline.progress_bound import Waits, longest_run_s, longest_silence_s
from etl.runtime.run_context import with_log_fields

T = TypeVar("T")

POLL_S = 1.0
GRACE_S = 30.0
"""How long a run that was asked to end may take for it, at most."""
GIVE_UP_S = 10.0
"""How long the ledger may take to note that a run was abandoned: the database may hang as well."""

log = logging.getLogger(__name__)


class Work(Protocol):
    """The run that is watched."""

    @property
    def name(self) -> str:
        """Which run it is, for messages."""

    @property
    def done(self) -> int:
        """How much is done so far, in no unit; it grows with all that ends: questions, views."""

    @property
    def views_to_read(self) -> int:
        """How many views it reads; 0: it does not read yet."""

    @property
    def parts_asked(self) -> int:
        """How many parts of views were asked for."""

    @property
    def lease_s(self) -> float:
        """Seconds after which its lease expires unless renewed."""

    def break_off(self) -> None:
        """Ask it to end: no further request, no open connection, no renewal of its lease."""

    def give_up(self, reason: str) -> None:
        """Close it in the ledger, as its own thread does not, and give its lease back."""


class Watchdog:
    """Watches one run. `on_stuck` is called with the reason as soon as a run hangs.

    `reason`: why the run is being ended; "" while it makes progress.
    """

    def __init__(self, waits: Waits, on_stuck: Callable[[str], None] | None = None) -> None:
        self.reason = ""
        self._waits = waits
        self._on_stuck = on_stuck
        self._work: Work | None = None
        self._is_over = threading.Event()  # the thread of the run has ended
        self._may_go = threading.Event()  # ... or was abandoned

    def guard(self, run: Callable[[], T]) -> T:
        """Call `run` in a thread and wait for it; what it returns or raises is that of this call.

        Raises `RunStuck` when it was ended, and `RunAbandoned` when it hangs even so.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                results.append(run())
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                errors.append(error)
            finally:
                self._is_over.set()
                self._may_go.set()

        try:
            threading.Thread(target=with_log_fields(call), name="run", daemon=True).start()
            self._may_go.wait()
        except BaseException:  # Ctrl-C, where no signal handler makes it a wish to stop
            if self._work:
                self._work.break_off()
            self._is_over.wait(GRACE_S)
            raise
        if not self._is_over.is_set():
            self._abandon()
        is_bug = bool(errors) and not isinstance(errors[0], EtlError)
        if self.reason and self._work and not is_bug:
            raise RunStuck(f"{self._work.name}: {self.reason}")
        if errors:
            raise errors.pop()  # from no variable: with its traceback it would make a cycle
        return results[0]

    def watch(self, work: Work) -> None:
        """Watch `work` from now on, until the run that `guard` calls has ended."""
        self._work = work
        threading.Thread(
            target=with_log_fields(lambda: self._watch(work)), name="watchdog", daemon=True
        ).start()

    def _watch(self, work: Work) -> None:
        done, silent_s, took_s, looked = work.done, 0.0, 0.0, time.monotonic()
        while not self._is_over.wait(POLL_S):
            # A process that was itself suspended has not been silent: a step counts as two at most.
            step_s = min(time.monotonic() - looked, 2 * POLL_S)
            looked, took_s, silent_s = time.monotonic(), took_s + step_s, silent_s + step_s
            if work.done != done:
                done, silent_s = work.done, 0.0
            self.reason = self._why_stuck(work, silent_s, took_s)
            if self.reason:
                self._end(work)
                return

    def _why_stuck(self, work: Work, silent_s: float, took_s: float) -> str:
        if silent_s > longest_silence_s(self._waits):
            return f"no progress for {duration(silent_s)}: ended"
        longest_s = longest_run_s(self._waits, work.views_to_read, work.parts_asked)
        if work.views_to_read and took_s > longest_s:
            return f"{too_long(took_s, longest_s)}: ended"
        return ""

    def _end(self, work: Work) -> None:
        work.break_off()
        if self._on_stuck:
            self._on_stuck(f"{work.name}: {self.reason}")
        log.error("%s: %s", work.name, self.reason)
        if not self._is_over.wait(min(GRACE_S, work.lease_s / 2)):
            self._may_go.set()

    def _abandon(self) -> None:
        """Close the run without its thread. Raises `RunAbandoned`."""
        work = self._work
        if work is None:
            raise AssertionError("a run that was not watched was abandoned")
        give_up = with_log_fields(lambda: work.give_up(self.reason))
        closing = threading.Thread(target=give_up, name="give-up", daemon=True)
        closing.start()
        closing.join(GIVE_UP_S)
        raise RunAbandoned(f"{work.name}: {self.reason}, though its thread still hangs")


def too_long(took_s: float, longest_s: float) -> str:
    """Why a run that goes on for `took_s` seconds is no longer taken for a slow one."""
    longest = duration(longest_s)
    return f"has gone on for {duration(took_s)}, longer than its views can take ({longest})"
