"""What may be said of a driver's error: words, names of tables and columns, and no value."""

import sqlite3
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql
import pytest

from etl.database.dialects import dialect_named

VALUE = "Ada's \"new\" for key 'Lovelace'\n at row"


class OfServer(psycopg.Error):
    """As PostgreSQL raises it; what is not named is not there."""

    def __init__(self, **parts: str) -> None:
        super().__init__(f"{parts['message_primary']}\nDETAIL:  Failing row contains ({VALUE}).")
        self._parts = parts

    @property
    def diag(self) -> Any:
        names = ("sqlstate", "message_detail", "context", "internal_query", "table_name")
        empty = dict.fromkeys((*names, "column_name", "constraint_name"))
        return SimpleNamespace(**{**empty, **self._parts})


def of_postgresql(code: str, message: str, **parts: str) -> str:
    error = OfServer(sqlstate=code, message_primary=message, **parts)
    return dialect_named("postgresql").tell(error)


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        ("22P02", f'invalid input syntax for type json: "{VALUE}"', "type json: ***"),
        ("22P02", f"ungültige Eingabesyntax für Typ json: »{VALUE}«", "Typ json: ***"),
        ("22P02", f"syntaxe en entrée invalide pour le type json : « {VALUE} »", "json : ***"),
        ("22008", f'date/time field value out of range: "{VALUE}"', "out of range: ***"),
        ("22003", f'value "{VALUE}" is out of range for type integer', "for type integer"),
        ("22021", 'invalid byte sequence for encoding "UTF8": 0xc3 0x28', 'encoding "UTF8": ***'),
        ("53100", 'could not extend file "base/1/2": No space left', 'file "base/1/2": No space'),
        ("42501", 'permission denied for table "snapshots"', 'table "snapshots"'),
        ("P0001", "what its author says", "what its author says"),
    ],
)
def test_postgresql_quotes_values_only_of_wrong_data(code: str, message: str, told: str):
    said = of_postgresql(code, message, context=f'COPY t, line 1: "{VALUE}"')
    assert told in said
    assert "Ada" not in said
    assert "Lovelace" not in said
    assert "0xc3" not in said


def test_postgresql_names_what_the_message_does_not():
    long, copy = (
        "value too long for type character varying(4)",
        "COPY incoming, line 7, column device",
    )
    assert of_postgresql("22001", long, context=f'{copy}: "{VALUE}"') == f"{long} (column device)"
    taken = 'duplicate key value violates unique constraint "one"'
    names = {"table_name": "t", "constraint_name": "one"}
    assert of_postgresql("23505", taken, **names) == f"{taken} (table t)"


def test_postgresql_tells_what_depends_on_a_table_and_not_what_a_function_adds():
    needed, detail = "cannot drop table t because other objects depend on it", "view v depends on t"
    assert of_postgresql("2BP01", needed, message_detail=detail) == f"{needed}: {detail}"
    by_function = {"message_detail": VALUE, "context": "PL/pgSQL function f() line 1 at RAISE"}
    assert of_postgresql("0A000", needed, **by_function) == needed


def test_a_message_without_a_code_is_told():
    """As of a pooler that sends none."""
    error = OfServer(message_primary="no more connections allowed")
    assert dialect_named("postgresql").tell(error) == "no more connections allowed"


def test_what_a_function_makes_of_a_value_is_no_statement_to_show():
    said = of_postgresql("42601", f'syntax error at or near "{VALUE}"', internal_query="SELECT")
    assert said == "syntax error at or near ***"


def test_where_a_function_makes_statements_of_values_no_name_is_sure_to_be_one():
    said = of_postgresql(
        "42P01",
        f'relation "{VALUE}" does not exist',
        context="PL/pgSQL function f() line 1 at EXECUTE",
        column_name=VALUE,
    )
    assert said == "relation *** does not exist"
    said = of_postgresql("42601", f'syntax error in tsquery: "{VALUE}"')
    assert said == "syntax error in tsquery: ***"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (f"JSON path error near '{VALUE}'", "JSON path error near ***"),
        ('near "SELECTT": syntax error', 'near "SELECTT": syntax error'),
        (f"Could not decode to UTF-8 column 'name' with text '{VALUE}'", "UTF-8 column 'name'"),
    ],
)
def test_sqlite_quotes_values_in_its_functions_for_json(message: str, told: str):
    said = dialect_named("sqlite").tell(sqlite3.OperationalError(message))
    assert said.endswith(told)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (psycopg.DataError(f'date too large (after year 10K): "{VALUE}"'), "year 10K): ***"),
        (psycopg.OperationalError('FATAL: role "etl" does not exist'), 'role "etl" does not'),
    ],
)
def test_the_words_of_psycopg_itself(error: Exception, told: str):
    said = dialect_named("postgresql").tell(error)
    assert told in said
    assert "Ada" not in said


@pytest.mark.parametrize(
    ("number", "message", "told"),
    [
        (1062, f"Duplicate entry '{VALUE}' for key 'PRIMARY'", "entry *** for key 'PRIMARY'"),
        (1062, f"Doppelter Eintrag '{VALUE}' für Schlüssel 'PRIMARY'", "Doppelter Eintrag ***"),
        (
            1366,
            f"Incorrect integer value: '{VALUE}' for column `d`.`t`.`c` at row 1",
            "`d`.`t`.`c`",
        ),
        (
            1366,
            f"Incorrect integer value: '{VALUE}' for column 'c' at row 1",
            "column 'c' at row 1",
        ),
        (1292, f"Truncated incorrect DOUBLE value: '{VALUE}", "DOUBLE value: ***"),
        (
            1292,
            f"Incorrect datetime value: '{VALUE}' for column 'c' at row 2",
            "column 'c' at row 2",
        ),
        (1064, f"the right syntax to use near '{VALUE}' at line 1", "near *** at line 1"),
        (1298, f"Unknown or incorrect time zone: '{VALUE}'", "incorrect time zone: ***"),
        (1146, "Table 'd.t' doesn't exist", "Table 'd.t' doesn't exist"),
        (2003, "Can't connect to MySQL server on 'h'", "on 'h'"),
        (1526, f"Table has no partition for value {VALUE}", "no partition for this value"),
        (1690, f"BIGINT value is out of range in '({VALUE})'", "out of range in ***"),
        (1406, "Data too long for column 'c' at row 1", "column 'c' at row 1"),
        (1048, "Column 'c' cannot be null", "Column 'c'"),
        (1644, "what its author says of 'this'", "what its author says of 'this'"),
        (4025, "CONSTRAINT `c` failed for `d`.`t`", "`c` failed for `d`.`t`"),
    ],
)
def test_mysql_quotes_values_by_number(number: int, message: str, told: str):
    said = dialect_named("mysql").tell(pymysql.err.DataError(number, message))
    assert told in said
    assert "Ada" not in said


def test_an_error_without_words_is_told_as_it_is():
    for name in ("sqlite", "postgresql", "mysql"):
        assert dialect_named(name).tell(pymysql.err.InterfaceError()) == ""
