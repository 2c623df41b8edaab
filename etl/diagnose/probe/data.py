"""The answers of a probe, and the finding that is made of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from etl.datadog.responses import error_text
from etl.diagnose.probe.redaction import Redaction
from etl.transform.lenient_json import NotJson, Value, parse

ALL_OTHERS = "the rest"
LIMITS = (10_000, 5000, 1001, 1000, 100, 10, 1)


@dataclass(frozen=True)
class Answer:
    """The response to one question; `fault` says why there was none."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fault: str = ""

    @cached_property
    def parsed(self) -> Value:
        try:
            return parse(self.body)
        except NotJson:
            return None

    @cached_property
    def records(self) -> list[Value] | None:
        """The records of a 200 with `{"data": [...]}`, else None."""
        data = self.parsed.get("data") if isinstance(self.parsed, dict) else None
        return data if self.status == 200 and isinstance(data, list) else None

    @property
    def count(self) -> int:
        return len(self.records or ())

    @property
    def is_temporary(self) -> bool:
        """No answer, or one that may be different another time."""
        return self.status is None or self.status == 429 or self.status >= 500

    @property
    def is_refused(self) -> bool:
        """A refusal that would be the same another time."""
        return not self.is_temporary and (self.status or 0) >= 400


@dataclass(slots=True)
class Probe:
    """The answers by the key of their question; `not_asked` gives the reason for those without.

    `listed`: records of the probed view as `check` counted them, over all partitions.
    """

    listed: int
    credentials: str
    redaction: Redaction
    answers: dict[str, Answer] = field(default_factory=dict)
    not_asked: dict[str, str] = field(default_factory=dict)
    stored: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0

    @property
    def limits(self) -> dict[int, Answer]:
        """The answers to valid values of page[limit], largest first."""
        return {n: self.answers[f"limit {n}"] for n in LIMITS if f"limit {n}" in self.answers}

    @property
    def largest(self) -> tuple[int, Answer]:
        """The limit under which the most records came, and the answer."""
        counted = [(a.count, n, a) for n, a in self.limits.items() if a.records is not None]
        best = max(counted, key=lambda item: item[:2], default=(0, 0, Answer()))
        return best[1], best[2]

    @property
    def known(self) -> int:
        """The largest number of records seen of the view: it has at least so many."""
        counts = [a.count for a in (*self.limits.values(), self.answers.get("default", Answer()))]
        return max([self.listed, *counts])

    @property
    def records(self) -> list[Value]:
        """All records that were read, of every probed view."""
        other_views = [
            a.records or [] for key, a in self.answers.items() if key.startswith("view ")
        ]
        default = self.answers.get("default", Answer()).records or []
        return [r for part in (self.largest[1].records or default, *other_views) for r in part]

    def reason_without(self, key: str) -> str:
        """Why the question `key` has no usable answer."""
        if key not in self.answers:
            return self.not_asked.get(key) or self.not_asked.get(ALL_OTHERS, "it was not asked")
        return self.summary(self.answers[key])

    def summary(self, answer: Answer) -> str:
        """`400: text`, `200, 10 records`."""
        if answer.records is not None:
            return f"200, {answer.count} record{'' if answer.count == 1 else 's'}"
        if answer.status is None:
            return answer.fault or "no answer"
        if answer.status == 200:
            return f"200, {answer.fault or 'but no list of records'}"
        text = self.redaction.sentence(error_text(answer.body), answer.status)
        return f"{answer.status}: {text}" if text else f"{answer.status}, no error text"

    def as_json(self, answer: Answer) -> dict[str, Any]:
        """Status, and the number of records or the error text."""
        facts: dict[str, Any] = {"status": answer.status}
        if answer.records is not None:
            facts["records"] = answer.count
        elif answer.status != 200:
            text = self.redaction.sentence(error_text(answer.body), answer.status)
            facts["error"] = text or answer.fault
        return facts


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question, or why it could not be answered."""

    key: str
    question: str
    answer: str
    is_answered: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "question": self.question,
            "is_answered": self.is_answered,
            "answer": self.answer,
            "facts": dict(self.facts),
        }
