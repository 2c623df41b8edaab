"""Fields of every line that a thread logs: its source and its run."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping

_fields: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("fields")


def work_for(**fields: str) -> None:
    """From here on this thread logs these fields: `source`, `run_id`."""
    _fields.set(fields)


def fields() -> Mapping[str, str]:
    """Those of this thread; empty: it works for no source."""
    return _fields.get({})


def inherited(work: Callable[[], None]) -> Callable[[], None]:
    """`work` for a new thread, which logs the same fields as this one."""
    context = contextvars.copy_context()
    return lambda: context.run(work)
