"""stdout and stderr: safe writing, also when the reader has gone away.

Results go to stdout, everything else to stderr. Names come from Datadog and from files, so every
text is cleaned of what a terminal would take for a command.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from etl.errors import OutputError
from etl.formatting import Styled, clean
from etl.runtime.streams import abandon

if TYPE_CHECKING:
    from typing_extensions import Buffer

PROGRAM = "heatmap-etl"


def as_called(*, is_anywhere: bool = False) -> str:
    """The words that start this program again, in a shell of this folder: its name or its path.

    `is_anywhere`: in any shell, of any folder and any user.
    """
    import shlex
    import shutil

    path = sys.argv[0]
    name = os.path.basename(path)  # noqa: PTH119 - no pathlib for each command
    if name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m etl"
    found = shutil.which(PROGRAM)
    if is_anywhere and name == PROGRAM:
        full = path if "/" in path else found or path
        return shlex.quote(os.path.abspath(full))  # noqa: PTH100 - no pathlib for each command
    is_found = found is not None and os.path.exists(path) and os.path.samefile(found, path)  # noqa: PTH110, PTH121
    return shlex.quote(path) if name == PROGRAM and "/" in path and not is_found else PROGRAM


def prepare_streams() -> None:
    """Escape what the encoding of a stream cannot show, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_results(lines: Iterable[str]) -> None:
    """Print results on stdout. A reader that went away (`| head`) is no error.

    Raises `OutputError` when they cannot be written.
    """
    text = "\n".join(line if isinstance(line, Styled) else clean(line) for line in lines)
    with _writing_results():
        if sys.stdout is not None:  # the process was started without it
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


def shows_colours() -> bool:
    """Whether stdout is a terminal that shows colours, and `NO_COLOR` is not set."""
    return (
        is_terminal(sys.stdout)
        and os.environ.get("TERM") not in ("dumb", None)
        and not os.environ.get("NO_COLOR")
    )


@contextlib.contextmanager
def result_stream() -> Iterator[BinaryIO]:
    """stdout for bytes. A reader that went away ends the writing, and is no error.

    A terminal gets them as text, cleaned as all other text is; a file or a pipe as they are.
    Raises `OutputError` when the result cannot be written.
    """
    if sys.stdout is None:  # the process was started without it
        raise OutputError("cannot write the result: stdout is closed")
    stream = sys.stdout.buffer
    with _writing_results():
        yield cast(BinaryIO, _ForTerminal(stream)) if is_terminal(sys.stdout) else stream
        stream.flush()


class _ForTerminal(io.BufferedIOBase):
    """Takes whole pieces of UTF-8."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        text = bytes(data).decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        self._stream.write("\n".join(map(clean, text.split("\n"))).encode())
        return len(bytes(data))


@contextlib.contextmanager
def _writing_results() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = abandon_stdout(error)
        if reason:
            raise OutputError(reason) from None


def abandon_stdout(error: OSError) -> str:
    """Write nothing more to stdout after `error`.

    Returns why the result was not written, or "" when only the reader went away.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        abandon(sys.stdout)
    is_unread = isinstance(error, BrokenPipeError)
    return "" if is_unread else f"cannot write the result: {error.strerror}"


def print_errors(lines: Iterable[str]) -> None:
    """Print errors on stderr; an indented line belongs to the one before it."""
    for line in lines:
        prefix = "" if line.startswith("  ") else f"{PROGRAM}: "
        write_error(f"{prefix}{clean(line)}\n")


def write_error(text: str) -> None:
    """Write to stderr as it is. That it is full, closed or unread changes nothing."""
    with contextlib.suppress(OSError, ValueError):  # the other one: closed
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()


def is_interactive() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    return is_terminal(sys.stderr) and os.environ.get("TERM") not in ("dumb", None)


def is_terminal(stream: object) -> bool:
    """Whether the stream is open and a terminal."""
    return isinstance(stream, io.TextIOWrapper) and not stream.closed and stream.isatty()
