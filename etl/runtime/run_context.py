"""Which run, and of which source, a thread works for: fields of every line it logs."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping

_fields: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("fields")


def work_for(**fields: str) -> None:
    """From here on this thread works for these: `source`, `run_id`."""
    _fields.set(fields)


def fields() -> Mapping[str, str]:
    """What this thread works for; empty: nothing in particular."""
    return _fields.get({})


def inherited(work: Callable[[], None]) -> Callable[[], None]:
    """`work` for a new thread, which works for the same as this one."""
    context = contextvars.copy_context()
    return lambda: context.run(work)
