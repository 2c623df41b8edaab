"""Invented organizations in memory: what each has is known, what its server answers is cut.

Nothing here is asked of the product, round numbers included: it is what the product is compared
with. What an organization does is drawn from its number and a seed, and from nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random

from etl.transform.decode import decode
from etl.transform.snapshot import Rejected, Snapshot

VIEWS = ("/a", "/ab", "/c", "/d")
"""Where a server matches by prefix, the first lists what the second does."""
LISTED = ("app-a", "app-b", "app-c")
"""Applications; nothing is pinned in the last one of a healthy organization."""
UNLISTED = "app-x"
"""An application that the list of applications lacks."""
HEALTHY = tuple(
    (application, device) for application in LISTED[:2] for device in ("desktop", "mobile")
)
PLACES = (
    *HEALTHY,
    ("app-a", None),
    ("app-a", "TV"),
    ("app-b", "Tablet"),
    ("app-c", "desktop"),
    (UNLISTED, "desktop"),
    (None, "desktop"),
    (None, None),
)
_SMALL = (10, 20, 25, 30, 40, 50, 60, 75, 80, 90, 100, 150, 200, 250, 300, 400, 500, 750)
ROUND_NUMBERS = (*_SMALL, 1000, 1500, 2000, 2500, 5000, 10000)
"""As rule 1 of the design has them."""
LARGE_EACH = 4096
"""One organization of so many is cut at one of the larger numbers."""
MIX_UPS = ("before", "view", "application")
SAID = ("partial", "part header", "cache header")
"""How an answer says that it is not whole, or not of now."""

Place = tuple[str | None, str | None]
Spec = tuple[int, str, Place, int]
"""Number, view, place and version of a snapshot."""


@cache
def record_of(spec: Spec) -> bytes:
    """The record of a snapshot, as JSON."""
    number, view, (application, device), version = spec
    attributes = {
        "application_id": application,
        "created_at": "2026-01-01T00:00:00Z",
        "device_type": device,
        "event_id": f"event-{number}",
        "modified_at": f"2026-01-0{1 + version}T00:00:00Z",
        "org_id": 7,
        "snapshot_name": f"version {version}",
        "view_name": view,
    }
    record = {"id": f"s{number}", "type": "snapshots", "attributes": attributes}
    return json.dumps(record).encode()


@cache
def snapshot_of(spec: Spec) -> Snapshot:
    """The snapshot itself."""
    return decode(b'{"data":[%b]}' % record_of(spec)).snapshots[0]


@cache
def unreadable(spec: Spec) -> tuple[Rejected, bytes]:
    """The record of a snapshot without its id: as it is rejected, and as JSON."""
    record = json.loads(record_of(spec))
    del record["id"]
    text = json.dumps(record)
    return decode(b'{"data":[%b]}' % text.encode()).rejected[0], text.encode()


@dataclass(slots=True)
class Turn:
    """How the server behaves in one run, and what changes during it.

    `cap`: no answer holds more. `refusal`: a larger limit is a 400, which names it or not. `order`:
    newest, random (the same each time) or changing. `applications`: those on the list; None: it
    cannot be read. `deaf`: an application that cannot be asked for. `changes`: before the n-th
    request these come and those go. `faults`: requests that fail first. `failing`: views without
    an answer. `mix_ups`, `doubtful`: by number of the request. `cached`: from this request to that
    one, all get the answer for the first. `says_age`: with its age. `doubles`: the first record
    of an answer comes twice. `odd`: ids that nobody can read in the answers; `odd_twice`: those of
    them that were odd in the run before.
    """

    cap: int | None = None
    refusal: tuple[int, bool] | None = None
    order: str = "newest"
    applications: Sequence[str] | None = LISTED
    deaf: str | None = None
    changes: dict[int, tuple[list[Spec], list[str]]] = field(default_factory=dict)
    faults: frozenset[int] = frozenset()
    failing: frozenset[str] = frozenset()
    mix_ups: dict[int, str] = field(default_factory=dict)
    doubtful: dict[int, str] = field(default_factory=dict)
    cached: tuple[int, int] = (0, 0)
    says_age: bool = False
    doubles: bool = False
    odd: frozenset[str] = frozenset()
    odd_twice: frozenset[str] = frozenset()

    @property
    def is_honest(self) -> bool:
        """Whether every answer is right at once, but for being cut."""
        wrong = (self.refusal, self.faults, self.failing, self.mix_ups, self.doubtful, self.odd)
        return not (any(wrong) or self.cached[1] or self.changes)


@dataclass(slots=True)
class Organization:
    """`items`: what is pinned now, by id, the oldest first. `limit`: what is asked for.

    `boundary`: the number near which the views are. `is_prefix`: how the view filter matches.
    """

    number: int
    rng: Random
    views: tuple[str, ...]
    limit: int
    boundary: int
    kind: str
    is_healthy: bool
    is_prefix: bool
    is_calm: bool
    items: dict[str, Spec] = field(default_factory=dict)
    made: int = 0

    def matches(self, asked: str, view: str) -> bool:
        """Whether the server lists a snapshot of `view` when it is asked for `asked`."""
        return asked == view or (self.is_prefix and view.startswith(asked))

    def new(self, view: str, place: Place) -> Spec:
        """A snapshot that was never there before."""
        self.made += 1
        return self.made, view, place, 0

    def places(self, count: int) -> list[Place]:
        """Where so many snapshots are pinned."""
        if count > 100:  # each is decoded once: not in every place
            return [HEALTHY[number % 4] for number in range(count)]
        pool: Sequence[Place] = HEALTHY if self.is_healthy else PLACES
        return self.rng.choices(pool, k=count)

    def add(self, view: str, count: int) -> None:
        """So many more."""
        for place in self.places(count):
            spec = self.new(view, place)
            self.items[f"s{spec[0]}"] = spec

    def some(self, share: float) -> list[str]:
        """Ids of that share of what is pinned."""
        random = self.rng.random
        return [identifier for identifier in self.items if random() < share]


_KINDS = ("limit", "odd", "ten", "twenty", "none")
_KIND_WEIGHTS = (24, 22, 14, 4, 36)


def invent(number: int, seed: int) -> Organization:
    """The organization of that number, before its first run."""
    rng = Random(seed * 1_000_000_007 + number)
    kind = rng.choices(_KINDS, _KIND_WEIGHTS)[0]
    is_large = number % LARGE_EACH == 0
    boundary = _boundary(rng, "none" if is_large else kind)
    if is_large:
        kind, boundary = "large", ROUND_NUMBERS[number // LARGE_EACH % len(ROUND_NUMBERS)]
    organization = Organization(
        number=number,
        rng=rng,
        views=VIEWS[: rng.choice((1, 2, 3, 3, 4))],
        limit=boundary if kind == "limit" else max(1000, 2 * boundary),
        boundary=boundary,
        kind=kind,
        is_healthy=rng.random() < 0.6,
        is_prefix=rng.random() < 0.04,
        is_calm=rng.random() < 0.5,
    )
    for view in organization.views:
        organization.add(view, _size(rng, boundary, is_first=view == VIEWS[0], is_large=is_large))
    return organization


def _boundary(rng: Random, kind: str) -> int:
    if kind == "ten":
        return 10
    if kind == "twenty":
        return rng.choice((20, 25, 30))
    return rng.choice((3, 4, 5, 6, 7))


def _size(rng: Random, boundary: int, *, is_first: bool, is_large: bool) -> int:
    if is_large and not is_first:
        return rng.choice((0, 3, 9))
    return max(0, rng.choice((0, 1, boundary - 1, boundary, boundary + 1, boundary + 3, 2)))


def turns(organization: Organization) -> Iterator[Turn]:
    """Two or three runs; what changed before each is in the organization by then."""
    rng = organization.rng
    number = 2 if rng.random() < 0.8 else 3
    turn = Turn()
    for run in range(number):
        if run:
            _change(organization)
        turn = _turn(organization, turn)
        yield turn


def _change(organization: Organization) -> None:
    """What happens between two runs."""
    rng = organization.rng
    for identifier in organization.some(rng.choice((0, 0, 0.1, 0.4, 1))):
        del organization.items[identifier]
    for identifier in organization.some(rng.choice((0, 0.1))):
        spec = organization.items[identifier]
        if rng.random() < 0.7:
            organization.items[identifier] = (*spec[:3], spec[3] + 1)
        else:  # pinned to another view
            organization.items[identifier] = (spec[0], rng.choice(VIEWS), *spec[2:])
    if organization.kind != "large" and rng.random() < 0.6:
        size = _size(rng, organization.boundary, is_first=True, is_large=False)
        organization.add(rng.choice(organization.views), size // 2)


def _turn(organization: Organization, before: Turn) -> Turn:
    rng = organization.rng
    chance = rng.random
    turn = Turn(cap=_cap(organization), doubles=chance() < 0.03)
    turn.odd = turn.odd_twice = before.odd & frozenset(organization.items)
    if chance() < 0.4:
        turn.order = rng.choice(("random", "changing"))
    if not organization.is_healthy and chance() < 0.5:
        turn.applications = rng.choice((None, None, (*LISTED, UNLISTED)))
    if not organization.is_calm:
        _disturb(organization, turn)
    return turn


def _cap(organization: Organization) -> int | None:
    if organization.kind in ("limit", "none"):
        return None
    return organization.boundary if organization.rng.random() < 0.9 else None


def _disturb(organization: Organization, turn: Turn) -> None:
    rng = organization.rng
    chance = rng.random
    if chance() < 0.12:
        turn.refusal = max(2, organization.boundary + rng.choice((-1, 0, 2))), chance() < 0.7
    if chance() < 0.12:
        turn.deaf = rng.choice(LISTED[1:])
    if chance() < 0.08:
        turn.failing = frozenset((rng.choice(organization.views),))
    if chance() < 0.08:
        turn.odd |= frozenset(organization.some(0.1))
    _disturb_requests(organization, turn)


def _disturb_requests(organization: Organization, turn: Turn) -> None:
    """What goes wrong at some requests of the run."""
    rng = organization.rng
    chance = rng.random

    def moments(count: int) -> list[int]:
        return [1 + int(12 * chance()) for _ in range(count)]

    if chance() < 0.35:
        turn.changes = {moment: _meanwhile(organization) for moment in moments(2)}
    if chance() < 0.15:
        turn.faults = frozenset(moments(2))
    if chance() < 0.25:
        turn.mix_ups = {moment: rng.choice(MIX_UPS) for moment in moments(rng.choice((1, 3, 6)))}
    if chance() < 0.15:
        turn.doubtful = {moment: rng.choice(SAID) for moment in moments(2)}
    if chance() < 0.12:
        (first,) = moments(1)
        turn.cached, turn.says_age = (first, first + rng.choice((1, 3, 8))), chance() < 0.5


def _meanwhile(organization: Organization) -> tuple[list[Spec], list[str]]:
    rng = organization.rng
    count = rng.choice((0, 1, 2))
    come = [
        organization.new(rng.choice(organization.views), place)
        for place in organization.places(count)
    ]
    return come, organization.some(rng.choice((0, 0.05, 0.2)))
