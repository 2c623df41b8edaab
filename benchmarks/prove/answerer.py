"""Answers for an invented organization in memory, in place of the client and its network.

Most answers are records that are decoded already; those of some organizations are JSON, which the
product decodes itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from threading import Event
from typing import Any, Self

from benchmarks.prove.organizations import (
    LISTED,
    Organization,
    Spec,
    Turn,
    record_of,
    snapshot_of,
    unreadable,
)
from etl.config.views import View
from etl.datadog.client import Answer
from etl.datadog.retry import Retryable, RetryBudget
from etl.errors import DatadogError, DatadogRequestError, DatadogUnavailable
from etl.extract.fetch import Fetcher, Result
from etl.own_keys import NO_KEYS
from etl.transform.snapshot import Decoded

NOW = datetime(2026, 1, 10, tzinfo=UTC)


class Records:
    """An answer whose records need no decoding; it is its own envelope."""

    rate_limit_remaining = None
    rate_limit_name = None
    arrived_at = NOW
    own_keys = NO_KEYS

    def __init__(self, decoded: Decoded, *, cache_header: str, part_header: str) -> None:
        self._decoded = decoded
        self.cache_header = cache_header
        self.part_header = part_header

    def opened(self, _decode: Callable[[bytes], Any]) -> Self:
        return self

    def decoded(self, _decode: Callable[[bytes], Any]) -> Decoded:
        return self._decoded

    def safe(self, text: str) -> str:
        return text

    @property
    def essence(self) -> bytes:
        d = self._decoded
        return "".join(
            [*(s.id + s.content_hash for s in d.snapshots), *(r.raw_hash for r in d.rejected)]
        ).encode()

    def partial(self, came: int) -> str:  # noqa: ARG002
        return self._decoded.partial


class Answerer:
    """In place of the client, for one run; keeps what it was asked, and what was true when.

    `sizes`: of answers for whole views, by name, without those that said that they are not whole.
    `requests`: by view. `sent`: ids of any answer, by view. `gone` and `came`: ids that were not
    there at some time of the run. `wrong`: answers for another view in a row, by view.
    """

    def __init__(self, organization: Organization, turn: Turn, *, is_json: bool) -> None:
        self.organization = organization
        self.turn = turn
        self.number = 0
        self.limits: set[int] = set()
        self.sizes: dict[str, list[int]] = {}
        self.requests: dict[str, int] = {}
        self.sent: dict[str, set[str]] = {}
        self.gone: set[str] = set()
        self.came: set[str] = set()
        self.wrong: dict[str, int] = {}
        self.own_keys = NO_KEYS
        self._asked: list[View] = []
        self._is_json = is_json
        self._stop = Event()

    def retry_budget(self, *, most_tries: int | None = None) -> RetryBudget:
        return RetryBudget(
            1e9,
            most_tries=most_tries,
            stop=self._stop,
            monotonic=lambda: 0.0,
            jitter=lambda: 0.0,
        )

    def explained(self, error: DatadogError) -> DatadogError:
        return error

    def list_snapshots(
        self, view: View, limit: int, *, before_body: Callable[[], None], **_: object
    ) -> Answer | Records:
        self.number += 1
        self.limits.add(limit)
        self.requests[view.name] = self.requests.get(view.name, 0) + 1
        self._asked.append(view)
        if self.number in self.turn.changes:
            self._pass_time()
        self._refuse(view, limit)
        before_body()
        answered = view if self.turn.is_honest else self._question_answered(view)
        found = self._found(answered, limit)
        if answered is not view and not found:
            # Records that are not there name nothing: nobody could tell that they are others'.
            answered, found = view, self._found(view, limit)
        says = self.turn.doubtful.get(self.number, "")
        if says:
            found = found[::2]
        self._note(view, answered, found, is_doubtful=bool(says))
        if answered is not view and self.turn.says_age:
            says = "cache header"
        return self._answer(found, says)

    def _refuse(self, view: View, limit: int) -> None:
        turn = self.turn
        if self.number in turn.faults:
            error = DatadogUnavailable("500", status=500, requests=1)
            raise Retryable(error, began=0.0)
        if turn.refusal and limit > turn.refusal[0]:
            text = f"page[limit] must be at most {turn.refusal[0]}"
            detail = text if turn.refusal[1] else "page[limit] is too large"
            raise DatadogRequestError("400", status=400, detail=detail, requests=1)
        if view.name in turn.failing:
            raise DatadogRequestError("404", status=404, detail="no such view", requests=1)
        if view.application_id is not None and view.application_id == turn.deaf:
            raise DatadogRequestError("404", status=404, detail="not found", requests=1)

    def _question_answered(self, view: View) -> View:
        """What a request is taken for."""
        first, last = self.turn.cached
        if first < self.number <= last:
            return self._asked[first - 1]
        kind = self.turn.mix_ups.get(self.number)
        if kind == "before" and self.number > 1:
            return self._asked[-2]
        if kind == "view":
            views = sorted({spec[1] for spec in self.organization.items.values()})
            return View(views[self.number % len(views)]) if views else view
        if kind == "application" and view.application_id:
            other = LISTED[0] if view.application_id != LISTED[0] else LISTED[1]
            return View(view.name, other, view.device_type)
        return view

    def _found(self, view: View, limit: int) -> list[Spec]:
        """What the server lists for a question, cut."""
        organization, turn = self.organization, self.turn
        name, application, device = view.name, view.application_id, view.device_type
        items = reversed(organization.items.values())
        if organization.is_prefix:
            found = [spec for spec in items if organization.matches(name, spec[1])]
        else:
            found = [spec for spec in items if spec[1] == name]
        if application is not None:
            found = [spec for spec in found if spec[2][0] == application]
        if device is not None:
            found = [spec for spec in found if spec[2][1] == device]
        if turn.order != "newest":
            seed = self.number if turn.order == "changing" else 1
            random.Random(seed).shuffle(found)
        if turn.doubles and found:
            found.insert(0, found[0])
        return found[: min(limit, turn.cap or limit)]

    def _pass_time(self) -> None:
        come, go = self.turn.changes[self.number]
        for identifier in go:
            if self.organization.items.pop(identifier, None):
                self.gone.add(identifier)
        for spec in come:
            self.organization.items[f"s{spec[0]}"] = spec
            self.came.add(f"s{spec[0]}")

    def _note(
        self, view: View, answered: View, found: Sequence[Spec], *, is_doubtful: bool
    ) -> None:
        name = view.name
        is_whole, is_wrong = view.application_id is None, name != answered.name
        if is_whole and (is_wrong or self.wrong.get(name, 0) < 2):
            self.wrong[name] = self.wrong.get(name, 0) + 1 if is_wrong else 0
        if answered is not view and answered != view:
            return
        self.sent.setdefault(name, set()).update(f"s{spec[0]}" for spec in found)
        if is_whole and not is_doubtful:
            self.sizes.setdefault(name, []).append(len(found))

    def _answer(self, found: Sequence[Spec], says: str) -> Answer | Records:
        cache_header = "Age: 60" if says == "cache header" else ""
        part_header = "Content-Range: items 0-1/9" if says == "part header" else ""
        odd = self.turn.odd
        if self._is_json:
            body = b",".join(
                unreadable(s)[1] if odd and f"s{s[0]}" in odd else record_of(s) for s in found
            )
            beside = b',"meta":{"has_more":true}' if says == "partial" else b""
            body = b'{"data":[%b]%b}' % (body, beside)
            return Answer("", body, 0.0, NOW, None, None, cache_header, part_header)
        if odd:
            readable = [s for s in found if f"s{s[0]}" not in odd]
            rejected = [unreadable(s)[0] for s in found if f"s{s[0]}" in odd]
        else:
            readable, rejected = list(found), []
        partial = "meta.has_more" if says == "partial" else ""
        decoded = Decoded([snapshot_of(s) for s in readable], rejected, {}, partial)
        return Records(decoded, cache_header=cache_header, part_header=part_header)


class InTurn(Fetcher):
    """The fetcher without its threads: it asks for one view after the other."""

    at_once = 1

    def _in_threads(
        self, views: Sequence[View], fetch: Callable[[View], Result], *, linger_s: float
    ) -> Iterator[list[Result]]:
        del linger_s
        for start in range(0, len(views), self.at_once):
            yield [fetch(view) for view in views[start : start + self.at_once]]


class InMemory:
    """In place of the spill file."""

    def write(self, decoded: Decoded) -> Decoded:
        return decoded

    def read(self, decoded: Decoded) -> Decoded:
        return decoded

    def close(self) -> None:
        """Nothing is open."""
