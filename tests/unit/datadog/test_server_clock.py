"""etl.datadog.server_clock: the skew of this machine by the Date of answers."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from etl.datadog.dates import http_date, server_date
from etl.datadog.rate_limit import stated_wait
from etl.datadog.server_clock import (
    ServerClock,
    skew_between,
    skew_warning,
)

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
HOUR = 3600.0


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def header(seconds: float) -> str:
    return format_datetime(at(seconds).replace(microsecond=0), usegmt=True)


@pytest.mark.parametrize(
    ("sent", "head", "date", "skew"),
    [
        (0, 0.2, 0, 0.0),
        (0.9, 1.1, 0, 0.0),  # the server may have had 0.99
        (0, 0.2, 1, -0.8),
        (100, 100.5, 0, 99.0),
        (0, 0.5, 100, -99.5),
        (0, 90, 1, 0.0),  # slow: the Date was made at any moment of it
        (90, 180, 0, 89.0),
        (0, 90, 180, -90.0),
        (2 * HOUR, 2 * HOUR + 1, 0, 2 * HOUR - 1),
    ],
)
def test_the_skew_is_the_possible_one_nearest_to_zero(
    sent: float, head: float, date: float, skew: float
) -> None:
    nearest, most = skew_between(at(sent), at(head), at(date))
    assert nearest == pytest.approx(skew)
    assert most == pytest.approx(head - date)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("Sat, 01 Aug 2026 12:00:00 GMT", NOW),
        ("Saturday, 01-Aug-26 12:00:00 GMT", NOW),
        ("Sat Aug  1 12:00:00 2026", NOW),
        ("Sat, 01 Aug 2026 14:00:00 +0200", NOW),
        ("", None),
        ("yesterday", None),
        ("Sat, 99 Aug 2026 12:00:00 GMT", None),
        ("Sat, 01 Aug 99999999999 12:00:00 GMT", None),
        ("1785585600", None),
        (None, None),
    ],
)
def test_a_date_that_cannot_be_read_counts_for_nothing(
    value: str | None, read: datetime | None
) -> None:
    assert http_date(value) == read


@pytest.mark.parametrize("cached", [{"Age": "0"}, {"X-Cache": "HIT"}, {"Warning": "110 - stale"}])
def test_the_date_of_a_cache_counts_for_nothing(cached: dict[str, str]) -> None:
    assert server_date(httpx.Headers({"Date": header(0)})) == NOW
    assert server_date(httpx.Headers({"Date": header(0)} | cached)) is None


class World:
    """A machine and a server: `answer` notes one whose Date is `old` seconds too early."""

    def __init__(self, skew: float = 0.0) -> None:
        self.skew, self.true, self.asleep = skew, 0.0, 0.0
        self.clock = ServerClock((self.wall - at(0)).total_seconds() + NOW.timestamp())

    @property
    def wall(self) -> datetime:
        return at(self.true + self.skew)

    def answer(self, old: float = 0.0, status: int = 200, **headers: str) -> bool:
        """Returns whether it counts as kept by a cache."""
        self.true += 0.5
        sample = self.clock.note(
            status,
            httpx.Headers({"Date": header(self.true - old)} | headers),
            head_at=self.wall,
            monotonic_s=self.true - self.asleep,
            took_s=0.2,
        )
        return sample is not None and self.clock.is_old(sample)


@pytest.mark.parametrize("skew", [0.0, 90.0, -90.0, 2 * HOUR, -2 * HOUR, 3650 * 86400.0])
def test_every_answer_shows_the_skew(skew: float) -> None:
    world = World(skew)
    assert world.clock.skew_s is None
    assert not any(world.answer() for _ in range(5))
    assert world.clock.skew_s == pytest.approx(skew, abs=1.5)
    assert world.clock.skew_at_start_s == pytest.approx(skew, abs=1.5)


@pytest.mark.parametrize("skew", [0.0, 90.0, 2 * HOUR])
def test_an_old_answer_is_told_from_a_wrong_clock_once_another_one_is_fresh(skew: float) -> None:
    world = World(skew)
    assert not world.answer(old=2 * HOUR)  # nobody can know yet
    assert not world.answer()
    assert world.answer(old=2 * HOUR)
    assert world.answer(old=120)
    assert not world.answer(old=30)
    assert world.clock.skew_s == pytest.approx(skew, abs=1.5)


@pytest.mark.parametrize("status", [401, 502])
def test_the_page_of_a_proxy_with_a_clock_of_its_own_gives_way_to_an_answer(status: int) -> None:
    world = World(2 * HOUR)
    world.answer(old=-2 * HOUR, status=status)  # made on this machine, by its wrong clock
    assert world.clock.skew_s == pytest.approx(0, abs=1.5)
    assert not world.answer()
    world.answer(old=-2 * HOUR, status=status)
    assert world.clock.skew_s == pytest.approx(2 * HOUR, abs=1.5)


def test_a_clock_that_is_moved_is_no_old_answer() -> None:
    world = World()
    assert not world.answer()
    world.skew = 2 * HOUR
    assert not world.answer()
    assert world.clock.skew_s == pytest.approx(2 * HOUR, abs=1.5)
    assert world.clock.skew_at_start_s == pytest.approx(0, abs=1.5)
    world.skew = 0
    assert not world.answer()
    assert world.clock.skew_s == pytest.approx(0, abs=1.5)


def test_a_machine_that_slept_is_not_wrong() -> None:
    world = World()
    world.answer()
    world.true += 2 * HOUR
    world.asleep += 2 * HOUR  # the monotonic clock stood still
    assert not world.answer()
    assert world.clock.skew_s == pytest.approx(0, abs=1.5)


@pytest.mark.parametrize(
    ("skew", "text"),
    [
        (None, ""),
        (60.0, ""),
        (-60.0, ""),
        (61.0, "this machine's clock is 61 s ahead of that of api: set it, or have NTP set it"),
        (-7300.0, "this machine's clock is 2 h behind that of api: set it, or have NTP set it"),
    ],
)
def test_a_clock_that_is_wrong_by_more_than_a_minute_is_worth_a_warning(
    skew: float | None, text: str
) -> None:
    assert skew_warning(skew, "api") == text


@pytest.mark.parametrize("clock_s", [0.0, 2 * HOUR, -5 * HOUR, 3650 * 86400.0])
def test_a_date_to_wait_for_is_counted_from_that_of_the_answer(clock_s: float) -> None:
    headers = httpx.Headers({"Date": header(clock_s), "Retry-After": header(clock_s + 30)})
    assert stated_wait(503, headers, NOW) == 30


@pytest.mark.parametrize("date", [{}, {"Date": "soon"}, {"Date": header(-HOUR), "Age": "3600"}])
def test_without_a_date_of_its_own_it_is_counted_from_our_clock(date: dict[str, str]) -> None:
    headers = httpx.Headers({"Retry-After": header(30)} | date)
    assert stated_wait(429, headers, NOW) == 30
