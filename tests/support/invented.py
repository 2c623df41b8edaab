"""An invented organization behind real HTTP: what it has is known, what it answers is cut.

`Organization` says which snapshots there are, how answers are ordered and cut, and what changes
between two requests; `Invented` serves it and keeps what happened: who was there when, and which
ids were sent. A `Story` is several runs over one organization and one database.
"""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from etl.extract.completeness import ROUND_NUMBERS
from etl.ledger.results import RunResult, ViewResult
from tests.support.api import APPLICATIONS, Api, Reply, record
from tests.support.project import Project

LISTED = ("app-a", "app-b", "app-c")
"""What the applications endpoint lists; app-c has no snapshots."""
UNLISTED = "app-x"
FORBIDDEN: Reply = (403, {}, b'{"errors": [{"title": "Forbidden"}]}')
FAULT: Reply = (500, {}, b"oops")
MIX_UPS = ("before", "view", "application")
"""Of the request before in this run, of another view, or of another application."""
SAID: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "next": ({}, {"links": {"next": "/?page=2"}}),
    "cursor": ({}, {"meta": {"page": {"after": "abc"}}}),
    "total": ({}, {"meta": {"total_count": 10_000}}),
    "timeout": ({}, {"meta": {"status": "timeout"}}),
    "has_more": ({}, {"has_more": True}),
    "range": ({"Content-Range": "items 0-1/9"}, {}),
    "age": ({"Age": "60"}, {}),
    "hit": ({"X-Cache": "HIT from cache.example.com"}, {}),
}
"""How an answer says that it is partial, or that it comes from a cache: headers, and members."""


@dataclass(frozen=True)
class Item:
    """One snapshot of the organization; `number` is its age."""

    id: str
    view: str
    application: str | None
    device: str | None
    number: int

    def as_record(self) -> dict[str, Any]:
        place = {"application_id": self.application, "device_type": self.device}
        return record(self.id, view_name=self.view, event_id=f"event-{self.id}", **place)


@dataclass
class Organization:
    """`cap`: no answer holds more. `refusal`: a limit above it is a 400 that names it or not.

    `order`: newest, random (the same each time) or changing. `applications`: listed, forbidden,
    broken, or how a list that lacks some says so. `deaf`: an application that no snapshots can be
    asked for. `changes`: before the n-th request of a run these items come and those ids go.
    `faults`: requests that fail first. `doubtful`: requests whose answer lacks every second
    record, and how it says so. `mix_ups`: requests that are answered as if they were others, see
    `MIX_UPS`. `cached`: from this request of a run to that one, all get the answer for the first;
    `says_age`: with its age. `late_s`: how long a wrong answer takes. `matches`: whether the view
    filter lets a name through.
    """

    items: dict[str, Item] = field(default_factory=dict)
    cap: int | None = None
    refusal: tuple[int, bool] | None = None
    order: str = "newest"
    applications: str = "listed"
    deaf: str | None = None
    changes: dict[int, tuple[list[Item], list[str]]] = field(default_factory=dict)
    faults: frozenset[int] = frozenset()
    mix_ups: dict[int, str] = field(default_factory=dict)
    cached: tuple[int, int] = (0, 0)
    says_age: bool = False
    late_s: float = 0.0
    matches: Callable[[str, str], bool] = str.__eq__
    doubtful: dict[int, str] = field(default_factory=dict)

    def of(self, view: str) -> set[str]:
        return {item.id for item in self.items.values() if item.view == view}


class Invented(Api):
    """`begin()` starts the record of a run; then `sent`, `gone` and `came` tell of it."""

    def __init__(self) -> None:
        super().__init__()
        self.organization = Organization()
        self.refuses_from: tuple[int, int] | None = None  # this request on, a limit above that
        self.failing: set[str] = set()  # views that give no answer
        self.begin()

    def begin(self) -> None:
        self.requests.clear()
        self.wholes: dict[str, list[int]] = {}  # sizes of unfiltered answers, by view
        self.sent: dict[str, set[str]] = {}  # ids of any answer, by view
        self.gone: set[str] = set()  # ids that were not there at some time of the run
        self.came: set[str] = set()
        self.wrong: dict[str, int] = {}  # answers for another view in a row, by view

    def _reply(self, path: str) -> Reply:
        if path == APPLICATIONS:
            return self._list_of_applications()
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        with self._lock:
            self.requests.append(query)
            self._pass_time()
            question = self._question_answered(query)
            reply = self._answer_for(query)
            if question == query or reply[0] != 200:
                self._note(query, query, reply)
                return reply
            wrong = self._answer_for({**question, "page[limit]": query["page[limit]"]})
            # Records that are not there name nothing: nobody could tell that they are others'.
            if not json.loads(wrong[2])["data"]:
                self._note(query, query, reply)
                return reply
            self._note(query, question, wrong)
        time.sleep(self.organization.late_s)
        age = {"Age": "60"} if self.organization.says_age else {}
        return wrong[0], {**wrong[1], **age}, wrong[2]

    def _question_answered(self, query: dict[str, str]) -> dict[str, str]:
        """The query that a request is taken for."""
        organization, number = self.organization, len(self.requests)
        first, last = organization.cached
        if first < number <= last:
            return self.requests[first - 1]
        kind = organization.mix_ups.get(number)
        if kind == "before" and number > 1:
            return self.requests[-2]
        if kind == "view":
            others = sorted({item.view for item in organization.items.values()})
            return query | {"filter[view_name]": others[number % len(others)]} if others else query
        asked = query.get("filter[application_id]")
        if kind == "application" and asked:
            return query | {
                "filter[application_id]": LISTED[0] if asked != LISTED[0] else LISTED[1]
            }
        return query

    def _note(self, query: dict[str, str], answered: dict[str, str], reply: Reply) -> None:
        """Keep what was sent for the view, and how often in a row it got another one's answer."""
        if reply[0] != 200:
            return
        view, records = query["filter[view_name]"], json.loads(reply[2])["data"]
        is_whole, is_wrong = len(query) == 2, view != answered["filter[view_name]"]
        if is_whole and (is_wrong or self.wrong.get(view, 0) < 2):
            self.wrong[view] = self.wrong.get(view, 0) + 1 if is_wrong else 0
        if {**answered, "page[limit]": ""} != {**query, "page[limit]": ""}:
            return
        self.sent.setdefault(view, set()).update(record["id"] for record in records)
        if is_whole and len(self.requests) not in self.organization.doubtful:
            self.wholes.setdefault(view, []).append(len(records))

    def _pass_time(self) -> None:
        come, go = self.organization.changes.get(len(self.requests), ([], []))
        for identifier in go:
            if self.organization.items.pop(identifier, None):
                self.gone.add(identifier)
        for item in come:
            self.organization.items[item.id] = item
            self.came.add(item.id)

    def _list_of_applications(self) -> Reply:
        said = self.organization.applications
        if said == "forbidden":
            return FORBIDDEN
        if said == "broken":
            return 404, {}, b"<html>not here</html>"
        headers, beside = SAID.get(said, ({}, {}))
        named = LISTED[:1] if said in SAID else LISTED
        listed = [{"id": a, "type": "rum_application", "attributes": {}} for a in named]
        return 200, headers, json.dumps({"data": listed, **beside}).encode()

    def _answer_for(self, query: dict[str, str]) -> Reply:
        organization, limit = self.organization, int(query["page[limit]"])
        if len(self.requests) in organization.faults:
            return FAULT
        refusal = organization.refusal
        if self.refuses_from and len(self.requests) >= self.refuses_from[0]:
            refusal = self.refuses_from[1], True
        if refusal and limit > refusal[0]:
            most, names_it = refusal
            text = f"page[limit] must be at most {most}" if names_it else "page[limit] is too large"
            return 400, {}, json.dumps({"errors": [text]}).encode()
        view, application = query["filter[view_name]"], query.get("filter[application_id]")
        if view in self.failing:
            return FORBIDDEN
        if application is not None and application == organization.deaf:
            return 404, {}, b'{"errors": ["Not found"]}'
        device = query.get("filter[device_type]")
        found = [
            item
            for item in organization.items.values()
            if organization.matches(view, item.view)
            and application in (None, item.application)
            and device in (None, item.device)
        ]
        self._sort(found)
        found = found[: min(limit, organization.cap or limit)]
        said = organization.doubtful.get(len(self.requests))
        headers, beside = SAID[said] if said else ({}, {})
        records = [item.as_record() for item in (found[::2] if said else found)]
        return 200, headers, json.dumps({"data": records, **beside}).encode()

    def _sort(self, found: list[Item]) -> None:
        found.sort(key=lambda item: -item.number)
        if self.organization.order != "newest":
            is_changing = self.organization.order == "changing"
            random.Random(len(self.requests) if is_changing else 1).shuffle(found)


class Story:
    """One organization over several runs, and one database."""

    def __init__(self, project: Project, server: Invented) -> None:
        self.project, self.server = project, server
        server.organization = Organization()
        self._numbers = iter(range(1, 10_000))
        self.items: dict[str, Item] = {}  # every one there ever was
        self.views = [view.name for view in project.config.views]
        project.configure(concurrency=1)  # what comes when is then the same each time

    def make(self, view: str, place: tuple[str | None, str | None]) -> Item:
        number = next(self._numbers)
        item = Item(f"{view}{number}", view, *place, number)
        self.items[item.id] = item
        return item

    def some(self, numbers: list[int]) -> list[str]:
        there = list(self.server.organization.items)  # in the order in which they came
        return [there[number] for number in set(numbers) if number < len(there)]

    def run(self, *, accept: bool = False) -> RunResult:
        """One run, after which everything that must hold is asserted."""
        self.server.begin()
        before, self.before = dict(self.server.organization.items), self.project.snapshots()
        self.cap_before = self.learned_cap()
        self.run_result = self.project.run(accept=accept)
        self.away = self.items.keys() - before.keys() | self.server.gone
        self.after = self.project.snapshots()
        return self.run_result

    def add(self, view: str, count: int, application: str | None = "app-a") -> list[str]:
        """So many more snapshots; returns their ids."""
        new = [self.make(view, (application, "desktop")) for _ in range(count)]
        self.server.organization.items |= {item.id: item for item in new}
        return [item.id for item in new]

    def drop(self, ids: list[str]) -> None:
        """They are unpinned."""
        for identifier in ids:
            del self.server.organization.items[identifier]

    def results(self) -> dict[str, ViewResult]:
        """Of the last run, by view name."""
        return {result.view.name: result for result in self.run_result.views}

    def learned_cap(self) -> int | None:
        rows = self.project.rows("SELECT learned_cap FROM sources")
        cap: int | None = rows[0]["learned_cap"] if rows else None
        return cap

    def live(self, view: str) -> set[str]:
        rows = self.after.values()
        return {r["id"] for r in rows if r["synced_view"] == view and r["removed_at"] is None}

    def removed(self) -> set[str]:
        """Rows that this run removed."""
        return {
            i
            for i, row in self.after.items()
            if row["removed_at"] and i in self.before and not self.before[i]["removed_at"]
        }

    def is_betrayed(self) -> bool:
        """Whether a number of the run shows the cap, by rule 1."""
        cap = self.server.organization.cap
        if cap is None or cap in ROUND_NUMBERS or cap == self.cap_before:
            return True
        sizes = [max(sizes) for sizes in self.server.wholes.values()]
        limits = {int(q["page[limit]"]) for q in self.server.requests}
        if len(limits) > 1 or cap in limits:
            return limits == {cap}
        at_cap = [size for size in sizes if size == cap]
        is_shared = len(at_cap) >= 3 and 5 * len(at_cap) >= sum(size > 0 for size in sizes)
        return is_shared or not any(len(self.server.organization.of(v)) > cap for v in self.views)

    def could_not_know(self, item: Item, view: str) -> bool:
        """Whether its application was never named: by the list, a stored row, or the view."""
        named = {row["application_id"] for row in self.before.values()}
        named |= {self.items[i].application for i in self.server.sent.get(view, ())}
        return item.application not in LISTED and item.application not in named

    def is_quiet(self, view: str) -> bool:
        """Whether nothing of the view changed during the run."""
        changed = self.server.gone | self.server.came
        return not any(self.items[i].view == view for i in changed)
