"""Writes `tests/corpus/*.jsonl`: bad records, each with what must become of it.

    python -m tests.support.make_corpus

What is expected stands here by hand, value by value; nothing of it comes from `etl`. A line:

    name     what is bad about the record; unique
    raw      its exact JSON text; `base64` instead where the bytes are no UTF-8
    is       "row" or "reject"
    id       of the row
    columns  of the row, where they differ from `HEALTHY_COLUMNS`; instants in ISO format
    extra    of the row: the exact text, or null
    reason   of the reject
    kept     of the reject: the exact text in `rejected_records.raw`
    drift    pairs of name and kind that the record adds one to in `schema_drift`
"""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "corpus"

TEXTS = (
    *("application_id", "created_by", "created_by_handle", "device_type", "event_id"),
    *("session_id", "snapshot_name", "view_id", "view_name"),
)
INTEGERS = ("created_by_user_id", "org_id", "start")
INSTANTS = ("created_at", "modified_at")
BOOLEAN = "is_device_type_selected_by_user"
COLUMNS = {"start": "start_ms"}

HEALTHY = {
    "created_at": '"2026-02-01T10:00:00Z"',
    "event_id": '"e"',
    BOOLEAN: "true",
    "org_id": "42",
    "start": "5",
    "view_name": '"/home"',
}
HEALTHY_COLUMNS: dict[str, Any] = {
    **dict.fromkeys((*TEXTS, *INTEGERS[:2], *INSTANTS, "start_ms")),
    "created_at": "2026-02-01T10:00:00+00:00",
    "event_id": "e",
    BOOLEAN: True,
    "org_id": 42,
    "start_ms": 5,
    "view_name": "/home",
}

Case = dict[str, Any]
Drift = list[list[str]]
WRONG = "wrong type"
ODD_TEXT = "NUL or lone surrogate"
UNREADABLE = "unreadable timestamp"
EPOCH = "epoch for timestamp"
FLOAT = "float for integer"


def obj(members: Mapping[str, str]) -> str:
    """Canonical: ASCII, keys sorted by code point, no spaces."""
    return "{" + ",".join(f"{json.dumps(key)}:{members[key]}" for key in sorted(members)) + "}"


def written(members: Mapping[str, str]) -> str:
    """The same as a server may send it: any order, names as they are."""
    return "{" + ", ".join(f"{json.dumps(key)}: {text}" for key, text in members.items()) + "}"


def raw_record(identifier: str, attributes: str, beside: Mapping[str, str] | None = None) -> str:
    head = {"id": json.dumps(identifier), "type": '"snapshots"', "attributes": attributes}
    return written({**head, **(beside or {})})


def with_attribute(identifier: str, name: str, text: str) -> str:
    return raw_record(identifier, written({**HEALTHY, name: text}))


def row(name: str, raw: str | bytes, identifier: str, **expected: Any) -> Case:
    found = {"columns": {}, "extra": None, "drift": [], **expected}
    return {"name": name, **_raw(raw), "is": "row", "id": identifier, **found}


def reject(name: str, raw: str | bytes, reason: str, kept: str) -> Case:
    return {"name": name, **_raw(raw), "is": "reject", "reason": reason, "kept": kept, "drift": []}


def twice(name: str, raw: str) -> Case:
    return reject(name, raw, "a key is given twice", obj({"$literal": json.dumps(raw)}))


def _raw(raw: str | bytes) -> dict[str, str]:
    if isinstance(raw, str):
        return {"raw": raw}
    return {"base64": base64.b64encode(raw).decode()}


# --- each attribute x each value ----------------------------------------------------------

# name: (as it is sent, canonical where that differs)
VALUES: dict[str, tuple[str, ...]] = {
    "null": ("null",),
    "true": ("true",),
    "false": ("false",),
    "0": ("0",),
    "1": ("1",),
    "-5": ("-5",),
    "1.5": ("1.5",),
    "42.0": ("42.0",),
    "4.2e1": ("4.2e1",),
    "1e400": ("1e400",),
    "-1E+400": ("-1E+400",),
    "2**70": (str(2**70),),
    "-2**70": (str(-(2**70)),),
    "2**63": (str(2**63),),
    "300 digits": ("7" * 300,),
    "NaN": ("NaN", '{"$literal":"NaN"}'),
    "Infinity": ("Infinity", '{"$literal":"Infinity"}'),
    "-Infinity": ("-Infinity", '{"$literal":"-Infinity"}'),
    "an empty text": ('""',),
    "a word": ('"word"',),
    "digits as text": ('"42"',),
    "digits and a space": ('" 42"',),
    "digits and a line break": ('"42\\n"',),
    "full-width digits": ('"\uff14\uff12"', r'"\uff14\uff12"'),
    "the text true": ('"true"',),
    "the text null": ('"null"',),
    "NUL": (r'"a\u0000b"',),
    "a NUL that is not escaped": ('"a\0b"', r'"a\u0000b"'),
    "a high surrogate": (r'"\ud800"',),
    "a low surrogate": (r'"x\udfff"',),
    "a pair the wrong way round": (r'"\ude00\ud83d"',),
    "a pair": (r'"\ud83d\ude00"',),
    "an empty list": ("[]",),
    "a list": ('[1, "a"]', '[1,"a"]'),
    "a list of NaN": ("[NaN]", '[{"$literal":"NaN"}]'),
    "an empty object": ("{}",),
    "an object": ('{"b": 1.0, "a": null}', '{"a":null,"b":1.0}'),
    "an object like our wrapper": ('{"$literal": "NaN"}', '{"$$literal":"NaN"}'),
    "an object with an odd key": (r'{"\ud800\u0000": 1}', r'{"\ud800\u0000":1}'),
}
# name: (what the column holds, the kind of drift, whether extra keeps it)
Expected = dict[str, tuple[Any, str, bool]]
AS_TEXT: Expected = {
    "null": (None, "", False),
    "an empty text": ("", "", False),
    "a word": ("word", "", False),
    "digits as text": ("42", "", False),
    "digits and a space": (" 42", "", False),
    "digits and a line break": ("42\n", "", False),
    "full-width digits": ("\uff14\uff12", "", False),
    "the text true": ("true", "", False),
    "the text null": ("null", "", False),
    "NUL": (None, ODD_TEXT, True),
    "a NUL that is not escaped": (None, ODD_TEXT, True),
    "a high surrogate": (None, ODD_TEXT, True),
    "a low surrogate": (None, ODD_TEXT, True),
    "a pair the wrong way round": (None, ODD_TEXT, True),
    "a pair": ("\U0001f600", "", False),
}
AS_INTEGER: Expected = {
    "null": (None, "", False),
    "0": (0, "", False),
    "1": (1, "", False),
    "-5": (-5, "", False),
    "1.5": (None, FLOAT, True),
    "42.0": (42, FLOAT, True),
    "4.2e1": (42, FLOAT, True),
    "1e400": (None, FLOAT, True),
    "-1E+400": (None, FLOAT, True),
    "2**70": (None, "out of range", True),
    "-2**70": (None, "out of range", True),
    "2**63": (None, "out of range", True),
    "300 digits": (None, "out of range", True),
    "digits as text": (42, "text for integer", False),
}
AS_INSTANT: Expected = {
    "null": (None, "", False),
    **dict.fromkeys(("0", "1", "2**70", "2**63", "300 digits"), (None, EPOCH, True)),
    "digits as text": (None, EPOCH, True),
    **dict.fromkeys(("-5", "1.5", "42.0", "4.2e1", "1e400"), (None, UNREADABLE, True)),
    **dict.fromkeys(("-1E+400", "-2**70"), (None, UNREADABLE, True)),
    **dict.fromkeys(("an empty text", "a word", "digits and a space"), (None, UNREADABLE, True)),
    **dict.fromkeys(("digits and a line break",), (None, UNREADABLE, True)),
    **dict.fromkeys(("the text true", "the text null", "NUL"), (None, UNREADABLE, True)),
    **dict.fromkeys(("full-width digits", "a pair"), (None, UNREADABLE, True)),
    **dict.fromkeys(("a NUL that is not escaped",), (None, UNREADABLE, True)),
    **dict.fromkeys(("a high surrogate", "a low surrogate"), (None, UNREADABLE, True)),
    "a pair the wrong way round": (None, UNREADABLE, True),
}
AS_BOOLEAN: Expected = {
    "null": (None, "", False),
    "true": (True, "", False),
    "false": (False, "", False),
}
TYPES: dict[str, Expected] = {
    **dict.fromkeys(TEXTS, AS_TEXT),
    **dict.fromkeys(INTEGERS, AS_INTEGER),
    **dict.fromkeys(INSTANTS, AS_INSTANT),
    BOOLEAN: AS_BOOLEAN,
}


def attributes() -> Iterator[Case]:
    for name, expected in TYPES.items():
        for label, (sent, *canonical) in VALUES.items():
            yield _attribute(
                f"{name}: {label}",
                name,
                sent,
                canonical[0] if canonical else sent,
                *expected.get(label, (None, WRONG, True)),
            )


def _attribute(
    label: str, name: str, sent: str, canonical: str, value: Any, kind: str, is_kept: bool
) -> Case:
    return row(
        label,
        with_attribute(label, name, sent),
        label,
        columns=_differing({COLUMNS.get(name, name): value}),
        extra=obj({name: canonical}) if is_kept else None,
        drift=[[name, kind]] if kind else [],
    )


def _differing(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in columns.items() if v is not HEALTHY_COLUMNS[n]}


# --- integers and instants in every spelling ----------------------------------------------

INTEGER_FORMS: dict[str, tuple[Any, str, bool]] = {
    "-0": (0, "", False),
    "-1": (-1, "", False),
    str(2**53 + 1): (2**53 + 1, "", False),
    str(2**63 - 1): (2**63 - 1, "", False),
    str(-(2**63)): (-(2**63), "", False),
    str(-(2**63) - 1): (None, "out of range", True),
    "-0.0": (0, FLOAT, True),
    "1e3": (1000, FLOAT, True),
    "1E3": (1000, FLOAT, True),
    "1500e-2": (15, FLOAT, True),
    "1e-400": (None, FLOAT, True),
    "1e18": (10**18, FLOAT, True),
    "1e19": (None, FLOAT, True),
    "9223372036854775807.0": (2**63 - 1, FLOAT, True),
    "9223372036854775808.0": (None, FLOAT, True),
    "-9223372036854775808.0": (-(2**63), FLOAT, True),
    "42.00000000000000000000000000000000000001": (None, FLOAT, True),
    "1e99999999999999999999": (None, FLOAT, True),
    '"0"': (0, "text for integer", False),
    '"-42"': (-42, "text for integer", False),
    f'"{2**63 - 1}"': (2**63 - 1, "text for integer", False),
    f'"{2**63}"': (None, WRONG, True),
    '"042"': (None, WRONG, True),
    '"+42"': (None, WRONG, True),
    '"4_2"': (None, WRONG, True),
    '"42.0"': (None, WRONG, True),
    '"0x2a"': (None, WRONG, True),
    '"1e3"': (None, WRONG, True),
    '"NaN"': (None, WRONG, True),
    '"integer"': (None, WRONG, True),
    '"-"': (None, WRONG, True),
}

SECOND = "2024-10-28T14:43:01+00:00"
NO_ZONE = "timestamp without zone"
FINER = "finer than microseconds"
INSTANT_FORMS: dict[str, tuple[str | None, str, bool]] = {
    '"2024-10-28T14:43:01Z"': (SECOND, "", False),
    '"2024-10-28T14:43:01.1Z"': ("2024-10-28T14:43:01.100000+00:00", "", False),
    '"2024-10-28T14:43:01.065Z"': ("2024-10-28T14:43:01.065000+00:00", "", False),
    '"2024-10-28T14:43:01.0654Z"': ("2024-10-28T14:43:01.065400+00:00", "", False),
    '"2024-10-28T14:43:01.06546Z"': ("2024-10-28T14:43:01.065460+00:00", "", False),
    '"2024-10-28T14:43:01.065463Z"': ("2024-10-28T14:43:01.065463+00:00", "", False),
    '"2024-10-28T14:43:01.065463000Z"': ("2024-10-28T14:43:01.065463+00:00", "", False),
    '"2024-10-28T14:43:01.0654638Z"': ("2024-10-28T14:43:01.065463+00:00", FINER, True),
    '"2024-10-28T14:43:01.065463823Z"': ("2024-10-28T14:43:01.065463+00:00", FINER, True),
    '"2024-10-28T14:43:01.999999999Z"': ("2024-10-28T14:43:01.999999+00:00", FINER, True),
    '"2024-10-28T14:43:01+00:00"': (SECOND, "", False),
    '"2024-10-28T14:43:01-00:00"': (SECOND, "", False),
    '"2024-10-28T20:28:01+05:45"': (SECOND, "", False),
    '"2024-10-28T06:43:01-0800"': (SECOND, "", False),
    '"2024-10-28T15:43:01+01"': (SECOND, "", False),
    '"2024-10-28t14:43:01z"': (SECOND, "", False),
    '"2024-10-28 14:43:01Z"': (SECOND, "", False),
    '"2024-02-29T23:59:59Z"': ("2024-02-29T23:59:59+00:00", "", False),
    '"0001-01-01T00:00:00Z"': ("0001-01-01T00:00:00+00:00", "", False),
    '"1883-11-18T12:00:00Z"': ("1883-11-18T12:00:00+00:00", "", False),
    '"9999-12-31T23:59:59.999999Z"': ("9999-12-31T23:59:59.999999+00:00", "", False),
    '"2024-10-28T14:43:01"': (SECOND, NO_ZONE, True),
    '"2024-10-28 14:43:01.065"': ("2024-10-28T14:43:01.065000+00:00", NO_ZONE, True),
    '"2024-10-28T14:43:01.065463823"': ("2024-10-28T14:43:01.065463+00:00", NO_ZONE, True),
    "1730126581": (SECOND, EPOCH, True),
    '"1730126581"': (SECOND, EPOCH, True),
    "1730126581065": ("2024-10-28T14:43:01.065000+00:00", EPOCH, True),
    '"1730126581065"': ("2024-10-28T14:43:01.065000+00:00", EPOCH, True),
    "173012658": (None, EPOCH, True),
    "1730126581065463": (None, EPOCH, True),
    "-1730126581": (None, UNREADABLE, True),
    "1730126581.5": (None, UNREADABLE, True),
    '"1730126581.5"': (None, UNREADABLE, True),
    "1.730126581e9": (None, UNREADABLE, True),
    '"2016-12-31T23:59:60Z"': (None, UNREADABLE, True),
    '"2024-10-28T24:00:00Z"': (None, UNREADABLE, True),
    '"2024-10-28T14:60:00Z"': (None, UNREADABLE, True),
    '"2023-02-29T00:00:00Z"': (None, UNREADABLE, True),
    '"2024-13-01T00:00:00Z"': (None, UNREADABLE, True),
    '"0000-01-01T00:00:00Z"': (None, UNREADABLE, True),
    '"10000-01-01T00:00:00Z"': (None, UNREADABLE, True),
    '"0001-01-01T00:00:00+00:01"': (None, UNREADABLE, True),
    '"9999-12-31T23:59:59-00:01"': (None, UNREADABLE, True),
    '"2024-10-28T14:43:01+24:00"': (None, UNREADABLE, True),
    '"2024-10-28T14:43:01+05:60"': (None, UNREADABLE, True),
    '"2024-10-28T14:43:01 UTC"': (None, UNREADABLE, True),
    '"2024-10-28T14:43:01[UTC]"': (None, UNREADABLE, True),
    '"2024-10-28T14:43:01,065Z"': (None, UNREADABLE, True),
    '"2024-10-28T14:43:01.Z"': (None, UNREADABLE, True),
    '"2024-10-28T14:43Z"': (None, UNREADABLE, True),
    '"2024-10-28"': (None, UNREADABLE, True),
    '"20241028T144301Z"': (None, UNREADABLE, True),
    '"2024-W44-1T14:43:01Z"': (None, UNREADABLE, True),
    '" 2024-10-28T14:43:01Z"': (None, UNREADABLE, True),
    '"2024-10-28T14:43:01Z\\n"': (None, UNREADABLE, True),
    '"Mon, 28 Oct 2024 14:43:01 GMT"': (None, UNREADABLE, True),
    '"28/10/2024 14:43"': (None, UNREADABLE, True),
    '"0000-00-00 00:00:00"': (None, UNREADABLE, True),
    '"now"': (None, UNREADABLE, True),
    '"infinity"': (None, UNREADABLE, True),
}


def spellings() -> Iterator[Case]:
    forms = [(("start", "created_by_user_id"), INTEGER_FORMS), (INSTANTS, INSTANT_FORMS)]
    for names, table in forms:
        for name in names:
            for sent, expected in table.items():
                yield _attribute(f"{name} is {sent}", name, sent, sent, *expected)


# --- texts of every kind ------------------------------------------------------------------

# What a column holds: nothing is folded, trimmed or normalized.
STORED_TEXTS = {
    "a space behind": "a ",
    "spaces alone": "   ",
    "composed": "\u00e9",
    "decomposed": "e\u0301",
    "a tab and line breaks": "\t\r\n",
    "control characters": "\x01\x1b[31m\x7f\x85",
    "a byte order mark": "\ufeffa",
    "no character": "\uffff\ufdd0",
    "the last code point": "\U0010ffff",
    "line separators": "\u2028\u2029",
    "zero width": "a\u200bb\u200d",
    "right to left": "\u202e\u05d0\u05d1",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "SQL": "'); DROP TABLE snapshots; --",
    "marks of drivers": "%s %(a)s :a ? {0} \\ \\' \\0 \\N",
    "an escape that is text": "\\u0000 \\ud800",
}
# Bytes that are no UTF-8: a column cannot hold them, extra spells each as a surrogate.
BROKEN_BYTES = {
    "a byte that is never UTF-8": (b"\xff", r"\udcff"),
    "Latin-1": (b"caf\xe9", r"caf\udce9"),
    "a sequence cut short": (b"\xe2\x82", r"\udce2\udc82"),
    "a lone continuation": (b"\x80", r"\udc80"),
    "an encoded surrogate": (b"\xed\xa0\x80", r"\udced\udca0\udc80"),
    "NUL in two bytes": (b"\xc0\x80", r"\udcc0\udc80"),
    "beyond the last code point": (b"\xf4\x90\x80\x80", r"\udcf4\udc90\udc80\udc80"),
}


def texts() -> Iterator[Case]:
    for label, text in STORED_TEXTS.items():
        for is_ascii in (True, False):
            name = f"text: {label}, {'escaped' if is_ascii else 'as it is'}"
            raw = with_attribute(name, "snapshot_name", json.dumps(text, ensure_ascii=is_ascii))
            yield row(name, raw, name, columns={"snapshot_name": text})
    for label, (sent, kept) in BROKEN_BYTES.items():
        raw_bytes = with_attribute(f"bytes: {label}", "view_id", '"?"').encode()
        yield row(
            f"bytes: {label}",
            raw_bytes.replace(b"?", sent),
            f"bytes: {label}",
            extra=obj({"view_id": f'"{kept}"'}),
            drift=[["view_id", ODD_TEXT]],
        )
        raw_bytes = with_attribute(f"unknown bytes: {label}", "?", "1").encode()
        yield row(
            f"unknown bytes: {label}",
            raw_bytes.replace(b"?", sent),
            f"unknown bytes: {label}",
            extra=f'{{"{kept}":1}}',
            drift=[[kept, "unknown attribute"]],
        )


# --- ids ----------------------------------------------------------------------------------

# Each is a row of its own: no database may take two of them for one.
ALIKE = {
    "id": "id",
    "case": "ID",
    "case of one letter": "Id",
    "a space behind": "id ",
    "two spaces behind": "id  ",
    "a space before": " id",
    "a tab behind": "id\t",
    "a line break behind": "id\n",
    "a no-break space behind": "id\u00a0",
    "a zero-width space": "i\u200bd",
    "a zero-width joiner": "i\u200dd",
    "a soft hyphen": "i\u00add",
    "a byte order mark": "\ufeffid",
    "a variation selector": "id\ufe0f",
    "a direction mark": "\u200eid",
    "full width": "\uff49\uff44",
    "Cyrillic i": "\u0456d",
    "without a dot": "\u0131d",
    "with a dot": "\u0130D",
    "accent, composed": "\u00edd",
    "accent, decomposed": "i\u0301d",
    "accent of another kind": "\u00ecd",
    "sharp s": "stra\u00dfe",
    "double s": "strasse",
    "capital sharp s": "stra\u1e9ee",
    "a ligature": "\ufb01x",
    "no ligature": "fix",
    "Angstrom": "\u212b",
    "A with ring, composed": "\u00c5",
    "A with ring, decomposed": "A\u030a",
    "Hangul, composed": "\uac00",
    "Hangul, decomposed": "\u1100\u1161",
    "sigma": "\u03c3",
    "sigma at the end": "\u03c2",
    "capital sigma": "\u03a3",
    "an emoji": "\U0001f600",
    "another emoji": "\U0001f601",
    "a space": " ",
    "a no-break space": "\u00a0",
    "a zero-width space alone": "\u200b",
    "a control character": "\x01",
    "another control character": "\x02",
    "a percent sign": "%",
    "an underscore": "_",
    "a quotation mark": "'",
    "a backslash": "\\",
    "1": "1",
    "01": "01",
    "1.0": "1.0",
    "1e0": "1e0",
    "true": "true",
    "null": "null",
    "NULL": "NULL",
    "255 letters": "x" * 255,
    "255 letters, the last another": "x" * 254 + "y",
    "255 letters, the last in upper case": "x" * 254 + "X",
    "255 letters of four bytes": "\U0001f600" * 255,
    "255 letters and marks": "e\u0301" * 127 + "e",
    "no character at all": "\uffff",
}
NO_TEXT = "the id is not text"
ODD_ID = "the id holds NUL or a lone surrogate"
TOO_LONG = "the id is longer than 255 characters"
BAD_IDS: dict[str, tuple[str, str, str]] = {
    "null": ("null", "null", "no id"),
    "empty": ('""', '""', "the id is empty"),
    "true": ("true", "true", NO_TEXT),
    "0": ("0", "0", NO_TEXT),
    "1.0": ("1.0", "1.0", NO_TEXT),
    "2**70": (str(2**70), str(2**70), NO_TEXT),
    "1e400": ("1e400", "1e400", NO_TEXT),
    "NaN": ("NaN", '{"$literal":"NaN"}', NO_TEXT),
    "an empty list": ("[]", "[]", NO_TEXT),
    "a list of one": ('["id"]', '["id"]', NO_TEXT),
    "an object": ('{"id": "a"}', '{"id":"a"}', NO_TEXT),
    "NUL": (r'"\u0000"', r'"\u0000"', ODD_ID),
    "NUL behind": (r'"id\u0000"', r'"id\u0000"', ODD_ID),
    "NUL that is not escaped": ('"i\0d"', r'"i\u0000d"', ODD_ID),
    "a high surrogate": (r'"\ud800"', r'"\ud800"', ODD_ID),
    "a low surrogate": (r'"id\udc00"', r'"id\udc00"', ODD_ID),
    "a pair the wrong way round": (r'"\ude00\ud83d"', r'"\ude00\ud83d"', ODD_ID),
    "256 letters": (f'"{"a" * 256}"', f'"{"a" * 256}"', TOO_LONG),
    "256 letters of four bytes": (
        json.dumps("\U0001f600" * 256),
        json.dumps("\U0001f600" * 256),
        TOO_LONG,
    ),
    "10,000 letters": (f'"{"b" * 10_000}"', f'"{"b" * 10_000}"', TOO_LONG),
}
NO_OBJECTS = {
    "null": ("null",),
    "true": ("true",),
    "false": ("false",),
    "a number": ("17",),
    "1e400": ("1e400",),
    "2**70": (str(2**70),),
    "NaN": ("NaN", '{"$literal":"NaN"}'),
    "-Infinity": ("-Infinity", '{"$literal":"-Infinity"}'),
    "an empty text": ('""',),
    "a text": ('"id"',),
    "a text that is JSON": (r'"{\"id\":\"x\"}"',),
    "a text with a surrogate": (r'"\ud800"',),
    "a text with NUL": (r'"\u0000"',),
    "an empty list": ("[]",),
    "a list of a record": ('[{"id": "a"}]', '[{"id":"a"}]'),
    "a list of lists": ("[[[]]]",),
}
CANONICAL_HEALTHY = obj(HEALTHY)


def ids() -> Iterator[Case]:
    for number, (label, identifier) in enumerate(ALIKE.items()):
        text = json.dumps(identifier, ensure_ascii=number % 2 == 0)
        attributes = written({**HEALTHY, "view_id": json.dumps(label)})
        raw = written({"id": text, "type": '"snapshots"', "attributes": attributes})
        yield row(f"id: {label}", raw, identifier, columns={"view_id": label})
    for label, (sent, kept, reason) in BAD_IDS.items():
        raw = written({"id": sent, "type": '"snapshots"', "attributes": written(HEALTHY)})
        expected = {"id": kept, "type": '"snapshots"', "attributes": CANONICAL_HEALTHY}
        yield reject(f"bad id: {label}", raw, reason, obj(expected))
    raw = written({"type": '"snapshots"', "attributes": written(HEALTHY), "n": "1"})
    kept = obj({"type": '"snapshots"', "attributes": CANONICAL_HEALTHY, "n": "1"})
    yield reject("bad id: none", raw, "no id", kept)
    yield reject("bad id: an empty object", "{}", "no id", "{}")
    yield reject("bad id: in upper case", '{"ID": "a"}', "no id", '{"ID":"a"}')
    yield reject("bad id: a space behind its name", '{"id ": "a"}', "no id", '{"id ":"a"}')
    yield reject(
        "bad id: inside the attributes",
        '{"attributes": {"id": "a"}}',
        "no id",
        '{"attributes":{"id":"a"}}',
    )
    yield twice("bad id: of two the last is null", '{"id": "a", "id": null}')
    yield reject("bad id: bytes that are no UTF-8", b'{"id": "i\xff"}', ODD_ID, r'{"id":"i\udcff"}')
    yield reject(
        "bad id: keys that begin with a dollar",
        '{"$id": "a", "$top": {"$literal": 1e400}}',
        "no id",
        '{"$$id":"a","$$top":{"$$literal":1e400}}',
    )
    for label, (sent, *canonical) in NO_OBJECTS.items():
        yield reject(
            f"no object: {label}", sent, "not an object", canonical[0] if canonical else sent
        )


# --- names that are unknown ---------------------------------------------------------------

# name as sent: (key in extra, name in schema_drift), where they differ from the name
UNKNOWN: dict[str, tuple[str, str]] = {
    name: (name, name)
    for name in (
        *("color", "", " ", "id", "type", "attributes", "extra", "content_hash", "start_ms"),
        *("source", "view_key", "Start", "START", "start ", " start", "created_by.", "createdBy"),
        *("a.b", "a$", "__proto__", "constructor", "null", "0", "'", '"', "\\", "%s", ":a", "?"),
        *("ä", "a\u0308", "\U0001f600", "\u202eabc", "\u200b", "n" * 255, "\t\n"),
        *("x'; DROP TABLE schema_drift; --", "literal", "top", "\ufeff", "\uffff"),
    )
} | {
    "$": ("$$", "$$"),
    "$top": ("$$top", "$$top"),
    "$$top": ("$$$top", "$$$top"),
    "$top.links": ("$$top.links", "$$top.links"),
    "$literal": ("$$literal", "$$literal"),
    "$hash": ("$$hash", "$$hash"),
    "\0": ("\0", "\\x00"),
    "a\ud800": ("a\ud800", "a\\ud800"),
    "\udcff b": ("\udcff b", "\\udcff b"),
    "m" * 256: ("m" * 256, "m" * 254 + "\u2026"),
    "k" * 10_000: ("k" * 10_000, "k" * 254 + "\u2026"),
    "k" * 10_001: ("k" * 10_001, "k" * 254 + "\u2026"),
}
UNKNOWN_VALUES = (
    *("true", "0", "-0.0", "1e400", str(2**70), "NaN", '""', '"a"', r'"\ud800"', r'"\u0000"'),
    *("[]", "[null]", "{}", '{"a": 1, "$b": [2]}', '{"$literal": "NaN"}', "0.1E+2"),
)
UNKNOWN_CANONICAL = {
    "NaN": '{"$literal":"NaN"}',
    '{"a": 1, "$b": [2]}': '{"$$b":[2],"a":1}',
    '{"$literal": "NaN"}': '{"$$literal":"NaN"}',
}


def unknown() -> Iterator[Case]:
    for number, (name, (key, noted)) in enumerate(UNKNOWN.items()):
        label = f"unknown attribute {number}: {json.dumps(name)[:40]}"
        raw = with_attribute(label, name, '"v"')
        drift = [[noted, "unknown attribute"]]
        yield row(label, raw, label, extra=obj({key: '"v"'}), drift=drift)
    for sent in UNKNOWN_VALUES:
        label = f"unknown attribute is {sent}"
        extra = obj({"theme": UNKNOWN_CANONICAL.get(sent, sent)})
        drift = [["theme", "unknown attribute"]]
        yield row(label, with_attribute(label, "theme", sent), label, extra=extra, drift=drift)
    label = "unknown attribute is null"
    drift = [["theme", "unknown attribute"]]
    yield row(label, with_attribute(label, "theme", "null"), label, drift=drift)
    label = "twenty unknown attributes"
    more = {f"new_{n:02}": str(n) for n in range(20)}
    drift = [[name, "unknown attribute"] for name in more]
    raw = raw_record(label, written({**HEALTHY, **more}))
    yield row(label, raw, label, extra=obj(more), drift=drift)


# --- beside the attributes ----------------------------------------------------------------

NOTHING = dict.fromkeys(name for name, value in HEALTHY_COLUMNS.items() if value is not None)
NO_ATTRIBUTES = {
    "null": ("null",),
    "true": ("true",),
    "a number": ("1.0",),
    "NaN": ("NaN", '{"$literal":"NaN"}'),
    "a text": ('"{}"',),
    "an empty list": ("[]",),
    "a list of attributes": ('[{"org_id": 1}]', '[{"org_id":1}]'),
    "a list of pairs": ('[["org_id", 1]]', '[["org_id",1]]'),
}
OTHER_TYPES = {
    "null": ("null",),
    "true": ("true",),
    "a number": ("1",),
    "1e400": ("1e400",),
    "another text": ('"snapshot"',),
    "in upper case": ('"Snapshots"',),
    "a space behind": ('"snapshots "',),
    "an empty text": ('""',),
    "a surrogate": (r'"\ud800"',),
    "a list": ('["snapshots"]',),
    "an object": ('{"$type": 1}', '{"$$type":1}'),
}
# what stands beside: (key in extra, canonical), the key gets `$top.` in schema_drift
BESIDE: dict[str, tuple[str, str, str]] = {
    "links": ("links", '{"self": "/x"}', '{"self":"/x"}'),
    "meta": ("meta", "[1e400, NaN]", '[1e400,{"$literal":"NaN"}]'),
    "relationships": ("relationships", "false", "false"),
    "Id": ("Id", '"b"', '"b"'),
    "ATTRIBUTES": ("ATTRIBUTES", '{"org_id": 7}', '{"org_id":7}'),
    "": ("", "0", "0"),
    "$top": ("$$top", '"x"', '"x"'),
    "$": ("$$", "{}", "{}"),
    "extra": ("extra", '"x"', '"x"'),
    "created_at": ("created_at", '"2024-10-28T14:43:01Z"', '"2024-10-28T14:43:01Z"'),
    "start": ("start", "77", "77"),
    "\0": ("\0", "1", "1"),
    "\ud800": ("\ud800", "1", "1"),
}


def beside() -> Iterator[Case]:
    for label, (sent, *canonical) in NO_ATTRIBUTES.items():
        name = f"attributes: {label}"
        extra = obj({"$top": obj({"attributes": canonical[0] if canonical else sent})})
        drift = [["$top.attributes", WRONG]]
        yield row(name, raw_record(name, sent), name, columns=NOTHING, extra=extra, drift=drift)
    name = "attributes: missing"
    extra = '{"$top":{"attributes":null}}'
    drift = [["$top.attributes", WRONG]]
    raw = written({"id": json.dumps(name), "type": '"snapshots"'})
    yield row(name, raw, name, columns=NOTHING, extra=extra, drift=drift)
    name = "attributes: empty"
    yield row(name, raw_record(name, "{}"), name, columns=NOTHING)
    name = "attributes: all null"
    nulls = dict.fromkeys((*TEXTS, *INTEGERS, *INSTANTS, BOOLEAN), "null")
    yield row(name, raw_record(name, written(nulls)), name, columns=NOTHING)
    yield from _types()
    for number, (key, (kept, sent, canonical_text)) in enumerate(BESIDE.items()):
        name = f"beside {number}: {json.dumps(key)}"
        extra = obj({"$top": obj({kept: canonical_text})})
        noted = kept.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")
        drift = [[f"$top.{noted}", "unknown member"]]
        raw = raw_record(name, written(HEALTHY), {key: sent})
        yield row(name, raw, name, extra=extra, drift=drift)
    name = "beside: null"
    raw = raw_record(name, written(HEALTHY), {"links": "null"})
    yield row(name, raw, name, drift=[["$top.links", "unknown member"]])


def _types() -> Iterator[Case]:
    for label, (sent, *canonical) in OTHER_TYPES.items():
        name = f"type: {label}"
        raw = raw_record(name, written(HEALTHY), {"type": sent})
        extra = obj({"$top": obj({"type": canonical[0] if canonical else sent})})
        yield row(name, raw, name, extra=extra, drift=[["$top.type", WRONG]])
    name = "type: missing"
    raw = written({"id": json.dumps(name), "attributes": written(HEALTHY)})
    yield row(name, raw, name, extra='{"$top":{"type":null}}', drift=[["$top.type", WRONG]])
    name = "the id alone"
    extra = '{"$top":{"attributes":null,"type":null}}'
    drift = [["$top.attributes", WRONG], ["$top.type", WRONG]]
    yield row(name, f'{{"id":"{name}"}}', name, columns=NOTHING, extra=extra, drift=drift)


# --- nesting ------------------------------------------------------------------------------

DEEPEST = 64
"""Levels of an answer that are kept as JSON, the answer itself being the first."""


def lists(levels: int, above: int) -> tuple[str, str]:
    """Lists within lists, under `above` levels: as sent, and canonical."""
    sent = "[" * levels + "]" * levels
    kept = DEEPEST - above
    if levels <= kept:
        return sent, sent
    inner = "[" * (levels - kept) + "]" * (levels - kept)
    return sent, "[" * kept + f'{{"$literal":"{inner}"}}' + "]" * kept


def nesting() -> Iterator[Case]:
    for levels in (2, 60, 61, 62, 63, 400, 1_500):
        in_attribute, canonical = lists(levels, above=4)
        name = f"{levels} levels in an unknown attribute"
        extra, drift = obj({"deep": canonical}), [["deep", "unknown attribute"]]
        yield row(name, with_attribute(name, "deep", in_attribute), name, extra=extra, drift=drift)
        name = f"{levels} levels for an integer"
        extra, drift = obj({"start": canonical}), [["start", WRONG]]
        raw = with_attribute(name, "start", in_attribute)
        yield row(name, raw, name, columns={"start_ms": None}, extra=extra, drift=drift)
        name = f"{levels} levels for an instant"
        extra, drift = obj({"created_at": canonical}), [["created_at", WRONG]]
        raw = with_attribute(name, "created_at", in_attribute)
        yield row(name, raw, name, columns={"created_at": None}, extra=extra, drift=drift)
        in_record, canonical = lists(levels, above=3)
        name = f"{levels} levels for attributes"
        extra, drift = obj({"$top": obj({"attributes": canonical})}), [["$top.attributes", WRONG]]
        raw = raw_record(name, in_record)
        yield row(name, raw, name, columns=NOTHING, extra=extra, drift=drift)
        name = f"{levels} levels beside"
        extra, drift = obj({"$top": obj({"deep": canonical})}), [["$top.deep", "unknown member"]]
        raw = raw_record(name, written(HEALTHY), {"deep": in_record})
        yield row(name, raw, name, extra=extra, drift=drift)
        kept = obj({"id": canonical})
        yield reject(f"{levels} levels for an id", f'{{"id": {in_record}}}', NO_TEXT, kept)
        sent, canonical = lists(levels, above=2)
        yield reject(f"{levels} levels for a record", sent, "not an object", canonical)


# --- JSON that is unusual -----------------------------------------------------------------


def unusual() -> Iterator[Case]:
    name = "white space everywhere"
    raw = f'\n {{ "id" :\t"{name}" ,\r\n"type": "snapshots" , "attributes" : {{ }} }} '
    yield row(name, raw, name, columns=NOTHING)
    name = "the id last"
    raw = f'{{"attributes": {written(HEALTHY)}, "type": "snapshots", "id": "{name}"}}'
    yield row(name, raw, name)
    name = "names written as escapes"
    raw = (
        f'{{"\\u0069d": "{name}", "typ\\u0065": "snapshots", '
        '"attributes": {"\\u0073tart": 9, "org\\u005fid": 42}}'
    )
    columns = {**NOTHING, "start_ms": 9, "org_id": 42}
    yield row(name, raw, name, columns={n: v for n, v in columns.items() if n != "org_id"})
    name = "a slash written as an escape"
    raw = with_attribute(name, "view_name", r'"\/a\/b"')
    yield row(name, raw, name, columns={"view_name": "/a/b"})
    name = "a line break inside a text"
    raw = with_attribute(name, "snapshot_name", '"a\nb\tc"')
    yield row(name, raw, name, columns={"snapshot_name": "a\nb\tc"})
    yield twice("an attribute twice", raw_record("a", '{"start": 1, "org_id": 42, "start": 2}'))
    yield twice("an attribute twice: last bad", raw_record("a", '{"start": 1, "start": "x"}'))
    yield twice("an attribute twice: first null", raw_record("a", '{"start":null,"start":2}'))
    healthy = written(HEALTHY)
    yield twice(
        "the id twice", f'{{"id": 7, "type": "snapshots", "attributes": {healthy}, "id": "a"}}'
    )
    yield twice(
        "attributes twice",
        raw_record("a", '{"start": 1}').removesuffix("}") + f', "attributes": {healthy}}}',
    )
    yield twice(
        "a key twice in an unknown attribute", raw_record("a", '{"theme": {"a": 1, "a": 1}}')
    )
    yield _everything_at_once()


def _everything_at_once() -> Case:
    name = "everything at once"
    bad = {**dict.fromkeys((*TEXTS, *INTEGERS, *INSTANTS, BOOLEAN), "[NaN]")}
    kinds = dict.fromkeys(bad, WRONG)
    raw = raw_record(name, written({**bad, "$x": "1e400"}), {"type": "null", "$y": r'"\ud800"'})
    return row(
        name,
        raw,
        name,
        columns=NOTHING,
        extra=obj(
            {
                **dict.fromkeys(bad, '[{"$literal":"NaN"}]'),
                "$$x": "1e400",
                "$top": obj({"$$y": r'"\ud800"', "type": "null"}),
            }
        ),
        drift=[
            *([attribute, kind] for attribute, kind in kinds.items()),
            ["$$x", "unknown attribute"],
            ["$top.$$y", "unknown member"],
            ["$top.type", WRONG],
        ],
    )


FILES = {
    "attributes": attributes,
    "spellings": spellings,
    "texts": texts,
    "ids": ids,
    "unknown": unknown,
    "beside": beside,
    "nesting": nesting,
    "unusual": unusual,
}


def lines(name: str) -> str:
    """The text of one file."""
    return "".join(f"{json.dumps(case)}\n" for case in FILES[name]())


if __name__ == "__main__":
    for name in FILES:
        (FOLDER / f"{name}.jsonl").write_text(lines(name), encoding="ascii")
