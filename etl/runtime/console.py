"""stdout and stderr: what may be written to them, and what happens when nobody reads.

Results go to stdout, everything else to stderr. Names come from Datadog and
from files: nothing reaches a terminal that it would take for a command.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO, TextIO

from etl.errors import OutputError
from etl.formatting import Styled, clean

PROGRAM = "heatmap-etl"


def prepare_streams() -> None:
    """What a stream's encoding cannot show is escaped instead of raised."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_results(lines: Iterable[str]) -> None:
    """Results, on stdout. A reader that went away (`| head`) changes nothing.

    Raises `OutputError` when they cannot be written.
    """
    text = "\n".join(line if isinstance(line, Styled) else clean(line) for line in lines)
    with _writing_results():
        _write(sys.stdout, text)


def shows_colours() -> bool:
    """Whether stdout is a terminal that can show colours, and nobody asked for none."""
    return (
        is_terminal(sys.stdout)
        and os.environ.get("TERM") not in ("dumb", None)
        and not os.environ.get("NO_COLOR")
    )


@contextlib.contextmanager
def result_stream() -> Iterator[BinaryIO]:
    """stdout for bytes. A reader that went away ends the writing, and changes nothing."""
    stream = sys.stdout.buffer
    with _writing_results():
        yield stream
        stream.flush()


@contextlib.contextmanager
def _writing_results() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = give_stdout_up(error)
        if reason:
            raise OutputError(reason) from None


def give_stdout_up(error: OSError) -> str:
    """Give stdout up after an error; why the result was not written, "" when nobody reads it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Else the interpreter would try once more when it ends, and complain.
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    is_unread = isinstance(error, BrokenPipeError)
    return "" if is_unread else f"cannot write the result: {error.strerror}"


def print_errors(lines: Iterable[str]) -> None:
    """Errors, on stderr; an indented line belongs to the one before it."""
    for line in lines:
        prefix = "" if line.startswith("  ") else f"{PROGRAM}: "
        with contextlib.suppress(OSError):  # nobody is left to read it
            _write(sys.stderr, prefix + clean(line))


def is_interactive() -> bool:
    """Whether a person looks at stderr, on a terminal that can redraw a line."""
    return is_terminal(sys.stderr) and os.environ.get("TERM") not in ("dumb", None)


def is_terminal(stream: object) -> bool:
    """Whether the stream is there and a terminal."""
    return isinstance(stream, io.TextIOWrapper) and not stream.closed and stream.isatty()


def _write(stream: TextIO | None, line: str) -> None:
    """A line at once, to a stream that is open: a process may be started with one closed."""
    if stream is not None:
        stream.write(f"{line}\n")
        stream.flush()
