"""The source and the run of a thread, for each line that it logs."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping

_fields: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("fields")


def set_log_fields(**fields: str) -> None:
    """Add these fields to every line that this thread logs from now on: `source`, `run_id`."""
    _fields.set(fields)


def log_fields() -> Mapping[str, str]:
    """The fields of this thread; empty before any were set."""
    return _fields.get({})


def with_log_fields(target: Callable[[], None]) -> Callable[[], None]:
    """`target` for a new thread that logs the same fields as this one."""
    context = contextvars.copy_context()
    return lambda: context.run(target)
