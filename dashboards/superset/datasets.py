"""Writes the datasets of the bundle from the catalogue: python dashboards/superset/datasets.py

A dataset for each SQL view: its columns with their types and what they mean, and the metrics
that the charts use. `make docs` runs it.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import BigInteger, Boolean, Column, Integer, Table

from etl.database.dialects.types import UtcDateTime
from etl.database.sql_views import metadata

FOLDER = Path(__file__).resolve().parent / "bundle" / "datasets"
NAMESPACE = uuid.UUID("7f5c1f1e-3a0a-4f5a-9a3e-0d0000000000")

MAIN_INSTANT = {
    "current_snapshots": "created_at",
    "snapshot_versions": "valid_from",
    "snapshot_changes": "noticed_at",
    "view_coverage": "newest_at",
    "sync_health": "last_read_at",
}
METRICS: dict[str, dict[str, tuple[str, str]]] = {
    "current_snapshots": {
        "count": ("COUNT(*)", "snapshots"),
        "replays_expired": (
            "SUM(CASE WHEN replay_expires_at < CURRENT_TIMESTAMP THEN 1 ELSE 0 END)",
            "replays expired",
        ),
    },
    "snapshot_versions": {"count": ("COUNT(*)", "versions")},
    "snapshot_changes": {"count": ("COUNT(*)", "snapshots")},
    "view_coverage": {
        "count": ("COUNT(*)", "rows"),
        "snapshots_listed": ("SUM(snapshots)", "snapshots"),
        "views_30d": ("MAX(views_30d)", "page views in 30 days"),
        "newest_age_days": ("MIN(newest_age_days)", "days since the newest"),
        "newest_at": ("MAX(newest_at)", "newest snapshot"),
    },
    "sync_health": {
        "count": ("COUNT(*)", "views"),
        "views_with_trouble": (
            "SUM(CASE WHEN verdict IN ('complete', 'unproven') AND held = 0 THEN 0 ELSE 1 END)",
            "views with trouble",
        ),
    },
}
LABELS = {
    "synced_view": "view",
    "view_name": "view",
    "device_type": "device",
    "snapshot_name": "snapshot",
    "application_name": "application",
    "created_by": "pinned by",
    "created_at": "created",
    "modified_at": "last saved",
    "replay_expires_at": "replay until (estimate)",
    "replay_url": "replay",
    "noticed_at": "noticed",
    "changed_columns": "what changed",
    "consecutive_failures": "failures in a row",
    "last_trusted_at": "last trusted reading",
    "views_30d": "page views in 30 days",
}
"""Labels of columns whose name without underscores does not explain them."""


def fixed(name: str) -> str:
    """A UUID that depends on the name only, so that an import replaces what it made before."""
    return str(uuid.uuid5(NAMESPACE, name))


def dataset(view: Table) -> dict[str, Any]:
    """The content of a dataset's file, as Superset imports it."""
    return {
        "table_name": str(view.name),
        "description": view.comment,
        "main_dttm_col": MAIN_INSTANT[view.name],
        "schema": None,
        "sql": None,
        "uuid": fixed(f"dataset {view.name}"),
        "database_uuid": fixed("database"),
        "metrics": [
            {"metric_name": name, "expression": expression, "verbose_name": label}
            for name, (expression, label) in METRICS[view.name].items()
        ],
        "columns": [_column(column) for column in view.columns],
        "version": "1.0.0",
    }


def _column(column: Column[Any]) -> dict[str, Any]:
    return {
        "column_name": str(column.name),
        "verbose_name": LABELS.get(column.name, str(column.name).replace("_", " ")),
        "description": column.comment,
        "type": _type(column),
        "is_dttm": isinstance(column.type, UtcDateTime),
        "groupby": True,
        "filterable": True,
    }


def _type(column: Column[Any]) -> str:
    if isinstance(column.type, UtcDateTime):
        return "TIMESTAMP"
    if isinstance(column.type, Boolean):
        return "BOOLEAN"
    if isinstance(column.type, BigInteger | Integer):
        return "BIGINT"
    return "TEXT" if column.type.python_type is str else "DOUBLE PRECISION"


def text_of(view: Table) -> str:
    """The file of a dataset."""
    text: str = yaml.safe_dump(dataset(view), sort_keys=False, allow_unicode=True, width=100)
    return text


if __name__ == "__main__":
    for view in metadata.tables.values():
        (FOLDER / f"{view.name}.yaml").write_text(text_of(view), encoding="utf-8")
