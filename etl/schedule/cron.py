"""When a job is due: a cron line or an interval, and the last slot -> the next one. Pure.

A slot is a local wall-clock time and runs once. When the clocks go back the hour that comes
twice has its slots the first time; when they go forward those of the hour that is left out run
by the clock before the change, an hour later on the new one. Any number of missed slots
collapse into one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TypeAlias

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
# A change of clocks moves a slot by an hour as a rule, where the date line moved by a day.
_SHIFT = 2 * _DAY
_AROUND = (-_SHIFT, _SHIFT + _DAY)
# 29 February, where a year of a hundred is none.
_HORIZON_DAYS = (2, 40, 366 * 9)

_VALUE = r"([0-9]{1,2}|[a-z]{3})"
_PART = re.compile(rf"(?:\*|{_VALUE}(?:-{_VALUE})?)(?:/(0*[1-9][0-9]?))?")
_SUNDAY = 7


class _Field(msgspec.Struct, frozen=True):
    """One field of a cron line; `words`: names of its values, the first stands for `low`."""

    name: str
    low: int
    high: int
    words: str = ""  # three letters each

    @property
    def expected(self) -> str:
        return f"has no {self.name} where one belongs; expected {self.low}-{self.high}"

    def number(self, value: str) -> int:
        """Raises ValueError for what is out of range."""
        if value.isalpha() and value in self.words.split():
            return self.low + self.words.split().index(value)
        if not value.isdigit() or not self.low <= int(value) <= self.high:
            raise ValueError(self.expected)
        return int(value)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    _Field("day of week", 0, _SUNDAY, "sun mon tue wed thu fri sat"),
)


class Due(msgspec.Struct, frozen=True):
    """A slot to run now; `missed_slots`: earlier ones that this run makes up for."""

    slot_at: datetime
    missed_slots: int


class Every(msgspec.Struct, frozen=True):
    """An interval. Slots are whole multiples of it since 1970-01-01 00:00 UTC."""

    seconds: float

    def next_after(self, moment: datetime) -> datetime:
        """The first slot later than `moment`."""
        return self._slot(self._number(moment) + 1)

    def due(self, last: datetime, now: datetime) -> Due | None:
        """The latest slot after `last` up to `now`; None when there is none."""
        first, latest = self._number(last), self._number(now)
        return Due(self._slot(latest), latest - first - 1) if latest > first else None

    def _number(self, moment: datetime) -> int:
        return (moment - _EPOCH) // timedelta(seconds=self.seconds)

    def _slot(self, number: int) -> datetime:
        return _EPOCH + number * timedelta(seconds=self.seconds)


class Cron(msgspec.Struct, frozen=True):
    """A cron line in a time zone; `weekdays` as Python counts them, Monday is 0.

    `is_either`: day of month or day of week is enough, as standard cron has it when both are
    restricted.
    """

    times: tuple[time, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    is_either: bool
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime:
        """The first slot later than `moment`. Raises ValueError for a line that is never due."""
        for days in _HORIZON_DAYS:
            slots = self._slots(moment, moment + days * _DAY)
            if first := min(slots, default=None):
                return first
        raise ValueError("is never due: no month has such a day")

    def due(self, last: datetime, now: datetime) -> Due | None:
        """The latest slot after `last` up to `now`; None when there is none."""
        for days in _HORIZON_DAYS:
            after = max(last, now - days * _DAY)
            if latest := max(self._slots(after, now), default=None):
                return Due(latest, self._number(last, latest) - 1)
            if after == last:
                break
        return None

    def _number(self, after: datetime, until: datetime) -> int:
        """How many slots: all those of a day at once, where no clock was changed near it."""
        calm, others = 0, set[datetime]()
        for day in self._days(after, until):
            if not self._has(day):
                continue
            begin, end = (datetime.combine(day + days, time(), self.zone) for days in _AROUND)
            is_whole = after < begin.astimezone(UTC) and end.astimezone(UTC) <= until
            if is_whole and begin.utcoffset() == end.utcoffset():
                calm += len(self.times)
            else:
                others.update(self._of_day(day))
        return calm + sum(after < slot <= until for slot in others)

    def _slots(self, after: datetime, until: datetime) -> set[datetime]:
        """Every slot later than `after`, up to `until`."""
        if until <= after:
            return set()
        days = self._days(after, until)
        return {s for day in days for s in self._of_day(day) if after < s <= until}

    def _days(self, after: datetime, until: datetime) -> Iterator[date]:
        """Those whose slots may lie between."""
        first = (after - _SHIFT).astimezone(self.zone).date()
        final = (until + _SHIFT).astimezone(self.zone).date()
        return (first + n * _DAY for n in range((final - first).days + 1))

    def _of_day(self, day: date) -> Iterator[datetime]:
        if self._has(day):
            for at in self.times:
                yield datetime.combine(day, at, self.zone).astimezone(UTC)

    def _has(self, day: date) -> bool:
        is_day, is_weekday = day.day in self.days, day.weekday() in self.weekdays
        is_one = is_day or is_weekday if self.is_either else is_day and is_weekday
        return is_one and day.month in self.months


Slots: TypeAlias = Every | Cron


def parse_cron(line: str, zone: tzinfo) -> Cron:
    """A standard cron line: five fields of numbers, names, ranges, lists and steps.

    Raises ValueError, whose text says which field is wrong and what is expected.
    """
    fields = line.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"has {len(fields)} fields; expected five, such as "
            '"17 * * * *" (minute, hour, day of month, month, day of week)'
        )
    minutes, hours, days, months, weekdays = (
        _values(text, field) for text, field in zip(fields, _FIELDS, strict=True)
    )
    cron = Cron(
        times=tuple(time(h, m) for h in sorted(hours) for m in sorted(minutes)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset((day - 1) % 7 for day in weekdays),
        # What begins with a star restricts nothing to cron, not even with a step.
        is_either=not (fields[2].startswith("*") or fields[4].startswith("*")),
        zone=zone,
    )
    cron.next_after(_EPOCH)
    return cron


def _values(text: str, field: _Field) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part.lower())
        if match is None:
            raise ValueError(field.expected)
        values.update(_range(field, *match.groups()))
    return values


def _range(field: _Field, first: str | None, last: str | None, step: str | None) -> range:
    """`*`, `5`, `1-5`, `mon-fri`, each with a step; `5/15` goes on to the end."""
    low = field.number(first) if first else field.low
    if last:
        high = field.number(last)
        if field.high == _SUNDAY and high == 0:  # sat-sun
            high = _SUNDAY
    else:
        high = low if first and not step else field.high
    if low > high:
        raise ValueError(f"counts backwards in its {field.name}; write the smaller one first")
    return range(low, high + 1, int(step or 1))
