"""Writes `dashboards/dbt/sources.yml` from the catalogue: the SQL views as sources with tests.

    python -m scripts.dbt_sources > dashboards/dbt/sources.yml

`make docs` does it; a test fails when the file is out of date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from sqlalchemy import Column, Table

from etl.database.sql_views import metadata

KEYS = {"current_snapshots": "id", "sync_health": "view_key"}
"""The column that is unique in a view; views with a key of several columns are left out."""
VALUES = {
    "event": ("baseline", "added", "changed", "removed", "returned"),
    "began": ("baseline", "added", "changed", "returned"),
    "ended": ("changed", "removed"),
    "verdict": ("complete", "unproven", "truncated", "failed"),
}
_HEAD = """\
# Generated from the catalogue by `make docs`; do not edit. Copy it into the models of a project.
# Needs dbt 1.10.8 or newer. The variables say where the tables are, and how many hours old the last
# good reading may be; dbt's own names of databases apply.
version: 2

sources:
  - name: heatmap_etl
    description: Replay heatmap snapshots of Datadog with their history, kept by heatmap-etl
    schema: "{{ var('heatmap_etl_schema', target.schema) }}"
    tables:
"""
# How long it may take depends on the schedule: the defaults suit a daily one.
_FRESHNESS = """\
        config:
          loaded_at_field: last_trusted_at
          freshness:
            filter: is_watched
            warn_after:
              count: "{{ var('heatmap_etl_warn_after_hours', 25) | int }}"
              period: hour
            error_after:
              count: "{{ var('heatmap_etl_error_after_hours', 49) | int }}"
              period: hour
"""


def sources() -> str:
    """The text of `sources.yml`."""
    return _HEAD + "".join(line for view in metadata.tables.values() for line in _view(view))


def _view(view: Table) -> Iterator[str]:
    yield f"      - name: {view.name}\n"
    yield f"        description: {json.dumps(view.comment)}\n"
    if view.name == "sync_health":
        yield _FRESHNESS
    yield "        columns:\n"
    for column in view.columns:
        yield f"          - name: {column.name}\n"
        yield f"            description: {json.dumps(column.comment)}\n"
        tests = list(_tests(view, column))
        if tests:
            yield "            data_tests:\n"
            yield from tests


def _tests(view: Table, column: Column[object]) -> Iterator[str]:
    if not column.nullable:
        yield "              - not_null\n"
    if KEYS.get(view.name) == column.name:
        yield "              - unique\n"
    if column.name in VALUES:
        values = ", ".join(VALUES[column.name])
        yield "              - accepted_values:\n                  arguments:\n"
        yield f"                    values: [{values}]\n"


if __name__ == "__main__":
    sys.stdout.write(sources())
