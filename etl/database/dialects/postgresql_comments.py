"""Comments in PostgreSQL: on tables, views and their columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import Connection, text

from etl.database.dialects import Comments
from etl.database.dialects.servers import verbatim

# to_regclass follows the search path, as our statements do.
_READ = text(
    "SELECT c.relname, COALESCE(a.attname, ''), COALESCE(d.description, '')"
    " FROM unnest(CAST(:names AS text[])) AS n"
    " JOIN pg_catalog.pg_class c ON c.oid = to_regclass(quote_ident(n))"
    " CROSS JOIN LATERAL (SELECT 0 AS attnum, NULL AS attname UNION ALL"
    " SELECT attnum, attname FROM pg_catalog.pg_attribute"
    " WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a"
    " LEFT JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = a.attnum"
    " AND d.classoid = 'pg_catalog.pg_class'::regclass"
)


def read(connection: Connection, names: Collection[str]) -> Comments:
    """The comments of those tables and views that are there."""
    found: Comments = {}
    for name, column, comment in connection.execute(_READ, {"names": list(names)}):
        found.setdefault(name, {})[column] = comment
    return found


def write(connection: Connection, comments: Comments, views: Collection[str]) -> None:
    """All in one message: each alone would be a round trip."""
    connection.execute(verbatim("; ".join(_statements(comments, views))))


def _statements(comments: Comments, views: Collection[str]) -> Iterator[str]:
    for name, by_column in comments.items():
        kind = "VIEW" if name in views else "TABLE"
        for column, words in by_column.items():
            what = f'COLUMN {name}."{column}"' if column else f"{kind} {name}"
            quoted = words.replace("'", "''")
            yield f"COMMENT ON {what} IS '{quoted}'"
