"""Hides persons in the parsed parts of one record. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from etl.transform.lenient_json import Number, Value
from etl.transform.person_names import quotes_a_name, tagged
from etl.transform.persons import (
    OF_ATTRIBUTES,
    OF_OTHERS,
    OF_RECORD,
    Persons,
    is_wrapper,
    members_of,
    name_in_list,
)
from etl.transform.snapshot import PERSONAL

_HASHED_KEY = "$hash:"  # no received key begins so, see `lenient_json`


class Masked(NamedTuple):
    """What stands for a value of a person; it may be None."""

    value: Value


@dataclass(slots=True)
class Hider:
    """Hides the values of persons, and what equals one of `persons`.

    `mask(name, value)` is what stands for a value. When dropping, members with names of persons go,
    other values become null. `hashes`: what stands for persons whose values are gone.
    """

    persons: Persons
    mask: Callable[[str, Value], Value]
    is_dropping: bool
    hashes: frozenset[str] = frozenset()

    def record(self, record: Value) -> Value:
        """A whole record; it may be no object."""
        if not isinstance(record, dict) or is_wrapper(record):
            return self._walk(record)
        return self._members(record, OF_RECORD)

    def members_of_extra(self, members: dict[str, Value]) -> dict[str, Value]:
        """What `extra` holds."""
        top = members.get("$top")
        attributes = {key: value for key, value in members.items() if key != "$top"}
        hidden = self._members(attributes, OF_ATTRIBUTES)
        if isinstance(top, dict) and (others := self._members(top, OF_RECORD)):
            hidden["$top"] = others
        return hidden

    def attribute(self, name: str, value: Value) -> Value:
        """An attribute by itself, which has no name of a person."""
        return self._in_column(name, value) if name in OF_ATTRIBUTES else self._walk(value)

    def key(self, key: str) -> str | None:
        """A member's name: it may be that of a person; None: the member goes."""
        if tagged(key, self.persons.rules.more):
            masked: Value = self.mask("", key)
        elif found := self.same(key):
            masked = found.value
        else:
            return None if self.is_dropping and key.startswith(_HASHED_KEY) else key
        return f"{_HASHED_KEY}{masked['$hash']}" if isinstance(masked, dict) else None

    def same(self, text: str) -> Masked | None:
        """What stands for a text that equals a value of a person; None: it does not."""
        if found := self.persons.find(text):
            return Masked(self.mask(*found))
        for name in sorted(PERSONAL) if self.hashes else ():
            masked = self.mask(name, text.strip())
            if isinstance(masked, dict) and str(masked["$hash"]) in self.hashes:
                return Masked(masked)
        return None

    def _walk(self, value: Value) -> Value:
        if isinstance(value, list):
            name = name_in_list(value, self.persons.rules)
            if name is not None:
                return [self._walk(value[0]), self.mask(name, value[1])]
            return [self._walk(item) for item in value]
        if isinstance(value, dict):
            return self._wrapped(value) if is_wrapper(value) else self._members(value, OF_OTHERS)
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> Value:
        if not isinstance(text, Number) and quotes_a_name(text, self.persons.rules.more):
            return self.mask("", text)
        found = self.same(text)
        return text if found is None else found.value

    def _wrapped(self, value: dict[str, Value]) -> Value:
        literal = value.get("$literal")
        if not isinstance(literal, str):
            return self.mask("", value)
        is_named = quotes_a_name(literal, self.persons.rules.more) or self.persons.are_in(literal)
        return self.mask("", value) if is_named else value

    def _members(self, members: dict[str, Value], never: frozenset[str]) -> dict[str, Value]:
        hidden: dict[str, Value] = {}
        for key, value, person, is_name in members_of(members, self.persons.rules, never):
            new_key = key if key in never else self.key(key)
            if new_key is None or (self.is_dropping and person == key):
                continue
            if person is not None:
                hidden[new_key] = self.mask(person, value)
            elif is_name:
                hidden[new_key] = self.mask("", value) if is_hash(value) else value
            else:
                new = self._member(key, value, never)
                # As in a row: where a column is NULL, `extra` has nothing for it.
                is_gone = never is OF_ATTRIBUTES and key in never and new is None
                if not is_gone or value is None:
                    hidden[new_key] = new
        return hidden

    def _member(self, key: str, value: Value, never: frozenset[str]) -> Value:
        if key not in never or never is OF_OTHERS:
            return self._walk(value)
        if never is OF_ATTRIBUTES:
            return self._in_column(key, value)
        if key == "attributes" and isinstance(value, dict) and not is_wrapper(value):
            return self._members(value, OF_ATTRIBUTES)
        is_kept = (key == "id" and isinstance(value, str)) or (key, value) == ("type", "snapshots")
        return value if is_kept else self._walk(value)

    def _in_column(self, name: str, value: Value) -> Value:
        """Ids and names of views stay, as in their columns; people write `snapshot_name`."""
        if not isinstance(value, str):
            return self._walk(value)
        found = self.same(value) if name == "snapshot_name" else None
        return value if found is None else found.value


def is_hash(value: Value) -> bool:
    """Whether it stands for a value of a person."""
    return isinstance(value, dict) and value.keys() == {"$hash"}
