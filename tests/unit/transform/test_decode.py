"""etl.transform.decode: the body of an answer -> snapshots, rejects and drift."""

import contextlib
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from etl.errors import DatadogAnswerTooLarge, DatadogResponseError
from etl.transform import decode as decoding
from etl.transform import lenient_json as jsontext
from etl.transform import snapshot as snapshots
from etl.transform.decode import decode
from etl.transform.envelope import open_envelope
from etl.transform.fields import INT64_MAX, INT64_MIN, READERS
from etl.transform.lenient_json import Number
from etl.transform.snapshot import Decoded, Drift, Rejected, Snapshot, record_of, reject
from tests.support.strategies import (
    ATTRIBUTES,
    BOOLEANS,
    INSTANTS,
    INTEGERS,
    TEXTS,
    any_records,
    body,
    odd_records,
    raw_body,
    record,
    rows_with_rejects_and_drift,
    timestamps,
    valid_attributes,
    valid_bodies,
    valid_records,
    words,
)

FULL: dict[str, Any] = {
    "application_id": "aaaaaaaa-1111-2222-3333-bbbbbbbbbbbb",
    "created_at": "2024-10-28T14:43:01.065463Z",
    "created_by": "Zoë 😀",
    "created_by_handle": "zoe@example.com",
    "created_by_user_id": 2**53 + 1,
    "device_type": "desktop",
    "event_id": "11111111-2222-3333-4444-555555555555",
    "is_device_type_selected_by_user": True,
    "modified_at": "2024-10-29T00:00:00+02:00",
    "org_id": 12,
    "session_id": "s",
    "snapshot_name": "Home",
    "start": 0,
    "view_id": "v",
    "view_name": "/home",
}
OTHER_VALUES: dict[str, Any] = {
    **dict.fromkeys(TEXTS, "other"),
    **dict.fromkeys(INTEGERS, 7),
    **dict.fromkeys(INSTANTS, "2020-01-01T00:00:00Z"),
    **dict.fromkeys(BOOLEANS, False),
}


def one(record: Any) -> Snapshot:
    (read,) = decode(body(record)).snapshots
    return read


def extra_of(read: Snapshot) -> Any:
    return strict(read.extra) if read.extra else None


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert text.isascii()
    return json.loads(text, parse_constant=refuse)


def test_each_attribute_has_its_column():
    read = one(record("a", **FULL))
    names = {"start": "start_ms"}
    instants = {
        "created_at": datetime(2024, 10, 28, 14, 43, 1, 65463, tzinfo=UTC),
        "modified_at": datetime(2024, 10, 28, 22, tzinfo=UTC),
    }
    held = {name: getattr(read, names.get(name, name)) for name in ATTRIBUTES}
    assert held == FULL | instants
    assert (read.id, read.extra) == ("a", None)


def test_columns_stand_in_the_order_of_the_readers():
    columns = [name for name in Snapshot.__struct_fields__ if name not in ("id", "content_hash")]
    assert columns == ["start_ms" if n == "start" else n for n in READERS] + ["extra"]


# --- what is no answer, and what is an empty one ------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>503</html>", id="HTML"),
        pytest.param(b'{"data":[', id="cut off"),
        pytest.param(b'{"data":[{"id":"a","type":"snapsh', id="cut off in a text"),
        pytest.param(b'{"data":' + b"[" * 100_000, id="cut off 100,000 levels deep"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"1e400", id="a number"),
        pytest.param(b"{}", id="no data"),
        pytest.param(b'{"errors":["Forbidden"]}', id="errors"),
        pytest.param(b'{"data":null}', id="data is null"),
        pytest.param(b'{"data":{}}', id="data is an object"),
        pytest.param(b'{"data":"[]"}', id="data is a text"),
        pytest.param(b'{"DATA":[]}', id="data in upper case"),
        pytest.param(b'{"data":[]}{"data":[]}', id="two answers"),
        pytest.param(b'{"data":[],"data":null}', id="of two data the last is null"),
        pytest.param(b'{"data":null,"data":[]}', id="of two data the last is a list"),
        pytest.param(b'{"data":[1],"data":[2]}', id="data twice"),
        pytest.param(b'{"data":[],"\\u0064ata":[]}', id="data twice, spelled differently"),
        pytest.param(b'{"data":[],"meta":1,"meta":2}', id="meta twice"),
        pytest.param(b'{"data":[NaN],"meta":1,"meta":2}', id="meta twice beside NaN"),
        pytest.param(b'{"data":[],"meta":{"a":1,"a":2}}', id="a key twice in meta"),
        pytest.param(b'{"meta":{"data":[12]},"data":null}', id="a list data in meta only"),
        pytest.param(b'{"data":[1,,2]}', id="a comma too many"),
        pytest.param(b'{"data":[{"id":"a"},]}', id="a comma behind"),
        pytest.param(b'{"data":[{"id":1]},{"b":[2}]}', id="brackets that do not match"),
        pytest.param(b'{"data":[{"id":"a","id":"b" 1}]}', id="a key twice, and no JSON"),
        pytest.param(b"[" * 5_000 + b"]" * 5_000, id="a list 5,000 deep"),
        pytest.param('{"data":[]}'.encode("utf-16"), id="UTF-16"),
    ],
)
def test_answer_without_a_list_of_records_is_refused(answer):
    with pytest.raises(DatadogResponseError):
        decode(answer)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b'{"data":[]}', id="as specified"),
        pytest.param(b' {"data" : [ ] }\n', id="with white space"),
        pytest.param(b'\xef\xbb\xbf{"data":[]}', id="with a byte order mark"),
        pytest.param(b'{"data":[],"meta":{"a":NaN}}', id="with NaN beside"),
        pytest.param(b'{"data":[],"meta":"\xff"}', id="with a byte that is no UTF-8 beside"),
        pytest.param(b'{"data":[],"m":' + b"[" * 65 + b"]" * 65 + b"}", id="65 levels beside"),
        pytest.param(
            b'{"data":[],"m":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="100,000 levels beside"
        ),
        pytest.param(b'{"meta":{"data":[1]},"data":[]}', id="with another list data in meta"),
        pytest.param(b'{"m":"\\"data\\":[1]","data":[]}', id="with such a list in a text"),
        pytest.param(b'{"m":NaN,"x":["data"],"\\u0064ata":[]}', id="with data spelled out"),
    ],
)
def test_answer_with_no_record_is_an_answer(answer):
    decoded = decode(answer)
    assert (decoded.listed, decoded.partial) == (0, "")
    assert {drift.kind for drift in decoded.drift} <= {"unknown member"}


# --- what is too large --------------------------------------------------------------------


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(json.dumps(record("a", **FULL)), id="as specified"),
        pytest.param('{"id":"a","type":"snapshots","attributes":{}}', id="short"),
        pytest.param("{}", id="empty"),
        pytest.param("1", id="numbers"),
        pytest.param("NaN", id="no JSON"),
    ],
)
def test_answer_may_hold_so_many_records_and_no_more(one, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_RECORDS", 50)
    assert decode(raw_body(",".join([one] * 50))).listed == 50
    with pytest.raises(DatadogAnswerTooLarge, match="more than 50 records"):
        decode(raw_body(",".join([one] * 51)))


@pytest.mark.parametrize("beside", ["", ',"x":NaN'], ids=["", "beside NaN"])
def test_large_answer_is_read_one_by_one_as_a_small_one_is_at_once(beside, monkeypatch):
    answer = body(record("a", **FULL), record("b", color=1), {}, record("c"))[:-1]
    answer += beside.encode() + b"}"
    at_once = decode(answer)
    monkeypatch.setattr(decoding, "MAX_AT_ONCE", 10)
    assert decode(answer) == at_once
    assert at_once.listed == 4


def test_what_one_record_and_all_of_them_may_take_has_a_bound(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_AT_ONCE", 10)
    monkeypatch.setattr(decoding, "MAX_RECORD", 10_000)
    monkeypatch.setattr(decoding, "MAX_VALUES", 100)
    monkeypatch.setattr(decoding, "MAX_MEMORY", 100_000)
    assert decode(body(record("a", view_name="x" * 9_000))).listed == 1
    with pytest.raises(DatadogAnswerTooLarge, match="a record takes more than"):
        decode(body(record("a", view_name="x" * 10_000)))
    with pytest.raises(DatadogAnswerTooLarge, match="more than 100 values"):
        decode(body(record("a", color=[1] * 101)))
    with pytest.raises(DatadogAnswerTooLarge, match="of memory"):
        decode(body(*[record(str(n), view_name="ä" * 1_600) for n in range(9)]))


def test_names_of_drift_have_a_bound(monkeypatch):
    monkeypatch.setattr(snapshots, "MAX_DRIFT_NAMES", 3)
    drift = decode(body(*[record(str(n), **{f"color{n}": 1}) for n in range(9)])).drift
    assert len(drift) == 4
    assert drift[Drift("…", "unknown attribute")] == (6, "1")


# --- records that cannot be a row ---------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param("null", "not an object", id="null"),
        pytest.param("[]", "not an object", id="a list"),
        pytest.param('"a"', "not an object", id="a text"),
        pytest.param("1e400", "not an object", id="a number"),
        pytest.param("NaN", "not an object", id="NaN"),
        pytest.param("[" * 5_000 + "]" * 5_000, "not an object", id="a list 5,000 deep"),
        pytest.param("{}", "no id", id="an empty object"),
        pytest.param('{"ID":"a"}', "no id", id="the id in upper case"),
        pytest.param('{"id":null}', "no id", id="the id is null"),
        pytest.param('{"id":""}', "the id is empty", id="the id is empty"),
        pytest.param('{"id":1}', "the id is not text", id="the id is a number"),
        pytest.param('{"id":NaN}', "the id is not text", id="the id is NaN"),
        pytest.param('{"id":true}', "the id is not text", id="the id is true"),
        pytest.param('{"id":["a"]}', "the id is not text", id="the id is a list"),
        pytest.param('{"id":{}}', "the id is not text", id="the id is an object"),
        pytest.param(r'{"id":"a\u0000"}', "the id holds NUL or a lone surrogate", id="NUL"),
        pytest.param('{"id":"a\0"}', "the id holds NUL or a lone surrogate", id="a raw NUL"),
        pytest.param(
            r'{"id":"\ud800"}', "the id holds NUL or a lone surrogate", id="a lone surrogate"
        ),
        pytest.param(
            '{"id":"' + "a" * 256 + '"}', "the id is longer than 255 characters", id="256 letters"
        ),
    ],
)
def test_record_without_a_usable_id_is_rejected_and_kept(raw, reason):
    decoded = decode(raw_body(raw))
    (rejected,) = decoded.rejected
    assert (decoded.snapshots, rejected.reason, decoded.listed) == ([], reason, 1)
    assert rejected.raw == jsontext.canonical(jsontext.parse(raw_body(raw)))[9:-2]
    strict(rejected.raw)


@pytest.mark.parametrize(
    "identifier",
    [
        pytest.param("a" * 255, id="255 letters"),
        pytest.param("😀" * 255, id="255 characters of four bytes"),
        pytest.param(" ", id="a space"),
        pytest.param("a ", id="a space behind"),
        pytest.param("\x01", id="a control character"),
        pytest.param("1", id="a digit"),
        pytest.param("null", id="the word null"),
        pytest.param("\ufeff", id="a byte order mark"),
    ],
)
def test_id_is_held_as_it_came(identifier):
    for escaped in (True, False):
        text = json.dumps({"data": [record(identifier)]}, ensure_ascii=escaped)
        assert [read.id for read in decode(text.encode()).snapshots] == [identifier]


def test_one_bad_record_does_not_touch_its_neighbours():
    good = [record("a", **FULL), record("c", **FULL)]
    alone = decode(body(*good)).snapshots
    for bad in ("null", "{}", '{"id":"b","attributes":' + "[" * 5_000 + "]" * 5_000 + "}"):
        text = f'{{"data":[{json.dumps(good[0])},{bad},{json.dumps(good[1])}]}}'
        decoded = decode(text.encode())
        assert [read for read in decoded.snapshots if read.id != "b"] == alone
        assert decoded.listed == 3


KEY_TWICE = [
    pytest.param('{"id":"a","id":"b","type":"snapshots","attributes":{}}', id="two ids"),
    pytest.param('{"id":"a","id":null}', id="of two ids the last is null"),
    pytest.param('{"id":null,"id":"a","type":"snapshots","attributes":{}}', id="the first is null"),
    pytest.param('{"id":"a","type":"snapshots","type":"snapshots","attributes":{}}', id="types"),
    pytest.param('{"id":"a","type":"snapshots","attributes":{},"attributes":{}}', id="attributes"),
    pytest.param(
        '{"id":"a","type":"snapshots","attributes":{"org_id":1,"org_id":2}}', id="an attribute"
    ),
    pytest.param(
        '{"id":"a","type":"snapshots","attributes":{"org_id":null,"org_id":2}}', id="null, then 2"
    ),
    pytest.param(
        '{"id" :"a","id"\t: "b","type":"snapshots","attributes":{}}', id="blanks before a colon"
    ),
    pytest.param(
        r'{"id":"a","type":"snapshots","attributes":{"org_id":1,"\u006frg_id":2}}',
        id="spelled differently",
    ),
    pytest.param(
        r'{"id":"a","type":"snapshots","attributes":{"view_id":"\u002c","org_id":1,"org_id":2}}',
        id="beside a comma that is spelled out",
    ),
    pytest.param(
        '{"id":"a","type":"snapshots","attributes":{"view_id":"1,2","org_id":1,"org_id":2}}',
        id="beside a comma in a text",
    ),
    pytest.param('{"id":"a","attributes":{"x":[{"y":1,"y":1}]}}', id="deep in an unknown one"),
]


@pytest.mark.parametrize("raw", KEY_TWICE)
def test_record_that_gives_a_key_twice_is_rejected_and_kept_as_it_came(raw):
    healthy = json.dumps(record("z", **FULL))
    sparse = json.dumps(record("y", org_id=1))
    for beside in ("", f"{healthy},", f"{sparse},", f"{healthy},{sparse},"):
        decoded = decode(raw_body(beside + raw))
        (rejected,) = decoded.rejected
        assert rejected.reason == "a key is given twice"
        assert strict(rejected.raw) == {"$literal": raw}
        assert decoded.listed == 1 + beside.count('"id"')


def test_reject_is_hashed_over_its_canonical_text():
    first, second = (
        decode(raw_body(text)).rejected[0] for text in ('{"b":1,"a":2}', '{ "a": 2, "b": 1 }')
    )
    assert first == second == reject("no id", {"a": Number("2"), "b": Number("1")})
    assert first == Rejected("no id", '{"a":2,"b":1}', "d3626ac30a87e6f7a6428233b3c68299")


# --- what typed columns cannot hold -------------------------------------------------------

EXTRAS = [
    ('{"attributes":{"color":"red"}}', {"color": "red"}, "an unknown attribute"),
    ('{"attributes":{"color":null}}', None, "an unknown null is the same as missing"),
    ('{"attributes":{"$top":1}}', {"$$top": 1}, "an attribute named $top"),
    ('{"attributes":{"$$top":1}}', {"$$$top": 1}, "an attribute named $$top"),
    ('{"attributes":{"$literal":1}}', {"$$literal": 1}, "an attribute named $literal"),
    ('{"attributes":{"extra":1}}', {"extra": 1}, "an attribute named extra"),
    ('{"attributes":{"content_hash":"1:0"}}', {"content_hash": "1:0"}, "one named content_hash"),
    ('{"attributes":{"id":"b"}}', {"id": "b"}, "an attribute named id"),
    ('{"attributes":{"start_ms":1}}', {"start_ms": 1}, "an attribute named start_ms"),
    (r'{"attributes":{"\u0000\ud800":1}}', {"\0\ud800": 1}, "a name no database stores"),
    ('{"attributes":{"":1}}', {"": 1}, "an attribute without a name"),
    ('{"attributes":{"org_id":"x"}}', {"org_id": "x"}, "a word for a number"),
    ('{"attributes":{"org_id":"12"}}', None, "digits for a number are held"),
    ('{"attributes":{"org_id":true}}', {"org_id": True}, "true for a number"),
    ('{"attributes":{"start":9223372036854775808}}', {"start": 2**63}, "more than int64"),
    ('{"attributes":{"org_id":NaN}}', {"org_id": {"$literal": "NaN"}}, "NaN"),
    ('{"attributes":{"org_id":1.0}}', {"org_id": 1.0}, "a float for a number"),
    ('{"attributes":{"view_id":7}}', {"view_id": 7}, "a number for a text"),
    (r'{"attributes":{"view_id":"\u0000"}}', {"view_id": "\0"}, "NUL"),
    (r'{"attributes":{"view_id":"\ud800"}}', {"view_id": "\ud800"}, "a lone surrogate"),
    ('{"attributes":{"created_at":1730126581}}', {"created_at": 1730126581}, "an epoch"),
    ('{"attributes":{"created_at":"now"}}', {"created_at": "now"}, "an unreadable timestamp"),
    ('{"links":{"$a":null},"attributes":{}}', {"$top": {"links": {"$$a": None}}}, "links"),
    ('{"links":null,"attributes":{}}', None, "unknown members that are null are missing"),
    ('{"$top":1,"attributes":{}}', {"$top": {"$$top": 1}}, "a member named $top"),
    ('{"type":"b","attributes":{}}', {"$top": {"type": "b"}}, "another type"),
    ('{"type":null,"attributes":{}}', {"$top": {"type": None}}, "no type"),
    ('{"attributes":null}', {"$top": {"attributes": None}}, "attributes are null"),
    ('{"attributes":[1]}', {"$top": {"attributes": [1]}}, "attributes are a list"),
    ('{"attributes":"a"}', {"$top": {"attributes": "a"}}, "attributes are a text"),
]


@pytest.mark.parametrize(("raw", "extra"), [pytest.param(*row[:2], id=row[2]) for row in EXTRAS])
def test_extra_holds_what_the_columns_do_not(raw, extra):
    head = '{"id":"a",' if '"type"' in raw else '{"id":"a","type":"snapshots",'
    assert extra_of(decode(raw_body(head + raw[1:])).snapshots[0]) == extra


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param(b"\xff", "\udcff", id="a byte that is never UTF-8"),
        pytest.param(b"\xed\xa0\x80", "\udced\udca0\udc80", id="an encoded surrogate"),
        pytest.param(b"\xc0\x80", "\udcc0\udc80", id="NUL in two bytes"),
    ],
)
def test_bytes_that_are_no_utf8_are_kept_in_extra(sent, kept):
    answer = body(record("a", view_id="?", start=1)).replace(b"?", sent)
    (read,) = decode(answer).snapshots
    assert (read.view_id, read.start_ms, extra_of(read)) == (None, 1, {"view_id": kept})


@pytest.mark.parametrize("missing", [{"type": "snapshots"}, {"attributes": {}}, {}], ids=repr)
def test_missing_members_are_the_same_as_null(missing):
    null = {"type": None, "attributes": None, "links": None} | missing
    assert one({"id": "a", **missing}) == one({"id": "a", **null})
    assert one({"id": "a", **missing}).extra is not None


@pytest.mark.parametrize("levels", [65, 5_000, 100_000])
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param('{"id":"a","type":"snapshots","attributes":{"x":%s}}', id="in an attribute"),
        pytest.param('{"id":"a","type":"snapshots","attributes":{"org_id":%s}}', id="in a number"),
        pytest.param('{"id":"a","type":"snapshots","attributes":{},"x":%s}', id="beside"),
        pytest.param('{"id":"a","type":"snapshots","attributes":%s}', id="as attributes"),
        pytest.param('{"id":"a","type":%s,"attributes":{}}', id="as type"),
    ],
)
def test_deep_nesting_is_kept_as_text(raw, levels):
    (read,) = decode(raw_body(raw % ("[" * levels + "]" * levels))).snapshots
    assert read.extra is not None
    strict(read.extra)
    assert read.extra.count("[") == levels
    assert strict(record_of(read))["id"] == "a"


def test_content_does_not_depend_on_the_depth_of_other_records():
    deep = '{"id":"z","x":' + "[" * 5_000 + "]" * 5_000 + "}"
    for levels in range(58, 66):
        raw = '{"id":"a","attributes":{"x":' + "[" * levels + "]" * levels + "}}"
        (alone,) = decode(raw_body(raw)).snapshots
        assert decode(raw_body(f"{raw},{deep}")).snapshots[0] == alone


# --- drift --------------------------------------------------------------------------------


def test_drift_counts_records_and_keeps_the_least_example():
    bodies = [record(str(n), color=c, org_id=o) for n, (c, o) in enumerate([(2, "1"), (1, 5)])]
    assert decode(body(*bodies, record("c"))).drift == {
        Drift("color", "unknown attribute"): (2, "1"),
        Drift("org_id", "text for integer"): (1, '"1"'),
    }


def test_drift_is_noted_beside_the_attributes():
    raw = {"id": "a", "type": "x", "attributes": [], "$a": 1, "null": None}
    assert decode(body(raw)).drift == {
        Drift("$top.$$a", "unknown member"): (1, "1"),
        Drift("$top.null", "unknown member"): (1, "null"),
        Drift("$top.type", "wrong type"): (1, '"x"'),
        Drift("$top.attributes", "wrong type"): (1, "[]"),
    }


def test_rejected_records_do_not_drift():
    assert decode(body({"id": "", "attributes": {"color": 1}})).drift == {}


# --- the content hash ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        pytest.param(record("a"), "1:872836cb6435d7f0e03f0314b1994796", id="an empty record"),
        pytest.param(
            record("a", **FULL), "1:07e714a64b1ef2a768cf62da584ac60e", id="all attributes"
        ),
        pytest.param(
            {**record("a", **FULL, color=[1, None], org="é"), "links": {"$x": "\ud800"}},
            "1:cf557efee10bd7aa75e8e3380e192950",
            id="more than the columns hold",
        ),
    ],
)
def test_content_hash_is_what_it_always_was(received, expected):
    """A new hash makes every stored row look changed: raise HASH_VERSION with it."""
    assert one(received).content_hash == expected


def test_id_is_no_content():
    assert one(record("a", **FULL)).content_hash == one(record("b", **FULL)).content_hash


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_hash_differs_when_one_attribute_differs(name):
    full = one(record("a", **FULL)).content_hash
    null, other = FULL | {name: None}, FULL | {name: OTHER_VALUES[name]}
    missing = {key: value for key, value in FULL.items() if key != name}
    odd = FULL | {name: ["odd"]}
    hashes = [one(record("a", **a)).content_hash for a in (null, other, odd)]
    assert len({full, *hashes}) == 4
    assert one(record("a", **missing)).content_hash == hashes[0]


@given(valid_attributes, valid_attributes)
def test_hashes_are_equal_exactly_when_columns_are(some, others):
    first, second = one(record("a", **some)), one(record("a", **others))
    same = msgspec.structs.astuple(first)[:-1] == msgspec.structs.astuple(second)[:-1]
    assert (first.content_hash == second.content_hash) is same


@given(rows_with_rejects_and_drift, st.randoms(use_true_random=False))
def test_hash_ignores_order_of_keys_white_space_and_null_against_missing(received, random):
    def shuffled(members: dict[str, Any]) -> dict[str, Any]:
        pairs = [(name, value) for name, value in members.items() if value is not None]
        pairs += [(name, None) for name in ATTRIBUTES if random.random() < 0.3]
        random.shuffle(pairs)
        return dict(pairs) | {name: value for name, value in pairs if value is not None}

    attributes = shuffled(received["attributes"])
    beside = {k: v for k, v in received.items() if v is not None}
    text = json.dumps(
        {"data": [{"attributes": {}, **beside} | {"attributes": attributes}]}, indent=1
    )
    assert decode(text.encode()).snapshots == decode(body(received)).snapshots


def test_spelling_that_a_column_holds_exactly_is_no_content():
    plain = one(record("a", org_id=12, created_at="2024-10-28T14:43:01Z"))
    spelled = one(record("a", org_id="12", created_at="2024-10-28t16:43:01.000+02:00"))
    assert spelled == plain


# --- properties ---------------------------------------------------------------------------


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace")))
@example(b'{"data":[{"id":"a","type":"snapshots","attributes":{"view_id":"\\ud800"}}]}')
def test_decode_raises_nothing_but_its_error(answer):
    with contextlib.suppress(DatadogResponseError):
        decode(answer)


@given(valid_bodies, st.data())
def test_decode_survives_a_damaged_body(answer, data):
    place = data.draw(st.integers(0, len(answer)))
    damage = data.draw(st.sampled_from([b"", b"\xff", b"\0", b'"', b"\\", b"[", b"}", b"e9", b"-"]))
    cut = data.draw(st.integers(0, 3))
    try:
        decoded = decode(answer[:place] + damage + answer[place + cut :])
    except DatadogResponseError:
        return
    for read in decoded.snapshots:
        assert_storable(read)


@given(st.lists(any_records, max_size=4))
def test_each_record_of_an_answer_becomes_a_row_or_a_reject(records):
    decoded = decode(body(*records))
    assert decoded.listed == len(records)
    for read in decoded.snapshots:
        assert_storable(read)
    for rejected in decoded.rejected:
        strict(rejected.raw)
        assert rejected.raw_hash == hashlib.sha256(rejected.raw.encode()).hexdigest()[:32]
    for count, shown in decoded.drift.values():
        strict(shown)
        assert 1 <= count <= len(records)


def assert_storable(read: Snapshot) -> None:
    assert 1 <= len(read.id) <= 255
    for value in msgspec.structs.astuple(read):
        if isinstance(value, str):
            assert "\0" not in value
            value.encode()
        elif isinstance(value, datetime):
            assert value.tzinfo is UTC
        elif value is not None:
            assert INT64_MIN <= value <= INT64_MAX
    assert read.extra is None or isinstance(strict(read.extra), dict)
    assert len(read.content_hash) == 34


def records_of(answer: bytes) -> bytes:
    envelope = open_envelope(answer)
    return answer[envelope.start : envelope.end]


def decoded_leniently(answer: bytes) -> Decoded:
    """Each record by the way that takes any of them."""
    decoded = Decoded()
    for raw in decoding._pieces(open_envelope(answer)):
        alone = decoding._decode_lenient(raw)
        decoded.snapshots += alone.snapshots
        decoded.rejected += alone.rejected
        decoded.add_drift(alone.drift)
    return decoded


@given(valid_bodies)
def test_typed_and_lenient_decoding_agree(answer):
    records = records_of(answer)
    assert decoding._decode_texts(decoding._texts.decode(records), records) == decode(answer)
    assert decoded_leniently(answer) == decode(answer)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(st.lists(valid_records | odd_records, max_size=3))
def test_typed_and_lenient_decoding_agree_on_what_both_accept(records):
    answer = body(*records)
    try:
        typed = decoding._texts.decode(records_of(answer))
    except (msgspec.DecodeError, UnicodeDecodeError):
        assume(False)
    if b"\\u0000" not in answer:
        assert decoded_leniently(answer) == decoding._decode_texts(typed, records_of(answer))


blanks = st.text(" \t\r\n", max_size=2)


@st.composite
def records_with_keys_twice(draw: st.DrawFn) -> tuple[str, bool, str]:
    """The text of a record, whether it gives a key twice, and its text when it gives none so."""
    received = draw(valid_records | odd_records.filter(lambda r: "id" in r))
    received["attributes"] = received.get("attributes", {})
    pairs = [(name, json.dumps(value)) for name, value in received.items() if name != "attributes"]
    inner = received["attributes"]
    members = (
        [(name, json.dumps(value)) for name, value in inner.items()]
        if isinstance(inner, dict)
        else []
    )
    clean = _written(draw, [*pairs, ("attributes", _written(draw, members))])
    more: list[str] = draw(st.lists(st.sampled_from([*ATTRIBUTES, "id", "type"]), max_size=2))
    for name in more:
        value = draw(st.sampled_from(["null", "1", '"a,b"', '"2026-01-01T00:00:00Z"', "false"]))
        into = members if name in ATTRIBUTES else pairs
        into.insert(draw(st.integers(0, len(into))), (name, value))
    is_outer = draw(st.booleans()) and draw(st.booleans())
    texts = [*pairs, ("attributes", _written(draw, members))]
    if is_outer:
        texts.insert(draw(st.integers(0, len(texts))), ("attributes", "{}"))
    is_twice = any(len({n for n, _ in some}) < len(some) for some in (members, texts))
    return _written(draw, texts), is_twice, clean


def _written(draw: st.DrawFn, pairs: list[tuple[str, str]]) -> str:
    def key(name: str) -> str:
        is_escaped = name.isalpha() and name.isascii() and draw(st.booleans())
        return f'"\\u{ord(name[0]):04x}{name[1:]}"' if is_escaped else json.dumps(name)

    items = [f"{draw(blanks)}{key(n)}{draw(blanks)}:{draw(blanks)}{value}" for n, value in pairs]
    return "{" + ",".join(items) + draw(blanks) + "}"


@given(st.lists(records_with_keys_twice(), min_size=1, max_size=4))
def test_a_key_twice_never_hides_and_touches_no_other_record(drawn):
    """However it is spelled, blanks and commas included, and whatever is missing elsewhere."""
    decoded = decode(raw_body(",".join(text for text, _, _ in drawn)))
    assert decoded == decoded_leniently(raw_body(",".join(text for text, _, _ in drawn)))
    twice = [text for text, is_twice, _ in drawn if is_twice]
    rejected = [r for r in decoded.rejected if r.reason == "a key is given twice"]
    assert [strict(r.raw)["$literal"] for r in rejected] == [
        text.strip(" \t\r\n") for text in twice
    ]
    assert decoded.listed == len(drawn)


@given(st.lists(valid_records, min_size=2, max_size=4), st.data())
def test_a_key_too_many_is_not_made_up_for_by_one_that_is_missing(records, data):
    name = data.draw(st.sampled_from(["org_id", "view_name", "created_at", "start"]))
    texts = [
        json.dumps({"attributes": {"?": None, **one["attributes"]}, "id": "a", "type": "snapshots"})
        for one in records
    ]
    texts = [text.replace("?", name, 1) for text in texts]
    given = sum(name in one["attributes"] for one in records)
    decoded = decode(raw_body(",".join(texts)))
    assert len(decoded.rejected) == given
    assert len(decoded.snapshots) == len(records) - given


@given(timestamps, timestamps)
@example("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00")
@example("0001-01-01T00:00:00+05:00", "2026-01-01 00:00:00.1z")
def test_instants_read_by_the_decoder_are_those_read_from_their_texts(created, modified):
    attributes = {"created_at": created, "modified_at": modified}
    answer = body({"id": "1", "type": "snapshots", "attributes": attributes})
    assert decode(answer) == decoded_leniently(answer)


@given(st.lists(valid_records, min_size=1, max_size=3), words)
def test_a_record_reads_the_same_beside_one_that_forces_the_lenient_way(records, word):
    typed, lenient = decode(body(*records)), decode(body(*records, {"x": word}))
    assert lenient.snapshots == typed.snapshots


def plain(item: Any) -> Any:
    """Canonical JSON without wrappers and escapes: what was received, numbers as spelled."""
    if isinstance(item, dict) and item.keys() == {"$literal"}:
        return constant(item["$literal"])
    if isinstance(item, dict):
        return {name.removeprefix("$"): plain(value) for name, value in item.items()}
    return [plain(value) for value in item] if isinstance(item, list) else item


def number(spelled: str) -> tuple[str, str]:
    return ("number", spelled)


def constant(spelled: str) -> tuple[str, str]:
    return ("constant", spelled)


def without_null(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def says_the_same(name: str, before: Any, after: Any) -> bool:
    """Whether `after` is another spelling that the column of `name` holds exactly."""
    if name in INSTANTS and isinstance(before, str) and isinstance(after, str):
        one, other = (datetime.fromisoformat(text.upper()) for text in (before, after))
        return one - other == timedelta(0)
    if name in INTEGERS and isinstance(before, str | tuple) and after[0] == "number":
        return int(before if isinstance(before, str) else before[1]) == int(after[1])
    return False


@given(valid_records | rows_with_rejects_and_drift)
def test_row_and_extra_give_back_the_record(received):
    expected = without_null(
        json.loads(
            json.dumps(received), parse_int=number, parse_float=number, parse_constant=constant
        )
    )
    text = record_of(one(received))
    given_back = without_null(plain(json.loads(text, parse_int=number, parse_float=number)))
    old, new = (without_null(record.pop("attributes")) for record in (expected, given_back))
    assert given_back == expected
    assert old.keys() == new.keys()
    differing = [name for name in old if old[name] != new[name]]
    assert all(says_the_same(name, old[name], new[name]) for name in differing)
