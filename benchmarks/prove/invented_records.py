"""Invented records with hostile spellings, as a server may send them: drawn from a seed alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from tests.support import make_corpus
from tests.support.strategies import ATTRIBUTES, BOOLEANS, INSTANTS, INTEGERS

_PIECES = (
    *("a", "B", "7", " ", "é", "e\u0301", "ß", "🧊", "\u200b", "\u2028", "\ufeff", "\uffff"),
    *("\0", "\x01", "\x1f", "\x7f", "\t", "\n", "\r", "\ud800", "\udc00", "\udbff", "\udfff"),
    *("'", '"', "\\", "\\u0000", "/", "%", "`", ";", "--", "{", "}", "[", "]", ",", ":", "$"),
    *("$top", "$literal", "$$", "\\N", "\\.", "NULL", "null", "true", "x" * 300),
)
_WORDS = ("", "12", "-0", "NaN", "/home", "2026-02-30T10:00:00Z", "0000-00-00", "1e9", "\ufeff")
_CONSTANTS = ("null", "true", "false", "NaN", "Infinity", "-Infinity", "1e400", "-1e-400", "-0")
_NAMES = ("id", "type", "attributes", "$top", "$literal", "$hash", "extra", "content_hash", "start")
_VALUES = tuple(sent for sent, *_ in make_corpus.VALUES.values())
_OFFSETS = ("Z", "z", "+00:00", "-00:00", "+05:30", "-0800", "+14", "", " UTC", "+99:99")


class Inventor:
    """Makes one record after the other, in bytes that may be no UTF-8."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._number = 0

    def record(self) -> bytes:
        """Mostly with the members of a snapshot; now and then anything."""
        chance = self._rng.random()
        if chance < 0.75:
            text = self._plain()
        elif chance < 0.95:
            text = self._members([self._member() for _ in range(self._rng.randrange(6))])
        else:
            text = self._value(3)
        return text.encode("utf-8", "surrogatepass")

    def _plain(self) -> str:
        self._number += 1
        identifier = json.dumps(f"r{self._number}")
        if self._rng.random() < 0.3:
            identifier = self._spelled(f"{self._number}{self._word()}")
        beside = self._members([self._member()])[1:-1] if self._rng.random() < 0.1 else ""
        attributes = self._attributes()
        members = f'"id":{identifier},"type":"snapshots","attributes":{attributes}'
        return "{" + ",".join(filter(None, (members, beside))) + "}"

    def _attributes(self) -> str:
        names = self._rng.sample(ATTRIBUTES, self._rng.randrange(len(ATTRIBUTES)))
        pairs = [(json.dumps(name), self._attribute(name)) for name in names]
        if self._rng.random() < 0.25:
            pairs += [(self._name(), self._value(2)) for _ in range(self._rng.randrange(4))]
        self._rng.shuffle(pairs)
        return self._members(pairs)

    def _attribute(self, name: str) -> str:
        """Mostly a value of its kind."""
        if self._rng.random() < 0.15:
            return self._value(2)
        if name in INTEGERS:
            return str(self._rng.choice((0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 42)))
        if name in INSTANTS:
            return json.dumps(self._timestamp())
        if name in BOOLEANS:
            return self._rng.choice(("true", "false"))
        return self._spelled(self._word())

    def _timestamp(self) -> str:
        rng = self._rng
        date = f"{rng.choice((1, 999, 1970, 2026, 9999)):04}-{1 + rng.randrange(12):02}"
        digits = "".join(rng.choices("0123456789", k=rng.choice((0, 3, 6, 9))))
        fraction = f".{digits}" if digits else ""
        time = f"{rng.randrange(25):02}:{rng.randrange(61):02}:{rng.randrange(61):02}"
        return f"{date}-{1 + rng.randrange(31):02}T{time}{fraction}{rng.choice(_OFFSETS)}"

    def _word(self) -> str:
        if self._rng.random() < 0.2:
            return self._rng.choice(_WORDS)
        return "".join(self._rng.choices(_PIECES, k=self._rng.randrange(5)))

    def _spelled(self, text: str) -> str:
        """A text as JSON: escaped, or as it is."""
        if self._rng.random() < 0.6:
            return json.dumps(text)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def _number_text(self) -> str:
        rng = self._rng
        text = str(rng.choice((0, 7, 42, 10**12, 2**63, 2**70, 10**30)) * rng.choice((1, -1)))
        if rng.random() < 0.3:
            text += f".{rng.randrange(10**6)}"
        if rng.random() < 0.2:
            text += f"e{rng.choice(('', '+', '-'))}{rng.randrange(400)}"
        return text

    def _scalar(self) -> str:
        makers: tuple[Callable[[], str], ...] = (
            lambda: self._rng.choice(_CONSTANTS),
            lambda: self._rng.choice(_VALUES),
            self._number_text,
            lambda: self._spelled(self._word()),
        )
        return self._rng.choice(makers)()

    def _value(self, depth: int) -> str:
        chance = self._rng.random()
        if chance < 0.6 or not depth:
            return self._scalar()
        if chance < 0.65:
            levels = self._rng.randrange(40, 90)
            return "[" * levels + self._scalar() + "]" * levels
        number = self._rng.randrange(4)
        if chance < 0.8:
            return "[" + ",".join(self._value(depth - 1) for _ in range(number)) + "]"
        return self._members([(self._name(), self._value(depth - 1)) for _ in range(number)])

    def _name(self) -> str:
        if self._rng.random() < 0.3:
            return json.dumps(self._rng.choice((*_NAMES, *ATTRIBUTES)))
        return self._spelled(self._word())

    def _member(self) -> tuple[str, str]:
        chance = self._rng.random()
        if chance < 0.3:
            return '"id"', self._spelled(self._word()) if chance < 0.2 else self._value(2)
        if chance < 0.5:
            return '"type"', '"snapshots"' if chance < 0.45 else self._value(2)
        if chance < 0.8:
            return '"attributes"', self._attributes() if chance < 0.75 else self._value(2)
        return self._name(), self._value(2)

    def _members(self, pairs: list[tuple[str, str]]) -> str:
        """Names may come twice."""
        colon, comma = self._rng.choice(((":", ","), (" : ", " ,\n")))
        return "{" + comma.join(f"{name}{colon}{value}" for name, value in pairs) + "}"
