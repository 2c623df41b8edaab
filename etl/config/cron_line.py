"""Checks a cron line before cronsim reads it.

cronsim's own messages do not say what a field may hold, and it accepts more than cron does:
seconds, `L`, `W` and `#`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from etl.formatting import many

_VALUE = r"([0-9]{1,2}|[a-z]{3})"
_PART = re.compile(rf"(?:\*|{_VALUE}(?:-{_VALUE})?)(?:/(0*[1-9][0-9]?))?")
_SUNDAY = 7


class _Field(msgspec.Struct, frozen=True):
    """One field of a cron line; `words`: names of its values, from `low` on."""

    name: str
    low: int
    high: int
    words: str = ""  # three letters each

    @property
    def expected(self) -> str:
        return f"has a wrong {self.name}; expected {self.low}-{self.high}"

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


def checked_line(line: str) -> str:
    """A standard cron line (numbers, names, ranges, lists, steps), written as cronsim reads it.

    Raises ValueError, whose text says which field is wrong and what is expected, or that the line
    is never due.
    """
    fields = line.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"has {many(len(fields), 'field')}; expected five, such as "
            '"17 * * * *" (minute, hour, day of month, month, day of week)'
        )
    checked = " ".join(
        ",".join(_part(part, field) for part in text.lower().split(","))
        for text, field in zip(fields, _FIELDS, strict=True)
    )
    if not fields[2].startswith("*"):  # without a day of month every line is due some day
        from cronsim import CronSim, CronSimError

        try:
            CronSim(checked, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError:
            raise ValueError("is never due: no month has such a day") from None
    return checked


def _part(part: str, field: _Field) -> str:
    """`*`, `5`, `1-5`, `mon-fri`, each with a step; `5/15` goes on to the end."""
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(field.expected)
    first, last, step = match.groups()
    if first is None:
        return part
    each = f"/{step}" if step else ""
    low = field.number(first)
    if last is None:
        return f"{low}{each}"
    high = field.number(last)
    if field.high == _SUNDAY and high == 0:  # sat-sun
        high = _SUNDAY
    if low > high:
        raise ValueError(f"counts backwards in its {field.name}; write the smaller one first")
    # A range of one value is written as the value: with a step cronsim would go on to the end.
    return f"{low}-{high}{each}" if low < high else f"{low}"
