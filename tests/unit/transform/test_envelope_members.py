"""What one member beside the records says, function by function."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from etl.errors import DatadogAnswerTooLarge, DatadogResponseError
from etl.transform import envelope
from etl.transform.envelope import Envelope, open_envelope
from etl.transform.lenient_json import Constant, NotJson, Number, Value, parse


def repr_of(value: object) -> str:
    return f"{type(value).__name__} {value}"


ONE = b'{"id":"a","type":"snapshots","attributes":{}}'


@pytest.mark.parametrize(
    ("value", "is_nothing"),
    [
        (None, True),
        (False, True),
        ("", True),
        ("false", True),
        ("No", True),
        ("0", True),
        (Number("0"), True),
        (Number("0.0"), True),
        (Number("-0"), True),
        ({}, True),
        ([], True),
        ({"a": None, "b": []}, True),
        ([None, {"a": ""}], True),
        (True, False),
        ("x", False),
        (Number("1"), False),
        (Number("0.5"), False),
        ({"a": None, "b": "x"}, False),
        ([None, "x"], False),
        (Constant("NaN"), False),
    ],
    ids=repr_of,
)
def test_a_value_says_nothing(value: Value, is_nothing: bool) -> None:
    assert envelope._says_nothing(value) is is_nothing


@pytest.mark.parametrize(
    ("value", "is_false"),
    [
        (False, True),
        ("False", True),
        ("no", True),
        (Number("0"), True),
        (True, False),
        (None, False),
        ("", False),
        ("yes", False),
        ([], False),
    ],
    ids=repr_of,
)
def test_a_value_is_false(value: Value, is_false: bool) -> None:
    assert envelope._is_false(value) is is_false


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (Number("12"), 12.0),
        ("1,200", 1200.0),
        ("x", 0.0),
        (Constant("Infinity"), 0.0),
        (None, 0.0),
        (True, 0.0),
        ([Number("1")], 0.0),
    ],
    ids=repr_of,
)
def test_a_value_is_a_number(value: Value, number: float) -> None:
    assert envelope._number(value) == number


@pytest.mark.parametrize(
    ("value", "largest"),
    [
        (Number("12"), 12.0),
        ("3", 3.0),
        ([Number("1"), Number("9"), Number("2")], 9.0),
        ({"a": Number("1"), "b": {"c": [Number("7")]}}, 7.0),
        ([], 0.0),
        ({}, 0.0),
        (None, 0.0),
    ],
    ids=repr_of,
)
def test_the_largest_number_in_a_value(value: Value, largest: float) -> None:
    assert envelope._largest(value) == largest


def test_words_names_and_what_is_shown() -> None:
    assert envelope._word(" Done ") == "done"
    assert envelope._word(None) == ""
    assert envelope._plain("@odata.Next-Link_") == "nextlink"
    assert envelope._shown("a\nb" + "c" * 50) == "a?b" + "c" * 37
    assert envelope._value("a\n") == "a?"
    assert envelope._value(True) == "true"


MORE: list[tuple[dict[str, Any], str]] = [
    ({"complete": "no"}, "complete: no"),
    ({"complete": None}, ""),
    ({"complete": True}, ""),
    ({"complete": 5}, ""),
    ({"status": False}, "status: false"),
    ({"status": None}, ""),
    ({"status": True}, ""),
    ({"status": {"x": "y"}}, ""),
    ({"status": "200"}, ""),
    ({"status": "running"}, "status: running"),
    ({"total": 2}, ""),
    ({"total": 3}, "total 3"),
    ({"total_x": 3}, ""),
    ({"total_pages": 1}, ""),
    ({"total_pages": 2}, "total_pages 2"),
    ({"pages": 2}, ""),
    ({"warnings": "x"}, "warnings"),
    ({"warnings": 0}, ""),
    ({"timeout": True}, "timeout"),
    ({"timeout": "true"}, ""),
    ({"timed_out": "x"}, "timed_out"),
    ({"next": "x"}, "next"),
    ({"x_cursor_y": "x"}, "x_cursor_y"),
    ({"prev_cursor": "x"}, ""),
    ({"before_next_page": "x"}, ""),
    ({"nextish": "x"}, ""),
    ({"color": "red"}, ""),
    ({"x": {"next": "x"}}, ""),
    ({"xmeta": {"y": [{"next": "x"}]}}, "xmeta.y.next"),
    ({"links": [{"rel": "x NEXT"}]}, "links.next"),
    ({"links": [{"rel": "nextish"}]}, ""),
    ({"links": [{"rel": ["next"]}]}, ""),
    ({"links": ["next"]}, ""),
    ({"color": "red", "more": True}, "more"),
]


def strict(value: Any) -> Value:
    if isinstance(value, dict):
        return {key: strict(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [strict(inner) for inner in value]
    return Number(value) if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.mark.parametrize(("members", "named"), MORE, ids=json.dumps)
def test_a_member_says_that_there_is_more_than_two(members: dict[str, Any], named: str) -> None:
    beside = {name: strict(value) for name, value in members.items()}
    assert Envelope(b"", 0, 0, beside).partial(2) == named


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"error": "x"}, "the answer holds error beside its data"),
    ({"meta": {"Error-Code": 7}}, "the answer holds meta.Error-Code beside its data"),
    ({"error": None}, ""),
    ({"status": "ERROR "}, "the answer says status: ERROR "),
    ({"status": 400}, "the answer says status: 400"),
    ({"status": "500"}, "the answer says status: 500"),
    ({"status": 399}, ""),
    ({"status": "fine"}, ""),
    ({"status": None}, ""),
    ({"state": "error"}, ""),
    ({"ok": False}, "the answer says ok: false"),
    ({"ok": "no"}, "the answer says ok: no"),
    ({"ok": True}, ""),
    ({"ok": None}, ""),
    ({"okay": False}, ""),
    ({"color": 1, "success": False}, "the answer says success: false"),
]


@pytest.mark.parametrize(("members", "failure"), WRONG, ids=json.dumps)
def test_a_member_says_that_something_went_wrong(members: dict[str, Any], failure: str) -> None:
    assert envelope._failure({name: strict(value) for name, value in members.items()}) == failure


def test_what_says_nothing_of_its_kind_gives_no_text() -> None:
    assert envelope._wrong("color", "color", "red") == ""
    assert envelope._more("total", "total", None, 2) == ""
    assert envelope._more("color", "color", "red", 2) == ""


# --- where the records are ----------------------------------------------------------------


def records(text: bytes) -> bytes:
    found = open_envelope(text)
    return found.body[found.start : found.end]


@pytest.mark.parametrize(
    ("text", "beside"),
    [
        (b'{"data":[%b]}', 0),
        (b' \n{ "data" : [%b] } \n', 0),
        (b'{"data":[%b]' + b" " * 100 + b"}", 0),
        (b'{"data":[%b],"x":1}', 1),
        (b'{"x":1,"data":[%b]}', 1),
        (b'{"x":[],"data":[%b],"y":[1]}', 2),
        (b'{"x":{"data":[7]},"data":[%b]}', 1),
        (b'{"x":"\\"data\\":[","data":[%b]}', 1),
        (b'{"x":NaN,"data":[%b]}', 1),
        (b'{"data":[%b],"x":NaN}', 1),
        (b'{"data" : [%b],"x":NaN,"y":[[]]}', 2),
        (b'{"x":NaN,"y":{"data":[7]},"data":[%b]}', 2),
        (b'{"x":NaN,"\\u0064ata":[%b]}', 1),
        (b'{"x":NaN,"y":[["data"]],"data":[%b],"z":[8]}', 3),
        (b'{"' + b"x" * 60 + b'":NaN,"data":[%b]}', 1),
    ],
)
def test_where_the_records_are(text: bytes, beside: int) -> None:
    for data in (b"", ONE, ONE + b"," + ONE):
        assert records(text.replace(b"%b", data)) == b"[" + data + b"]"
    assert len(open_envelope(text.replace(b"%b", ONE)).beside) == beside


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        (b'{"data":[%b]' + b" " * 61 + b"}", []),
        (b'{"data":[%b]' + b" " * 62 + b"}", ["_quick_bounds"]),
        (b'{"data":[%b]}x', ["_quick_bounds", "_exact_bounds"]),
        (b'{"data":[%b],"x":1}', ["_quick_bounds"]),
        (b'{"x":[],"data":[%b]}', ["_quick_bounds"]),
        (b'{"x":{"data":[7]},"data":[%b]}', ["_quick_bounds", "_exact_bounds"]),
        (b'{"x":NaN,"data":[%b]}', ["_quick_bounds", "_exact_bounds"]),
    ],
)
def test_the_quickest_way_that_is_certain_is_taken(
    text: bytes, ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def noting(name: str) -> Callable[[bytes], Any]:
        real = getattr(envelope, name)

        def noted(body: bytes) -> Any:
            taken.append(name)
            return real(body)

        return noted

    for name in ("_quick_bounds", "_exact_bounds"):
        monkeypatch.setattr(envelope, name, noting(name))
    try:
        open_envelope(text.replace(b"%b", ONE))
    except DatadogResponseError:
        assert text.endswith(b"x")
    assert taken == ways


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is not JSON"),
        (b"[]", 'is not {"data": [...]}'),
        (b'{"data":{}}', 'is not {"data": [...]}'),
        (b'{"data":{"data":[]}}', 'is not {"data": [...]}'),
        (b'{"data":[]', "is not"),
        (b'{"x":NaN,"data":{}}', 'is not {"data": [...]}'),
        (b'{"x":NaN,"data" "y":[]}', "is not JSON"),
        (b'{"x":NaN,"error":"boom"}', "holds error"),
        (b'{"error":"boom"}', "holds error"),
        (b'{"data":[],"data":[]}', "a key twice"),
        (b'{"data":[],"x":1,"x":2}', "a key twice"),
        (b'{"data":[],"x":1} x', "is not JSON"),
        (b'{"data":[],"error":"boom"}', "holds error"),
    ],
)
def test_what_is_no_answer_says_why(text: bytes, said: str) -> None:
    with pytest.raises(DatadogResponseError, match="the answer") as caught:
        open_envelope(text)
    assert said in str(caught.value)


def test_no_more_is_read_than_there_is_time_and_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b'{"x":NaN,"data":[[],[]]}'
    tokens = 8  # before the bracket that closes the list
    monkeypatch.setattr(envelope, "MAX_TOKENS", tokens)
    assert records(text) == b"[[],[]]"
    monkeypatch.setattr(envelope, "MAX_TOKENS", tokens - 1)
    with pytest.raises(DatadogAnswerTooLarge, match="more than 7 texts and brackets"):
        records(text)
    beside = b'{"x":1,"data":[]}'
    monkeypatch.setattr(envelope, "MAX_BESIDE", len(beside) - 2)
    assert records(beside) == b"[]"
    monkeypatch.setattr(envelope, "MAX_BESIDE", len(beside) - 3)
    with pytest.raises(DatadogAnswerTooLarge, match="bytes beside the records: at most"):
        records(beside)
    assert (
        envelope._why_no_list(b'{"error":1}' + b" " * 3) == "the answer holds error beside its data"
    )
    assert envelope._why_no_list(b'{"error":1}' + b" " * 4) == 'the answer is not {"data": [...]}'


@pytest.mark.parametrize(
    ("key", "names"),
    [(b'"data"', True), (b'"\\u0064ata"', True), (b'"Data"', False), (b"", False)],
)
def test_a_key_names_the_records(key: bytes, names: bool) -> None:
    assert envelope._names_data(key) is names
    assert envelope._names_data(b'"\\x41"') is False


def test_a_list_that_does_not_follow_its_name_is_a_fault_of_the_text() -> None:
    text = b'{"x":NaN,"data":5 [1]}'
    with pytest.raises(NotJson) as fault:
        parse(text)
    with pytest.raises(DatadogResponseError, match="the answer is not JSON") as caught:
        open_envelope(text)
    assert str(fault.value) in str(caught.value)


def test_the_bounds() -> None:
    assert (envelope.MAX_BESIDE, envelope.MAX_TOKENS) == (2**20, 2**24)
