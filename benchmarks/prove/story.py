"""An invented story: what each view of one organization answers, round after round.

Snapshots are pinned, changed, unpinned and pinned again; some move to another view, or are listed
by a second one; now and then a view loses most of its rows at once, sends a record twice, or sends
one that cannot be a row. A story is data alone, and the same seed tells the same one. What the
tables must hold after it, the oracle works out (`benchmarks.prove.oracle`).

The sizes are such that every answer is `complete`: the largest view is never of a suspicious size.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.api import record

Answers = dict[str, list[Any]]
"""The records that each view lists in one round, by the view's name."""

LARGEST = "/home"
VIEWS = (LARGEST, "/cart", "/checkout/?", "/search", "/account", "/Home")
HOLD_ABOVE, HOLD_MIN = 0.3, 3
"""Settings of `removals` that a story is told with."""
PERSONS = tuple(f"Person-{name}" for name in ("Ada", "Bo", "Çelik", "Dvořák", "Eve"))
APPLICATIONS = ("aaaaaaaa-1111-2222-3333-bbbbbbbbbbbb", "cccccccc-1111-2222-3333-dddddddddddd")
UNREADABLE: tuple[Any, ...] = (
    "no object",
    {"type": "snapshots"},
    {"id": "x" * 300, "type": "snapshots"},
)
"""Records without an id that can be used."""

_FEWEST, _MOST = (5, 31), (26, 38)
"""Pins of a view, and of the largest one."""


@dataclass(frozen=True)
class _Pin:
    """One snapshot; `edition` counts its changes, and dates the last one."""

    id: str
    view: str
    person: int
    edition: int = 0
    changed: tuple[tuple[str, Any], ...] = ()

    def as_record(self) -> dict[str, Any]:
        minute, second = divmod(self.edition, 60)
        return record(
            self.id,
            **{
                "view_name": self.view,
                "created_by": PERSONS[self.person],
                "created_by_handle": f"{PERSONS[self.person].lower()}@example.com",
                "created_by_user_id": 7000 + self.person,
                "modified_at": f"2026-02-01T10:{minute:02}:{second:02}Z",
                **dict(self.changed),
            },
        )


def invent(seed: int, rounds: int) -> list[Answers]:
    """As many rounds of a story. More of them begin in the same way."""
    teller = _Teller(random.Random(f"story {seed}"))
    return [teller.next_round() for _ in range(rounds)]


@dataclass
class _Teller:
    chance: random.Random
    pins: dict[str, dict[str, _Pin]] = field(default_factory=lambda: {view: {} for view in VIEWS})
    gone: dict[str, _Pin] = field(default_factory=dict)
    """What was unpinned and may come back, by id."""
    away: dict[str, int] = field(default_factory=dict)
    """For how many more rounds a view lists little or nothing, by its name."""
    kept_back: dict[str, list[_Pin]] = field(default_factory=dict)
    """What such a view lists again afterwards."""
    unreadable: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """A record that cannot be a row, and for how many rounds the view has it."""
    shared: dict[str, str] = field(default_factory=dict)
    """A second view that lists an id."""
    moved_from: set[str] = field(default_factory=set)
    number: int = 0
    edition: int = 0

    def next_round(self) -> Answers:
        before = {view: set(pins) for view, pins in self.pins.items()}
        if not any(before.values()):
            for view in VIEWS:
                for _ in range(self._size_at_first(view)):
                    self._pin(view)
            return self._answers()
        for view in VIEWS:
            # A view that changed nothing answers byte for byte as before: the shortcut.
            if view not in self.away and self.chance.random() < 0.6:
                self._change(view, before[view])
        self._end_absences()
        self._move(before)
        if self.chance.random() < 0.35:
            self._lose_much()
        self._keep_sizes()
        self._share(before)
        self._spoil()
        return self._answers()

    def _size_at_first(self, view: str) -> int:
        return self.chance.randint(31, 35) if view == LARGEST else self.chance.randint(7, 19)

    def _pin(self, view: str) -> None:
        self.number += 1
        places = (
            ("application_id", self.chance.choice(APPLICATIONS)),
            ("device_type", self.chance.choice(["desktop", "mobile", "tablet"])),
        )
        pin = _Pin(f"pin-{self.number:04}", view, self.chance.randrange(len(PERSONS)), 0, places)
        self.pins[view][pin.id] = pin

    def _change(self, view: str, before: set[str]) -> None:
        pins = self.pins[view]
        for _ in range(self.chance.randint(0, 2)):
            if self._has_room(view):
                self._pin(view)
        for identifier in self._some(before & pins.keys(), 3):
            pins[identifier] = self._edited(pins[identifier])
        for identifier in self._some(before & pins.keys(), 2):
            self.gone[identifier] = pins.pop(identifier)
        # One whose removal is held stays away: which view answers first would decide what counts.
        free = {i for i, pin in self.gone.items() if pin.view not in self.away}
        for identifier in self._some(free - before, 2):
            again = self.gone.pop(identifier)
            # Pinned again as it was, changed, or on another view.
            again = again if self.chance.random() < 0.5 else self._edited(again)
            if self.chance.random() < 0.3:
                again = replace(again, view=view)
            if self._has_room(again.view):
                self.pins[again.view][identifier] = again
            else:
                self.gone[identifier] = again

    def _edited(self, pin: _Pin) -> _Pin:
        self.edition += 1
        attributes: list[tuple[str, Callable[[], Any]]] = [
            ("snapshot_name", lambda: f"Menu {self.edition}"),
            ("session_id", lambda: f"session-{self.edition}"),
            ("start", lambda: self.chance.choice([self.edition, "soon", 2**62 + self.edition])),
            ("view_id", lambda: None),
            ("is_device_type_selected_by_user", lambda: self.chance.random() < 0.5),
            ("theme", lambda: self.chance.choice(["dark", "light", {"night": [self.edition]}])),
            ("created_at", lambda: f"2026-02-01T10:00:00.{self.edition:06}Z"),
        ]
        changed = dict(pin.changed)
        for name, value in self.chance.sample(attributes, k=self.chance.randint(0, 2)):
            changed[name] = value()
        return replace(pin, edition=self.edition, changed=tuple(changed.items()))

    def _move(self, before: dict[str, set[str]]) -> None:
        """Snapshots that are listed go to another view in the same round."""
        self.moved_from = set(self._some(set(VIEWS) - self.away.keys(), 2))
        for view in sorted(self.moved_from):
            others = sorted(set(VIEWS) - self.away.keys() - {view})
            for identifier in self._some(before[view] & self.pins[view].keys(), 1):
                to = self.chance.choice(others)
                if self._has_room(to):
                    self.pins[to][identifier] = replace(self.pins[view].pop(identifier), view=to)

    def _lose_much(self) -> None:
        """A view lists nothing, or half, for a round or more, and then all of it again.

        One view at a time begins so: where three lose much in one run, a person must accept it.
        """
        view = self.chance.choice([view for view in VIEWS if view != LARGEST])
        if self.away or view in self.unreadable or view in self.moved_from:
            return
        pins = self.pins[view]
        some = sorted(pins)
        lost = some if self.chance.random() < 0.5 else some[: len(some) // 2 + 1]
        self.away[view] = self.chance.randint(1, 3)
        self.kept_back[view] = [pins.pop(identifier) for identifier in lost]

    def _end_absences(self) -> None:
        for view in list(self.away):
            self.away[view] -= 1
            if self.away[view] <= 0:
                del self.away[view]
                self.pins[view] |= {pin.id: pin for pin in self.kept_back.pop(view)}

    def _keep_sizes(self) -> None:
        for view in set(VIEWS) - self.away.keys():
            while len(self.pins[view]) < _FEWEST[view == LARGEST]:
                self._pin(view)

    def _has_room(self, view: str) -> bool:
        """So that the largest view is the largest, and of no suspicious size."""
        return len(self.pins[view]) < _MOST[view == LARGEST]

    def _share(self, before: dict[str, set[str]]) -> None:
        """Some ids are listed by a second view, too. Who loses much shares nothing."""
        self.shared = {
            identifier: view
            for identifier, view in self.shared.items()
            if self._may_be_shared(identifier, view, before) and self.chance.random() < 0.7
        }
        if self.chance.random() < 0.25:
            free = set(VIEWS) - self.away.keys() - {LARGEST, *self.shared.values()}
            if not free:
                return
            view = self.chance.choice(sorted(free))
            owner = self.chance.choice(sorted(set(VIEWS) - self.away.keys() - {view}))
            for identifier in self._some(before[owner] & self.pins[owner].keys(), 1):
                self.shared[identifier] = view

    def _may_be_shared(self, identifier: str, view: str, before: dict[str, set[str]]) -> bool:
        listed_by = [name for name, pins in self.pins.items() if identifier in pins]
        return (
            view not in self.away
            and len(listed_by) == 1
            and listed_by[0] != view
            and identifier in before[listed_by[0]]
        )

    def _spoil(self) -> None:
        """Records that cannot be rows stay for some rounds."""
        self.unreadable = {
            view: (left - 1, item) for view, (left, item) in self.unreadable.items() if left > 1
        }
        if self.chance.random() < 0.3:
            view = self.chance.choice(sorted(set(VIEWS) - self.away.keys() - {LARGEST}))
            self.unreadable[view] = (self.chance.randint(1, 4), self.chance.choice(UNREADABLE))

    def _answers(self) -> Answers:
        answers: Answers = {}
        for view in VIEWS:
            records: list[Any] = [pin.as_record() for _, pin in sorted(self.pins[view].items())]
            for identifier, second in sorted(self.shared.items()):
                if second == view:
                    (pin,) = (pins[identifier] for pins in self.pins.values() if identifier in pins)
                    records.append(replace(pin, view=view).as_record())
            if view in self.unreadable:
                records.append(self.unreadable[view][1])
            # The same pin twice, as it was before its last change; the later one counts.
            changed = [pin for _, pin in sorted(self.pins[view].items()) if pin.edition]
            if changed and len(changed) % 3 == 0:
                older = replace(changed[0], edition=0, changed=())
                records.insert(0, older.as_record())
            answers[view] = records
        return json.loads(json.dumps(answers))  # type: ignore[no-any-return]

    def _some(self, things: Iterable[str], most: int) -> list[str]:
        known = sorted(things)
        return self.chance.sample(known, k=min(len(known), self.chance.randint(0, most)))
