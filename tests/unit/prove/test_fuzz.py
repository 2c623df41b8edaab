"""The kept inputs, and that a broken promise is seen."""

import pytest

from benchmarks.prove import fuzz_targets
from benchmarks.prove.part import Findings
from benchmarks.prove.parts.fuzz import replay
from etl.errors import DatadogResponseError
from etl.own_keys import OwnKeys
from etl.transform.snapshot import Decoded


def broken(target: str) -> list[str]:
    findings = Findings()
    replay(target, findings)
    return findings.broken


@pytest.mark.parametrize("target", fuzz_targets.TARGETS)
def test_the_kept_inputs_break_nothing(target: str) -> None:
    assert broken(target) == []


def test_an_exception_of_another_kind_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: bytes) -> Decoded:
        raise KeyError("data")

    monkeypatch.setattr(fuzz_targets, "decode", fails)
    assert any("KeyError" in line for line in broken("decoder"))


def test_a_key_in_an_error_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def tells(body: bytes) -> Decoded:
        raise DatadogResponseError(f"{body!r} for {fuzz_targets.SECRET}")

    monkeypatch.setattr(fuzz_targets, "decode", tells)
    monkeypatch.setattr(OwnKeys, "blotted", lambda _, text: text)
    assert any("tells the key" in line for line in broken("http"))
