"""Writes the dashboards for Grafana: python dashboards/grafana/generate.py (`make docs` runs it).

`operations.json` is made of `operations.toml` and of the alert rules, whose limits it shows.
`content-postgresql.json` and `content-mysql.json` are made of `content.toml`, with the titles, the
notes and the order of the Datasette page.

No Grafana server was at hand: docs/grafana.md says what was tried instead.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from etl.serve.dashboard.charts import DASHBOARD, Chart, read_toml

Json = dict[str, Any]

HERE = Path(__file__).resolve().parent
ALERTS = HERE.parents[1] / "deploy" / "prometheus" / "alerts.yaml"

SCHEMA_VERSION = 38
"""Of Grafana 10.0: later ones read it and write their own."""

TAG = "heatmap-etl"
UNTRIED = (
    "No Grafana server was at hand when it was made: its form, its queries and its metrics were"
    " tested without one."
)
ALL = "'__all__'"
DATABASES = {"postgresql": ("postgres", "PostgreSQL"), "mysql": ("mysql", "MariaDB, MySQL")}
"""Grafana's name of the data source's type (newer versions of it know it as an alias), ours."""

GREEN, YELLOW, RED = "green", "yellow", "red"
NEVER_S = 1_000_000_000
"""A metric of an instant is 0 for "never": its age is then that of the year 1970."""

WIDTH = 24


# --- what both dashboards have ------------------------------------------------------------


def dashboard(uid: str, title: str, description: str, variables: list[Json], **more: Any) -> Json:
    return {
        "uid": uid,
        "title": title,
        "description": f"{description} {UNTRIED}",
        "tags": [TAG],
        "timezone": "utc",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": SCHEMA_VERSION,
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "Heatmap snapshots",
                "tags": [TAG],
                "icon": "external link",
                "tooltip": "",
                "asDropdown": False,
                "includeVars": False,
                "keepTime": False,
                "targetBlank": False,
            }
        ],
        "templating": {"list": variables},
        **more,
    }


def datasource_variable(kind: str, label: str) -> Json:
    """The data source is chosen on the dashboard, so an import asks for nothing."""
    return {
        "name": "datasource",
        "label": label,
        "type": "datasource",
        "query": kind,
        "current": {"selected": False, "text": "", "value": ""},
        "options": [],
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "hide": 0,
        "skipUrlSync": False,
    }


def query_variable(name: str, label: str, query: str, all_value: str, source: Json) -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": source,
        "query": query,
        "regex": "",
        "options": [],
        "refresh": 1,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": all_value,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "skipUrlSync": False,
    }


def thresholds(*steps: tuple[str, float]) -> Json:
    """The colour is green until the first step."""
    return {
        "mode": "absolute",
        "steps": [
            {"color": GREEN, "value": None},
            *({"color": color, "value": value} for color, value in steps),
        ],
    }


def override(field: str, **properties: Any) -> Json:
    """For one column or series; `__` stands for the dot in the name of a property."""
    return {
        "matcher": {"id": "byName", "options": field},
        "properties": [
            {"id": name.replace("__", "."), "value": value} for name, value in properties.items()
        ],
    }


def table(panel: Json, sort: str = "") -> Json:
    panel["options"] = {"showHeader": True, "cellHeight": "sm"}
    if sort:
        panel["options"]["sortBy"] = [{"displayName": sort, "desc": True}]
    defaults = panel["fieldConfig"]["defaults"]
    defaults["custom"] = {"align": "auto", "inspect": True, "filterable": True}
    return {**panel, "type": "table"}


def stat(panel: Json, *, is_colored: bool = False, is_text: bool = False) -> Json:
    reduced = {"calcs": ["lastNotNull"], "fields": "/.*/" if is_text else "", "values": False}
    panel["options"] = {
        "reduceOptions": reduced,
        "colorMode": "value" if is_colored else "none",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "value",
    }
    return {**panel, "type": "stat"}


def time_series(
    panel: Json, *, drawn: str, is_stacked: bool, filled: int, bars_end: bool = False
) -> Json:
    """`bars_end`: a bar is of the time that ends at its instant, else of that which begins."""
    defaults = panel["fieldConfig"]["defaults"]
    defaults["custom"] = {
        "drawStyle": drawn,
        "lineWidth": 1,
        "fillOpacity": filled,
        "showPoints": "never",
        "spanNulls": False,
        "barAlignment": -1 if bars_end else 1,
        "stacking": {"mode": "normal" if is_stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if "thresholds" in defaults else "off"},
    }
    panel["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return {**panel, "type": "timeseries"}


def placed(rows: list[tuple[str, list[tuple[Json, int, int]]]]) -> list[Json]:
    """The panels of titled rows, each with its width and height, from left to right."""
    numbers, top, panels = iter(range(1, 1000)), 0, []
    for title, members in rows:
        if title:
            at = {"x": 0, "y": top, "w": WIDTH, "h": 1}
            head = {"type": "row", "title": title, "collapsed": False, "panels": []}
            panels.append({"id": next(numbers), "gridPos": at, **head})
            top += 1
        for panel, spot in zip(members, packed([m[1:] for m in members], top), strict=True):
            panels.append({"id": next(numbers), "gridPos": spot, **panel[0]})
            top = max(top, spot["y"] + spot["h"])
    return panels


def packed(sizes: list[tuple[int, int]], top: int) -> Iterator[Json]:
    """Each where there is room: on the highest line, and there at the left."""
    heights = [top] * WIDTH
    for width, height in sizes:
        fits = range(WIDTH - width + 1)
        left = min(fits, key=lambda x: (max(heights[x : x + width]), x))
        y = max(heights[left : left + width])
        heights[left : left + width] = [y + height] * width
        yield {"x": left, "y": y, "w": width, "h": height}


# --- operations ---------------------------------------------------------------------------


def alert_rules() -> dict[str, str]:
    """The expressions of the alerts, by name."""
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def limit_of(alert: str) -> int:
    """The number beyond which it fires: 10800 of `... > 3 * 3600`."""
    _, above, limit = alert_rules()[alert].rpartition(" > ")
    if not above:
        raise SystemExit(f"{ALERTS.name}: {alert} has no limit such as `> 60`")
    return math.prod(int(factor) for factor in limit.split("*"))


def first_value_beyond(limit: int) -> int:
    """A threshold of Grafana holds from its value on; a count beyond 0 is at least 1."""
    return 1 if limit == 0 else limit


def for_chosen_sources(expression: str) -> str:
    """The expression of an alert, for the sources that are chosen on the dashboard."""
    return re.sub(
        r"\b(heatmap_etl_\w+)(?:\{(.*?)\})?",
        lambda m: f'{m[1]}{{{f"{m[2]}, " if m[2] else ""}source=~"$source"}}',
        expression,
    )


def alerts_that_hold() -> str:
    """All alerts in one query, each with its name as a label."""
    return "\nor ".join(
        f'label_replace({for_chosen_sources(rule)}, "condition", "{name}", "", "")'
        for name, rule in alert_rules().items()
    )


def operations() -> Json:
    settings = read_toml(HERE / "operations.toml")
    source = {"type": "prometheus", "uid": "${datasource}"}
    variables = [datasource_variable("prometheus", "Metrics")]
    labels = {"source": "Source", "view_name": "View"}
    variables += [
        query_variable(name, labels[name], query, ".*", source)
        for name, query in settings["variables"].items()
    ]
    rows = []
    for row in settings["rows"]:
        panels = [(name, settings["panels"][name]) for name in row["panels"]]
        members = [(operations_panel(panel, source), *panel["size"]) for _, panel in panels]
        rows.append((row["title"], members))
    return dashboard(
        "heatmap-etl-operations",
        settings["title"],
        "How heatmap-etl runs, by the metrics of its /metrics. Limits are those of its alerts."
        " A source is one Datadog organization.",
        variables,
        time={"from": "now-2d", "to": "now"},
        refresh="1m",
        panels=placed(rows),
    )


def operations_panel(settings: Json, source: Json) -> Json:
    kind = settings["kind"]
    defaults: Json = {
        "unit": settings.get("unit", "short"),
        "noValue": settings.get("empty", "no data"),
    }
    if "alert" in settings:
        defaults["thresholds"] = alert_thresholds(settings)
        defaults["color"] = {
            "mode": "thresholds" if kind in ("stat", "table") else "palette-classic"
        }
    if "words" in settings:
        words = {value: {"text": w, "color": c} for value, (w, c) in settings["words"].items()}
        defaults["mappings"] = [{"type": "value", "options": words}]
    if "never" in settings:
        never = {"text": settings["never"], "color": RED}
        span = {"from": NEVER_S, "to": None, "result": never}
        defaults["mappings"] = [{"type": "range", "options": span}]
    panel: Json = {
        "title": settings["title"],
        "description": settings.get("note", ""),
        "datasource": source,
        "targets": list(operations_queries(settings, source)),
        "fieldConfig": {"defaults": defaults, "overrides": colored(settings)},
    }
    if kind == "table":
        return table(named_columns(panel, settings), settings.get("sort", ""))
    if kind == "heatmap":
        return heatmap(panel)
    if kind == "stat":
        return stat(panel, is_colored=True)
    if not settings.get("is_both_ways"):
        defaults["min"] = 0
    drawn = "bars" if kind == "bars" else "line"
    filled = {"bars": 80, "areas": 40, "lines": 0}[kind]
    is_stacked = kind != "lines"
    return time_series(panel, drawn=drawn, is_stacked=is_stacked, filled=filled, bars_end=True)


def operations_queries(settings: Json, source: Json) -> Iterator[Json]:
    expression = alerts_that_hold() if "conditions" in settings else settings.get("expr", "")
    if "alert" in settings:
        expression = expression.replace("{limit}", str(limit_of(settings["alert"])))
    is_instant = settings["kind"] in ("table", "stat")
    forms = {"table": "table", "heatmap": "heatmap"}
    queries = settings.get("queries", [[settings.get("legend", ""), expression]])
    for letter, (legend, query) in zip("ABCD", queries, strict=False):
        yield {
            "refId": letter,
            "datasource": source,
            "editorMode": "code",
            "expr": query,
            "legendFormat": legend,
            "format": forms.get(settings["kind"], "time_series"),
            "instant": is_instant,
            "range": not is_instant,
            **({"interval": settings["step"]} if "step" in settings else {}),
        }


def alert_thresholds(settings: Json) -> Json:
    limit = limit_of(settings["alert"])
    if settings.get("is_both_ways"):
        steps = [(RED, None), (GREEN, -limit), (RED, limit)]
        return {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in steps]}
    return thresholds((RED, 1 if settings.get("is_count") else first_value_beyond(limit)))


def colored(settings: Json) -> list[Json]:
    """Series that mean something good or bad have its colour; `vanished` has our word for it."""
    found = [
        override(name, color={"mode": "fixed", "fixedColor": color})
        for name, color in settings.get("colors", {}).items()
    ]
    if "{{outcome}}" in settings.get("legend", ""):
        found.append(override("vanished", displayName="removed"))
    return found


def named_columns(panel: Json, settings: Json) -> Json:
    """The table without what Prometheus adds."""
    hidden = {"Time": True, "instance": True, "job": True}
    names = {"Value": settings.get("value", "value"), "view_name": "view"}
    defaults, fields = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["overrides"]
    if "conditions" in settings:
        hidden["Value"] = True  # seconds of one, a number of another
        fields.append(conditions(settings["conditions"]))
    options = {"excludeByName": hidden, "renameByName": names, "indexByName": {}}
    transformations = [{"id": "organize", "options": options}]
    if "thresholds" in defaults:
        # Of the number alone: the columns beside it hold text.
        found = {name: defaults.pop(name) for name in ("unit", "thresholds", "color", "mappings")}
        cell = {"type": "color-text"}
        fields.append(override(names["Value"], **found, custom__cellOptions=cell))
    return {**panel, "transformations": transformations}


def conditions(settings: Json) -> Json:
    """The column says in words what the alert means."""
    if set(settings) != set(alert_rules()):
        raise SystemExit(f"operations.toml: the conditions are not the rules of {ALERTS.name}")
    words = {alert: {"text": text, "color": RED} for alert, text in settings.items()}
    mappings = [{"type": "value", "options": words}]
    return override("condition", mappings=mappings, custom__cellOptions={"type": "color-text"})


def heatmap(panel: Json) -> Json:
    unit = panel["fieldConfig"]["defaults"].pop("unit")
    panel["options"] = {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Blues",
            "fill": "dark-blue",
            "scale": "exponential",
            "exponent": 0.5,
            "steps": 32,
            "reverse": False,
        },
        "yAxis": {"unit": unit, "axisPlacement": "left", "reverse": False},
        "rowsFrame": {"layout": "auto"},
        "legend": {"show": True},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "showValue": "never",
    }
    return {**panel, "type": "heatmap"}


# --- content ------------------------------------------------------------------------------


def content(database: str) -> Json:
    settings = read_toml(HERE / "content.toml")
    kind, label = DATABASES[database]
    parts = settings["parts"]
    own = parts | parts[database]
    source = {"type": kind, "uid": "${datasource}"}
    variables = [datasource_variable(kind, "Database")]
    for name, variable in settings["variables"].items():
        query = (
            f"SELECT name AS __text, {own['choice']} AS __value\nFROM (\n"
            f"{variable['query']}\n) AS choices\nORDER BY name"
        )
        variables.append(query_variable(name, variable["label"], query, ALL, source))
    rows = [(panel_row(DASHBOARD.numbers, settings, own, source, height=4))]
    rows += [panel_row(row, settings, own, source, height=10) for row in DASHBOARD.rows]
    return dashboard(
        f"heatmap-etl-content-{database}",
        f"Heatmap snapshots: content ({label})",
        DASHBOARD.description,
        variables,
        time={"from": "now-1y", "to": "now"},
        weekStart="monday",
        panels=placed([("", row) for row in rows]),
    )


def panel_row(
    names: tuple[str, ...], settings: Json, parts: Json, source: Json, *, height: int
) -> list[tuple[Json, int, int]]:
    """The charts side by side, over the whole width."""
    edges = [round(WIDTH * i / len(names)) for i in range(len(names) + 1)]
    widths = [right - left for left, right in pairwise(edges)]
    return [
        (content_panel(name, settings, parts, source), width, height)
        for name, width in zip(names, widths, strict=True)
    ]


def content_panel(name: str, settings: Json, parts: Json, source: Json) -> Json:
    chart = DASHBOARD.charts[name]
    if name not in settings["charts"]:
        raise SystemExit(f"content.toml has no query for the chart {name} of the Datasette page")
    own = settings["charts"][name]
    defaults: Json = {"noValue": own.get("empty", chart.empty or "none")}
    kind = own["kind"]
    panel: Json = {
        "title": chart.title,
        "description": own.get("note", sentence(chart)),
        "datasource": source,
        "targets": [
            {
                "refId": "A",
                "datasource": source,
                "editorMode": "code",
                "format": "time_series" if kind == "weeks" else "table",
                "rawQuery": True,
                "rawSql": own["query"].format_map(parts),
            }
        ],
        "fieldConfig": {"defaults": defaults, "overrides": content_overrides(own)},
    }
    if kind == "table":
        return table(panel)
    if kind == "stat":
        defaults["unit"] = own.get("unit", "none")
        return stat(panel, is_text=own.get("text", False))
    if kind == "weeks":
        panel["fieldConfig"]["overrides"] = events(chart)
        defaults["min"] = 0
        return time_series(panel, drawn="bars", is_stacked=True, filled=80)
    return bar_chart(panel, own["x"], is_upright=own.get("upright", False))


def sentence(chart: Chart) -> str:
    """The note of the Datasette page, as a text of its own."""
    return f"{chart.note[:1].upper()}{chart.note[1:]}." if chart.note else ""


def content_overrides(own: Json) -> list[Json]:
    cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
    color = {"mode": "fixed", "fixedColor": "blue"}
    found = [
        override(name, custom__cellOptions=cell, min=0, color=color)
        for name in own.get("gauges", [])
    ]
    for name, title in own.get("links", {}).items():
        # Grafana encodes the value once more: no link of ours has a % in it.
        link = {"title": title, "url": "${__value.raw}", "targetBlank": True}
        found.append(override(name, links=[link]))
    verdicts = {"complete": GREEN, "unproven": YELLOW, "truncated": "orange", "failed": RED}
    options = {
        name: {"color": color, "index": i} for i, (name, color) in enumerate(verdicts.items())
    }
    mappings = [{"type": "value", "options": options}]
    return found + [
        override(name, mappings=mappings, custom__cellOptions={"type": "color-text"})
        for name in own.get("verdicts", [])
    ]


def events(chart: Chart) -> list[Json]:
    """The colours of the Datasette page."""
    scale = chart.display["encoding"]["color"]["scale"]
    return [
        override(event, color={"mode": "fixed", "fixedColor": color})
        for event, color in zip(scale["domain"], scale["range"], strict=True)
    ]


def bar_chart(panel: Json, x: str, *, is_upright: bool) -> Json:
    panel["fieldConfig"]["defaults"]["custom"] = {"lineWidth": 0, "fillOpacity": 80}
    panel["options"] = {
        "xField": x,
        "orientation": "vertical" if is_upright else "horizontal",
        "stacking": "normal",
        "showValue": "never",
        "barWidth": 0.8,
        "groupWidth": 0.7,
        "xTickLabelRotation": 0,
        "xTickLabelMaxLength": 40,
        "fullHighlight": False,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "none"},
    }
    return {**panel, "type": "barchart"}


# --- files --------------------------------------------------------------------------------


def documents() -> dict[str, str]:
    """Each file by its name."""
    found = {"operations.json": operations()}
    found |= {f"content-{database}.json": content(database) for database in DATABASES}
    return {
        name: json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for name, document in found.items()
    }


if __name__ == "__main__":
    for file_name, text in documents().items():
        (HERE / file_name).write_text(text, encoding="utf-8")
