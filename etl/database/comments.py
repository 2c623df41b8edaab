"""The words of the catalogue as comments in the database, for those who look at a table there.

The revisions give each table the words of their time. An upgrade then sets the comments that differ
from the catalogue. A better description therefore needs no revision: the schema stays as it is, and
the program of the version before still runs with it. SQLite keeps no comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from sqlalchemy import Connection, Table, TextClause, text
from sqlalchemy.exc import DBAPIError

from etl.database import schema, sql_views
from etl.database.dialects import dialect_of

Comments: TypeAlias = "dict[str, str]"
"""By column; "" is the table itself."""

# to_regclass follows the search path, as our statements do.
_ON_POSTGRESQL = text(
    "SELECT c.relname, COALESCE(a.attname, ''), COALESCE(d.description, '')"
    " FROM unnest(CAST(:names AS text[])) AS n"
    " JOIN pg_catalog.pg_class c ON c.oid = to_regclass(quote_ident(n))"
    " CROSS JOIN LATERAL (SELECT 0 AS attnum, NULL AS attname UNION ALL"
    " SELECT attnum, attname FROM pg_catalog.pg_attribute"
    " WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a"
    " LEFT JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = a.attnum"
    " AND d.classoid = 'pg_catalog.pg_class'::regclass"
)
_ON_MYSQL = text(
    "SELECT table_name, '', table_comment FROM information_schema.tables"
    " WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"
    " UNION ALL SELECT table_name, column_name, column_comment FROM information_schema.columns"
    " WHERE table_schema = DATABASE()"
)
# How the server itself writes a column: what follows the comment is a constraint.
_COLUMN = r"^ *`{}` (?P<type>.*?)(?: COMMENT '(?:[^'\\]|''|\\.)*')?(?P<rest> CHECK .*?)?,?$"
_NOT_INSTANT = {1845, 1846}


def are_current(connection: Connection) -> bool:
    """Whether every comment says what the catalogue says; True where the database keeps none."""
    return not _outdated(connection)


def refresh(connection: Connection) -> None:
    """Set the comments that differ. Repeatable; on MariaDB each table is one statement of DDL."""
    outdated = _outdated(connection)
    if dialect_of(connection).family == "postgresql":
        if statements := list(_comment_on(outdated)):
            connection.execute(_plain("; ".join(statements)))  # each alone would be a round trip
        return
    for table, comments in outdated.items():
        _alter(connection, table, comments)


def _outdated(connection: Connection) -> dict[str, Comments]:
    """The comments to set, by table, of what is there."""
    family = dialect_of(connection).family
    wanted = dict(schema.metadata.tables)
    if family == "postgresql":
        wanted |= sql_views.metadata.tables
        found = connection.execute(_ON_POSTGRESQL, {"names": list(wanted)}).all()
    elif family == "mysql":
        found = connection.execute(_ON_MYSQL).all()
    else:
        return {}
    outdated: dict[str, Comments] = {}
    for table, column, comment in found:
        words = _words(wanted[table]).get(column) if table in wanted else None
        if words is not None and words != comment:
            outdated.setdefault(table, {})[column] = words
    return outdated


def _words(table: Table) -> Comments:
    return {"": table.comment or ""} | {c.name: c.comment or "" for c in table.columns}


def _comment_on(outdated: Mapping[str, Comments]) -> Iterator[str]:
    for table, comments in outdated.items():
        kind = "VIEW" if table in sql_views.metadata.tables else "TABLE"
        for column, words in comments.items():
            what = f'COLUMN {table}."{column}"' if column else f"{kind} {table}"
            yield f"COMMENT ON {what} IS {_quoted(words)}"


def _alter(connection: Connection, table: str, comments: Comments) -> None:
    """A comment is changed with the whole column, so that is repeated as the server writes it.

    INSTANT: a server that would copy the table refuses, and the comments stay as they are.
    """
    _, made = connection.exec_driver_sql(f"SHOW CREATE TABLE {table}").one()
    changes = [_change(str(made), column, words) for column, words in comments.items()]
    alter = f"ALTER TABLE {table} {', '.join(filter(None, changes))}, ALGORITHM=INSTANT"
    try:
        connection.execute(_plain(alter))
    except DBAPIError as error:
        if not error.orig or error.orig.args[0] not in _NOT_INSTANT:
            raise


def _change(made: str, column: str, words: str) -> str:
    if not column:
        return f"COMMENT={_quoted(words)}"
    found = re.search(_COLUMN.format(column), made, re.MULTILINE)
    if found is None:
        return ""
    return f"MODIFY `{column}` {found['type']} COMMENT {_quoted(words)}{found['rest'] or ''}"


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"


def _plain(sql: str) -> TextClause:
    """Without parameters: a colon in it is a colon."""
    return text(sql.replace(":", r"\:"))
