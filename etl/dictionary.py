"""The catalogue -> Markdown: `docs/data-dictionary.md`, and README's table of settings.

    python -m etl.dictionary > docs/data-dictionary.md
    python -m etl.dictionary README.md      writes its table of settings anew

`make docs` does both; a test fails when either is out of date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Dialect, Double, Integer, String, Table
from sqlalchemy.dialects import mysql, postgresql, sqlite

from etl.config.settings import Setting, settings_table
from etl.database import sql_views
from etl.database.schema import VERSION_TABLE, metadata
from etl.database.types import JsonText, LongText, UtcDateTime

BEGIN = "<!-- settings: written by `make docs` -->"
END = "<!-- end of settings -->"

_TYPES: tuple[tuple[str, Any, str], ...] = (
    ("text", LongText(), "of any length"),
    ("text(n)", String(255), "at most n characters; here n = 255"),
    ("json", JsonText(), "ASCII-escaped JSON"),
    ("instant", UtcDateTime(), "UTC, to the microsecond"),
    ("bigint", BigInteger(), "64 bits"),
    ("integer", Integer(), ""),
    ("double", Double(), ""),
    ("boolean", Boolean(), ""),
)
_INTRODUCTION = f"""\
# Data dictionary

Generated from the catalogue in `etl/sql_views.py` and `etl/schema.py` by `make docs`; do not edit.

- Attributes of a snapshot have Datadog's names; `start` alone is `start_ms`.
- All instants are UTC. `valid_from`, `valid_to`, `removed_at` and `missing_since` are instants of
  readings: what they date happened between that reading and the one before.
- Text is exact: no database folds case, trims or pads it.
- The SQL views come first: they only grow, while tables may change. PostgreSQL keeps these comments
  on tables, views and columns; MariaDB and MySQL on tables and their columns, for they have none
  for views; SQLite has none at all.
- The migrations keep their own table, `{VERSION_TABLE}`.
"""


def dictionary() -> str:
    """The text of `docs/data-dictionary.md`."""
    tables, views = list(metadata.tables.values()), list(sql_views.metadata.tables.values())
    kinds = (("SQL views", views), ("Tables", tables))
    contents = [f"{title}:\n\n{''.join(map(_entry, named))}" for title, named in kinds]
    types = f"## Types\n\n{_types()}"
    return "\n".join([_INTRODUCTION, *contents, types, *map(_view, views), *map(_table, tables)])


def _entry(table: Table) -> str:
    return f"- [{table.name}](#{table.name}): {table.comment}\n"


def settings() -> str:
    """A Markdown table of every setting."""
    rows = list(map(_setting, settings_table()))
    return _markdown(("Key", "Default", "Environment", "What it is"), rows)


def with_settings(text: str) -> str:
    """`text` with its table of settings written anew, between the two marks."""
    before, _, rest = text.partition(f"{BEGIN}\n")
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{settings()}{END}{after}"


def _setting(setting: Setting) -> Sequence[str]:
    default = "" if setting.default is None else f"`{json.dumps(setting.default)}`"
    variables = [setting.environment, *filter(None, [setting.ambient])]
    described = setting.description[0].upper() + setting.description[1:]
    return f"`{setting.key}`", default, ", ".join(f"`{v}`" for v in variables), described


def _types() -> str:
    makers: tuple[Callable[[], Dialect], ...] = (sqlite.dialect, postgresql.dialect, mysql.dialect)
    dialects = [make() for make in makers]
    rows = [
        (word, *(f"`{type_.compile(dialect=dialect)}`" for dialect in dialects), note)
        for word, type_, note in _TYPES
    ]
    return _markdown(("Here", "SQLite", "PostgreSQL", "MariaDB, MySQL", ""), rows)


def _table(table: Table) -> str:
    keys = ", ".join(f"`{column.name}`" for column in table.primary_key.columns)
    indexes = sorted(", ".join(f"`{c.name}`" for c in index.columns) for index in table.indexes)
    lines = [f"## {table.name}", "", f"{table.comment}", "", f"Primary key: {keys}."]
    lines += [f"Index: {columns}." for columns in indexes]
    header = ("Column", "Type", "NULL", "What it is")
    return "\n".join([*lines, "", _markdown(header, map(_column, table.columns))])


def _view(view: Table) -> str:
    header = ("Column", "Type", "NULL", "What it is")
    return f"## {view.name}\n\n{view.comment}\n\n{_markdown(header, map(_column, view.columns))}"


def _column(column: Column[Any]) -> Sequence[str]:
    nullable = "yes" if column.nullable else ""
    return f"`{column.name}`", _type(column), nullable, column.comment or ""


def _type(column: Column[Any]) -> str:
    if isinstance(column.type, String) and column.type.length:
        return f"text({column.type.length})"
    return next(word for word, type_, _ in _TYPES if type(type_) is type(column.type))


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def lines() -> Iterator[str]:
        for cells in (header, ["---"] * len(header), *rows):
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"

    return "".join(lines())


def main(arguments: Sequence[str]) -> None:
    """Print the dictionary, or write the table of settings into the files that are named."""
    if not arguments:
        sys.stdout.write(dictionary())
    for name in arguments:
        path = Path(name)
        path.write_text(with_settings(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
