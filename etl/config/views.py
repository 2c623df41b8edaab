"""The `views` setting -> Views that do not overlap."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from etl.config.validators import (
    BadValue,
    Check,
    flag,
    is_secret_name,
    nearest,
    plain,
    shown,
    type_name,
)

EXPECTED = 'expected a list such as ["/home", "/checkout"], or "discover"'
DISCOVER = "discover"
LONGEST_LABEL = 200


@dataclass(frozen=True, slots=True)
class View:
    """A configured view: the name asked for, and optional filters."""

    name: str
    application_id: str | None = None
    device_type: str | None = None
    accept_truncated: bool = False

    def key(self, source: str) -> str:
        """32 hex digits that name this view in the tables: a hash of source, name and filters."""
        parts = json.dumps([source, self.name, self.application_id, self.device_type])
        return hashlib.sha256(parts.encode()).hexdigest()[:32]

    @property
    def label(self) -> str:
        """The name and its filters on one short line, for people: `/home [mobile]`."""
        filters = ", ".join(f for f in (self.application_id, self.device_type) if f)
        text = f"{self.name} [{filters}]" if filters else self.name
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        return line if len(line) <= LONGEST_LABEL else f"{line[: LONGEST_LABEL - 3]}..."

    def overlaps(self, other: View) -> bool:
        """Whether both could list the same snapshot: a missing filter lets everything through."""
        return (
            self.name == other.name
            and _meet(self.application_id, other.application_id)
            and _meet(self.device_type, other.device_type)
        )


def _meet(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other


def parse_views(
    value: object, problem: Callable[[str], None], warn: Callable[[str], None]
) -> tuple[View, ...]:
    """The views in their order. `problem` and `warn` are called with each problem and warning."""
    if value == DISCOVER:
        return ()
    if not isinstance(value, list):
        problem(f"{EXPECTED}, found {type_name(value)}")
        return ()
    if not value:
        problem(f"lists no view; {EXPECTED}")
    views: list[View] = []
    for position, entry in enumerate(value, start=1):
        view, problems = _parse_view(entry)
        for text in problems:
            problem(f"entry {position}: {text}")
        if view is not None:
            views.append(view)
            if view.name != view.name.strip():
                warn(f"{shown(view.name)} has spaces around it; names are used exactly as written")
    _report_overlaps(views, problem)
    return tuple(views)


def _parse_view(entry: object) -> tuple[View | None, list[str]]:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict):
        return None, [f"expected a name or a table with a name, found {type_name(entry)}"]
    problems = [] if "name" in entry else ['has no name; write { name = "/home" }']
    fields = {}
    for key, value in entry.items():
        if is_secret_name(key):  # reported for the whole file
            continue
        if key not in _FIELDS:
            close = nearest(key, _FIELDS)
            hint = f"did you mean {close}?" if close else f"expected one of {', '.join(_FIELDS)}"
            problems.append(f"{plain(key)} is not known; {hint}")
            continue
        try:
            fields[key] = _FIELDS[key](value)
        except BadValue as error:
            problems.append(f"{key} {error}")
    return (None if problems else View(**fields)), problems


def _exact_text(value: object) -> str:
    if not isinstance(value, str):
        raise BadValue(f"must be text in quotes, found {type_name(value)}")
    if not value:
        raise BadValue("is empty; write a value or leave it out")
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise BadValue(f"{shown(value)} holds a character that no request can carry")
    return value


_FIELDS: dict[str, Check] = {
    "name": _exact_text,
    "application_id": _exact_text,
    "device_type": _exact_text,
    "accept_truncated": flag,
}


def _report_overlaps(views: list[View], problem: Callable[[str], None]) -> None:
    by_name: dict[str, list[View]] = {}
    for view in views:
        for earlier in by_name.get(view.name, []):
            if earlier.overlaps(view):
                problem(_overlap(earlier, view))
        by_name.setdefault(view.name, []).append(view)


def _overlap(one: View, other: View) -> str:
    if (one.application_id, one.device_type) == (other.application_id, other.device_type):
        return f"{shown(one.label)} is listed twice; remove one"
    return (
        f"{shown(one.label)} and {shown(other.label)} overlap: a snapshot could be in both; "
        "remove one, or give both different filters"
    )
