"""Groups messages by their cause: one outage is one line, however many views it hits. Pure.

Two texts have one cause when they differ only in numbers, ids, the names of those they are about,
and what was done about it ("given up", "not asked"). The status of an answer is no such number: 429
is not 500.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from etl.formatting import many, shortened

T = TypeVar("T")

MOST_LINES = 40
NAMES_SHOWN = 3
MOST_OF_A_STATUS = 5
"""The most causes that answers of one status may have. With more, their texts are random."""
GIVEN_UP = "; given up: "
NOT_ASKED = "; not asked, as "

_DONE = re.compile(r"; (?:given up|not asked)\b.*", re.DOTALL)
_STATUS = re.compile(r"(?:\w+: )?[1-5]\d\d(?![^:;])")
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID = "(?=[a-z]*[0-9])[0-9a-z]{12,}"
_HEX = "0x[0-9a-f]+|(?=[a-f]*[0-9])[0-9a-f]{6,}|[a-f]{8,}"
_INSTANT = "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9.]+)?Z?"
_WHOLE = f"(?<![0-9a-z])(?:{_INSTANT}|{_UUID}|{_ID}|{_HEX})(?![0-9a-z])"
_VARIES = re.compile(f"{_WHOLE}|[0-9]+", re.IGNORECASE)
_SEVERAL = re.compile(r"#(?:[-+./:,_=]*#)*=*")
_UNIT = re.compile(r"# ?(?:ms|s|min|h|days?|[kKMGT]i?B|bytes?)\b")
_PLURAL = re.compile(r"(# \w+?)s\b")


class Told(NamedTuple):
    """One message, and the view and the source that it is about ("" for none).

    `own`: parts of the text that only this source has, such as its database.
    `kind`: a word that begins the line, before the names.
    `has_evidence`: its numbers say what to do about this view, unlike those of an outage.
    """

    text: str
    view: str = ""
    source: str = ""
    own: Sequence[str] = ()
    has_evidence: bool = False
    kind: str = ""


def key_of(told: Told) -> str:
    """What all texts with this cause have in common; for comparing, not for people."""
    text = _DONE.sub("", told.text)
    own = [f"view {told.view}", f"view {told.view.rsplit(' [', 1)[0]}"] if told.view else []
    own += [f"source {told.source}"] if told.source else []
    for name in (*own, *told.own):
        text = text.replace(name, "#")
    status = _STATUS.match(text)
    head = status[0] if status else ""
    text = _SEVERAL.sub("#", _VARIES.sub("#", text[len(head) :]))
    return told.kind + head + _PLURAL.sub(r"\1", _UNIT.sub("#", text))


def grouped(items: Iterable[T], told: Callable[[T], Told]) -> list[list[T]]:
    """Those with one cause together, in the order in which causes come.

    A few that have evidence of their own, which differs, stay alone.
    """
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key_of(told(item)), []).append(item)
    groups = _with_one_status(groups)
    found: list[list[T]] = []
    for group in groups.values():
        few = [told(item) for item in group[: NAMES_SHOWN + 1]]
        is_few = len(few) <= NAMES_SHOWN and all(one.has_evidence for one in few)
        found += [[item] for item in group] if is_few and _differ(few) else [group]
    return found


def _with_one_status(groups: dict[str, list[T]]) -> dict[str, list[T]]:
    """Many causes of one status as one: what differs is random in each answer."""
    keys: dict[str, list[str]] = {}
    for key in groups:
        status = _STATUS.match(key)
        keys.setdefault(status[0] if status else key, []).append(key)
    return {
        name: [item for key in group for item in groups[key]]
        for status, same in keys.items()
        for name, group in (
            [(status, same)] if len(same) > MOST_OF_A_STATUS else [(key, [key]) for key in same]
        )
    }


def cause_lines(causes: Iterable[tuple[str, str]], *, most: int = MOST_LINES) -> list[str]:
    """A line for each cause, with the first names that have it and how many there are.

    `causes`: pairs of a view's name and the message about it. The lines are in the order in which
    causes come, at most `most` of them and one that counts the others.
    """
    return lines_of((Told(text, view) for view, text in causes), most=most)


def lines_of(told: Iterable[Told], *, most: int = MOST_LINES) -> list[str]:
    """As `cause_lines`."""
    lines = [line_of(group) for group in grouped(told, lambda one: one)]
    return [*lines[:most], *omitted_causes(len(lines) - most)]


def line_of(group: Sequence[Told]) -> str:
    """One line for those with one cause: whom it is about, and the text."""
    sources = list(dict.fromkeys(one.source for one in group if one.source))
    views = [one.view for one in group if one.view]
    whose = [_names(sources, "source")] if sources else []
    if len(sources) > 1 and views:
        whose = [f"{whose[0]}, {many(len(views), 'view')}"]
    elif views:
        whose.append(_names(views, "view"))
    text = group[0].text
    # Numbers of the first one are said of no other.
    if _differ(group):
        whose[-1:] = [f"{whose[-1]}, the first"] if whose else []
    return ": ".join([*filter(None, [group[0].kind]), *whose, text])


def _differ(group: Sequence[Told]) -> bool:
    return len({_DONE.sub("", one.text) for one in group}) > 1


def omitted_causes(number: int) -> list[str]:
    """The line that says how many causes are not shown, if any."""
    return [f"... and {many(number, 'more cause')}"] if number > 0 else []


def _names(names: Sequence[str], noun: str) -> str:
    """`/a`; `3 views (/a, /b, /c)`; `120 views (/a, /b, /c, ...)`."""
    first = [shortened(name) for name in names[:NAMES_SHOWN]]
    if len(names) == 1:
        return first[0]
    more = ", ..." * (len(names) > NAMES_SHOWN)
    return f"{many(len(names), noun)} ({', '.join(first)}{more})"
