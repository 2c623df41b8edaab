"""Keeps, hashes or drops who created a snapshot, wherever that is written. Pure.

A privacy setting covers the three personal columns, and the same names in `extra`, in rejected
records and in examples of drift.

Nothing is hashed twice: the mark of a content hash says which setting was applied, and in JSON a
hash is wrapped (`{"$hash": "..."}`), which nothing received can look like.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import msgspec

from etl.transform import lenient_json
from etl.transform.fields import READERS, integer
from etl.transform.lenient_json import Number, Value
from etl.transform.snapshot import (
    CONTENT,
    HASHED,
    PERSONAL,
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
_PERSONAL_INDEXES = tuple(CONTENT.index(name) for name in CONTENT if name in PERSONAL)
_USER_ID = "created_by_user_id"
# Also created_by_email or createdBy, should Datadog ever send such.
_NAME = re.compile(r"created[^a-z0-9]*by", re.IGNORECASE)
# The name in JSON inside a text; "created by" in plain words does not count.
_QUOTED_NAME = re.compile(r"created[^a-z0-9\s]*by", re.IGNORECASE)
_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")
_CUT = "…"  # ends a drift name that was too long for the table
_OTHER_NAMES = READERS.keys() | {"id"}


@dataclass(frozen=True, slots=True)
class Privacy:
    """A privacy setting. `created_by`: keep, hash or drop; `key`: the secret key of the hashes."""

    created_by: str = KEEP
    key: str = field(default="", repr=False)

    @property
    def setting(self) -> str | None:
        """The setting as `sources.privacy` holds it; another key is another setting."""
        names = {KEEP: None, DROP: DROP, HASH: f"{HASH}:{self._fingerprint()}"}
        return names[self.created_by]

    @property
    def mark(self) -> str:
        """What follows the version in a content hash under this setting."""
        marks = {KEEP: "", DROP: _DROPPED_MARK, HASH: HASHED + self._fingerprint()}
        return marks[self.created_by]

    def apply(self, decoded: Decoded) -> Decoded:
        """A decoded body under this setting."""
        if self.created_by == KEEP:
            return decoded
        mark = self.mark
        return replace(
            decoded,
            snapshots=[self._protected(snapshot, mark) for snapshot in decoded.snapshots],
            rejected=[self.reject(rejected) for rejected in decoded.rejected],
            drift=self._drift(decoded.drift),
        )

    def rewritten(self, stored: Snapshot) -> Snapshot | None:
        """A stored snapshot under this setting; None: it stays as it is.

        It stays where the setting was applied before, and where the values that it needs are gone:
        what is hashed or dropped can only be dropped.
        """
        mark = self.mark
        is_gone = bool(mark_of(stored.content_hash)) and self.created_by != DROP
        if self.created_by == KEEP or is_gone or mark_of(stored.content_hash) == mark:
            return None
        return self._protected(stored, mark)

    def reject(self, rejected: Rejected) -> Rejected:
        """A rejected record under this setting, from an answer or from the table."""
        raw = self._text(rejected.raw)
        return rejected if raw == rejected.raw else reject_text(rejected.reason, raw)

    def example(self, name: str, text: str) -> str:
        """An example of drift in `name` under this setting; the table may have cut both short."""
        if self.created_by == KEEP:
            return text
        is_personal = bool(_NAME.search(name)) or name.endswith(_CUT)
        try:
            value = lenient_json.reparse(text)
        except lenient_json.NotJson:
            value, is_personal = text, is_personal or _quotes_the_name(text)
            if not is_personal:
                return text
        return lenient_json.rewrite(
            self._masked(name, value) if is_personal else self._member(name, value)
        )

    def _protected(self, snapshot: Snapshot, mark: str) -> Snapshot:
        identifier, *content, extra, _ = msgspec.structs.astuple(snapshot)
        for index in _PERSONAL_INDEXES:
            content[index] = self._column(CONTENT[index], content[index])
        return with_hash(identifier, tuple(content), self.extra_text(extra), mark)

    def _column(self, name: str, value: Any) -> Any:
        if value is None or self.created_by == DROP:
            return None
        digest = self._digest(name, json.dumps(value))
        return _number(digest) if name == _USER_ID else _text(digest)

    def extra_text(self, extra: str | None) -> str | None:
        """`extra` under this setting."""
        if extra is None:
            return None
        value = lenient_json.reparse(extra)
        members = self._members(value) if isinstance(value, dict) else {}
        if members.get("$top") == {}:
            del members["$top"]
        return lenient_json.rewrite(members) if members else None

    def _text(self, text: str) -> str:
        """Canonical JSON under this setting."""
        return (
            text
            if self.created_by == KEEP
            else lenient_json.rewrite(self._walk(lenient_json.reparse(text)))
        )

    def _drift(self, drift: dict[Drift, tuple[int, str]]) -> dict[Drift, tuple[int, str]]:
        return {d: (count, self.example(d.name, text)) for d, (count, text) in drift.items()}

    def _walk(self, value: Value) -> Value:
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        if isinstance(value, dict):
            literal = value.get("$literal")
            if isinstance(literal, str):
                return self._masked("", value) if _quotes_the_name(literal) else value
            return self._masked("", value) if _is_hash(value) else self._members(value)
        if isinstance(value, str) and _quotes_the_name(value):
            return self._masked("", value)
        return value

    def _members(self, members: dict[str, Value]) -> dict[str, Value]:
        """An object under this setting: dropped members go, other dropped values become null."""
        protected = {name: self._member(name, value) for name, value in members.items()}
        if self.created_by != DROP:
            return protected
        return {name: value for name, value in protected.items() if not _NAME.search(name)}

    def _member(self, name: str, value: Value) -> Value:
        if _NAME.search(name):
            return self._masked(name, value)
        # A column keeps it as it is, so it is kept everywhere.
        return value if name in _OTHER_NAMES and isinstance(value, str) else self._walk(value)

    def _masked(self, name: str, value: Value) -> Value:
        if value is None or self.created_by == DROP:
            return None
        if _is_hash(value):
            return value
        read = integer(value)
        if name == _USER_ID and read.value is not None and read.is_exact:
            return {"$hash": Number(_number(self._digest(name, str(read.value))))}
        return {"$hash": _text(self._digest(name, lenient_json.rewrite(value)))}

    def _digest(self, name: str, text: str) -> bytes:
        # With the name in it: equal values give equal hashes within one column only.
        return self._hmac(f"{name}:{text}")

    def _fingerprint(self) -> str:
        return self._hmac("heatmap-etl privacy fingerprint").hex()[:16]

    def _hmac(self, text: str) -> bytes:
        return _hmac(self.key, text)


@lru_cache(maxsize=4096)  # few people create many snapshots
def _hmac(key: str, text: str) -> bytes:
    key_bytes = key.encode("utf-8", "surrogateescape")
    return hmac.digest(key_bytes, text.encode("utf-8", "surrogatepass"), "sha256")


def without_personal_data(content: Sequence[Any]) -> tuple[Any, ...]:
    """The part of a content that every privacy setting leaves alike."""
    dropping = Privacy(DROP)
    *columns, extra = content
    for index in _PERSONAL_INDEXES:
        columns[index] = None
    return (*columns, dropping.extra_text(extra))


def _text(digest: bytes) -> str:
    return digest.hex()[:32]


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8]) >> 1


def _is_hash(value: Value) -> bool:
    return isinstance(value, dict) and value.keys() == {"$hash"}


def _quotes_the_name(text: str) -> bool:
    """Whether a text may be JSON, once or twice encoded, that names one of the three."""
    spelled = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if "\\" in text else text
    return bool(_QUOTED_NAME.search(spelled))
