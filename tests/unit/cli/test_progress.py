"""The line that says how far a command is."""

import pytest

from etl.cli.progress import Progress, progress_line


def test_the_line_has_a_bar_and_what_was_done() -> None:
    assert (
        progress_line(1, 2, 1204, 3)
        == f"[{'#' * 15}{'.' * 15}] 1/2 views, 1,204 records, 3 requests"
    )
    assert progress_line(0, 2, 1, None).endswith("0/2 views, 1 record")
    assert progress_line(2, 2, 1, 1) == f"[{'#' * 30}] 2/2 views, 1 record, 1 request"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every line that is drawn on a terminal, however soon after the one before."""
    lines: list[str] = []
    monkeypatch.setattr("etl.cli.progress.is_interactive", lambda: True)
    monkeypatch.setattr("etl.cli.progress._EVERY_S", 0)
    monkeypatch.setattr("etl.cli.progress._draw", lines.append)
    return lines


def test_several_sources_share_one_line_that_is_gone_at_the_end(drawn: list[str]) -> None:
    with Progress(5) as progress:
        progress.show("a", 1, 10, 2)
        progress.show("b", 3, 5, 4)
        progress.show("a", 2, 30, 3)
    assert [line.partition("] ")[2] for line in drawn[:-1]] == [
        "0/5 views, 0 records, 0 requests",
        "1/5 views, 10 records, 2 requests",
        "4/5 views, 15 records, 6 requests",
        "5/5 views, 35 records, 7 requests",
    ]
    assert drawn[-1] == ""


@pytest.mark.parametrize(("total", "is_wanted"), [(0, True), (5, False)])
def test_nothing_is_drawn_when_there_is_nothing_to_do_or_nobody_wants_it(
    drawn: list[str], total: int, *, is_wanted: bool
) -> None:
    with Progress(total, is_wanted=is_wanted) as progress:
        progress.show("a", 1, 1, 1)
    assert (drawn, progress.is_shown) == ([], False)
