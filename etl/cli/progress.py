"""A progress line on a terminal; nothing where there is none."""

from __future__ import annotations

import shutil
import threading
import time
from types import TracebackType
from typing import Self

import click

from etl.formatting import many
from etl.runtime.console import is_interactive, write_error

_WIDTH = 30
_EVERY_S = 0.1


class Progress:
    """A context manager that removes its line at the end; shows nothing unless `is_wanted`.

    Sources that are read at the same time share the line.
    """

    def __init__(self, total: int, *, is_wanted: bool = True) -> None:
        self.is_shown = is_wanted and total > 0 and is_interactive()
        self._total = total
        self._drawn_at = 0.0
        self._by_source: dict[str, tuple[int, int, int | None]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self.is_shown:
            _draw(progress_line(0, self._total, 0, 0))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.is_shown:
            _draw("")

    def show(self, source: str, views: int, records: int, requests: int | None = None) -> None:
        """Set how many views of a source are done, and their records and requests so far."""
        if not self.is_shown:
            return
        with self._lock:
            self._by_source[source] = (views, records, requests)
            done, listed, sent = zip(*self._by_source.values(), strict=True)
            now = time.monotonic()
            if now - self._drawn_at < _EVERY_S and sum(done) < self._total:
                return
            self._drawn_at = now
            all_sent = None if requests is None else sum(number or 0 for number in sent)
            _draw(progress_line(sum(done), self._total, sum(listed), all_sent))

    def hide(self) -> None:
        """Remove the line until the next `show`, so that something else can be printed."""
        if self.is_shown:
            with self._lock:
                _draw("")


class RowProgress:
    """A context manager for one line about rows, as `Progress`: what is done, and how far it is."""

    def __init__(self, total: int) -> None:
        self.is_shown = total > 0 and is_interactive()
        self._total = total
        self._done: dict[str, int] = {}
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_shown:
            _draw("")

    def add(self, what: str, rows: int) -> None:
        """Say that so many more rows are done of what is done now."""
        done = self._done[what] = self._done.get(what, 0) + rows
        now = time.monotonic()
        if self.is_shown and now - self._drawn_at >= _EVERY_S:
            self._drawn_at = now
            _draw(_bar(done, self._total, f"{what}: {done:,}/{self._total:,} rows"))


def progress_line(views: int, total: int, records: int, requests: int | None) -> str:
    """`[######........] 12/30 views, 1,204 records, 12 requests`."""
    sent = "" if requests is None else f", {many(requests, 'request')}"
    return _bar(views, total, f"{views:,}/{total:,} views, {many(records, 'record')}{sent}")


def _bar(done: int, total: int, label: str) -> str:
    bar = click.progressbar(
        length=total,
        label=label,
        bar_template="[%(bar)s] %(label)s",
        empty_char=".",
        width=_WIDTH,
    )
    bar.pos = min(done, total)
    return bar.format_progress_line()


def _draw(line: str) -> None:
    # Not drawn by click: it hides the cursor, which a process that is killed never shows again,
    # breaks a line that is too long, and leaves the last one behind.
    columns = shutil.get_terminal_size().columns
    write_error(f"\r\x1b[K{line[: columns - 1]}")
