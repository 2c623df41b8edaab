"""Cutting a list into statements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.database.batches import BATCH, batches


@given(st.lists(st.text(max_size=3), max_size=30), st.integers(1, 12))
def test_every_item_is_in_one_batch_in_its_order(items: list[str], size: int):
    cut = list(batches(items, size))
    assert [item for batch in cut for item in batch] == items
    assert all(len(batch) == size for batch in cut[:-1])
    assert all(0 < len(batch) <= size for batch in cut)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (BATCH, [BATCH]), (BATCH + 1, [BATCH, 1])]
)
def test_a_statement_names_so_many(count: int, expected: list[int]):
    assert [len(batch) for batch in batches(range(count))] == expected
