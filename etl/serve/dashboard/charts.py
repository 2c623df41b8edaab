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

    `[[ AND ... :name ]]` is left out of the query unless the filter of that name is set.
    """

    title: str
    library: Literal["number", "table", "vega-lite"]
    query: str
    empty: str = ""  # what to say when there is no row
    note: str = ""
    display: dict[str, Any] = {}  # of Vega-Lite without data and size; of a number its unit


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the page can be narrowed down by; its query lists the values."""

    name: str
    query: str


class Dashboard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`numbers` stand at the top, the charts of each of the `rows` side by side below."""

    title: str
    description: str
    numbers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    filters: dict[str, Filter]
    parts: dict[str, str]  # of queries, which name them in braces
    charts: dict[str, Chart]


def read_dashboard() -> Dashboard:
    """The page; raises `msgspec.ValidationError` when a file is not as the classes say."""
    found = tomllib.loads((FILES / "dashboard.toml").read_text(encoding="utf-8"))
    dashboard = msgspec.convert(_without_last_breaks(found), Dashboard)
    charts = {name: _whole(name, c, dashboard.parts) for name, c in dashboard.charts.items()}
    return msgspec.structs.replace(dashboard, charts=charts)


def _without_last_breaks(value: Any) -> Any:
    """Texts of several lines end with a line break in TOML."""
    if isinstance(value, dict):
        return {name: _without_last_breaks(inner) for name, inner in value.items()}
    return value.removesuffix("\n") if isinstance(value, str) else value


def _whole(name: str, chart: Chart, parts: Mapping[str, str]) -> Chart:
    """The chart with the parts of its query, and with its drawing."""
    display = chart.display
    if chart.library == "vega-lite":
        display = msgspec.json.decode((FILES / "vega-lite" / f"{name}.json").read_bytes())
    return msgspec.structs.replace(chart, query=chart.query.format_map(parts), display=display)


DASHBOARD = read_dashboard()
