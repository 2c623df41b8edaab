"""What a bad record lost is seen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.prove.part import Effort
from benchmarks.prove.parts import records
from etl.load import writer
from etl.transform import decode, snapshot


@pytest.fixture
def broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[list[str], list[str]]]:
    """The trials that did not hold, and why."""
    monkeypatch.setitem(records.RECORDS, True, 60)

    def prove() -> tuple[list[str], list[str]]:
        found = records.prove(Effort(True, 1, tmp_path, databases=("sqlite",))).broken
        return [line.partition(" (")[0] for line in found], found

    return prove


def test_nothing_is_lost(broken: Callable[[], tuple[list[str], list[str]]]) -> None:
    assert broken() == ([], [])


def test_a_reject_that_is_not_kept_is_seen(
    broken: Callable[[], tuple[list[str], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "save_rejects", lambda *_: None)
    assert "rejects of a view on SQLite" in broken()[0]


def test_a_value_that_is_not_kept_is_seen(
    broken: Callable[[], tuple[list[str], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Any = snapshot.with_hash

    def without_extra(identifier: str, content: Any, extra: str | None, mark: str = "") -> Any:
        return real(identifier, content, None, mark)

    monkeypatch.setattr(decode, "with_hash", without_extra)
    assert "records on SQLite" in broken()[0]
