"""A year of an invented shop, for a demo with a history: who pinned what, day by day."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from etl.fake_datadog.organization import (
    PEOPLE,
    SNAPSHOT_NAMES,
    Traffic,
    draw_background,
    draw_timestamp,
)
from etl.fake_datadog.world import World

DAYS = 364
SEED = 5
WEB, CHECKOUT, OFFICE, IOS = range(4)  # the applications, in the order of the organization
_DEVICES = {
    WEB: {"desktop": 52, "mobile": 38, "tablet": 10},
    CHECKOUT: {"desktop": 45, "mobile": 47, "tablet": 8},
    OFFICE: {"desktop": 96, "tablet": 4},
    IOS: {"mobile": 84, "tablet": 16},
}
_WEEKEND = 0.06  # share of the changes of a working day
_HOLIDAYS = {8: 0.4, 12: 0.6}  # the same for August and December
_UNPINNED, _REPOINTED = 0.004, 0.003  # share of all snapshots on a working day
_MISTAKEN = 0.25  # share of those unpinned that are soon pinned again


@dataclass(frozen=True, slots=True)
class _Page:
    """A view of the shop. `pins`: in a usual week; days count from the start of the year."""

    name: str
    application: int
    views_30d: int
    pins: float = 0.0
    before: int = 0  # snapshots that are older than the year
    owner: int = 0  # index in PEOPLE: the person who pins most of it
    since: int = 0  # the day of its first visitors
    until: int = DAYS + 1  # the day from which it is not worked on any more

    def is_worked_on(self, day: int) -> bool:
        return self.since <= day < self.until


SALE = _Page("/sale/summer", WEB, 58_300, 3.0, owner=4, since=170, until=236)
PAGES = (
    _Page("/home", WEB, 184_230, 0.9, 56),
    _Page("/product/?", WEB, 341_860, 1.5, 101),
    _Page("/category/?", WEB, 212_480, 0.5, 18, until=84),
    _Page("/search", WEB, 128_410, 0.6, 24, owner=1),
    _Page("/cart", CHECKOUT, 96_340, 0.7, 17, owner=1),
    _Page("/checkout/address", CHECKOUT, 41_870, 0.5, 12, owner=1),
    _Page("/checkout/payment", CHECKOUT, 36_520, 0.7, 13, owner=1),
    _Page("/checkout/done", CHECKOUT, 29_110, 0.2, 6, owner=1),
    _Page("/account/orders", WEB, 22_690, 0.2, 9, owner=2, until=150),
    _Page("/account/settings", WEB, 9_430, 0.2, 7, owner=2),
    _Page("/help/?", WEB, 14_920, 0.2, 8, owner=4, until=30),
    SALE,
    _Page("/orders/?", OFFICE, 7_840, 0.3, 8, owner=2),
    _Page("ProductScreen", IOS, 88_150, 1.1, 5, owner=3),
    _Page("SearchScreen", IOS, 31_720, 0.5, owner=3, since=90),
    _Page("/wishlist", WEB, 73_560),
    _Page("CheckoutScreen", IOS, 52_080, since=90),
    _Page("/gift-cards", WEB, 18_440, since=240),
    _Page("/store-finder", WEB, 12_730),
    _Page("/legal/imprint", WEB, 310),
)
_REDESIGN = range(126, 138)
"""Days on which the checkout is redesigned: many of its snapshots are re-pointed."""


class Year:
    """Holds a world that starts a year before `end_at`; call `pass_day` `DAYS` times."""

    def __init__(self, end_at: datetime) -> None:
        self.day = 0
        self._random = Random(SEED)  # noqa: S311 - repeatable, not secret
        self._pinned: dict[str, list[str]] = {page.name: [] for page in PAGES}
        self._emptied: set[str] = set()
        self._mistaken: list[tuple[str, str]] = []  # view and id of those unpinned by mistake
        self._began_at = (end_at - timedelta(days=DAYS)).date()
        self.world = World(SEED, views=(), start_at=end_at - timedelta(days=DAYS))
        for page in PAGES:
            for _ in range(page.before):
                # Most are recent; the replays of the oldest expire before the year is over.
                age_days = 1 + 250 * self._random.random() ** 1.7
                self._pin(page, self.world.now - timedelta(days=age_days))
        self._count_traffic()

    def pass_day(self) -> None:
        """Let a day pass: some snapshots are pinned, re-pointed and unpinned."""
        self.day += 1
        end_at = self.world.now + timedelta(days=1)
        for page in PAGES:
            self.world.wait(self._random.random())
            if page.name not in self._emptied:
                self._change_page(page)
        if self._random.random() < 0.3:
            self._undo_one_mistake()
        self.world.wait((end_at - self.world.now) / timedelta(hours=1))
        self._count_traffic()

    def empty_view(self, view_name: str) -> None:
        """Unpin all snapshots of the view, and change nothing in it until `restore_view`."""
        self._emptied.add(view_name)
        for snapshot_id in self._pinned[view_name]:
            self.world.unpin(snapshot_id)

    def restore_view(self, view_name: str) -> None:
        """Pin again what `empty_view` unpinned."""
        self._emptied.remove(view_name)
        for snapshot_id in self._pinned[view_name]:
            self.world.pin_again(snapshot_id)

    def _change_page(self, page: _Page) -> None:
        if page is SALE and self.day >= page.until:
            while self._pinned[page.name]:
                self.world.unpin(self._pinned[page.name].pop())
            self._mistaken = [item for item in self._mistaken if item[0] != page.name]
            return
        today = self._began_at + timedelta(days=self.day)
        activity = _WEEKEND if today.weekday() >= 5 else _HOLIDAYS.get(today.month, 1.0)
        is_redesigned = page.application == CHECKOUT and self.day in _REDESIGN
        for snapshot_id in tuple(self._pinned[page.name]):
            chance = self._random.random() / activity
            if chance < _UNPINNED:
                self._unpin(page, snapshot_id)
            elif chance < _UNPINNED + (0.08 if is_redesigned else _REPOINTED):
                self.world.repoint(snapshot_id, **draw_background(self._random))
        pins = page.pins / 5 * activity * (4 if is_redesigned else 1)
        if page.is_worked_on(self.day) and self._random.random() < pins:
            self._pin(page, self.world.now)

    def _undo_one_mistake(self) -> None:
        for view_name, snapshot_id in self._mistaken:
            if view_name not in self._emptied:
                self.world.pin_again(snapshot_id)
                self._pinned[view_name].append(snapshot_id)
                self._mistaken.remove((view_name, snapshot_id))
                return

    def _pin(self, page: _Page, created_at: datetime) -> None:
        people = range(len(PEOPLE))
        weights = [6 if n == page.owner else 1 for n in people]
        name, handle, user_id = PEOPLE[self._random.choices(people, weights)[0]]
        devices = _DEVICES[page.application]
        created = draw_timestamp(self._random, created_at)
        record = self.world.pin(
            page.name,
            application_id=self.world.applications[page.application].application_id,
            created_at=created,
            modified_at=created,
            created_by=name,
            created_by_handle=handle,
            created_by_user_id=user_id,
            device_type=self._random.choices(list(devices), list(devices.values()))[0],
            snapshot_name=self._random.choice(SNAPSHOT_NAMES),
        )
        self._pinned[page.name].append(record["id"])

    def _unpin(self, page: _Page, snapshot_id: str) -> None:
        self.world.unpin(snapshot_id)
        self._pinned[page.name].remove(snapshot_id)
        if self._random.random() < _MISTAKEN:
            self._mistaken.append((page.name, snapshot_id))

    def _count_traffic(self) -> None:
        """Set the page views: a view has some from its first day on, the sale until its last."""
        ids = [application.application_id for application in self.world.applications]
        visited = [
            page
            for page in PAGES
            if page.since <= self.day and (page is not SALE or page.is_worked_on(self.day))
        ]
        traffic = tuple(Traffic(p.name, ids[p.application], p.views_30d) for p in visited)
        self.world.organization = replace(self.world.organization, traffic=traffic)
