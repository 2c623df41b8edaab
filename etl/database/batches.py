"""Splits many items into batches that one statement can name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

BATCH = 500
"""Items that one statement can name: old versions of SQLite take 999 parameters."""


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """`items` in their order, at most `size` of them at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
