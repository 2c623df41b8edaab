"""Tables, numbers and foreign text, made readable."""

import re
import tomllib
import unicodedata
from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.formatting import (
    EXTRAS,
    Styled,
    age,
    clean,
    counted,
    duration,
    is_future,
    shortened,
    table,
    to_install,
)
from tests.support.paths import ROOT

NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)


def test_columns_stand_below_each_other() -> None:
    lines = table(("view", "new"), [("/a", "1"), ("/long", "1,000")], right="new")
    assert lines == ["view     new", "/a         1", "/long  1,000"]


def test_a_column_of_numbers_may_have_a_name_of_two_words() -> None:
    lines = table(("view", "page views"), [("/a", "1")], right=("page views",))
    assert lines == ["view  page views", "/a             1"]


def test_a_number_agrees_with_the_name_of_a_count() -> None:
    assert [counted(n, "duplicates") for n in (1, 2, 1000)] == [
        "1 duplicate",
        "2 duplicates",
        "1,000 duplicates",
    ]
    assert [counted(n, "new") for n in (1, 2000)] == ["1 new", "2,000 new"]


def test_letters_that_take_two_columns_are_counted_so() -> None:
    assert table(("v", "n"), [("日本", "1"), ("abcd", "2"), ("e\u0301", "3")]) == [
        "v     n",
        "日本  1",
        "abcd  2",
        "e\u0301     3",
    ]


@given(st.text())
def test_nothing_a_terminal_obeys_is_left(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.isprintable()
    assert not {unicodedata.category(c) for c in cleaned} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert cleaned == text or not text.isprintable()


@given(st.text(), st.integers(10, 80))
def test_shortened_is_short_and_keeps_both_ends(text: str, longest: int) -> None:
    short = shortened(text, longest)
    assert len(short) <= longest
    assert (short[:3], short[-3:]) == (text[:3], text[-3:])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.9, "9.9 s"),
        (10, "10 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7200, "2 h"),
        (172_800, "2 days"),
    ],
)
def test_durations_in_the_unit_that_matters(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_ages() -> None:
    assert age(None, NOW) == "never"
    assert age(NOW + timedelta(seconds=9), NOW) == "just now"  # clocks differ
    assert age(NOW - timedelta(seconds=5), NOW) == "5 s ago"
    assert age(NOW - timedelta(minutes=5), NOW) == "5 min ago"


def red(cell: str) -> str:
    """As a command colours the cells that it knows."""
    return click.style(cell, fg="red") if cell in ("bad", "b\u0308d") else cell


def test_colours_change_no_width_and_stand_in_neither_header_nor_first_column() -> None:
    rows = [("bad", "bad", "1"), ("日本", "b\u0308d", "20")]
    lines = table(("bad", "bad", "n"), rows, right="n", style=red)
    assert lines[1] == "bad   \x1b[31mbad\x1b[0m   1"
    assert [click.unstyle(line) for line in lines] == table(("bad", "bad", "n"), rows, right="n")
    assert ["\x1b" in line for line in lines] == [False, True, True]


@given(st.lists(st.tuples(st.text(), st.sampled_from(["bad", "\x1b[31mbad"]) | st.text())))
def test_foreign_text_brings_no_escapes_into_a_table(rows: list[tuple[str, str]]) -> None:
    for line in table(("a", "b"), rows, style=red):
        assert isinstance(line, Styled)
        assert re.sub(r"\x1b\[31mbad\x1b\[0m", "bad", line).isprintable()


def test_an_instant_ahead_of_the_clock_is_called_that() -> None:
    assert age(NOW + timedelta(seconds=61), NOW) == "in the future"
    assert not is_future(NOW + timedelta(seconds=60), NOW)  # clocks of two machines differ
    assert not is_future(None, NOW)


def test_what_to_install_names_packages_and_never_us() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: tuple(found) for name, found in project["optional-dependencies"].items()}
    assert {name: found for name, found in extras.items() if name != "dev"} == EXTRAS
    assert to_install("mysql") == "python -m pip install 'PyMySQL[rsa]>=1.2,<2'"
