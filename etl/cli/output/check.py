"""What `check` found, for people."""

from __future__ import annotations

from collections.abc import Sequence

from etl.cli.output.selection import choose_shown, omitted_line
from etl.diagnose.check import OK, PROBLEM, WARNING, Point
from etl.formatting import many, table

_WIDEST = (PROBLEM, "configuration", "")  # so that lines which are printed early align with later


def check_lines(points: Sequence[Point]) -> list[str]:
    """A table of points, and what to do next."""
    return [point_line(point) for point in points if not point.view] + closing_lines(points)


def point_line(point: Point) -> str:
    """One that is about no view; it can be printed before the others are known."""
    return table(_WIDEST, [(point.verdict, point.about, point.text)])[1]


def closing_lines(points: Sequence[Point]) -> list[str]:
    """A table of the views, and what to do next."""
    views = [point for point in points if point.view]
    shown = choose_shown(views, lambda p: p.verdict == PROBLEM, lambda p: p.verdict != OK)
    rows = [(p.verdict, p.about, p.text) for p in shown]
    lines = table(_WIDEST, rows)[1:] + omitted_line(len(views), len(shown), " that are in order")
    problems = sum(point.verdict == PROBLEM for point in points)
    warnings = sum(point.verdict == WARNING for point in points)
    warned = f" ({many(warnings, 'warning')})" if warnings else ""
    if problems:
        return [*lines, "", f"{many(problems, 'problem')} to fix{warned}. Nothing was written."]
    return [
        *lines,
        "",
        f"Everything is in order{warned}. Nothing was written. Next: heatmap-etl sync",
    ]
