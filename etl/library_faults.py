"""Tells what a library raised from a bug of ours. Pure.

A library may raise more than it says. Where it does so in one exchange, parse, statement or use of
a file, that is a failure of this one, and never the end of a run: one line names the class. What
a line of ours raises is a bug, and is reported as one.

The innermost frame of the traceback says whose line it was. Functions written in C have no frame:
where ours call one for foreign bytes, the call itself is guarded (`wire`, `strict_json`,
`driver_cursor`, `spill_file`).
"""

from __future__ import annotations

import traceback
from types import FrameType

_OURS = "etl"
_PYTHON = traceback.__file__.rpartition("traceback")[0]  # where its own modules are


def said_of(error: BaseException) -> str:
    """The message; "" where not even that can be had."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - anybody's class
        return ""


def name_of(error: BaseException) -> str:
    """The class, such as `KeyError` or `struct.error`."""
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def origin_of(error: BaseException) -> str:
    """The class and the module that raised it, and no word of the message: it may quote a key."""
    modules = [_module_of(frame) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return f"{name_of(error)} in {modules[-1]}" if modules else name_of(error)


def frames_of(error: BaseException) -> str:
    """Where it was raised, without the values and messages that a whole traceback has."""
    return "".join(traceback.format_tb(error.__traceback__)).rstrip()


def packages_of(error: BaseException) -> frozenset[str]:
    """The packages that raised it, as far as a line of ours that called them; none: ours."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = set()
    for frame in reversed(frames):
        if not _is_of_library(frame):
            break
        found.add(_package_of(frame))
    return frozenset(found)


def is_raised_in(error: BaseException, package: str) -> bool:
    """Whether the innermost line is one of this package, or of one within it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and f"{_module_of(frames[-1])}.".startswith(f"{package}.")


def _is_of_library(frame: FrameType) -> bool:
    package, file = _package_of(frame), frame.f_code.co_filename
    is_made = file.startswith("<")  # such as the methods of a named tuple
    is_installed = "site-packages" in file or "dist-packages" in file
    return package != _OURS and (is_made or is_installed or file.startswith(_PYTHON))


def _package_of(frame: FrameType) -> str:
    return _module_of(frame).partition(".")[0]


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))
