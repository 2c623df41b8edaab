"""Reads the page of the dashboard from `files/dashboard.toml` and `files/vega-lite/`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

import msgspec

FILES: Traversable = files("etl.serve.dashboard") / "files"


class Chart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query for SQLite, and how its rows are drawn: by Vega-Lite, or by `heatmaps.js`.

    Datasette drops `[[ AND ... :name ]]` from the query unless the filter of that name is set.
    """

    title: str
    library: Literal["number", "table", "vega-lite"]
    query: str
    empty: str = ""  # the text shown when there is no row
    note: str = ""
    display: dict[str, Any] = {}  # Vega-Lite without data and size; for a number its unit


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A filter of the page; its query lists the values to choose from."""

    name: str
    query: str


class Dashboard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`numbers` are at the top; below, each of the `rows` shows its charts next to each other."""

    title: str
    description: str
    instants: tuple[str, ...]  # columns of tables that the SQL views call by another name
    numbers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    filters: dict[str, Filter]
    parts: dict[str, str]  # SQL that queries include by its name in braces
    charts: dict[str, Chart]


def read_dashboard() -> Dashboard:
    """The page; raises `msgspec.ValidationError` when a file does not match the classes."""
    dashboard = msgspec.convert(read_toml(FILES / "dashboard.toml"), Dashboard)
    charts = {name: _resolved(name, c, dashboard.parts) for name, c in dashboard.charts.items()}
    return msgspec.structs.replace(dashboard, charts=charts)


def read_toml(file: Traversable) -> Any:
    """What the file says, each text without the line break at its end."""
    return _without_final_newlines(tomllib.loads(file.read_text(encoding="utf-8")))


def _without_final_newlines(value: Any) -> Any:
    """TOML's multi-line texts end with a line break."""
    if isinstance(value, dict):
        return {name: _without_final_newlines(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_final_newlines(inner) for inner in value]
    return value.removesuffix("\n") if isinstance(value, str) else value


def _resolved(name: str, chart: Chart, parts: Mapping[str, str]) -> Chart:
    """The chart with the parts in its query filled in, and its Vega-Lite file read."""
    display = chart.display
    if chart.library == "vega-lite":
        display = msgspec.json.decode((FILES / "vega-lite" / f"{name}.json").read_bytes())
    return msgspec.structs.replace(chart, query=chart.query.format_map(parts), display=display)


DASHBOARD = read_dashboard()
