"""What `db copy` did, for people and for programs."""

from __future__ import annotations

import json
from typing import Any

from etl.formatting import many, table
from etl.ledger.results import CONTRACT
from etl.source.copy_database import Copied


def copied_lines(copied: Copied, configured_schema: str | None) -> list[str]:
    """A line for each table, the total, and what to do next.

    `configured_schema`: `database_schema`, as it is set now.
    """
    rows = [(name, f"{content.rows:,}") for name, content in copied.tables.items()]
    target = f"{copied.target}{f', schema {copied.schema}' if copied.schema else ''}"
    done = f"{target}: {many(copied.rows, 'row')} copied from {copied.source}"
    schema = _on_schema(copied.schema, configured_schema)
    return [
        *table(("table", "rows"), rows, right="rows"),
        "",
        f"{done}; counts and hashes of all tables are equal",
        f"Next: set database_url to the new database{schema}, then run: heatmap-etl check",
    ]


def _on_schema(wanted: str | None, configured: str | None) -> str:
    """What to do about `database_schema`: with another one, a second history would begin."""
    if wanted is None:
        return " and remove database_schema" if configured else ""
    return f' and {"keep" if wanted == configured else "set"} database_schema = "{wanted}"'


def copied_json(copied: Copied) -> list[str]:
    """One object: both databases, and for each table its rows and their hash."""
    tables: dict[str, Any] = {
        name: {"rows": content.rows, "sha256": content.digest}
        for name, content in copied.tables.items()
    }
    found = {"contract": CONTRACT, "from": copied.source, "to": copied.target}
    return [json.dumps({**found, "rows": copied.rows, "tables": tables})]
