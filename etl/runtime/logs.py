"""Logging: lines for people, or JSON, on stderr.

Libraries log from WARNING on only: at DEBUG they print rows, headers and SQL.
"""

from __future__ import annotations

import logging
import sys
import time

from etl.formatting import clean
from etl.runtime.console import is_interactive, print_errors
from etl.runtime.run_context import log_fields

_ERASE_LINE = "\r\x1b[K"


def set_up(log_format: str, level: str) -> None:
    """Send every log line to stderr, as `console` or `json`; `level` is that of our own loggers."""
    number = logging.getLevelNamesMapping()[level]
    handler = _Handler(sys.stderr)
    handler.setFormatter(_json() if log_format == "json" else _Console())
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("etl").setLevel(number)
    # Its warnings are errors of the server that it ignores; they hold whole rows.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # It logs with a traceback that a lost connection cannot be rolled back. Our own error says it.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    def handle(self, record: logging.LogRecord) -> bool:
        """Add the log fields of the thread, which JSON shows."""
        for name, value in log_fields().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return super().handle(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - named by the base
        """Say in one line that a log call is wrong; nothing where stderr is gone or closed."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError | ValueError):
            where = f"{record.pathname}:{record.lineno}"
            print_errors([f"a bug; please report it: the log call in {where}: {error!r}"])


class _Console(logging.Formatter):
    def __init__(self) -> None:
        self.converter = time.gmtime
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        # A progress bar may be on this line; it draws itself again.
        self._start = _ERASE_LINE if is_interactive() else ""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).splitlines()
        return self._start + "\n".join(map(clean, lines))


def _json() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter  # only JSON pays for the import

    shown = "%(asctime)s %(levelname)s %(name)s %(message)s"
    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    formatter = JsonFormatter(shown, "%Y-%m-%dT%H:%M:%SZ", rename_fields=names)
    formatter.converter = time.gmtime
    return formatter
