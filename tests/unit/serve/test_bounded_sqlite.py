"""The bounded connection, with a handler that counts instead of a clock."""

import sqlite3
from contextlib import closing
from itertools import count

import pytest

from etl.serve.dashboard.bounded_sqlite import BoundedConnection


@pytest.mark.parametrize("call", ["instr(a, a)", "a LIKE a", "trim(a, a)", "printf(a)"])
def test_a_row_of_many_slow_functions_is_interrupted(call: str) -> None:
    """SQLite asks the handler between rows, and a row may hold thousands of them."""
    calls = count()
    terms = ", ".join([f"({call})"] * 200)
    with closing(sqlite3.connect(":memory:", factory=BoundedConnection)) as connection:
        connection.set_progress_handler(lambda: next(calls) > 100, 1000)
        with pytest.raises(sqlite3.OperationalError) as raised:
            connection.cursor().execute(f"SELECT {terms} FROM (SELECT 'x' AS a)").fetchall()
    assert raised.value.args == ("interrupted",)  # the words that Datasette knows


def test_unhex_is_not_answered_for_two_long_values() -> None:
    with closing(sqlite3.connect(":memory:", factory=BoundedConnection)) as connection:
        if sqlite3.sqlite_version_info < (3, 41):
            with pytest.raises(sqlite3.OperationalError, match="no such function: unhex"):
                connection.cursor().execute("SELECT unhex('61-62', '-')")
            return
        (short,) = connection.cursor().execute("SELECT unhex('61-62', '-')").fetchone()
        assert short == b"ab"
        with pytest.raises(sqlite3.OperationalError, match="unhex"):
            connection.cursor().execute(
                "SELECT unhex(hex(zeroblob(9999)), hex(zeroblob(9999)))"
            ).fetchall()
