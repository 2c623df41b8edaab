"""Whether an answer belongs to its question, by what its records name. Pure.

A record says which view, application and device type it belongs to. How the API matches the name
that is asked for with those of the records is not documented, so it is learned: from answers with
records of the very name, and of others.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import cache
from operator import attrgetter
from types import MappingProxyType
from unicodedata import normalize

import msgspec

from etl.formatting import clean, shortened
from etl.transform.snapshot import Rejected, Snapshot

OURS, UNKNOWN, OTHERS = "ours", "unknown", "others"
"""Whose answer it is: that of the view asked for, not to be told, or another one's."""

_PERCENT = re.compile("(?:%[0-9a-f]{2})+")


class Named(msgspec.Struct, frozen=True):
    """What the records of an answer name, and how many name it; a record without says nothing."""

    view_names: Mapping[str, int] = MappingProxyType({})
    application_ids: Mapping[str, int] = MappingProxyType({})
    device_types: Mapping[str, int] = MappingProxyType({})


NOTHING_NAMED = Named()


def named_in(snapshots: Collection[Snapshot], rejected: Collection[Rejected] = ()) -> Named:
    """What the records name: one without a usable id may still say whose it is."""
    rejects = [_attributes_of(reject) for reject in rejected]

    def count(attribute: str) -> Mapping[str, int]:
        counts = Counter(map(attrgetter(attribute), snapshots))
        counts.update(reject.get(attribute) for reject in rejects)
        return {value: times for value, times in counts.items() if value is not None}

    return Named(count("view_name"), count("application_id"), count("device_type"))


def _attributes_of(reject: Rejected) -> Mapping[str, str]:
    """The texts among the attributes of a record that is no row."""
    record = json.loads(reject.raw)
    attributes = record.get("attributes") if isinstance(record, dict) else None
    if not isinstance(attributes, dict):
        return {}
    return {name: value for name, value in attributes.items() if isinstance(value, str)}


# --- how names match ----------------------------------------------------------------------


def _is_same_but_for_case(asked: str, name: str) -> bool:
    return asked.casefold() == name.casefold()


def _is_same_but_for_spelling(asked: str, name: str) -> bool:
    return _plain(asked) == _plain(name)


def _fits_pattern(asked: str, name: str) -> bool:
    return ("?" in asked or "*" in asked) and bool(_pattern(asked).fullmatch(name))


def _begins(asked: str, name: str) -> bool:
    return name.startswith(asked)


def _is_within(asked: str, name: str) -> bool:
    return asked in name


_HOLDS: Mapping[str, Callable[[str, str], bool]] = MappingProxyType(
    {
        "case": _is_same_but_for_case,
        "spelling": _is_same_but_for_spelling,
        "pattern": _fits_pattern,
        "prefix": _begins,
        "contains": _is_within,
    }
)
RELATIONS = tuple(_HOLDS)
"""How a name may match the one that is asked for, the narrowest relation first."""
SPELLINGS = frozenset({"case", "spelling"})
"""Relations of equals: an answer for the one name is an answer for the other."""


def relation(asked: str, name: str) -> str:
    """The narrowest relation between a name that is asked for and that of a record; "" for none."""
    return next((known for known, holds in _HOLDS.items() if holds(asked, name)), "")


def learned(asked: str, names: Collection[str]) -> frozenset[str]:
    """How names match, by an answer whose records have these; nothing where the very name is not
    among them, or one that no relation explains."""
    if asked not in names:
        return frozenset()
    found = {relation(asked, name) for name in names if name != asked}
    return frozenset() if "" in found else frozenset(found)


def judge(
    asked: str,
    names: Collection[str],
    *,
    others: Collection[str],
    matching: Collection[str],
    read_stored: Callable[[], Collection[str]],
) -> str:
    """Which view an answer with these view names is for: `OURS`, `UNKNOWN` or `OTHERS`.

    `others`: names of all configured views. `matching`: the relations learned of the source.
    `read_stored`: the names of all rows that the view ever had; called only when they decide.
    """
    if not names or asked in names:
        return OURS
    relations = {name: relation(asked, name) for name in names}
    is_another_view = any(
        name in others and found not in SPELLINGS for name, found in relations.items()
    )
    if all(any(_HOLDS[known](asked, name) for known in matching) for name in names):
        # By a relation of unequals the other view has an answer of its own, which lacks rows.
        return UNKNOWN if is_another_view else OURS
    if is_another_view:
        return OTHERS
    stored = read_stored()
    if asked not in stored and any(name in stored for name in names):
        # The rows of another view may have come by a mix-up before.
        return UNKNOWN if any(name in others for name in names) else OURS
    is_explained = all(found in {*SPELLINGS, "pattern"} for found in relations.values())
    return UNKNOWN if is_explained or not stored else OTHERS


def _plain(name: str) -> str:
    """The name without what a server may see as mere spelling."""
    decoded = _PERCENT.sub(_decoded, name.casefold())
    return normalize("NFKC", decoded).casefold().strip().rstrip("/")


def _decoded(percents: re.Match[str]) -> str:
    return bytes.fromhex(percents[0].replace("%", "")).decode(errors="replace")


@cache
def _pattern(asked: str) -> re.Pattern[str]:
    """`?` stands for one part of a path, as RUM groups `/checkout/?`; `*` for any text."""
    first, *rest = (re.escape(text).replace(r"\?", "[^/]+") for text in asked.split("*"))
    # Atomic: what was found once is not searched for again, however many `*` there are.
    middle = "".join(f"(?>.*?{text})" for text in rest[:-1])
    return re.compile(first + middle + "".join(f".*{text}" for text in rest[-1:]), re.DOTALL)


# --- for people ---------------------------------------------------------------------------


def other_part(application_id: str | None, device_type: str | None, named: Named) -> str:
    """Why an answer is not for the application or device type asked for; "" when it may be."""
    filters = (
        ("application", application_id, named.application_ids),
        ("device type", device_type, named.device_types),
    )
    for what, asked, values in filters:
        if asked and values and not any(_is_same_but_for_case(asked, value) for value in values):
            return f"the answer is for another {what}: {naming(values)}"
    return ""


def naming(values: Mapping[str, int]) -> str:
    """What the records that name anything name, on one short line."""
    times = sum(values.values())
    (first, _), *rest = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    text = "its one record names" if times == 1 else f"all {times:,} records name"
    others = f" and {len(rest):,} more" * bool(rest)
    return f"{text} {clean(shortened(first))}{others}"
