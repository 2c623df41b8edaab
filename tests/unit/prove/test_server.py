"""The judge of the invented organizations sees what is wrong."""

from collections.abc import Collection
from typing import Any

import pytest

from benchmarks.prove.parts.server import examples
from etl.extract import completeness, names, verify
from etl.extract.partition import PartitionedListing
from etl.load import decide

SOME = range(1, 300)


def kinds() -> set[str]:
    return {line.partition(" (")[0] for line in examples(1, SOME)}


def test_nothing_is_wrong() -> None:
    assert list(examples(1, SOME)) == []


def test_a_round_number_that_is_not_suspicious_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completeness, "ROUND_NUMBERS", frozenset())
    assert "complete, but lacks" in kinds()


def test_a_number_that_is_suspicious_without_a_reason_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completeness, "ROUND_NUMBERS", range(6))
    assert "plainly whole" in kinds()


def test_a_part_that_is_taken_for_whole_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartitionedListing, "proven", lambda self: frozenset(self.parts))
    assert "removed, but is there" in kinds()


def test_a_removal_without_proof_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_proven(*_: object) -> Collection[str] | None:
        return None

    monkeypatch.setattr(decide, "_provable", nothing_proven)
    assert "removed, but is there" in kinds()


def test_an_answer_for_another_view_that_is_believed_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ours(*_: object, **__: Any) -> str:
        return names.OURS

    monkeypatch.setattr(verify, "judge", ours)
    assert "removed, but is there" in kinds()
