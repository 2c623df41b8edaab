"""The text of a JSON list -> the texts of its items, one at a time. Pure.

Needs no memory for the items before and after, and cuts any text: only who parses every piece
knows whether it was JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# What is in a string counts for nothing. An unclosed one reaches to the end: else the search would
# try each quote in it as a start. Possessive: else each escape in it would take memory until its
# end is found.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
TOKEN = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_TOKEN_OR_COMMA = re.compile(_STRING + rb"|[\[\]{},]", re.DOTALL)


class NotAList(ValueError):
    """The brackets of the text do not match as those of a list do."""


class TooLong(ValueError):
    """An item is longer than it may be."""


def pieces(text: bytes, start: int, end: int, *, longest: int) -> Iterator[tuple[int, int]]:
    """Start and end of each item of the list `text[start:end]`, which begins with `[`.

    Raises `NotAList`, and `TooLong` for an item of more than `longest` bytes.
    """
    depth, begin = 0, start + 1
    for token in _TOKEN_OR_COMMA.finditer(text, start, end):
        if token.start() - begin > longest:
            raise TooLong
        first = text[token.start()]
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
            if depth == 0:
                if first != ord("]") or token.end() != end:
                    raise NotAList
                if begin > start + 1 or text[begin : token.start()].strip(b" \t\n\r"):
                    yield begin, token.start()
                return
        elif first == ord(",") and depth == 1:
            yield begin, token.start()
            begin = token.end()
    raise NotAList
