"""The values of persons that one record names, to find them again elsewhere in it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from etl.transform import lenient_json
from etl.transform.fields import READERS
from etl.transform.lenient_json import Constant, Value
from etl.transform.person_names import is_naming, is_personal, tagged
from etl.transform.snapshot import PERSONAL

OF_RECORD = frozenset({"id", "type", "attributes"})
OF_ATTRIBUTES = frozenset(READERS)
OF_OTHERS = frozenset({"type"})
"""Members of an object that are never the value of a pair, by where the object stands."""

_SHORTEST_NUMBER = 4  # the user with the number 12 is not meant by every 12 of a record
_WRAPPERS = frozenset({"$hash", "$literal"})


@dataclass(frozen=True, slots=True)
class Rules:
    """`more`: attributes that hold persons beyond the known ones.

    `is_hidden_name`: whether a value was the name in a pair before earlier rules hid it.
    """

    more: tuple[str, ...] = ()
    is_hidden_name: Callable[[Value], bool] | None = None

    def names(self, key: str, value: Value) -> bool:
        """Whether a member says which attribute its object holds: {"name": "created_by", ...}."""
        if not is_naming(key, value if isinstance(value, str) else ""):
            return False
        if isinstance(value, str) and is_personal(value, self.more):
            return True
        return is_naming(key) and self.is_hidden_name is not None and self.is_hidden_name(value)


class Member(NamedTuple):
    """A member of an object. `person`: the attribute it is a value of; None: it is of none."""

    key: str
    value: Value
    person: str | None
    is_name: bool


def members_of(
    members: Mapping[str, Value], rules: Rules, never: frozenset[str]
) -> Iterator[Member]:
    """Each member of an object; `never`: those that are no value of a pair."""
    names = {key for key, value in members.items() if rules.names(key, value)}
    # With the name in it, a hash is that of the attribute itself.
    named = [value for key in sorted(names) if isinstance(value := members[key], str)]
    pair = (named[0] if named else "") if names else None
    for key, value in members.items():
        if is_personal(key, rules.more):
            yield Member(key, value, key, is_name=False)
        else:
            is_of_pair = key not in names and key not in never
            yield Member(key, value, pair if is_of_pair else None, key in names)


def name_in_list(items: list[Value], rules: Rules) -> str | None:
    """The attribute that a list such as ["created_by", ...] holds."""
    if len(items) != 2 or items[0] is None or not rules.names("name", items[0]):
        return None
    return str(items[0]) if isinstance(items[0], str) else ""


def is_wrapper(value: Value) -> bool:
    """Whether it is a hash, or the text of what JSON cannot hold."""
    return isinstance(value, dict) and len(value) == 1 and not _WRAPPERS.isdisjoint(value)


@dataclass(slots=True)
class Persons:
    """Values of persons, by their plain spelling: under which name each stands, and the value.

    `are_some_gone`: earlier rules hid values without looking for texts that equal them.
    """

    rules: Rules
    values: dict[str, tuple[str, str]] = field(default_factory=dict)
    are_some_gone: bool = False

    def find(self, text: str) -> tuple[str, str] | None:
        """The value that a text equals, after its name; None for none."""
        return self.values.get(_plain(text)) if self.values else None

    def are_in(self, text: str) -> bool:
        """Whether JSON that was cut, or that nobody reads, holds one of the values."""
        folded = text.casefold()
        long = (value for value in self.values if len(value) >= _SHORTEST_NUMBER)
        return any(value in folded or json.dumps(value)[1:-1] in folded for value in long)

    def may_be_in(self, text: str) -> bool:
        """Whether JSON without escapes may hold one of the values."""
        folded = text.casefold() if self.values else ""
        return any(value in folded for value in self.values)

    def add(self, name: str, value: Value) -> None:
        """Note all that an attribute of a person holds."""
        for leaf in _leaves(value):
            plain = _plain(leaf)
            if not plain or (plain.isdigit() and len(plain) < _SHORTEST_NUMBER):
                continue
            # Whatever comes first, the same text has the same hash: that of its column, if any.
            known = self.values.get(plain)
            if known is None or _rank(name, leaf) < _rank(*known):
                self.values[plain] = (name, leaf)

    def add_all(self, others: Persons) -> None:
        """Note the values of another record, too."""
        for name, value in others.values.values():
            self.add(name, value)

    def collect_record(self, record: Value) -> None:
        """Note every value of a person in a parsed record."""
        if not isinstance(record, dict):
            self.collect(record)
            return
        others = {key: value for key, value in record.items() if key != "attributes"}
        self.collect(others, OF_RECORD)
        self.collect(record.get("attributes"), OF_ATTRIBUTES)

    def collect_extra(self, members: Mapping[str, Value]) -> None:
        """Note every value of a person in a parsed `extra`."""
        self.collect(members.get("$top"), OF_RECORD)
        attributes = {key: value for key, value in members.items() if key != "$top"}
        self.collect(attributes, OF_ATTRIBUTES)

    def collect(self, value: Value, never: frozenset[str] = OF_OTHERS) -> None:
        """Note every value of a person in a part of a record."""
        if isinstance(value, list):
            if (name := name_in_list(value, self.rules)) is not None:
                self.add(name, value[1])
            for item in value:
                self.collect(item)
        elif isinstance(value, dict):
            for member in () if is_wrapper(value) else members_of(value, self.rules, never):
                if member.person is not None:
                    self.add(member.person, member.value)
                self.collect(member.key)
                self.collect(member.value)
        elif isinstance(value, str) and (found := tagged(value, self.rules.more)):
            self.add(*found)


def _leaves(value: Value) -> Iterator[str]:
    """The texts and numbers in a value; a `type` says what kind of thing it is, and not who."""
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for key, item in () if is_wrapper(value) else value.items():
            if key != "type":
                yield from _leaves(item)
    elif isinstance(value, str) and not isinstance(value, Constant):
        yield value


def _plain(text: str) -> str:
    return text.strip().casefold()


def _rank(name: str, value: str) -> tuple[bool, str, str]:
    return name not in PERSONAL, name, lenient_json.rewrite(value)
