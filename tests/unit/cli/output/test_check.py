"""What `check` found, in lines and as an exit code."""

import pytest

from etl.cli.output.check import check_lines
from etl.config.views import View
from etl.diagnose.check import OK, PROBLEM, WARNING, Point, exit_code


def points(*verdicts: str, views: str = "") -> list[Point]:
    general = [Point("something", verdict, "text") for verdict in verdicts]
    listings = [
        Point(f"view /{n}", v, "text", View(f"/{n}"), is_failed=v == PROBLEM)
        for n, v in enumerate(views.split())
    ]
    return [*general, *listings]


@pytest.mark.parametrize(
    ("found_points", "code"),
    [
        (points(OK, WARNING, views="ok warning"), 0),
        (points(OK, views="ok PROBLEM"), 1),
        (points(OK, views="PROBLEM PROBLEM"), 2),
        (points(PROBLEM, views="ok"), 2),
        (points(PROBLEM), 2),
    ],
)
def test_exit_code_of_check(found_points: list[Point], code: int) -> None:
    assert exit_code(found_points) == code
    assert ("Everything is in order" in check_lines(found_points)[-1]) is (code == 0)


def test_check_of_hundreds_of_views() -> None:
    lines = check_lines(points(OK, views="ok " * 300 + "PROBLEM"))
    assert len(lines) == 5
    assert lines[2] == "... and 300 more views that are in order"
