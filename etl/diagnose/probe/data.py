"""What a probe asked and what came back; the shape of a finding. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from etl.datadog.responses import error_text
from etl.diagnose.probe.redaction import Redaction
from etl.transform.lenient_json import NotJson, Value, parse

THE_REST = "the rest"
LIMITS = (10_000, 5000, 1001, 1000, 100, 10, 1)


@dataclass(frozen=True)
class Tried:
    """One question and what came back; `fault` says why nothing did."""

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
        """Those of a 200 that is `{"data": [...]}`."""
        found = self.parsed.get("data") if isinstance(self.parsed, dict) else None
        return found if self.status == 200 and isinstance(found, list) else None

    @property
    def count(self) -> int:
        return len(self.records or ())

    @property
    def may_pass(self) -> bool:
        """No answer, or one that another time may be different."""
        return self.status is None or self.status == 429 or self.status >= 500

    @property
    def is_refused(self) -> bool:
        """An answer that asking again will not change."""
        return not self.may_pass and (self.status or 0) >= 400


@dataclass(slots=True)
class Probe:
    """What was asked, by key; `unasked` says why something was not.

    `listed`: records of the probed view as `check` counted them, over all parts.
    """

    listed: int
    credentials: str
    redaction: Redaction
    tried: dict[str, Tried] = field(default_factory=dict)
    unasked: dict[str, str] = field(default_factory=dict)
    stored: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0

    @property
    def limits(self) -> dict[int, Tried]:
        """The tries with a proper page[limit], largest first."""
        return {n: self.tried[f"limit {n}"] for n in LIMITS if f"limit {n}" in self.tried}

    @property
    def whole(self) -> tuple[int, Tried]:
        """The limit under which the most records came, and the answer."""
        found = [(t.count, n, t) for n, t in self.limits.items() if t.records is not None]
        best = max(found, key=lambda item: item[:2], default=(0, 0, Tried()))
        return best[1], best[2]

    @property
    def known(self) -> int:
        """How many records the view has at least."""
        counts = [t.count for t in (*self.limits.values(), self.tried.get("default", Tried()))]
        return max([self.listed, *counts])

    @property
    def records(self) -> list[Value]:
        """All that were read, of the views that were asked."""
        others = [t.records or [] for key, t in self.tried.items() if key.startswith("view ")]
        default = self.tried.get("default", Tried()).records or []
        return [r for part in (self.whole[1].records or default, *others) for r in part]

    def why_not(self, key: str) -> str:
        """Why there is no use in the answer to `key`."""
        if key not in self.tried:
            return self.unasked.get(key) or self.unasked.get(THE_REST, "it was not asked")
        return self.told(self.tried[key])

    def told(self, tried: Tried) -> str:
        """`400: text`, `200, 10 records`."""
        if tried.records is not None:
            return f"200, {tried.count} record{'' if tried.count == 1 else 's'}"
        if tried.status is None:
            return tried.fault or "no answer"
        if tried.status == 200:
            return f"200, {tried.fault or 'but no list of records'}"
        text = self.redaction.sentence(error_text(tried.body))
        return f"{tried.status}: {text}" if text else f"{tried.status}, no error text"

    def as_json(self, tried: Tried) -> dict[str, Any]:
        """The same as facts."""
        facts: dict[str, Any] = {"status": tried.status}
        if tried.records is not None:
            facts["records"] = tried.count
        elif tried.status != 200:
            facts["error"] = self.redaction.sentence(error_text(tried.body)) or tried.fault
        return facts


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question, or why there is none."""

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
