"""The covered views, and those that RUM saw: for people, and as lines of a configuration file."""

from __future__ import annotations

from collections.abc import Sequence

from etl.config.template import quoted
from etl.extract.discovery import Traffic
from etl.formatting import age, count, many, shortened, table
from etl.monitor.views import CONFIGURED, MISSING, NEVER_SEEN, Comparison, Listed, SeenView

_TITLES = {
    CONFIGURED: "Seen and configured",
    MISSING: "Seen, not configured",
    NEVER_SEEN: "Configured, never seen",
}
_SHOWN = 40


def list_lines(listed: Listed) -> list[str]:
    """A table of all views, and what is to be said of them together."""
    header = ("view", "from", "verdict", "listed", "last read", "traffic")
    rows = [
        (
            shortened(view.label),
            origin,
            (state.verdict if state else None) or "never read",
            count(state.listed if state else 0),
            age(state.last_read_at if state else None, listed.at),
            count(listed.known.traffic.get(view.name, 0)),
        )
        for view, origin, state in listed.rows()
    ]
    lines = table(header, rows, right="listed traffic") if rows else []
    said = [f"{many(len(rows), 'view')}, source {listed.source}"]
    if listed.left_out:
        said.append(f"{many(listed.left_out, 'view')} read before, now outside [discover]")
    said += listed.scope.all_notes
    said += [f"nothing more is known: {listed.reason}"] * bool(listed.reason)
    return [*lines, *([""] * bool(lines)), *said]


def discover_lines(found: Comparison) -> list[str]:
    """Three tables, and what to do next."""
    lines: list[str] = []
    for state in (CONFIGURED, MISSING, NEVER_SEEN):
        views = found.of(state)
        lines += [f"{_TITLES[state]}: {len(views):,}", *_view_lines(found, views), ""]
    lines += [f"Warning: {text}" for text in found.warnings]
    stored = f"not stored: {found.not_stored}" if found.not_stored else "stored in discovered_views"
    lines.append(f"Views of 30 days, as far as RUM kept them; {stored}.")
    left_out = len(found.of(MISSING)) - len(found.to_add)
    if left_out:
        lines.append(f"{many(left_out, 'view')} stay out, by include, exclude or max_views.")
    added = many(len(found.to_add), "view")
    if found.added_to:
        lines.append(f"{added} added to {found.added_to}. Next: heatmap-etl check")
    elif found.to_add:
        lines.append(f"`heatmap-etl views discover --write` adds {added}, --toml prints the lines.")
    return lines


def _view_lines(found: Comparison, views: Sequence[SeenView]) -> list[str]:
    if not views:
        return []
    rows = [
        (
            shortened(view.name),
            count(view.views_30d),
            shortened(", ".join(_application(found, item) for item in view.traffic)),
        )
        for view in views[:_SHOWN]
    ]
    more = len(views) - len(rows)
    lines = table(("view", "views", "applications"), rows, right="views")
    lines += [f"... and {many(more, 'more view')}, see --json"] * bool(more)
    return [f"  {line}" for line in lines]


def _application(found: Comparison, item: Traffic) -> str:
    identifier = item.application_id or "no application"
    return found.application_names.get(identifier, identifier)


def toml_lines(found: Comparison) -> list[str]:
    """Lines to paste into `views = [...]`."""
    traffic = {view.name: view.views_30d for view in found.views}
    if not found.to_add:
        return ["# nothing to add: every view that RUM saw within [discover] is configured"]
    return [f"    {quoted(n)},  # {traffic[n]:,} views in 30 days" for n in found.to_add]
