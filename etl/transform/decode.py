"""The body of a 200 -> snapshots, rejected records and schema drift. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

from etl.errors import DatadogResponseError
from etl.transform import lenient_json
from etl.transform.fields import INT64_MAX, INT64_MIN, MAX_ID, READERS, Scalar, instant, is_storable
from etl.transform.lenient_json import Constant, Number, Value
from etl.transform.snapshot import (
    HASH_VERSION,
    Decoded,
    Rejected,
    Snapshot,
    new_snapshot,
    reject,
    with_hash,
)

_Text: TypeAlias = str | None
_Int: TypeAlias = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)] | None


class _Attributes(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    application_id: Annotated[str, msgspec.Meta(max_length=MAX_ID)] | None = None
    created_at: datetime | str | None = None
    created_by: _Text = None
    created_by_handle: _Text = None
    created_by_user_id: _Int = None
    device_type: _Text = None
    event_id: _Text = None
    is_device_type_selected_by_user: bool | None = None
    modified_at: datetime | str | None = None
    org_id: _Int = None
    session_id: _Text = None
    snapshot_name: _Text = None
    start: _Int = None
    view_id: _Text = None
    view_name: _Text = None


class _WithInstants(_Attributes, gc=False):
    created_at: datetime | None = None
    modified_at: datetime | None = None


class _WithTexts(_Attributes, gc=False):
    created_at: _Text = None
    modified_at: _Text = None


A = TypeVar("A", bound=_Attributes)


class _Record(msgspec.Struct, Generic[A], forbid_unknown_fields=True, gc=False):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
    type: Literal["snapshots"]
    attributes: A


class _Body(msgspec.Struct, Generic[A], gc=False):
    data: list[_Record[A]]
    errors: list[Any] | None = None


_instants = msgspec.json.Decoder(_Body[_WithInstants])
_texts = msgspec.json.Decoder(_Body[_WithTexts])
_encoder = msgspec.json.Encoder()
# Perhaps an instant finer than microseconds, which the decoder would round.
_MAY_BE_FINER = re.compile(rb"\.\d{7}")
_SPELLED_DIGIT = rb"\u003"


class _Inexact(Exception):
    """An instant without a zone, or out of range: it must be read from its text."""


def decode(body: bytes) -> Decoded:
    """Decode one body; raises `DatadogResponseError` when it is not `{"data": [...]}`.

    A body is decoded with types first, instants included. One with unusual instants is decoded
    again with instants as text; one with anything else unusual leniently, record by record. All
    three give the same row for the same record.
    """
    has_escapes = b"\\u00" in body  # one search for both kinds: it takes as long as the decoding
    # The typed decoder takes the escape for NUL, which no database stores as text.
    if has_escapes and b"\\u0000" in body:
        return _decode_lenient(body)
    try:
        is_spelled = has_escapes and _SPELLED_DIGIT in body
        if not is_spelled and not _MAY_BE_FINER.search(body):
            exact = _instants.decode(body)
            return _decode_lenient(body) if exact.errors else _decode_exact(exact.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _Inexact):
        pass
    try:
        answer = _texts.decode(body)
        return _decode_lenient(body) if answer.errors else _decode_texts(answer.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_lenient(body)


def _decode_exact(records: list[_Record[_WithInstants]]) -> Decoded:
    decoded = Decoded()
    add, as_tuple = decoded.snapshots.append, msgspec.structs.astuple
    sha256, encode, unmarked = hashlib.sha256, _encoder.encode, f"{HASH_VERSION}:"
    for record in records:
        a = record.attributes
        created_at, modified_at = a.created_at, a.modified_at
        if created_at is not None and created_at.tzinfo is not UTC:
            a.created_at = _in_utc(created_at)
        if modified_at is not None and modified_at.tzinfo is not UTC:
            a.modified_at = _in_utc(modified_at)
        content = as_tuple(a)
        digest = sha256(encode((content, None))).hexdigest()[:32]  # as `with_hash` does
        add(new_snapshot(record.id, *content, None, unmarked + digest))
    return decoded


def _in_utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise _Inexact
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise _Inexact from None


def _decode_texts(records: list[_Record[_WithTexts]]) -> Decoded:
    decoded = Decoded()
    for record in records:
        a = record.attributes
        extra: dict[str, str] = {}
        created_at = _typed_instant(decoded, extra, "created_at", a.created_at)
        modified_at = _typed_instant(decoded, extra, "modified_at", a.modified_at)
        content = _content(a, created_at, modified_at)
        decoded.snapshots.append(_snapshot(record.id, content, extra))
    return decoded


def _content(
    a: _Attributes, created_at: datetime | None, modified_at: datetime | None
) -> tuple[Scalar, ...]:
    return (
        a.application_id,
        created_at,
        a.created_by,
        a.created_by_handle,
        a.created_by_user_id,
        a.device_type,
        a.event_id,
        a.is_device_type_selected_by_user,
        modified_at,
        a.org_id,
        a.session_id,
        a.snapshot_name,
        a.start,
        a.view_id,
        a.view_name,
    )


def _typed_instant(
    decoded: Decoded, extra: dict[str, str], name: str, text: str | None
) -> datetime | None:
    if text is None:
        return None
    read = instant(text)
    if read.kind:
        extra[name] = lenient_json.canonical(text)
        decoded.note(name, read.kind, extra[name])
    return read.value


def _snapshot(identifier: str, content: tuple[Scalar, ...], extra: dict[str, str]) -> Snapshot:
    return with_hash(identifier, content, lenient_json.join(extra) if extra else None)


def _decode_lenient(body: bytes) -> Decoded:
    try:
        answer = lenient_json.parse(body)
    except lenient_json.NotJson as error:
        raise DatadogResponseError(f"the answer is not JSON: {error}") from None
    records = answer.get("data") if isinstance(answer, dict) else None
    if isinstance(answer, dict) and answer.get("errors"):
        # JSON:API forbids both in one answer; such a listing would retire what it leaves out.
        raise DatadogResponseError("the answer holds errors beside its data")
    if not isinstance(records, list):
        raise DatadogResponseError('the answer is not {"data": [...]}')
    decoded = Decoded()
    for record in records:
        read = normalize(record, decoded.note)
        if isinstance(read, Snapshot):
            decoded.snapshots.append(read)
        else:
            decoded.rejected.append(read)
    return decoded


def normalize(record: Value, note: Callable[[str, str, str], None]) -> Snapshot | Rejected:
    """One leniently parsed record -> Snapshot, or Rejected when no row can have its id.

    `note(name, kind, example)` is called for each attribute that is unknown or of a wrong type.
    Never raises.
    """
    reason = _why_no_row(record)
    if reason or not isinstance(record, dict):
        return reject(reason, record)
    attributes = record.get("attributes")
    members = attributes if isinstance(attributes, dict) else {}
    content, extra = _read_attributes(members, note)
    for name in sorted(members.keys() - READERS.keys()):
        text = lenient_json.canonical(members[name])
        note(lenient_json.escape(name), "unknown attribute", text)
        if members[name] is not None:  # null is the same content as missing
            extra[lenient_json.escape(name)] = text
    others = _other_members(record, note)
    if others:
        extra["$top"] = lenient_json.join(others)
    return _snapshot(str(record["id"]), content, extra)


def _why_no_row(record: Value) -> str:
    if not isinstance(record, dict):
        return "not an object"
    identifier = record.get("id")
    if identifier is None:
        return "no id"
    if not isinstance(identifier, str) or isinstance(identifier, Number | Constant):
        return "the id is not text"
    if not identifier:
        return "the id is empty"
    if len(identifier) > MAX_ID:
        return f"the id is longer than {MAX_ID} characters"
    return "" if is_storable(identifier) else "the id holds NUL or a lone surrogate"


def _read_attributes(
    members: dict[str, Value], note: Callable[[str, str, str], None]
) -> tuple[tuple[Scalar, ...], dict[str, str]]:
    content: list[Scalar] = []
    extra: dict[str, str] = {}
    for name, reader in READERS.items():
        read = reader(members.get(name))
        content.append(read.value)
        if read.kind:
            text = lenient_json.canonical(members[name])
            note(name, read.kind, text)
            if not read.is_exact:
                extra[name] = text
    return tuple(content), extra


def _other_members(
    record: dict[str, Value], note: Callable[[str, str, str], None]
) -> dict[str, str]:
    """Canonical texts of the unknown members, and of type and attributes where they are wrong."""
    others = {
        lenient_json.escape(name): lenient_json.canonical(value)
        for name, value in record.items()
        if name not in ("id", "type", "attributes")
    }
    kinds = dict.fromkeys(others, "unknown member")
    if record.get("type") != "snapshots":
        others["type"], kinds["type"] = lenient_json.canonical(record.get("type")), "wrong type"
    if not isinstance(record.get("attributes"), dict):
        others["attributes"] = lenient_json.canonical(record.get("attributes"))
        kinds["attributes"] = "wrong type"
    for name, kind in kinds.items():
        note(f"$top.{name}", kind, others[name])
        if kind == "unknown member" and others[name] == "null":
            del others[name]  # the same content as missing
    return others
