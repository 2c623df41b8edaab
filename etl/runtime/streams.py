"""The three standard streams as the system sees them: a closed one, and one that cannot be written.

Loaded before everything else: imports nothing that takes time.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

_DESCRIPTORS = (0, 1, 2)


def open_missing() -> None:
    """Open what was closed at the start, on /dev/null.

    Else the next file or connection would get its number, and what is written to stderr would go
    into the database. stdout stays None in Python: that shows that nobody can read a result.
    """
    for descriptor in _DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is the one that is missing.
            with contextlib.suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        # Libraries write to it and do not look whether it is there.
        with contextlib.suppress(OSError):
            sys.stderr = open(  # noqa: SIM115 - pathlib takes time; for as long as we run
                2, "w", encoding="utf-8", errors="backslashreplace", closefd=False
            )


def abandon(stream: TextIO | None) -> None:
    """Let nothing more come through a stream that failed to be written, nor stop at it.

    What is kept in its buffer would fail once more when the interpreter ends, with exit code 120.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())  # type: ignore[union-attr]
        finally:
            os.close(null)


def flush_last() -> None:
    """Write what is left in the buffers, or drop it: it is too late to report anything."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            abandon(stream)
