"""Comments in MariaDB and MySQL: on tables and their columns, and not on views."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from etl.database.dialects import Comments
from etl.database.dialects.servers import verbatim

_READ = (
    "SELECT table_name, '', table_comment FROM information_schema.tables"
    " WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"
    " UNION ALL SELECT table_name, column_name, column_comment FROM information_schema.columns"
    " WHERE table_schema = DATABASE()"
)
# How the server itself writes a column: what follows the comment is a constraint.
_COLUMN = r"^ *`{}` (?P<type>.*?)(?: COMMENT '(?:[^'\\]|''|\\.)*')?(?P<rest> CHECK .*?)?,?$"
_NOT_INSTANT = {1845, 1846}


def read(connection: Connection, tables: Collection[str]) -> Comments:
    """The comments of those tables that are there."""
    found: Comments = {}
    for name, column, comment in connection.exec_driver_sql(_READ):
        if name in tables:
            found.setdefault(name, {})[column] = comment
    return found


def write(connection: Connection, comments: Comments) -> None:
    """One statement for each table."""
    for name, by_column in comments.items():
        alter(connection, name, by_column)


def alter(connection: Connection, table: str, comments: Mapping[str, str]) -> None:
    """A comment is changed with the whole column, so that is repeated as the server writes it.

    INSTANT: a server that would copy the table refuses, and the comments stay as they are.
    """
    _, made = connection.exec_driver_sql(f"SHOW CREATE TABLE {table}").one()
    changes = [change(str(made), column, words) for column, words in comments.items()]
    statement = f"ALTER TABLE {table} {', '.join(filter(None, changes))}, ALGORITHM=INSTANT"
    try:
        connection.execute(verbatim(statement))
    except DBAPIError as error:
        if not error.orig or error.orig.args[0] not in _NOT_INSTANT:
            raise


def change(made: str, column: str, words: str) -> str:
    """The part of ALTER TABLE for one comment; `made`: what SHOW CREATE TABLE says."""
    quoted = words.replace("\\", "\\\\").replace("'", "''")  # sql_mode is ours: it escapes
    if not column:
        return f"COMMENT='{quoted}'"
    found = re.search(_COLUMN.format(column), made, re.MULTILINE)
    if found is None:
        return ""
    return f"MODIFY `{column}` {found['type']} COMMENT '{quoted}'{found['rest'] or ''}"
