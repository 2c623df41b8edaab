"""The body of a 200 -> snapshots, rejected records and schema drift. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET

from etl.errors import DatadogAnswerTooLarge, DatadogResponseError
from etl.transform import json_pieces, lenient_json, strict_json
from etl.transform.envelope import Envelope, open_envelope
from etl.transform.fields import INT64_MAX, INT64_MIN, MAX_ID, READERS, Scalar, instant, is_storable
from etl.transform.lenient_json import Constant, Number, Value
from etl.transform.snapshot import (
    HASH_VERSION,
    KEY_TWICE,
    Decoded,
    Drift,
    Rejected,
    Snapshot,
    new_snapshot,
    reject,
    with_hash,
)

_Missing: TypeAlias = msgspec.UnsetType
_Text: TypeAlias = str | None | _Missing
_Int: TypeAlias = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)] | None | _Missing

MAX_RECORDS = 100_000
"""In one answer: a hundred times what is asked for. A row takes about 1.5 kB until it is stored."""
MAX_AT_ONCE = 2**24
"""Bytes of records that are decoded at once; four times as many of plain ASCII."""
MAX_RECORD = 2**25
"""Bytes of one record that is read alone."""
MAX_VALUES = 2**20
"""In a record that is read leniently: each takes about 200 bytes meanwhile, however short it is."""
MAX_MEMORY = 3 * 2**27
"""Bytes that the records of one answer may take, roughly, beside its body."""
_ROW, _WIDE, _LENIENT = 1000, 4, 4  # bytes of a row, and times the size of its text
_SHORTEST = len('{"id":"1","type":"snapshots","attributes":{}}')


class _Attributes(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    application_id: Annotated[str, msgspec.Meta(max_length=MAX_ID)] | None | _Missing = UNSET
    created_at: datetime | str | None | _Missing = UNSET
    created_by: _Text = UNSET
    created_by_handle: _Text = UNSET
    created_by_user_id: _Int = UNSET
    device_type: _Text = UNSET
    event_id: _Text = UNSET
    is_device_type_selected_by_user: bool | None | _Missing = UNSET
    modified_at: datetime | str | None | _Missing = UNSET
    org_id: _Int = UNSET
    session_id: _Text = UNSET
    snapshot_name: _Text = UNSET
    start: _Int = UNSET
    view_id: _Text = UNSET
    view_name: _Text = UNSET


class _WithInstants(_Attributes, gc=False):
    created_at: datetime | None | _Missing = UNSET
    modified_at: datetime | None | _Missing = UNSET


class _WithTexts(_Attributes, gc=False):
    created_at: _Text = UNSET
    modified_at: _Text = UNSET


A = TypeVar("A", bound=_Attributes)


class _Record(msgspec.Struct, Generic[A], forbid_unknown_fields=True, gc=False):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
    type: Literal["snapshots"]
    attributes: A


_instants = msgspec.json.Decoder(list[_Record[_WithInstants]])
_texts = msgspec.json.Decoder(list[_Record[_WithTexts]])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()
# Perhaps an instant finer than microseconds, which the decoder would round.
_MAY_BE_FINER = re.compile(rb"\.\d{7}")
# One search for the escapes that matter, NUL and those below: each search takes as long as a tenth
# of the decoding where the text has many others.
_ESCAPE = re.compile(rb"\\u00[03]")
_SPELLED_DIGIT = rb"\u003"
_WRONG_TYPE = Drift("$top.type", "wrong type")
_APPLICATION = '"rum_application"'  # the only other list that is asked for
_SPELLED_COMMA = re.compile(rb"\\u002[Cc]")
_NAMES = tuple(READERS)
_INSTANTS = (_NAMES.index("created_at"), _NAMES.index("modified_at"))


class _Unusual(Exception):
    """The typed decoder would take the records for other than they are."""


class _Inexact(_Unusual):
    """An instant without a zone, or out of range: it must be read from its text."""


def decode(body: bytes | Envelope) -> Decoded:
    """Decode one body; raises `DatadogResponseError` when it is not `{"data": [...]}`.

    The records are decoded with types first, instants included. Those with unusual instants are
    decoded again with instants as text; those with anything else unusual one by one, leniently
    where they must be. All three give the same row for the same record.
    """
    envelope = body if isinstance(body, Envelope) else open_envelope(body)
    decoded = _decode_quickly(envelope) or _decode_one_by_one(envelope)
    if decoded.listed and decoded.drift.get(_WRONG_TYPE) == (decoded.listed, _APPLICATION):
        raise DatadogResponseError("the answer lists applications, and no snapshots")
    for name, example in envelope.drift():
        decoded.note(name, "unknown member", example)
    decoded.partial = envelope.partial(decoded.listed)
    return decoded


def _too_many() -> DatadogAnswerTooLarge:
    return DatadogAnswerTooLarge(f"the answer holds more than {MAX_RECORDS:,} records")


def _decode_quickly(envelope: Envelope) -> Decoded | None:
    """All records at once; None where some record is unusual, or they take too much room."""
    if envelope.end - envelope.start > MAX_AT_ONCE * _WIDE:
        return None
    records = envelope.body[envelope.start : envelope.end]
    if not _fit_in_memory(records):
        return None
    has_escapes = b"\\" in records and _ESCAPE.search(records) is not None
    # The typed decoder takes the escape for NUL, which no database stores as text.
    if has_escapes and b"\\u0000" in records:
        return None
    try:
        is_spelled = has_escapes and _SPELLED_DIGIT in records
        if not is_spelled and not _MAY_BE_FINER.search(records):
            return _decode_exact(strict_json.read(_instants, records), records)
    except (strict_json.NotStrict, _Unusual):
        pass
    try:
        return _decode_texts(strict_json.read(_texts, records), records)
    except (strict_json.NotStrict, _Unusual):
        return None


def _fit_in_memory(records: bytes) -> bool:
    """Whether they may be decoded at once, whatever they are."""
    if len(records) > MAX_AT_ONCE and _is_wide(records):
        return False
    # A record as specified has two objects.
    return len(records) < MAX_RECORDS * _SHORTEST or records.count(b"{") <= 2 * MAX_RECORDS


def _is_wide(text: bytes) -> bool:
    """Whether strings of the text may take four bytes for each of its own."""
    return b"\\u" in text or not text.isascii()


def _decode_exact(records: list[_Record[_WithInstants]], text: bytes) -> Decoded:
    decoded, missing, commas = Decoded(), 0, 0
    add, as_tuple = decoded.snapshots.append, msgspec.structs.astuple
    sha256, encode, unmarked = hashlib.sha256, _encoder.encode, f"{HASH_VERSION}:"
    is_any_missing = False
    for record in records:
        a = record.attributes
        created_at, modified_at = a.created_at, a.modified_at
        if created_at and created_at.tzinfo is not UTC:
            a.created_at = _in_utc(created_at)
        if modified_at and modified_at.tzinfo is not UTC:
            a.modified_at = _in_utc(modified_at)
        content = as_tuple(a)
        if is_any_missing:
            missing += _missing(content)
            content = _with_nulls(content)
        try:
            encoded = encode((content, None))  # as `with_hash` does
        except TypeError:  # the first record in which an attribute is missing
            is_any_missing = True
            missing += _missing(content)
            content = _with_nulls(content)
            encoded = encode((content, None))
        commas += encoded.count(b",")
        digest = sha256(encoded).hexdigest()[:32]
        add(new_snapshot(record.id, *content, None, unmarked + digest))
    _require_each_key_once(records, missing, commas, text)
    return decoded


def _missing(content: tuple[Any, ...]) -> int:
    """How many commas fewer than fourteen the attributes need."""
    return min(content.count(UNSET), 14)


def _with_nulls(content: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([None if value is UNSET else value for value in content])


def _require_each_key_once(
    records: Sequence[_Record[A]], missing: int, commas: int, text: bytes
) -> None:
    """Raises `_Unusual` unless each key was given once: the typed decoder takes the last.

    All keys of an object but one cost a comma, whatever blanks stand between. `missing`: how many
    fewer the attributes need, as some were not given. A key too many is a comma too many.
    `commas`: how many the contents have when encoded for their hashes, fifteen each and those
    within texts: counted there, as to look at every value takes half as long as to decode it.
    """
    needed = max(0, 17 * len(records) - 1 - missing)
    too_many = text.count(b",") - needed
    if not too_many:
        return
    in_texts = commas - 15 * len(records) + sum(record.id.count(",") for record in records)
    if too_many != in_texts or _SPELLED_COMMA.search(text):
        raise _Unusual


def _in_utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise _Inexact
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise _Inexact from None


def _decode_texts(records: list[_Record[_WithTexts]], text: bytes) -> Decoded:
    decoded, missing, commas = Decoded(), 0, 0
    for record in records:
        given = msgspec.structs.astuple(record.attributes)
        missing += _missing(given)
        extra: dict[str, str] = {}
        content = list(_with_nulls(given))
        commas += _encoder.encode((content, None)).count(b",")
        for index in _INSTANTS:
            content[index] = _typed_instant(decoded, extra, _NAMES[index], content[index])
        decoded.snapshots.append(_snapshot(record.id, tuple(content), extra))
    _require_each_key_once(records, missing, commas, text)
    return decoded


def _typed_instant(
    decoded: Decoded, extra: dict[str, str], name: str, text: str | None
) -> datetime | None:
    read = instant(text)
    if read.kind:
        extra[name] = lenient_json.canonical(text)
        decoded.note(name, read.kind, extra[name])
    return read.value


def _snapshot(identifier: str, content: tuple[Scalar, ...], extra: dict[str, str]) -> Snapshot:
    return with_hash(identifier, content, lenient_json.join(extra) if extra else None)


def _decode_one_by_one(envelope: Envelope) -> Decoded:
    """So that one odd record costs no more than itself, and no more memory than there is."""
    decoded, room, is_odd = Decoded(), MAX_MEMORY, False
    if _may_be_too_many(envelope):  # counting takes a fraction of the time
        for number, _ in enumerate(_pieces(envelope)):
            if number == MAX_RECORDS:
                raise _too_many()
    for record in _records(envelope):
        if decoded.listed == MAX_RECORDS:
            raise _too_many()
        if len(record) > MAX_RECORD:
            raise _too_long()
        # What is odd in one record is so in the next, where Datadog has a new attribute.
        alone = None if is_odd else _decode_alone(record)
        times = _WIDE if _is_wide(record) else 1
        if not alone:
            alone, times = _decode_lenient(record), _LENIENT
            is_odd = bool(alone.drift or alone.rejected)
        room -= _ROW + len(record) * times
        if room < 0:
            raise DatadogAnswerTooLarge(
                f"the answer's records take more than {MAX_MEMORY // 2**20} MB of memory"
            )
        decoded.snapshots += alone.snapshots
        decoded.rejected += alone.rejected
        decoded.add_drift(alone.drift)
    return decoded


def _decode_alone(record: bytes) -> Decoded | None:
    """One record, read with types; None where that cannot be."""
    text = b"[%b]" % record
    decoded = _decode_quickly(Envelope(text, 0, len(text)))
    return decoded if decoded and decoded.snapshots else None


def _may_be_too_many(envelope: Envelope) -> bool:
    """By what a record as specified has: two objects, and up to seventeen members."""
    body, start, end = envelope.body, envelope.start, envelope.end
    objects, commas = body.count(b"{", start, end), body.count(b",", start, end)
    return objects > 2 * MAX_RECORDS or commas > 17 * MAX_RECORDS


def _too_long() -> DatadogAnswerTooLarge:
    return DatadogAnswerTooLarge(f"a record takes more than {MAX_RECORD // 2**20} MB")


def _records(envelope: Envelope) -> Iterator[bytes]:
    """The text of each record."""
    body, start, end = envelope.body, envelope.start, envelope.end
    if end - start <= MAX_AT_ONCE and body.count(b",", start, end) < MAX_RECORDS:
        try:
            return map(bytes, strict_json.read(_raws, body[start:end]))
        except strict_json.NotStrict:
            pass
    return _pieces(envelope)


def _pieces(envelope: Envelope) -> Iterator[bytes]:
    body, start, end = envelope.body, envelope.start, envelope.end
    try:
        for begin, stop in json_pieces.pieces(body, start, end, longest=MAX_RECORD):
            yield body[begin:stop]
    except json_pieces.TooLong:
        raise _too_long() from None
    except json_pieces.NotAList:
        raise DatadogResponseError("the answer is not JSON: brackets do not match") from None


def _decode_lenient(record: bytes) -> Decoded:
    """One record by itself; raises `DatadogResponseError` when it is no JSON."""
    decoded = Decoded()
    if sum(map(record.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise DatadogAnswerTooLarge(f"a record holds more than {MAX_VALUES:,} values")
    try:
        # As deep as it is in an answer: what is nested too deeply depends on that.
        answer = lenient_json.parse(b'{"data":[%b]}' % record)
    except lenient_json.KeyTwice:
        text = lenient_json.text_of(record).strip(" \t\n\r")
        decoded.rejected.append(reject(KEY_TWICE, Constant(text)))
        return decoded
    except lenient_json.NotJson as error:
        raise DatadogResponseError(f"the answer is not JSON: {error}") from None
    records = answer["data"] if isinstance(answer, dict) else None
    if not isinstance(records, list) or len(records) != 1:
        raise DatadogResponseError("the answer is not JSON: a record is missing")
    read = normalize(records[0], decoded.note)
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
