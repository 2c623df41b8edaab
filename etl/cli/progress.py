"""One line on a terminal that says how far a run is. Nothing anywhere else."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Self

from etl.formatting import many
from etl.runtime.console import is_interactive

_WIDTH = 30
_EVERY_S = 0.1


class Progress:
    """A context manager: the line is gone when it ends. `is_wanted` False: it does nothing."""

    def __init__(self, total: int, *, is_wanted: bool = True) -> None:
        self._total = total
        self.is_shown = is_wanted and total > 0 and is_interactive()
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        self.show(0, 0, 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.is_shown:
            self._draw("")

    def show(self, views: int, records: int, requests: int | None = None) -> None:
        """How many views are done, and what they brought so far."""
        now = time.monotonic()
        is_due = now - self._drawn_at >= _EVERY_S or views >= self._total
        if not self.is_shown or not is_due:
            return
        self._drawn_at = now
        self._draw(line(views, self._total, records, requests))

    def _draw(self, text: str) -> None:
        columns = shutil.get_terminal_size().columns
        sys.stderr.write(f"\r\x1b[K{text[: columns - 1]}")
        sys.stderr.flush()


class SharedProgress:
    """One line for several sources that work at the same time; a context manager as `Progress`."""

    def __init__(self, total: int, *, is_wanted: bool = True) -> None:
        self._bar = Progress(total, is_wanted=is_wanted)
        self._steps: dict[str, tuple[int, int, int | None]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__(None, None, None)

    @property
    def is_shown(self) -> bool:
        """Whether anybody sees it."""
        return self._bar.is_shown

    def show(self, source: str, views: int, records: int, requests: int | None = None) -> None:
        """How far one source is."""
        with self._lock:
            self._steps[source] = (views, records, requests)
            done, listed, sent = zip(*self._steps.values(), strict=True)
            total = None if requests is None else sum(number or 0 for number in sent)
            self._bar.show(sum(done), sum(listed), total)


def line(views: int, total: int, records: int, requests: int | None) -> str:
    """`[######........] 12/30 views, 1,204 records, 12 requests`."""
    done = _WIDTH * views // total
    bar = "#" * done + "." * (_WIDTH - done)
    sent = "" if requests is None else f", {many(requests, 'request')}"
    return f"[{bar}] {views:,}/{total:,} views, {many(records, 'record')}{sent}"
