"""Covered views and those that RUM saw: for people, and as lines of a configuration file."""

from __future__ import annotations

from collections.abc import Sequence

from etl.config.writing.template import quoted
from etl.extract.discovery import Traffic
from etl.formatting import age, count, many, shortened, table
from etl.monitor.views import CONFIGURED, MISSING, NEVER_SEEN, Comparison, CoveredViews, SeenView

_TITLES = {
    CONFIGURED: "Seen and configured",
    MISSING: "Seen, not configured",
    NEVER_SEEN: "Configured, never seen",
}
_SHOWN = 40


def list_lines(covered: CoveredViews) -> list[str]:
    """A table of all views, then their number and notes."""
    header = ("view", "from", "verdict", "listed", "last read", "page views")
    rows = [
        (
            shortened(view.label),
            origin,
            (state.verdict if state else None) or "never read",
            count(state.listed if state else 0),
            age(state.last_read_at if state else None, covered.at),
            count(covered.known.traffic.get(view.name, 0)),
        )
        for view, origin, state in covered.rows()
    ]
    lines = table(header, rows, right=("listed", "page views")) if rows else []
    summary = [f"{many(len(rows), 'view')}, source {covered.source}"]
    if covered.outside_discover:
        summary.append(
            f"{many(covered.outside_discover, 'view')} read before, now outside [discover]"
        )
    summary += covered.selection.all_notes
    summary += [f"nothing more is known: {covered.reason}"] * bool(covered.reason)
    return [*lines, *([""] * bool(lines)), *summary]


def discover_lines(comparison: Comparison) -> list[str]:
    """Three tables, and what to do next."""
    lines: list[str] = []
    for state in (CONFIGURED, MISSING, NEVER_SEEN):
        views = comparison.in_state(state)
        lines += [f"{_TITLES[state]}: {len(views):,}", *_view_lines(comparison, views), ""]
    lines += [f"Warning: {text}" for text in comparison.warnings]
    reason = comparison.not_stored
    stored = f"not stored: {reason}" if reason else "stored in discovered_views"
    lines.append(f"Page views of 30 days, as far as RUM kept them; {stored}.")
    excluded = len(comparison.in_state(MISSING)) - len(comparison.to_add)
    if excluded:
        lines.append(
            f"Not added because of include, exclude or max_views: {many(excluded, 'view')}."
        )
    added = many(len(comparison.to_add), "view")
    if comparison.added_to:
        lines.append(f"{added} added to {comparison.added_to}. Next: heatmap-etl check")
    elif comparison.to_add:
        lines.append(f"`heatmap-etl views discover --write` adds {added}, --toml prints the lines.")
    return lines


def _view_lines(comparison: Comparison, views: Sequence[SeenView]) -> list[str]:
    if not views:
        return []
    rows = [
        (
            shortened(view.name),
            count(view.views_30d),
            shortened(", ".join(_application(comparison, item) for item in view.traffic)),
        )
        for view in views[:_SHOWN]
    ]
    more = len(views) - len(rows)
    lines = table(("view", "page views", "applications"), rows, right=("page views",))
    lines += [f"... and {many(more, 'more view')}, see --json"] * bool(more)
    return [f"  {line}" for line in lines]


def _application(comparison: Comparison, item: Traffic) -> str:
    identifier = item.application_id or "no application"
    return comparison.application_names.get(identifier, identifier)


def toml_lines(comparison: Comparison) -> list[str]:
    """Lines to paste into `views = [...]`."""
    traffic = {view.name: view.views_30d for view in comparison.views}
    if not comparison.to_add:
        return ["# nothing to add: every view that RUM saw within [discover] is configured"]
    return [
        f"    {quoted(n)},  # {many(traffic[n], 'page view')} in 30 days" for n in comparison.to_add
    ]
