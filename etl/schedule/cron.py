"""When a job is due: a cron line or an interval, and the last slot -> the next one. Pure.

A slot is an instant, and runs once. Any number of missed slots become one. When clocks change,
cronsim does the same as Debian's cron. A line of fixed times runs once: at the end of the hour that
is left out, or the first time in the hour that comes twice. A line whose minute or hour begins with
`*` goes on in real time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TypeAlias

import msgspec
from cronsim import CronSim

from etl.config.cron_line import checked_line

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


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
    """A cron line, as `checked_line` returns it, in a time zone."""

    line: str
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime:
        """The first slot later than `moment`."""
        return next(self.slots_after(moment))

    def due(self, last: datetime, now: datetime) -> Due | None:
        """The latest slot after `last` up to `now`; None when there is none.

        A year of minutes is half a million slots, which cronsim would take seconds to list. So
        those of a whole day are counted at once, unless clocks are changed on it.
        """
        fields = CronSim(self.line, _EPOCH)
        times = [time(hour, minute) for hour in fields.hours for minute in fields.minutes]
        latest, count = last, 0
        day = last.astimezone(self.zone).date()
        while (begin := self._end_before(day)) < now:
            end = self._end_before(day + _DAY)
            if last <= begin and end <= now and self._keeps_clock(day):
                if fields.match_day(day) and day.month in fields.months:
                    latest = datetime.combine(day, max(times), self.zone).astimezone(UTC)
                    count += len(times)
            else:
                for slot in self.slots_after(max(begin, last)):
                    if slot > min(end, now):
                        break
                    latest, count = slot, count + 1
            day += _DAY
        return Due(latest, count - 1) if count else None

    def slots_after(self, moment: datetime) -> Iterator[datetime]:
        """Every slot later than `moment`, in order."""
        day = moment.astimezone(self.zone).date()
        # In the middle of a change cronsim may find other slots than from before it.
        start = moment if self._keeps_clock(day) else self._end_before(day)
        slots = (slot.astimezone(UTC) for slot in CronSim(self.line, start.astimezone(self.zone)))
        return (slot for slot in slots if slot > moment)

    def _end_before(self, day: date) -> datetime:
        """The last second before a local day begins; slots are on whole minutes."""
        return datetime.combine(day, time(), self.zone).astimezone(UTC) - _SECOND

    def _keeps_clock(self, day: date) -> bool:
        """Whether clocks are not changed on a local day."""
        begin, end = self._end_before(day), self._end_before(day + _DAY)
        offsets = {moment.astimezone(self.zone).utcoffset() for moment in (begin, end)}
        return end - begin == _DAY and len(offsets) == 1


Slots: TypeAlias = Every | Cron


def parse_cron(line: str, zone: tzinfo) -> Cron:
    """A standard cron line: five fields of numbers, names, ranges, lists and steps.

    Raises ValueError, whose text says which field is wrong and what is expected.
    """
    return Cron(checked_line(line), zone)
