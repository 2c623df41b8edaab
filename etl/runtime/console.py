"""The three streams: what may be written to them, and what happens when nobody reads.

Results go to stdout, everything else to stderr. Names come from Datadog and
from files: nothing reaches a terminal that it would obey.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import click

from etl.formatting import BAD, DOUBTFUL, GOOD, Painted, clean

PROGRAM = "heatmap-etl"
_ECHO = click.echo.__code__
_COLOURS = {GOOD: 32, DOUBTFUL: 33, BAD: 31}


def prepare() -> None:
    """What a stream's encoding cannot show is escaped instead of raised."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(lines: Iterable[str]) -> None:
    """Results, on stdout. A reader that went away (`| head`) changes nothing."""
    has_colours = is_terminal(sys.stdout) and os.environ.get("TERM") not in ("dumb", None)
    is_wanted = has_colours and not os.environ.get("NO_COLOR")
    text = "\n".join(_painted(line) if is_wanted else clean(line) for line in lines)
    try:
        click.echo(text)
    except BrokenPipeError:
        _let_go(sys.stdout)
    except OSError as error:
        _let_go(sys.stdout)
        raise click.ClickException(f"cannot write the result: {error.strerror}") from None


def unwritten(error: Exception) -> str:
    """What to say when help or version could not be written, as for results; "" for all else."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    # click prints those itself; what a command prints goes through `say`.
    if not isinstance(error, OSError) or not trace or trace.tb_frame.f_code is not _ECHO:
        return ""
    _let_go(sys.stdout)
    return f"cannot write the result: {error.strerror}"


def _painted(line: str) -> str:
    """A line in its colours; foreign text stays as harmless as without."""
    if not isinstance(line, Painted) or not line.isprintable():
        return clean(line)
    text, end = "", 0
    for begin, stop, tone in line.spans:
        text += f"{line[end:begin]}\x1b[{_COLOURS[tone]}m{line[begin:stop]}\x1b[0m"
        end = stop
    return text + line[end:]


@contextlib.contextmanager
def result_stream() -> Iterator[BinaryIO]:
    """stdout for bytes. A reader that went away ends the writing, and changes nothing."""
    stream = sys.stdout.buffer
    try:
        yield stream
        stream.flush()
    except BrokenPipeError:
        _let_go(sys.stdout)
    except OSError as error:
        _let_go(sys.stdout)
        raise click.ClickException(f"cannot write the result: {error.strerror}") from None


def complain(lines: Iterable[str]) -> None:
    """Errors, on stderr; an indented line belongs to the one before it."""
    for line in lines:
        prefix = "" if line.startswith("  ") else f"{PROGRAM}: "
        with contextlib.suppress(OSError):  # nobody is left to be told
            click.echo(prefix + clean(line), err=True)


def is_interactive() -> bool:
    """Whether a person looks at stderr, on a terminal that can redraw a line."""
    return is_terminal(sys.stderr) and os.environ.get("TERM") not in ("dumb", None)


def help_width(most: int) -> int:
    """As click finds it, without shutil, which loads every kind of compression."""
    width = 0
    with contextlib.suppress(ValueError):
        width = max(0, int(os.environ.get("COLUMNS", "0")))
    with contextlib.suppress(AttributeError, ValueError, OSError):  # stdout closed, or no terminal
        width = width or os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
    return max(min(width or 80, most) - 2, 50)


def is_terminal(stream: object) -> bool:
    """Whether the stream is there and a terminal."""
    return isinstance(stream, io.TextIOWrapper) and not stream.closed and stream.isatty()


def _let_go(stream: object) -> None:
    """Else the interpreter would try once more when it ends, and complain."""
    if isinstance(stream, io.TextIOWrapper):
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), stream.fileno())
