"""etl.load.versions: the rows of one id, and the instant of a reading."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.database.schema import snapshots
from etl.load.versions import (
    Owner,
    StoredRow,
    changed_columns,
    content_of,
    kept_row,
    new_rows,
    next_row,
    reading_instant,
)
from etl.transform.snapshot import CONTENT, Snapshot
from tests.support.run_state import BLUE, OWNER, RED
from tests.support.strategies import snapshot

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
TICK = timedelta(microseconds=1)
ROW = [column.name for column in snapshots.columns]


def place(row: tuple[Any, ...]) -> dict[str, Any]:
    named = dict(zip(ROW, row, strict=True))
    return {name: value for name, value in named.items() if name not in CONTENT}


def stored_row(read: Snapshot = RED, removed_at: datetime | None = None) -> StoredRow:
    return StoredRow(content_of(read), NOON, 3, "changed", "device_type", NOON + TICK, removed_at)


def test_new_row_begins_with_its_reading():
    (row,) = new_rows([RED], OWNER, began="baseline", read_at=LATER)
    assert place(row) == {
        "id": "a",
        "source": "s",
        "view_key": "mine",
        "synced_view": "/home",
        "content_hash": RED.content_hash,
        "first_seen_at": LATER,
        "version": 1,
        "began": "baseline",
        "changed_columns": None,
        "valid_from": LATER,
        "missing_since": None,
        "removed_at": None,
    }


def test_row_holds_the_content_in_the_order_of_the_columns():
    (row,) = new_rows([BLUE], OWNER, began="added", read_at=NOON)
    named = dict(zip(ROW, row, strict=True))
    assert tuple(named[name] for name in CONTENT) == content_of(BLUE)
    assert (named["created_by"], named["extra"]) == ("blue", None)


@pytest.mark.parametrize("began", ["changed", "returned"])
def test_next_row_is_the_next_version_of_the_same_id(began):
    row = place(next_row(BLUE, stored_row(), OWNER, began=began, read_at=LATER))
    assert (row["first_seen_at"], row["valid_from"], row["removed_at"]) == (NOON, LATER, None)
    assert (row["version"], row["began"], row["changed_columns"]) == (4, began, "created_by")
    assert row["content_hash"] == BLUE.content_hash


def test_row_that_returns_as_it_was_has_no_changed_columns():
    row = place(next_row(RED, stored_row(removed_at=NOON), OWNER, began="returned", read_at=LATER))
    assert (row["version"], row["changed_columns"], row["removed_at"]) == (4, None, None)


def test_kept_row_is_the_same_version_under_its_owner():
    row = place(kept_row(RED, stored_row(), Owner("s", "third", "/third")))
    assert (row["view_key"], row["synced_view"]) == ("third", "/third")
    assert (row["version"], row["began"], row["changed_columns"]) == (3, "changed", "device_type")
    assert (row["first_seen_at"], row["valid_from"]) == (NOON, NOON + TICK)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        pytest.param({}, {}, "", id="nothing"),
        pytest.param({}, {"start": 0}, "start_ms", id="NULL against zero"),
        pytest.param({"view_id": ""}, {}, "view_id", id="an empty text against NULL"),
        pytest.param({}, {"color": 1}, "extra", id="an unknown attribute"),
        pytest.param(
            {"view_id": "b", "created_by": "a"},
            {"view_id": "a", "created_by": "b"},
            "created_by,view_id",
            id="two, in the order of the columns",
        ),
    ],
)
def test_changed_columns(before, after, names):
    contents = [content_of(snapshot("a", **attributes)) for attributes in (before, after)]
    assert changed_columns(*contents) == names


# --- the instant of a reading -------------------------------------------------------------


@pytest.mark.parametrize(
    ("touched", "expected"),
    [
        pytest.param([], NOON, id="nothing touched: when it arrived"),
        pytest.param([None, None], NOON, id="NULLs do not count"),
        pytest.param([NOON - TICK], NOON, id="later than all: when it arrived"),
        pytest.param([NOON], NOON + TICK, id="the same instant: one microsecond later"),
        pytest.param([LATER, NOON, None], LATER + TICK, id="the clock stepped back: after all"),
    ],
)
def test_reading_instant(touched, expected):
    assert reading_instant(NOON, touched) == expected
    assert reading_instant(NOON, iter(touched)) == expected
