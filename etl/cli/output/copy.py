"""What `db copy` did, for people and for programs."""

from __future__ import annotations

import json
from typing import Any

from etl.formatting import many, table
from etl.ledger.results import CONTRACT
from etl.source.copy_database import Copied


def copied_lines(copied: Copied) -> list[str]:
    """A line for each table, the total, and what to do next."""
    rows = [(name, f"{content.rows:,}") for name, content in copied.tables.items()]
    done = f"{copied.target}: {many(copied.rows, 'row')} copied from {copied.source}"
    return [
        *table(("table", "rows"), rows, right="rows"),
        "",
        f"{done}; counts and hashes of all tables are equal",
        "Next: set database_url to the new database, then run: heatmap-etl check",
    ]


def copied_json(copied: Copied) -> list[str]:
    """One object: both databases, and for each table its rows and their hash."""
    tables: dict[str, Any] = {
        name: {"rows": content.rows, "sha256": content.digest}
        for name, content in copied.tables.items()
    }
    found = {"contract": CONTRACT, "from": copied.source, "to": copied.target}
    return [json.dumps({**found, "rows": copied.rows, "tables": tables})]
