"""JSON text that a strict decoder refuses -> values that keep their spelling -> JSON text again.

A server may send anything as JSON: lone surrogates, `1e400`, `NaN`, integers of any length, invalid
UTF-8, nesting of any depth. Parsed values keep the literal text of each number. Canonical text is
ASCII JSON with sorted keys and without spaces, valid for every database's JSON type. Only `parse`
and `reparse` raise, and only `NotJson`.

What JSON cannot hold is wrapped: `{"$literal": "NaN"}`, and the text of a value nested deeper than
`MAX_DEPTH`. A hash in place of a value is wrapped, too: `{"$hash": "..."}`. A received key that
begins with `$` gets one more `$`, so that nothing received looks like a wrapper.

An object that gives a key twice has no meaning of its own: readers differ in which value counts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from etl.library_faults import said_of
from etl.transform.json_pieces import TOKEN

MAX_DEPTH = 64
"""Below the stack limits of PostgreSQL's parser and of Python's, which differ by version."""

_TOKEN = re.compile(TOKEN.pattern.decode(), re.DOTALL)  # the same, of text


class NotJson(ValueError):
    """Not even the lenient parser can read the text."""


class KeyTwice(NotJson):
    """Some object of the text gives a key twice; the text is JSON otherwise."""


class Number(str):
    """The literal text of a JSON number."""

    __slots__ = ()


class Constant(str):
    """`NaN`, `Infinity` or `-Infinity`: no JSON, but sent by some encoders."""

    __slots__ = ()


class _Deep(Constant):
    """The text of a value that is nested too deeply."""

    __slots__ = ()


_AsObject: TypeAlias = "Callable[[list[tuple[str, Any]]], Value]"
Value: TypeAlias = "None | bool | str | Number | Constant | list[Value] | dict[str, Value]"


def parse(body: bytes) -> Value:
    """Decode `body`, numbers kept as text; raises `NotJson`, and `KeyTwice` of it."""
    text = text_of(body)
    try:
        return _parse(text, _once)
    except KeyTwice:
        _parse(text, dict)  # raises where it is no JSON at all
        return _loads_deep(text, _once)  # what is nested too deeply is kept as text


def text_of(body: bytes) -> str:
    """Any bytes as text: each that is no UTF-8 becomes a surrogate."""
    return body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def _parse(text: str, as_object: _AsObject) -> Value:
    try:
        value = _loads(text, as_object)
        if _depth_is_at_most(value, MAX_DEPTH):
            return value
    except RecursionError:
        pass
    return _loads_deep(text, as_object)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise KeyTwice("a key is given twice")
    return members


def canonical(value: Value) -> str:
    """ASCII JSON with sorted keys: equal values give equal text, whatever order they came in."""
    return _write(value, escape)


def _write(value: Value, spell: Callable[[str], str]) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, Constant):
        return _literal(str(value))
    if isinstance(value, list):
        return "[" + ",".join(_write(item, spell) for item in value) + "]"
    if isinstance(value, dict):
        return join({spell(key): _write(item, spell) for key, item in value.items()})
    return json.dumps(value)


def split(text: str) -> dict[str, str]:
    """The members of a canonical object, each as canonical text: the reverse of `join`."""
    value = _loads(text)
    members = value if isinstance(value, dict) else {}
    return {key: _write(item, str) for key, item in members.items()}


def join(members: Mapping[str, str]) -> str:
    """One canonical object of keys and the canonical texts of their values."""
    return "{" + ",".join(f"{json.dumps(key)}:{members[key]}" for key in sorted(members)) + "}"


def escape(key: str) -> str:
    """A received key as canonical JSON has it: `$top` -> `$$top`."""
    return f"${key}" if key.startswith("$") else key


def reparse(text: str) -> Value:
    """Canonical text -> a value with keys and wrappers as they are; raises `NotJson`."""
    return _loads(text)


def rewrite(value: Value) -> str:
    """A value of `reparse` -> canonical text."""
    return _write(value, str)


def hashed(text: str) -> str:
    """The canonical text of a hash in place of a value."""
    return '{"$hash":' + text + "}"


def _literal(text: str) -> str:
    return '{"$literal":' + json.dumps(text) + "}"


def _loads(text: str, as_object: _AsObject = dict) -> Value:
    decoder = _CHECKING if as_object is _once else _decoder(as_object)
    try:
        value: Value = decoder.decode(text)
    except KeyTwice:
        raise
    except ValueError as error:
        raise NotJson(said_of(error)) from None
    return value


def _decoder(as_object: _AsObject) -> json.JSONDecoder:
    return json.JSONDecoder(
        strict=False,
        parse_int=Number,
        parse_float=Number,
        parse_constant=Constant,
        object_pairs_hook=None if as_object is dict else as_object,
    )


_CHECKING = _decoder(_once)  # making one takes as long as reading a record


def _loads_deep(text: str, as_object: _AsObject) -> Value:
    # No text can hold its own hash, so nothing received looks like a cut-out.
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def unwrap(pairs: list[tuple[str, Any]]) -> Value:
        return _Deep(pairs[0][1]) if pairs and pairs[0][0] == mark else as_object(pairs)

    try:
        return _loads(_cut(text, mark), unwrap)
    except RecursionError:  # what is never closed cannot be cut out
        raise NotJson("nested too deeply, and not closed") from None


def _depth_is_at_most(value: Value, depth: int) -> bool:
    level: list[Value] = [value]
    for _ in range(depth):
        inner: list[Value] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
        if not level:
            return True
    return not any(isinstance(item, dict | list) for item in level)


def _cut(text: str, mark: str) -> str:
    """`text` with each container nested deeper than MAX_DEPTH replaced by `{mark: its text}`."""
    parts: list[str] = []
    depth = kept_up_to = cut_from = 0
    for token in _TOKEN.finditer(text):
        bracket = token.group()
        if bracket in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                cut_from = token.start()
        elif bracket in "]}":
            depth -= 1
            if depth == MAX_DEPTH:
                cut_out = json.dumps({mark: text[cut_from : token.end()]})
                parts += [text[kept_up_to:cut_from], cut_out]
                kept_up_to = token.end()
    return "".join([*parts, text[kept_up_to:]])
