"""A connection on which no query takes all memory, all time or all of the disk.

Readers of the dashboard write SQL of their own. A query is ended by the progress handler that
Datasette sets; SQLite calls it where its program jumps, never within a function, nor between the
thousands of functions that a row may hold. So each of them is bounded too: by the length of a
value, and where it compares two values piece by piece, by the product of their lengths. Of these
slow functions each call asks the handler, too.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LONGEST_VALUE = 500_000
"""Bytes of a text or blob, and of a row of a sort."""
MOST_OF_AN_ANSWER = 4_000_000
"""Bytes of all rows of an answer in Python's memory, as far as we count them."""
HEAP = 64 * 2**20
"""Bytes that SQLite may hold, of all connections of the process together."""
TEMPORARY_FILE = 512 * 2**20
"""Bytes of one temporary file, such as that of a sort."""

_CELL = 16  # bytes that a value takes beside its text
_STEPS = 50  # of SQLite's program between two looks at the clock; 1,000 of them may take minutes
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: LONGEST_VALUE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 300,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 500,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 500,
}
_LONGEST_PRODUCT = 5_000_000  # of two lengths; SQLite takes up to 15 ms for it
_WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(\*|[0-9]{4})")
_TOO_MUCH = f"the query needs more than the {HEAP // 2**20} MB that SQLite may use here"
_LONG_VALUE = f"a value has more than {LONGEST_VALUE // 1000} kB; ask for part of it with substr()"
_INTERRUPTED = "interrupted"  # by this word Datasette knows that the time is over
_LONG_ANSWER = (
    f"the answer has more than {MOST_OF_AN_ANSWER // 1_000_000} MB; ask for fewer columns, or for "
    "fewer rows with LIMIT"
)


class BoundedCursor(sqlite3.Cursor):
    """Gives an answer up before it fills the memory, and says why in words."""

    connection: BoundedConnection

    def execute(self, *arguments: Any) -> BoundedCursor:
        with self._words():
            return super().execute(*arguments)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return self._fetched(self.arraysize if size is None else size)

    def fetchall(self) -> list[Any]:
        return self._fetched(None)

    def _fetched(self, most: int | None) -> list[Any]:
        rows: list[Any] = []
        room = MOST_OF_AN_ANSWER
        with self._words():
            while most is None or len(rows) < most:
                row = self.fetchone()
                if row is None:
                    break
                room -= sum(_CELL + _length(value) for value in row)
                if room < 0:
                    raise sqlite3.OperationalError(_LONG_ANSWER)
                rows.append(row)
        return rows

    @contextmanager
    def _words(self) -> Iterator[None]:
        self.connection.refusal = ""
        try:
            yield
        except MemoryError:
            raise sqlite3.OperationalError(_TOO_MUCH) from None
        except sqlite3.DataError:
            raise sqlite3.OperationalError(_LONG_VALUE) from None
        except sqlite3.OperationalError as error:  # it does not say what a function raised
            raise sqlite3.OperationalError(self.connection.refusal or str(error)) from None


class BoundedConnection(sqlite3.Connection):
    """SQLite within the bounds above. `refusal`: why a function did not answer."""

    refusal = ""
    _handler: Callable[[], Any] | None = None

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for limit, value in _LIMITS.items():
            self.setlimit(limit, value)
        # It counts for the process: the same for each connection.
        super().execute(f"PRAGMA hard_heap_limit={HEAP}").fetchall()
        self._plain = sqlite3.connect(":memory:", check_same_thread=False)
        self._plain.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        for name, number, check in _slow():
            self.create_function(name, number, self._checked(name, check), deterministic=True)

    def cursor(self, factory: Any = BoundedCursor) -> Any:
        return super().cursor(factory)

    def set_progress_handler(self, handler: Any, n: int) -> None:
        self._handler = handler
        super().set_progress_handler(handler, min(n, _STEPS))

    def close(self) -> None:
        self._plain.close()
        super().close()

    def _checked(self, name: str, check: Callable[..., bool]) -> Callable[..., Any]:
        """SQLite's own function, asked only for what it answers at once."""

        def function(*values: Any) -> Any:
            if not check(*values):
                self.refusal = f"{name}() is not answered for values, or a width, of that length"
                raise sqlite3.OperationalError(self.refusal)
            if self._handler and self._handler():
                self.refusal = _INTERRUPTED
                raise sqlite3.OperationalError(self.refusal)
            marks = ", ".join("?" * len(values))
            return self._plain.execute(f"SELECT {name}({marks})", values).fetchone()[0]

        return function


def _size(value: Any) -> int:
    return _CELL + _length(value)


def _is_narrow(form: Any = None, *_: Any) -> bool:
    """A precision of a thousand million takes seconds for each call."""
    return not isinstance(form, str) or not _WIDE_FORMAT.search(form)


def _are_short(one: Any, other: Any, *_: Any) -> bool:
    """One is looked for at each place of the other."""
    return _length(one) * _length(other) <= _LONGEST_PRODUCT


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else 0


_SLOW: tuple[tuple[str, int, Callable[..., bool]], ...] = (
    ("printf", -1, _is_narrow),
    ("format", -1, _is_narrow),
    ("glob", 2, _are_short),
    ("instr", 2, _are_short),
    ("like", 2, _are_short),
    ("like", 3, _are_short),
    ("replace", 3, _are_short),
    ("trim", 2, _are_short),
    ("ltrim", 2, _are_short),
    ("rtrim", 2, _are_short),
    ("json_patch", 2, _are_short),
)


def _slow() -> Iterator[tuple[str, int, Callable[..., bool]]]:
    yield from _SLOW
    if sqlite3.sqlite_version_info >= (3, 41):
        yield "unhex", 2, _are_short
