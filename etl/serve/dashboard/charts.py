"""The charts of the dashboard: SQL for SQLite over the SQL views, and how each is drawn.

Pure data. `[[ AND ... :name ]]` is left out unless the filter of that name is set.
Drawn by Vega-Lite (`looks`), or by `files/heatmaps.js` as a number or a table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from etl.serve.dashboard import looks

OLD_DAYS = 90
"""A view whose newest snapshot is older counts as old."""
_TOP = 15


@dataclass(frozen=True, slots=True)
class Chart:
    """`library`: number, table or vega-lite. `empty`: what to say when there is no row."""

    title: str
    library: str
    query: str
    empty: str = ""
    note: str = ""
    display: dict[str, Any] = field(default_factory=dict)


_OF_VIEW = """\
  [[ AND source = :source ]]
  [[ AND COALESCE(application_name, application_id) = :application ]]
  [[ AND {0} = :view ]]"""
_COVERAGE, _SNAPSHOTS = _OF_VIEW.format("view_name"), _OF_VIEW.format("synced_view")
_HEALTH = "  [[ AND source = :source ]]\n  [[ AND view_name = :view ]]"

_DEVICE = """\
CASE WHEN device_type IN ('desktop', 'mobile', 'tablet') THEN device_type ELSE 'other' END"""
_PERSON = "COALESCE(created_by, created_by_handle, 'unknown')"

# Traffic that RUM no longer counts keeps its last count: only what was counted lately is traffic.
_TRAFFIC = f"""\
SELECT source, view_name, COALESCE(application_name, application_id, '') AS application,
    MAX(views_30d) AS views_30d, MAX(has_snapshot) AS has_snapshot,
    MAX(newest_at) AS newest_at, MIN(newest_age_days) AS age_days
  FROM view_coverage
  WHERE sampled_age_days <= 30
{_COVERAGE}
  GROUP BY source, view_name, application_id"""
_LABEL = """\
view_name || CASE WHEN COUNT(*) OVER (PARTITION BY view_name) > 1
    THEN ' · ' || application ELSE '' END"""


NUMBERS: dict[str, Chart] = {
    "listed": Chart(
        "Snapshots listed now",
        "number",
        f"SELECT COUNT(*) AS value FROM current_snapshots\nWHERE 1 = 1\n{_SNAPSHOTS}",
    ),
    "covered": Chart(
        "Traffic covered",
        "number",
        f"""\
SELECT ROUND(100.0 * SUM(views_30d * has_snapshot) / SUM(views_30d)) AS value
FROM (
  {_TRAFFIC}
)""",
        display={"unit": "%"},
        note="of views in 30 days: their view has a snapshot",
    ),
    "changes": Chart(
        "Changes",
        "number",
        f"""\
SELECT COUNT(*) AS value FROM snapshot_changes
WHERE event <> 'baseline' AND noticed_at >= datetime('now', '-30 days')
{_SNAPSHOTS}""",
        note="in the last 30 days",
    ),
    "expired": Chart(
        "Replays expired",
        "number",
        f"""\
SELECT COUNT(*) AS value FROM current_snapshots
WHERE replay_expires_at < datetime('now')
{_SNAPSHOTS}""",
        note="an estimate: 15 months after saving",
    ),
    "trusted": Chart(
        "Views read well",
        "number",
        f"""\
SELECT SUM(COALESCE(is_trusted, 0) AND held = 0) || ' of ' || COUNT(*) AS value
FROM sync_health
WHERE is_watched
{_HEALTH}""",
        note="by their last run: trusted, nothing held",
    ),
}

COVERAGE: dict[str, Chart] = {
    "gaps": Chart(
        "Busiest views without a snapshot",
        "vega-lite",
        f"""\
SELECT {_LABEL} AS view,
  application, views_30d
FROM (
  {_TRAFFIC}
)
WHERE NOT has_snapshot
ORDER BY views_30d DESC
LIMIT {_TOP}""",
        empty="No visited view without a snapshot is known. Traffic is known to runs with "
        'views = "discover".',
        display=looks.GAPS,
    ),
    "old": Chart(
        f"Busiest views whose newest snapshot is older than {OLD_DAYS} days",
        "vega-lite",
        f"""\
SELECT {_LABEL} AS view,
  application, views_30d, age_days, substr(newest_at, 1, 10) AS newest,
  CASE WHEN age_days <= 182 THEN '90 days to 6 months'
    WHEN age_days <= 365 THEN '6 to 12 months'
    ELSE 'over a year' END AS age
FROM (
  {_TRAFFIC}
)
WHERE has_snapshot AND age_days > {OLD_DAYS}
ORDER BY views_30d DESC
LIMIT {_TOP}""",
        empty=f"No visited view is known whose newest snapshot is older than {OLD_DAYS} days.",
        display=looks.OLD,
    ),
}

ACTIVITY: dict[str, Chart] = {
    "weeks": Chart(
        "Changes per week",
        "vega-lite",
        f"""\
SELECT date(noticed_at, 'weekday 0', '-6 days') AS week, event, COUNT(*) AS snapshots
FROM snapshot_changes
WHERE event <> 'baseline' AND noticed_at >= date('now', 'weekday 0', '-6 days', '-364 days')
{_SNAPSHOTS}
GROUP BY week, event
ORDER BY week, event""",
        empty="No change was noticed within a year: a first reading is a baseline, not a change.",
        note="by when a reading noticed them; weeks begin on Monday, UTC",
        display=looks.WEEKS,
    ),
    "people": Chart(
        "Who pins what: snapshots listed now, by person and view",
        "vega-lite",
        f"""\
WITH listed AS (
  SELECT synced_view AS view, {_PERSON} AS person
  FROM current_snapshots
  WHERE 1 = 1
{_SNAPSHOTS}
),
people AS (SELECT person FROM listed GROUP BY person ORDER BY COUNT(*) DESC, person LIMIT 10),
views AS (SELECT view FROM listed GROUP BY view ORDER BY COUNT(*) DESC, view LIMIT {_TOP})
SELECT person, view, COUNT(*) AS snapshots,
  SUM(COUNT(*)) OVER (PARTITION BY person) AS of_person,
  SUM(COUNT(*)) OVER (PARTITION BY view) AS of_view,
  COUNT(*) > 0.6 * MAX(COUNT(*)) OVER () AS is_dark
FROM listed
WHERE person IN (SELECT person FROM people) AND view IN (SELECT view FROM views)
GROUP BY person, view
ORDER BY of_view DESC, view, of_person DESC, person""",
        empty="Nothing is listed.",
        note=f"the 10 people and {_TOP} views with most",
        display=looks.PEOPLE,
    ),
    "devices": Chart(
        "Snapshots listed now, by view and device",
        "vega-lite",
        f"""\
WITH listed AS (
  SELECT synced_view AS view, {_DEVICE} AS device
  FROM current_snapshots
  WHERE 1 = 1
{_SNAPSHOTS}
),
views AS (SELECT view FROM listed GROUP BY view ORDER BY COUNT(*) DESC, view LIMIT {_TOP})
SELECT view, device, COUNT(*) AS snapshots
FROM listed
WHERE view IN (SELECT view FROM views)
GROUP BY view, device
ORDER BY view, device""",
        empty="Nothing is listed.",
        note=f"the {_TOP} views with most",
        display=looks.DEVICES,
    ),
}

STALE: dict[str, Chart] = {
    "expiry": Chart(
        "When replays expire (estimate)",
        "vega-lite",
        f"""\
SELECT strftime('%Y-%m-01', replay_expires_at) AS month,
  CASE WHEN replay_expires_at < datetime('now') THEN 'expired'
    WHEN replay_expires_at < datetime('now', '+90 days') THEN 'within 90 days'
    ELSE 'later' END AS state,
  COUNT(*) AS snapshots
FROM current_snapshots
WHERE replay_expires_at IS NOT NULL
{_SNAPSHOTS}
GROUP BY month, state
ORDER BY month, state""",
        empty="No listed snapshot has a replay.",
        note="of the snapshots listed now",
        display=looks.EXPIRY,
    ),
    "stale": Chart(
        "Stale backgrounds: the replay is gone, or goes within 90 days",
        "table",
        f"""\
SELECT synced_view AS view, device_type AS device, snapshot_name AS snapshot,
  {_PERSON} AS "pinned by",
  substr(COALESCE(modified_at, created_at), 1, 10) AS "last saved",
  substr(replay_expires_at, 1, 10) AS "replay until",
  replay_url
FROM current_snapshots
WHERE replay_expires_at < datetime('now', '+90 days')
{_SNAPSHOTS}
ORDER BY replay_expires_at, id
LIMIT 50""",
        empty="None: no replay of a listed snapshot is gone or goes within 90 days.",
        note="the first 50; an estimate",
    ),
}

HEALTH: dict[str, Chart] = {
    "health": Chart(
        "Sync health: the last run of each view, trouble first",
        "table",
        f"""\
SELECT view_name AS view, verdict, listed, held, consecutive_failures AS "failures in a row",
  substr(last_trusted_at, 1, 16) AS "last trusted reading",
  COALESCE(error, reason) AS why
FROM sync_health
WHERE is_watched
{_HEALTH}
ORDER BY COALESCE(is_trusted, 0), held = 0, last_trusted_at, view_name
LIMIT 100""",
        empty="No view was read yet: heatmap-etl sync",
        note="UTC",
    ),
    "latest": Chart(
        "Latest changes",
        "table",
        f"""\
SELECT substr(noticed_at, 1, 16) AS noticed, substr(not_before, 1, 16) AS "not before", event,
  synced_view AS view, device_type AS device, snapshot_name AS snapshot,
  {_PERSON} AS "pinned by", replace(changed_columns, ',', ', ') AS "what changed", replay_url
FROM snapshot_changes
WHERE event <> 'baseline'
{_SNAPSHOTS}
ORDER BY noticed_at DESC, snapshot_id, version DESC
LIMIT 25""",
        empty="No change was noticed yet: a first reading is a baseline, not a change.",
        note="the last 25; each happened between “not before” and “noticed”, UTC",
    ),
    "snapshots": Chart(
        "Newest snapshots",
        "table",
        f"""\
SELECT substr(created_at, 1, 16) AS created, synced_view AS view, device_type AS device,
  snapshot_name AS snapshot, COALESCE(application_name, application_id) AS application,
  {_PERSON} AS "pinned by", substr(replay_expires_at, 1, 10) AS "replay until", replay_url
FROM current_snapshots
WHERE 1 = 1
{_SNAPSHOTS}
ORDER BY created_at DESC, id
LIMIT 50""",
        empty="Nothing is listed.",
        note="the newest 50 of those listed now, UTC",
    ),
}

CHARTS: dict[str, Chart] = {**NUMBERS, **COVERAGE, **ACTIVITY, **STALE, **HEALTH}

LAYOUT: tuple[tuple[str, ...], ...] = (
    ("gaps", "old"),
    ("weeks",),
    ("people", "devices"),
    ("expiry", "stale"),
    ("health",),
    ("latest",),
    ("snapshots",),
)
"""Which charts stand side by side below the numbers."""

FILTERS: dict[str, dict[str, str]] = {
    "source": {
        "name": "Organization",
        "query": "SELECT source FROM sources ORDER BY source",
    },
    "application": {
        "name": "Application",
        "query": """\
SELECT DISTINCT COALESCE(application_name, application_id) AS application
FROM view_coverage
WHERE application_id IS NOT NULL
ORDER BY application""",
    },
    "view": {
        "name": "View",
        "query": "SELECT DISTINCT view_name FROM view_coverage ORDER BY view_name",
    },
}
