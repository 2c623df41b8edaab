"""What is written to be read back, and what is said where it comes back otherwise."""

from datetime import timedelta

import pytest

from etl.database.schema import metadata, snapshots
from etl.diagnose.throw_away import INSTANT, difference, row_for, snapshots_for, text_column
from etl.load.versions import Owner, Row, new_rows

TOKEN = "0" * 32
OWNER = Owner("of this source", TOKEN, "check")
ROWS = new_rows(snapshots_for(TOKEN, "a name"), OWNER, began="added", read_at=INSTANT)


def with_value(row: Row, name: str, value: object) -> Row:
    index = snapshots.columns.keys().index(name)
    return (*row[:index], value, *row[index + 1 :])


def test_rows_that_came_back_as_they_were_do_not_differ():
    assert difference(snapshots, ROWS, list(reversed(ROWS))) == ""


def test_rows_that_did_not_come_back_are_counted():
    assert difference(snapshots, ROWS, ROWS[2:]) == ("2 of 120 rows are missing in snapshots")


def test_a_value_that_changed_is_shown_with_other_columns_and_on_one_short_line():
    changed = with_value(ROWS[0], "created_at", INSTANT - timedelta(microseconds=456))
    changed = with_value(changed, "extra", "x" * 1000 + "\n")
    said = difference(snapshots, ROWS, [changed, *ROWS[1:]])
    assert said == (
        f"in snapshots.created_at {INSTANT:%Y-%m-%d}T01:30:00.123000+00:00 came back for"
        f" {INSTANT:%Y-%m-%d}T01:30:00.123456+00:00 (also in extra)"
    )


@pytest.mark.parametrize("table", metadata.tables.values(), ids=lambda table: table.name)
def test_a_row_has_a_value_that_fits_in_every_column(table):
    row = row_for(table, "of this source", TOKEN)
    assert list(row) == table.columns.keys()
    for column in table.columns:
        assert row[column.name] not in (None, "")
        length = getattr(column.type, "length", None)
        assert length is None or len(row[column.name]) <= length
    assert not text_column(table).primary_key


def test_the_first_snapshot_has_every_column_and_a_long_one_is_among_those_compared():
    content = ROWS[0][4:20]
    assert None not in content
    assert max(len(row[snapshots.columns.keys().index("snapshot_name")] or "") for row in ROWS) > (
        2**16
    )
