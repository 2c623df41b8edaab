"""Which of its three ways the decoder takes. All give the same rows: a wrong one only costs."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from etl.errors import DatadogAnswerTooLarge, DatadogResponseError
from etl.transform import decode as decoding
from etl.transform.decode import decode
from etl.transform.envelope import Envelope
from etl.transform.fields import READERS
from tests.support.strategies import body, record

WAYS = ("_decode_exact", "_decode_texts", "_decode_one_by_one", "_decode_lenient")
EXACT, TEXTS, ONE_BY_ONE, LENIENT = WAYS
AT = "2026-01-01T00:00:00"


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those that were taken, in order."""
    taken: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        real = getattr(decoding, name)

        def noted(*given: Any) -> Any:
            taken.append(name)
            return real(*given)

        return noted

    for name in WAYS:
        monkeypatch.setattr(decoding, name, noting(name))
    return taken


def said(attributes: str) -> bytes:
    return b'{"data":[{"id":"a","type":"snapshots","attributes":{%b}}]}' % attributes.encode()


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('"view_name":"/home"', [EXACT]),
        (f'"created_at":"{AT}Z"', [EXACT]),
        (f'"created_at":"{AT}.123456Z"', [EXACT]),
        ('"view_name":"a \\" b"', [EXACT]),
        ('"view_name":"\\u00e9"', [EXACT]),
        ('"view_name":"\\u0041"', [EXACT]),
        ('"view_name":"\\u0009"', [EXACT]),
        ('"view_name":"\\u0031"', [TEXTS]),
        (f'"created_at":"{AT}.1234567Z"', [TEXTS]),
        ('"view_name":"1.1234567"', [TEXTS]),
        (f'"created_at":"{AT}"', [EXACT, TEXTS]),
        ('"created_at":"0001-01-01T00:00:00+14:00"', [EXACT, TEXTS]),
        ('"created_at":"soon"', [TEXTS]),
        ('"view_name":"\\u0000"', [ONE_BY_ONE, LENIENT]),
        ('"color":"red"', [ONE_BY_ONE, LENIENT]),
        (f'"created_at":"{AT}+01:00","modified_at":"{AT}-01:00"', [EXACT]),
        ('"view_name":"a,b","view_id":",,"', [EXACT]),
        ('"view_name":"\\u002c"', [EXACT]),
        ('"view_name":"\\u002C,"', [EXACT, TEXTS, ONE_BY_ONE, EXACT, TEXTS, LENIENT]),
        ('"view_name":"a","view_name":"b"', [EXACT, TEXTS, ONE_BY_ONE, EXACT, TEXTS, LENIENT]),
        (f'"created_at":"{AT}","view_name":"a,b"', [EXACT, TEXTS]),
        (f'"created_at":"{AT}","modified_at":null', [EXACT, TEXTS]),
    ],
)
def test_the_quickest_way_that_is_exact_is_taken(
    attributes: str, expected: list[str], ways: list[str]
) -> None:
    assert decode(said(attributes)).listed == 1
    assert ways == expected


@pytest.mark.parametrize("at", [f"{AT}Z", AT])
def test_keys_are_counted_whatever_is_missing(at: str, ways: list[str]) -> None:
    full: dict[str, Any] = dict.fromkeys(READERS) | {"created_at": at, "view_name": "a, b"}
    some: dict[str, Any] = {"view_id": ",", "modified_at": at}
    answers: list[list[dict[str, Any]]] = [
        [{}],
        [full],
        [full, full],
        [full, some, {}, some, full],
        [some, {}, full],
    ]
    for attributes in answers:
        ways.clear()
        assert decode(body(*[record("a,b", **a) for a in attributes])).listed == len(attributes)
        is_exact = at.endswith("Z") or attributes == [{}]
        assert ways == ([EXACT] if is_exact else [EXACT, TEXTS])


def sized(size: int, extra: str = "") -> Envelope:
    """One record, in so many bytes."""
    text = b'[{"id":"a","type":"snapshots","attributes":{%b}}' % extra.encode()
    padded = text + b" " * (size - len(text) - 1) + b"]"
    return Envelope(b"x" * 40 + padded, 40, 40 + size)


@pytest.mark.parametrize(
    ("size", "attributes", "is_quick"),
    [
        (400, "", True),
        (401, "", False),
        (100, '"view_name":"ä"', True),
        (101, '"view_name":"ä"', False),
        (101, '"view_name":"\\u00e9"', False),
        (101, '"view_name":"a"', True),
    ],
)
def test_what_is_too_large_to_be_read_at_once(
    size: int, attributes: str, is_quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_AT_ONCE", 100)
    assert (decoding._decode_quickly(sized(size, attributes)) is not None) is is_quick


def test_many_objects_are_not_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than twice as many as records are allowed, and as long as so many records."""
    shortest = len('{"id":"1","type":"snapshots","attributes":{}}')
    monkeypatch.setattr(decoding, "MAX_RECORDS", 3)
    fits = decoding._fit_in_memory
    assert fits(b"{" * 7 + b" " * (3 * shortest - 8)) is True
    assert fits(b"{" * 7 + b" " * (3 * shortest - 7)) is False
    assert fits(b"{" * 6 + b" " * (3 * shortest - 6)) is True
    monkeypatch.setattr(decoding, "MAX_AT_ONCE", 10)
    assert fits("ä".encode() * 6) is False


def test_an_odd_record_is_the_only_one_that_is_read_leniently_before_others_like_it(
    ways: list[str],
) -> None:
    """What is odd in one record is so in the next: then the typed decoder is not tried."""
    plain, odd = record("a", view_name="x"), record("b", color=1)
    assert decode(body(plain, plain, odd, odd, plain)).listed == 5
    assert ways == [ONE_BY_ONE, EXACT, EXACT, LENIENT, LENIENT, LENIENT]


def test_a_record_that_is_only_spelt_oddly_makes_no_other_one_odd(ways: list[str]) -> None:
    text = '{"id":"a","type":"snapshots","attributes":{"created_by_user_id":"5%s"}}'
    decode(f'{{"data":[{text % ""},{json.dumps(record("b"))}]}}'.encode())
    assert ways[-2:] == [LENIENT, LENIENT]
    ways.clear()
    twice = '{"id":"a","id":"a","type":"snapshots","attributes":{}}'
    decode(f'{{"data":[{twice},{json.dumps(record("b"))}]}}'.encode())
    assert ways[-2:] == [LENIENT, LENIENT]


@pytest.mark.parametrize(
    ("objects", "commas", "may"), [(6, 0, False), (7, 0, True), (0, 51, False), (0, 52, True)]
)
def test_records_are_counted_first_where_they_may_be_too_many(
    objects: int, commas: int, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_RECORDS", 3)
    text = b"{" * objects + b"," * commas
    assert decoding._may_be_too_many(Envelope(b"{," + text + b"{,", 2, 2 + len(text))) is may


def test_too_many_records_are_refused_before_one_is_read(
    ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_RECORDS", 5)
    odd = record("a", color={"x": {}})
    assert decode(body(*[odd] * 5)).listed == 5  # many objects, but not too many records
    ways.clear()
    with pytest.raises(DatadogAnswerTooLarge, match="more than 5 records"):
        decode(body(*[odd] * 6))
    assert ways == [ONE_BY_ONE]


@pytest.mark.parametrize(
    ("data", "is_at_once"),
    [
        (b"[1,2,3]", True),
        (b"[1,2,3,4]", False),
        (b"[1" + b" " * 17 + b"]", True),
        (b"[1" + b" " * 18 + b"]", False),
        (b"[NaN]", False),
    ],
)
def test_records_are_cut_at_once_where_they_are_few(
    data: bytes, is_at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_AT_ONCE", 20)
    monkeypatch.setattr(decoding, "MAX_RECORDS", 3)
    cut = decoding._records(Envelope(b",,,,x" + data + b",,,,", 5, 5 + len(data)))
    assert isinstance(cut, map) is is_at_once
    assert [*map(bytes.strip, cut)] == data.strip(b"[]").replace(b" ", b"").split(b",")


def test_few_records_are_not_counted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(_: Envelope) -> None:
        raise AssertionError

    monkeypatch.setattr(decoding, "_pieces", counted)
    assert decode(body(record("a", color=1))).listed == 1


ROOM_FOR = 1000  # bytes of a row


@pytest.mark.parametrize(
    ("name", "times"),
    [("a" * 100, 1), ("ä" * 50, 4), ("\\u00e9" * 20, 4)],
    ids=["plain", "wide", "escaped"],
)
def test_what_records_take_is_counted_by_how_they_are_read(
    name: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is as specified, and an odd one, which is read leniently."""
    texts = [
        f'{{"id":"{n}","type":"snapshots","attributes":{{"view_name":"{name}"{odd}}}}}'.encode()
        for n, odd in enumerate(("", ',"color":true'))
    ]
    answer = b'{"data":[%b]}' % b",".join(texts)
    needed = 2 * ROOM_FOR + len(texts[0]) * times + len(texts[1]) * 4
    monkeypatch.setattr(decoding, "MAX_MEMORY", needed)
    assert decode(answer).listed == 2
    monkeypatch.setattr(decoding, "MAX_MEMORY", needed - 1)
    with pytest.raises(DatadogAnswerTooLarge, match="of memory"):
        decode(answer)


def test_a_record_may_be_so_long_and_hold_so_many_values_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = said('"color":[[],{},1]')
    size = len(answer) - len('{"data":[]}')
    monkeypatch.setattr(decoding, "MAX_RECORD", size)
    monkeypatch.setattr(decoding, "MAX_VALUES", 4 + 5)  # four commas, two lists, three objects
    assert decode(answer).listed == 1
    monkeypatch.setattr(decoding, "MAX_VALUES", 8)
    with pytest.raises(DatadogAnswerTooLarge, match="more than 8 values"):
        decode(answer)
    monkeypatch.setattr(decoding, "MAX_RECORD", size - 1)
    with pytest.raises(DatadogAnswerTooLarge, match="a record takes more"):
        decode(answer)


def test_a_list_of_applications_is_no_list_of_snapshots() -> None:
    application = {"id": "a", "type": "rum_application", "attributes": {}}
    with pytest.raises(DatadogResponseError, match="lists applications"):
        decode(body(application, application))
    assert decode(body(application, record("b"))).listed == 2
    assert decode(body({**application, "type": "other"})).listed == 1
    assert decode(body()).listed == 0


def test_the_bounds() -> None:
    """They are part of the promise of how much memory a run takes."""
    assert decoding.MAX_RECORDS == 100_000
    assert decoding.MAX_AT_ONCE == 2**24
    assert decoding.MAX_RECORD == 2**25
    assert decoding.MAX_VALUES == 2**20
    assert decoding.MAX_MEMORY == 3 * 2**27


@pytest.mark.parametrize("odd", [{}, {"color": True}])
def test_an_id_may_be_so_long_whatever_way_is_taken(odd: dict[str, Any]) -> None:
    assert len(decode(body(record("x" * 255, **odd))).snapshots) == 1
    assert len(decode(body(record("x" * 256, **odd))).rejected) == 1
