"""A snapshot as it becomes a row, a record that cannot become one, and schema drift. Pure.

A frozen `Snapshot` has one field for each attribute of Datadog's `SnapshotDataAttributes`
(client 2.59: none required, none nullable, so any may be missing or null).

A value that no typed field can hold exactly is in `extra`. Typed fields and `extra` together give
back the record, with two exceptions: null against missing, and the spelling of a value that the
field holds exactly (`"12"` and 12, an offset and UTC).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import msgspec

from etl.transform import lenient_json
from etl.transform.fields import READERS, Scalar
from etl.transform.lenient_json import Value

NORMALIZER_VERSION = 2
"""Raise it whenever the same body would give other rows; it ends every digest of an answer."""
HASH_VERSION = "1"
PERSONAL = frozenset({"created_by", "created_by_handle", "created_by_user_id"})
HASHED = "h"
"""The mark of a content hash begins with this where the personal columns hold hashes."""

_encoder = msgspec.json.Encoder()


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """One record, typed. Instants are aware UTC; `extra` is canonical JSON or None."""

    id: str
    application_id: str | None
    created_at: datetime | None
    created_by: str | None
    created_by_handle: str | None
    created_by_user_id: int | None
    device_type: str | None
    event_id: str | None
    is_device_type_selected_by_user: bool | None
    modified_at: datetime | None
    org_id: int | None
    session_id: str | None
    snapshot_name: str | None
    start_ms: int | None
    view_id: str | None
    view_name: str | None
    extra: str | None
    content_hash: str


CONTENT = Snapshot.__struct_fields__[1:-1]
"""Content columns in table order: the fifteen attributes, then extra."""

new_snapshot: Callable[..., Snapshot] = Snapshot
"""`Snapshot`, but not type-checked: for values that come in the order of its fields."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be a row: `raw` is its canonical JSON, `raw_hash` that text's hash."""

    reason: str
    raw: str
    raw_hash: str


MAX_DRIFT_NAMES = 20_000
"""Names of drift in one answer: more than the table holds. The others are counted together."""
OTHER_NAMES = "…"


class Drift(NamedTuple):
    """An attribute that is unknown, or not of the type the specification names."""

    name: str
    kind: str


@dataclass(slots=True)
class Decoded:
    """What one body held. `drift` counts records and keeps one example of canonical JSON.

    `partial`: the member beside the records that says that there is more, "" for none.
    """

    snapshots: list[Snapshot] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    drift: dict[Drift, tuple[int, str]] = field(default_factory=dict)
    partial: str = ""

    @property
    def listed(self) -> int:
        """How many records the body held."""
        return len(self.snapshots) + len(self.rejected)

    def note(self, name: str, kind: str, example: str) -> None:
        """Count one record that drifts in `name`."""
        self.add_drift({Drift(name, kind): (1, example)})

    def add_drift(self, more: Mapping[Drift, tuple[int, str]]) -> None:
        """Count the drift of other records, too."""
        for drift, (number, example) in more.items():
            is_known = drift in self.drift or len(self.drift) < MAX_DRIFT_NAMES
            key = drift if is_known else Drift(OTHER_NAMES, drift.kind)
            count, first = self.drift.get(key, (0, example))
            self.drift[key] = (count + number, min(first, example))


def with_hash(
    identifier: str, content: Sequence[Scalar], extra: str | None, mark: str = ""
) -> Snapshot:
    """A snapshot with its content hash; `mark`: the privacy setting that was applied."""
    digest = hashlib.sha256(_encoder.encode((content, extra))).hexdigest()[:32]
    return new_snapshot(identifier, *content, extra, f"{HASH_VERSION}{mark}:{digest}")


def mark_of(content_hash: str) -> str:
    """The mark in a content hash: the privacy setting that was applied; "" for keep."""
    return content_hash.partition(":")[0].lstrip("0123456789")


def record_of(snapshot: Snapshot) -> str:
    """The record that a snapshot was read from, as canonical JSON."""
    names = ("id", *READERS, "extra", "content_hash")
    values = dict(zip(names, msgspec.structs.astuple(snapshot), strict=True))
    extra = lenient_json.split(snapshot.extra) if snapshot.extra else {}
    others = lenient_json.split(extra.pop("$top", "{}"))
    attributes = {name: _spelled(values[name]) for name in READERS if values[name] is not None}
    if mark_of(snapshot.content_hash).startswith(HASHED):
        hashed = PERSONAL & attributes.keys()
        attributes |= {name: lenient_json.hashed(attributes[name]) for name in hashed}
    record = {"id": _spelled(snapshot.id), "type": '"snapshots"'}
    return lenient_json.join(
        {**record, "attributes": lenient_json.join({**attributes, **extra}), **others}
    )


def _spelled(value: Scalar) -> str:
    if isinstance(value, datetime):
        return f'"{value.isoformat().replace("+00:00", "Z")}"'
    return json.dumps(value)


KEY_TWICE = "a key is given twice"


def reject(reason: str, record: Value) -> Rejected:
    """A record that cannot be a row, and why."""
    return reject_text(reason, lenient_json.canonical(record))


def reject_text(reason: str, raw: str) -> Rejected:
    """As `reject`, for a record that is canonical JSON already."""
    return Rejected(reason, raw, hashlib.sha256(raw.encode()).hexdigest()[:32])
