"""Keeps, hashes or drops persons, wherever a record names them. Pure.

A privacy setting covers the three personal columns, attributes that name persons in `extra`, in
rejected records and in examples of drift, and every text of a record that equals a value of one.
What identifies rows and views stays: ids, the name of a view, a device type.

Nothing is hashed twice: the mark of a content hash says which setting was applied, and in JSON a
hash is wrapped (`{"$hash": "..."}`), which nothing received can look like.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import msgspec

from etl.transform import lenient_json
from etl.transform.fields import integer
from etl.transform.hider import Hider, is_hash
from etl.transform.lenient_json import Number, Value
from etl.transform.person_names import (
    FORMER_SPELLINGS,
    RULES_VERSION,
    is_personal,
    may_name,
    plain,
    quotes_a_name,
)
from etl.transform.persons import Persons, Rules
from etl.transform.snapshot import (
    CONTENT,
    HASHED,
    OTHER_NAMES,
    Decoded,
    Drift,
    Rejected,
    Snapshot,
    mark_of,
    reject_text,
    with_hash,
)

KEEP, HASH, DROP = "keep", "hash", "drop"

_DROPPED_MARK = "d"
_PARTLY = "~"
"""Ends the mark of a content in which earlier rules hid what the rules of now look for."""
_PERSONAL = slice(CONTENT.index("created_by"), CONTENT.index("created_by_user_id") + 1)
_NAME = CONTENT.index("snapshot_name")
_USER_ID = "created_by_user_id"
_CUT = "…"  # ends a drift name that was too long for the table
_FINGERPRINT = 16  # characters of it in a mark


@dataclass(frozen=True, slots=True)
class Privacy:
    """A privacy setting. `created_by`: keep, hash or drop; `key`: the secret key of the hashes.

    `person_attributes`: names of attributes that hold a person, beyond those that are known to.
    """

    created_by: str = KEEP
    key: str = field(default="", repr=False)
    person_attributes: tuple[str, ...] = ()

    @property
    def setting(self) -> str | None:
        """The setting as `sources.privacy` holds it: other keys and rules are other settings."""
        names = {
            KEEP: None,
            DROP: f"{DROP}:{self._rules_mark()}",
            HASH: f"{HASH}:{self._fingerprint()}:{self._rules_mark()}",
        }
        return names[self.created_by]

    @property
    def mark(self) -> str:
        """What follows the version in a content hash under this setting."""
        marks = {KEEP: "", DROP: _DROPPED_MARK, HASH: f"{HASHED}{self._fingerprint()}."}
        return marks[self.created_by] + (self._rules_mark() if self.created_by != KEEP else "")

    def apply(self, decoded: Decoded) -> Decoded:
        """A decoded body under this setting."""
        if self.created_by == KEEP:
            return decoded
        mark = self.mark
        everybody = self.nobody() if decoded.drift else None
        return replace(
            decoded,
            snapshots=[self._protected(s, mark, everybody) for s in decoded.snapshots],
            rejected=[self.reject(rejected, everybody) for rejected in decoded.rejected],
            drift=self._drift(decoded.drift, everybody) if everybody else {},
        )

    def rewritten(self, stored: Snapshot) -> Snapshot | None:
        """A stored snapshot under this setting; None: it stays as it is.

        It stays where the setting was applied before, and where the values that it needs are gone:
        what is hashed or dropped can only be dropped. Under other rules than before, what is left
        in it is hidden by those of now.
        """
        before = mark_of(stored.content_hash)
        if self.created_by == KEEP or before.removesuffix(_PARTLY) == self.mark:
            return None
        if not before:
            return self._protected(stored, self.mark)
        is_same_rules = _rules_of(before).removesuffix(_PARTLY) == self._rules_mark()
        if is_same_rules and self.created_by == HASH:
            return None
        is_whole = is_same_rules and not before.endswith(_PARTLY)
        mark = self.mark if is_whole else self.mark + _PARTLY
        return self._hidden_again(stored, before, mark)

    def has_lost(self, content_hash: str) -> bool:
        """Whether a stored content no longer holds what this setting would show."""
        mark = mark_of(content_hash)
        own = self.mark[: 1 + _FINGERPRINT]
        return bool(mark) and self.created_by == HASH and not mark.startswith(own)

    def reject(self, rejected: Rejected, everybody: Persons | None = None) -> Rejected:
        """A rejected record under this setting, from an answer or from the table."""
        if self.created_by == KEEP:
            return rejected
        record = lenient_json.reparse(rejected.raw)
        persons = self.nobody()
        persons.collect_record(record)
        if everybody is not None:
            everybody.add_all(persons)
        raw = lenient_json.rewrite(self._hider(persons).record(record))
        return rejected if raw == rejected.raw else reject_text(rejected.reason, raw)

    def example(self, name: str, text: str, persons: Persons | None = None) -> str:
        """An example of drift in `name` under this setting; the table may have cut both short.

        `persons`: those whom the answers of the example named. Where some of them are gone, no text
        can be compared with them, and none stays.
        """
        if self.created_by == KEEP:
            return text
        persons = persons or self.nobody()
        is_person = is_personal(name, self.person_attributes) or name.endswith(_CUT)
        try:
            value = lenient_json.reparse(text)
        except lenient_json.NotJson:
            is_named = quotes_a_name(text, self.person_attributes) or persons.are_in(text)
            value, is_person = text, is_person or is_named
            if not (is_person or persons.are_some_gone):
                return text
        if is_person or (persons.are_some_gone and _may_be_person(value)):
            return lenient_json.rewrite(self.masked(name, value))
        return lenient_json.rewrite(self._hider(persons).attribute(name, value))

    def drift_name(self, name: str, persons: Persons) -> str:
        """The name of drift under this setting: a member may be called as a person is."""
        key = self._hider(persons).key(name)
        return OTHER_NAMES if key is None else key

    def nobody(self) -> Persons:
        """Persons to be collected under this setting."""
        return Persons(Rules(self.person_attributes, self._is_former_name))

    def collect(self, persons: Persons, stored: Snapshot) -> None:
        """Note whom a stored snapshot names, where that is not hidden yet."""
        mark = mark_of(stored.content_hash)
        persons.are_some_gone |= bool(mark) and not _rules_of(mark)
        if not mark:
            _, *content, extra, _ = msgspec.structs.astuple(stored)
            persons.add_all(_columns(self, *content[_PERSONAL])[1])
            value = lenient_json.reparse(extra or "{}")
            persons.collect_extra(value if isinstance(value, dict) else {})

    def _protected(
        self, snapshot: Snapshot, mark: str, everybody: Persons | None = None
    ) -> Snapshot:
        identifier, *content, extra, _ = msgspec.structs.astuple(snapshot)
        extra = self.hide(content, extra, everybody)
        return with_hash(identifier, tuple(content), extra, mark)

    def hide(
        self, content: list[Any], extra: str | None, everybody: Persons | None = None
    ) -> str | None:
        """Hide persons in the columns, in place; returns what `extra` becomes."""
        name = content[_NAME]
        content[_PERSONAL], persons = _columns(self, *content[_PERSONAL])
        members: dict[str, Value] = {}
        if extra is not None and not self._is_about_nobody(extra, persons):
            value = lenient_json.reparse(extra)
            members = value if isinstance(value, dict) else {}
            persons = self._with(persons, members)
        if everybody is not None:
            everybody.add_all(persons)
        if not members:
            # Nearly always: no text of the record is to be hidden.
            if name is None or not persons.find(name):
                return extra
            value = lenient_json.reparse(extra or "{}")
            members = value if isinstance(value, dict) else {}
        return self._hide_texts(content, members, self._hider(persons))

    def _is_about_nobody(self, extra: str, persons: Persons) -> bool:
        return not (may_name(extra, self.person_attributes) or persons.may_be_in(extra))

    def _hide_texts(
        self, content: list[Any], members: dict[str, Value], hider: Hider
    ) -> str | None:
        """Hide what equals a person in the column that people write, and in `extra`."""
        hidden, name = hider.members_of_extra(members), content[_NAME]
        if name is not None and (found := hider.same(name)) is not None:
            content[_NAME] = None
            if self.created_by == HASH:
                hidden["snapshot_name"] = found.value
        return lenient_json.rewrite(hidden) if hidden else None

    def _with(self, columns: Persons, extra: dict[str, Value]) -> Persons:
        """Whom the columns and `extra` name."""
        persons = Persons(columns.rules, dict(columns.values))
        persons.collect_extra(extra)
        return persons

    def _hidden_again(self, stored: Snapshot, before: str, mark: str) -> Snapshot:
        """A content in which persons were hidden before, under the rules of now."""
        identifier, *content, extra, _ = msgspec.structs.astuple(stored)
        value = lenient_json.reparse(extra or "{}")
        members = value if isinstance(value, dict) else {}
        is_former_name = self._is_former_name if _rules_of(before) else _may_be_former_name
        persons = Persons(Rules(self.person_attributes, is_former_name))
        persons.collect_extra(members)
        hashes = frozenset(map(str, content[_PERSONAL]))  # those of another key equal none of ours
        text = self._hide_texts(content, members, self._hider(persons, hashes))
        if self.created_by == DROP:
            content[_PERSONAL] = [None] * 3
        return with_hash(identifier, tuple(content), text, mark)

    def _hider(self, persons: Persons, hashes: frozenset[str] = frozenset()) -> Hider:
        return Hider(persons, self.masked, is_dropping=self.created_by == DROP, hashes=hashes)

    def column(self, name: str, value: Any) -> Any:
        """A personal column under this setting."""
        if value is None or self.created_by == DROP:
            return None
        digest = self._digest(name, json.dumps(value))
        return _number(digest) if name == _USER_ID else _text(digest)

    def _drift(
        self, drift: dict[Drift, tuple[int, str]], everybody: Persons
    ) -> dict[Drift, tuple[int, str]]:
        hidden = Decoded()
        for (name, kind), (count, text) in drift.items():
            shown = self.drift_name(name, everybody)
            example = self.example(OTHER_NAMES if shown == OTHER_NAMES else name, text, everybody)
            hidden.add_drift({Drift(shown, kind): (count, example)})
        return hidden.drift

    def masked(self, name: str, value: Value) -> Value:
        """What stands for a value of a person; equal values of one name have equal hashes."""
        if value is None or self.created_by == DROP:
            return None
        if is_hash(value):
            return value
        read = integer(value)
        if name == _USER_ID and read.value is not None and read.is_exact:
            return {"$hash": Number(_number(self._digest(name, str(read.value))))}
        return {"$hash": _text(self._digest(name, lenient_json.rewrite(value)))}

    def _is_former_name(self, value: Value) -> bool:
        """Whether it hides `created_by`: earlier rules hid the name of a pair, not its value."""
        if self.created_by != HASH or not is_hash(value):
            return False
        return isinstance(value, dict) and value["$hash"] in _former_names(self)

    def _digest(self, name: str, text: str) -> bytes:
        # With the name in it: equal values give equal hashes within one column only.
        return self._hmac(f"{name}:{text}")

    def _rules_mark(self) -> str:
        names = sorted(set(map(plain, self.person_attributes)))
        more = hashlib.sha256(" ".join(names).encode()).hexdigest()[:6] if names else ""
        return f"{RULES_VERSION}-{more}" if more else str(RULES_VERSION)

    def _fingerprint(self) -> str:
        return self._hmac("heatmap-etl privacy fingerprint").hex()[:_FINGERPRINT]

    def _hmac(self, text: str) -> bytes:
        return _hmac(self.key, text)


@lru_cache(maxsize=4096)  # few people create many snapshots
def _hmac(key: str, text: str) -> bytes:
    key_bytes = key.encode("utf-8", "surrogateescape")
    return hmac.digest(key_bytes, text.encode("utf-8", "surrogatepass"), "sha256")


@lru_cache(maxsize=4096)
def _columns(
    privacy: Privacy, name: str | None, handle: str | None, user_id: int | None
) -> tuple[tuple[Any, ...], Persons]:
    """The personal columns under a setting, and whom they name; nobody may add to that."""
    values = dict(zip(CONTENT[_PERSONAL], (name, handle, user_id), strict=True))
    persons = privacy.nobody()
    for column, value in values.items():
        if value is not None:
            persons.add(column, str(value))
    return tuple(privacy.column(column, value) for column, value in values.items()), persons


@lru_cache(maxsize=16)
def _former_names(privacy: Privacy) -> frozenset[Value]:
    masked = [privacy.masked("", name) for name in FORMER_SPELLINGS]
    return frozenset(str(value["$hash"]) for value in masked if isinstance(value, dict))


def _may_be_former_name(value: Value) -> bool:
    """The same where nothing tells more: whatever was hidden under such a name."""
    return value is None or is_hash(value)


def comparable(
    before: Sequence[Any], after: Sequence[Any], marks: tuple[str, str]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The parts of two contents under these marks that their privacy settings leave alike.

    Where earlier or other rules hid something, only what no rule touches can be compared.
    """
    contents = [list(without_personal_data(content)) for content in (before, after)]
    if any(mark and _rules_of(mark) != str(RULES_VERSION) for mark in marks):
        one, other = contents
        one[-1] = other[-1] = None
        if None in (one[_NAME], other[_NAME]):
            one[_NAME] = other[_NAME] = None
    return tuple(contents[0]), tuple(contents[1])


def without_personal_data(content: Sequence[Any]) -> tuple[Any, ...]:
    """The part of a content that every privacy setting leaves alike."""
    *columns, extra = content
    extra = _DROPPING.hide(columns, extra)
    return (*columns, extra)


_DROPPING = Privacy(DROP)


def _rules_of(mark: str) -> str:
    """Which rules hid persons, by the mark of a content; "" for the first, which left no mark."""
    if mark.startswith(HASHED):
        return mark.partition(".")[2]
    return mark.removeprefix(_DROPPED_MARK)


def _may_be_person(value: Value) -> bool:
    """Whether it holds a text or a long number that may equal a value of a person."""
    persons = Persons(Rules())
    persons.add("", value)
    return bool(persons.values) or isinstance(value, dict)


def _text(digest: bytes) -> str:
    return digest.hex()[:32]


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8]) >> 1
