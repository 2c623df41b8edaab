"""How the charts of the dashboard are drawn: Vega-Lite, without data and size. Pure data."""

from __future__ import annotations

from typing import Any

DEVICE_COLORS = {
    "desktop": "#2f6fb7",
    "mobile": "#f08a24",
    "tablet": "#1f9e89",
    "other": "#9aa0a6",
}
EVENT_COLORS = {
    "added": "#1f9e89",
    "changed": "#f2b233",
    "returned": "#5b6fd6",
    "removed": "#cf4a55",
}
AGE_COLORS = {
    "90 days to 6 months": "#f6cf7e",
    "6 to 12 months": "#ec8b3a",
    "over a year": "#b5382a",
}
EXPIRY_COLORS = {
    "expired": "#b5382a",
    "within 90 days": "#ec8b3a",
    "later": "#8fb3d9",
}


def _scale(colors: dict[str, str]) -> dict[str, list[str]]:
    return {"domain": list(colors), "range": list(colors.values())}


def _legend(title: str | None = None) -> dict[str, Any]:
    return {"orient": "top", "title": title, "labelLimit": 260}


_VIEWS_AXIS = {
    "field": "view",
    "type": "nominal",
    "title": None,
    "sort": {"field": "views_30d", "op": "max", "order": "descending"},
    "axis": {"labelLimit": 240},
}
_TRAFFIC_AXIS = {
    "field": "views_30d",
    "type": "quantitative",
    "title": "views in 30 days (as sampled by RUM)",
    "axis": {"labelExpr": "datum.value ? format(datum.value, '~s') : '0'", "tickCount": 5},
}
_COUNT_AXIS = {"type": "quantitative", "title": "snapshots", "axis": {"tickMinStep": 1}}

GAPS: dict[str, Any] = {
    "mark": {"type": "bar", "tooltip": True},
    "encoding": {
        "y": _VIEWS_AXIS,
        "x": _TRAFFIC_AXIS,
        "color": {
            "field": "application",
            "type": "nominal",
            "legend": _legend("application"),
            "scale": {"scheme": "tableau10"},
        },
    },
}

OLD: dict[str, Any] = {
    "encoding": {"y": _VIEWS_AXIS, "x": _TRAFFIC_AXIS},
    "layer": [
        {
            "mark": {"type": "bar", "tooltip": {"content": "data"}},
            "encoding": {
                "color": {
                    "field": "age",
                    "type": "nominal",
                    "scale": _scale(AGE_COLORS),
                    "legend": _legend("newest snapshot"),
                }
            },
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 4, "color": "#444"},
            "encoding": {"text": {"field": "newest"}},
        },
    ],
}

WEEKS: dict[str, Any] = {
    "mark": {"type": "bar", "tooltip": {"content": "data"}},
    "encoding": {
        "x": {
            "field": "week",
            "type": "temporal",
            "timeUnit": "utcyearweek",
            # The year that is asked for, however few weeks have a row: else one alone fills the
            # width, without a month to read it by.
            "scale": {"type": "utc", "domainMin": {"expr": "now() - 371 * 864e5"}},
            "title": None,
            "axis": {"format": "%b %Y", "tickCount": "month", "grid": False},
        },
        "y": {"field": "snapshots", **_COUNT_AXIS},
        "color": {
            "field": "event",
            "type": "nominal",
            "scale": _scale(EVENT_COLORS),
            "legend": _legend(),
        },
    },
}

PEOPLE: dict[str, Any] = {
    "encoding": {
        "x": {
            "field": "person",
            "type": "nominal",
            "title": None,
            "sort": {"field": "of_person", "op": "max", "order": "descending"},
            "axis": {"labelAngle": -30, "labelLimit": 130},
        },
        "y": {
            "field": "view",
            "type": "nominal",
            "title": None,
            "sort": {"field": "of_view", "op": "max", "order": "descending"},
            "axis": {"labelLimit": 240},
        },
    },
    "layer": [
        {
            "mark": {"type": "rect", "tooltip": True},
            "encoding": {
                "color": {
                    "field": "snapshots",
                    "type": "quantitative",
                    "scale": {"scheme": "blues", "domainMin": 0},
                    "legend": None,
                }
            },
        },
        {
            "mark": {"type": "text"},
            "encoding": {
                "text": {"field": "snapshots"},
                "color": {
                    "condition": {"test": "datum.is_dark", "value": "white"},
                    "value": "#222",
                },
            },
        },
    ],
}

DEVICES: dict[str, Any] = {
    "mark": {"type": "bar", "tooltip": {"content": "data"}},
    "encoding": {
        "y": {
            "field": "view",
            "type": "nominal",
            "title": None,
            "sort": {"field": "snapshots", "op": "sum", "order": "descending"},
            "axis": {"labelLimit": 240},
        },
        "x": {"field": "snapshots", **_COUNT_AXIS},
        "color": {
            "field": "device",
            "type": "nominal",
            "scale": _scale(DEVICE_COLORS),
            "legend": _legend(),
        },
    },
}

EXPIRY: dict[str, Any] = {
    "mark": {"type": "bar", "tooltip": {"content": "data"}},
    "encoding": {
        "x": {
            "field": "month",
            "type": "temporal",
            "timeUnit": "utcyearmonth",
            "scale": {"type": "utc"},
            "title": None,
            "axis": {"format": "%b %Y", "labelAngle": -40, "grid": False},
        },
        "y": {"field": "snapshots", **_COUNT_AXIS},
        "color": {
            "field": "state",
            "type": "nominal",
            "scale": _scale(EXPIRY_COLORS),
            "legend": _legend(),
        },
    },
}
