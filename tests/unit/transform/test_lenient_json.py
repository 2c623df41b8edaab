"""transform.lenient_json: any JSON text -> values that keep their spelling -> ASCII JSON again."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.transform import lenient_json as jsontext
from etl.transform.lenient_json import MAX_DEPTH, Constant, KeyTwice, NotJson, Number
from tests.support.strategies import odd_words, values


def canonical(text: str | bytes) -> str:
    body = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return jsontext.canonical(jsontext.parse(body))


def strict(text: str) -> Any:
    """What a database reads: ASCII, no NaN, numbers as they are spelled."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert text.isascii()
    return json.loads(text, parse_constant=refuse, parse_int=number, parse_float=number)


def number(spelled: str) -> tuple[str, str]:
    return ("number", spelled)


def constant(spelled: str) -> tuple[str, str]:
    return ("constant", spelled)


def nested(depth: int, inner: str = "") -> str:
    """A text that is `depth` containers deep, lists and objects in turn."""
    opened = "".join('{"k":' if level % 2 else "[" for level in range(depth))
    closed = "".join("}" if level % 2 else "]" for level in reversed(range(depth)))
    if not inner and depth % 2 == 0:
        return opened[: -len('{"k":')] + "{}" + closed[1:]
    return opened + inner + closed


CANONICAL = [
    pytest.param('{"b":1,"a":2}', '{"a":2,"b":1}', id="keys are sorted"),
    pytest.param(' [ 1 ,\n{ "a" : 2 } ] ', '[1,{"a":2}]', id="white space goes"),
    pytest.param('{"a":{"d":1,"c":2}}', '{"a":{"c":2,"d":1}}', id="inner keys are sorted"),
    pytest.param("1e400", "1e400", id="a number no float can hold stays"),
    pytest.param("1.0", "1.0", id="1.0 stays 1.0"),
    pytest.param("-0", "-0", id="minus zero stays"),
    pytest.param("0.1E+2", "0.1E+2", id="an exponent keeps its spelling"),
    pytest.param("1" * 10_000, "1" * 10_000, id="ten thousand digits stay"),
    pytest.param("NaN", '{"$literal":"NaN"}', id="NaN is wrapped"),
    pytest.param("-Infinity", '{"$literal":"-Infinity"}', id="-Infinity is wrapped"),
    pytest.param('"NaN"', '"NaN"', id="the text NaN is no constant"),
    pytest.param('"12"', '"12"', id="digits in a text are no number"),
    pytest.param('{"$literal":"NaN"}', '{"$$literal":"NaN"}', id="a received wrapper is escaped"),
    pytest.param('{"$$a":1}', '{"$$$a":1}', id="an escaped key gets one more dollar"),
    pytest.param('{"$":1}', '{"$$":1}', id="a lone dollar is escaped"),
    pytest.param('{"a$":1}', '{"a$":1}', id="a dollar inside is not"),
    pytest.param(r'"\ud800"', r'"\ud800"', id="a lone surrogate stays an escape"),
    pytest.param('"\\ud83d\\ude00"', r'"\ud83d\ude00"', id="a pair is one character"),
    pytest.param('"😀"', r'"\ud83d\ude00"', id="and is written as its escape"),
    pytest.param(b'"\xff"', r'"\udcff"', id="a byte that is no UTF-8 becomes a surrogate"),
    pytest.param(b'"\xed\xa0\x80"', r'"\udced\udca0\udc80"', id="so do bytes of a surrogate"),
    pytest.param(r'"\u0000"', r'"\u0000"', id="NUL stays an escape"),
    pytest.param('"\0"', r'"\u0000"', id="a raw NUL becomes an escape"),
    pytest.param('"a\nb"', r'"a\nb"', id="a raw line break becomes an escape"),
    pytest.param("\ufeff1", "1", id="a byte order mark is skipped"),
    pytest.param("true", "true", id="true"),
    pytest.param("null", "null", id="null"),
    pytest.param(r'"\udfffdeep:NaN"', r'"\udfffdeep:NaN"', id="no text passes for a cut-out"),
]


@pytest.mark.parametrize(("text", "expected"), CANONICAL)
def test_canonical_form(text, expected):
    assert canonical(text) == expected
    strict(expected)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="HTML"),
        pytest.param(b'{"a":1', id="cut in the middle"),
        pytest.param(b"[1,]", id="a comma too many"),
        pytest.param(b"1 2", id="two values"),
        pytest.param("\ufeff\ufeff1".encode(), id="two byte order marks"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b"nan", id="nan in lower case"),
        pytest.param(b"01", id="a leading zero"),
        pytest.param(rb'"\x41"', id="an escape that is none"),
        pytest.param(b"[" * 100_000, id="lists never closed"),
        pytest.param(b'{"a":' * 100_000, id="objects never closed"),
        pytest.param(b"[" * 5_000 + b"1" + b"]" * 4_000, id="some of them closed"),
        pytest.param(b"]" * 5_000 + b"[" * 5_000, id="closed before they are opened"),
        pytest.param(b"[" * 5_000 + b'"' + b'\\"' * 5_000, id="deep, then a text never closed"),
        pytest.param(b"[" * 5_000 + b"]" * 5_000 + b"1", id="deep, and something after the end"),
    ],
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(NotJson):
        jsontext.parse(text)


@pytest.mark.parametrize("text", [b'{"a":1,"a":2}', b'[{"b":{"a":1,"\\u0061":1}}]'])
def test_a_key_twice_is_refused_and_told_apart_from_what_is_no_json(text):
    with pytest.raises(KeyTwice):
        jsontext.parse(text)
    with pytest.raises(NotJson) as refused:
        jsontext.parse(text + b"]")
    assert not isinstance(refused.value, KeyTwice)


def test_a_text_never_closed_costs_no_more_than_its_length():
    started = time.process_time()
    with pytest.raises(NotJson):
        jsontext.parse(b"[" * 5_000 + b'"' + b'\\"' * 40_000)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param(b"12", Number, id="an integer is a Number"),
        pytest.param(b"1.5", Number, id="a float is a Number"),
        pytest.param(b"NaN", Constant, id="NaN is a Constant"),
        pytest.param(b'"12"', str, id="a text is a str"),
        pytest.param(b"true", bool, id="true is a bool"),
    ],
)
def test_values_keep_what_they_were(text, kind):
    assert type(jsontext.parse(text)) is kind


# --- depth --------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["", "1"], ids=["with nothing inside", "with a number inside"])
@pytest.mark.parametrize("depth", [1, 2, MAX_DEPTH - 1, MAX_DEPTH])
def test_what_is_not_too_deep_stays_as_it_is(depth, inner):
    text = nested(depth, inner)
    assert canonical(text) == text


@pytest.mark.parametrize("inner", ["", "1"], ids=["with nothing inside", "with a number inside"])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, MAX_DEPTH + 2, 999, 5_000, 100_000])
def test_what_is_deeper_becomes_its_text(depth, inner):
    value = strict(canonical(nested(depth, inner)))
    for level in range(MAX_DEPTH):
        value = value["k"] if level % 2 else value[0]
    (name, literal), *more = value.items()
    assert (name, more) == ("$literal", [])
    assert nested(depth, inner) == nested(MAX_DEPTH, literal)


def test_what_stands_beside_something_deep_is_read_as_if_it_stood_alone():
    deep = "[" * 5_000 + "]" * 5_000
    edge = nested(MAX_DEPTH)
    for text in (edge, '"[[{{"', r'"\"]"', r'"\\"', '{"$a":1e400}', r'"\udfffdeep:"'):
        alone, beside = strict(canonical(f"[{text}]")), strict(canonical(f"[{text},{deep}]"))
        assert beside[0] == alone[0]


def test_brackets_in_texts_are_no_depth():
    text = "[" + ",".join(['"[[{"'] * 500) + "]"
    assert canonical(text) == text


def test_two_cut_outs_keep_their_places():
    texts = [f"[{'[' * 5_000}{number}{']' * 5_000}]" for number in (1, 2)]
    first, second = strict(canonical(f"[{','.join(texts)}]"))
    assert canonical(f"[{texts[0]}]") == f"[{json.dumps(first, separators=(',', ':'))}]"
    assert first != second


# --- properties ---------------------------------------------------------------------------

alphabet = st.sampled_from(
    [*'[]{}",:\\1 ', "\\u", "d800", "NaN", "-", "1e9", "\ufeff", "$", "\0", "null", "[" * 70]
)
broken_texts = st.lists(alphabet, max_size=12).map("".join)


@given(st.binary(max_size=40) | broken_texts.map(str.encode))
def test_parse_raises_nothing_but_not_json(text):
    try:
        value = jsontext.parse(text)
    except NotJson:
        return
    strict(jsontext.canonical(value))


@given(values)
def test_canonical_is_strict_ascii_json(value):
    strict(canonical(json.dumps(value)))


@given(values)
def test_canonical_text_says_what_was_received(value):
    """Keys without their escape, wrappers without theirs: the oracle is another way back."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict) and item.keys() == {"$literal"}:
            return constant(item["$literal"])
        if isinstance(item, dict):
            return {k.removeprefix("$"): plain(v) for k, v in item.items()}
        return [plain(inner) for inner in item] if isinstance(item, list) else item

    received = json.loads(
        json.dumps(value), parse_int=number, parse_float=number, parse_constant=constant
    )
    assert plain(strict(canonical(json.dumps(value)))) == received


@given(values, st.randoms(use_true_random=False))
def test_order_of_keys_and_white_space_do_not_matter(value, random):
    def shuffled(item: Any) -> Any:
        if isinstance(item, dict):
            pairs = [(name, shuffled(inner)) for name, inner in item.items()]
            random.shuffle(pairs)
            return dict(pairs)
        return [shuffled(inner) for inner in item] if isinstance(item, list) else item

    text = json.dumps(shuffled(value), indent=2, ensure_ascii=True)
    assert canonical(text) == canonical(json.dumps(value))


@given(values, values)
def test_different_values_have_different_texts(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical(json.dumps(one)) == canonical(json.dumps(other))) is same


@given(st.dictionaries(odd_words, values, max_size=4))
def test_split_is_what_join_was_given(members):
    texts = {jsontext.escape(k): canonical(json.dumps(v)) for k, v in members.items()}
    assert jsontext.split(jsontext.join(texts)) == texts


@given(odd_words, odd_words)
def test_escaped_keys_stay_apart_and_never_look_like_ours(one, other):
    assert (jsontext.escape(one) == jsontext.escape(other)) is (one == other)
    assert jsontext.escape(one) not in {"$top", "$literal"}


@pytest.mark.parametrize("text", ["1", nested(MAX_DEPTH), nested(MAX_DEPTH, "1")])
def test_what_is_not_too_deep_is_read_once(text, monkeypatch):
    def read_again(*_):
        raise AssertionError

    monkeypatch.setattr(jsontext, "_loads_deep", read_again)
    assert canonical(text) == text


def test_a_raw_line_break_is_read_however_deep_it_is_and_beside_a_key_twice():
    assert r"a\nb" in canonical(nested(MAX_DEPTH + 6, '"a\nb"')).replace("\\\\", "\\")
    with pytest.raises(KeyTwice):
        jsontext.parse(b'{"a":1,"a":"x\ny"}')
