"""Redacts text from the API, so that a report may be published. Pure.

It does not look for personal data: only text that is known to be harmless passes. In an error text
that is the common words of errors, and short numbers; never a value that belongs to the
organization.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 200
HIDDEN = "[...]"
_LONGEST_NUMBER = 5
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_PARAMETER = r"(?:filter|page)\[(?:view_name|device_type|application_id|limit)\]"
_PIECE = re.compile(rf"{_PARAMETER}|[A-Za-z]+(?:'[a-z]+)?|[0-9]+|[\s.,;:'\"`()\[\]{{}}<>=!?|&*-]+")

_TEXT = """
    a access accepted all allowed an and api app application applications apps are argument array
    at authenticated authentication authorization authorized available bad be because been before
    between blank body boolean bound bounds but by call can cannot characters check client code
    contact contain contains could data date default denied deny detail details device
    did do does doesn't empty endpoint equal error errors exceed exceeded exceeds exceeding
    expected failed failure false field fields filter filters for forbidden format found from
    gateway get given gone greater had has have header heatmap heatmaps id in incorrect input
    insufficient int integer internal invalid is isn't it its json key keys larger later least
    length less limit limited limits list long many match max maximum may message method min minimum
    missing more most must name need needs negative no non not null number numeric object of on
    one only operation or organization org out outside over page parameter parameters parse parsing
    permission permissions permitted please positive present privileges provide provided query
    quota range rate read reason received replay replays request requested requests require required
    requires resource response retry role rum scope scopes see server service session set short
    should size small smaller snapshot snapshots specified specify status string supplied support
    supported syntax temporarily ten text than that the this title to token too try true type unable
    unauthorized unavailable unexpected unknown unprocessable unrecognized unsupported up
    use user valid validation value values view views was were when while with without wrong
    you your zero
"""
_WORDS = frozenset(re.findall(r"\S+", _TEXT))
_PERMISSIONS = ("rum_apps_read", "rum_session_replay_read", "session_replay_read")


class Redaction:
    """`values`: texts to hide even if their words are harmless, each with its placeholder."""

    def __init__(self, values: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, str] = {}
        for value, placeholder in values:
            self.learn(value, placeholder)

    def learn(self, value: str, placeholder: str) -> None:
        """Hide this value, too; the first placeholder of a value stays."""
        if value.strip():
            self._values.setdefault(value.strip().lower(), placeholder)

    def sentence(self, text: str) -> str:
        """An error text: harmless words and placeholders, no longer than `LONGEST`."""
        for value in sorted(self._values, key=len, reverse=True):
            if value in text.lower():
                text = _replaced(text, value, f" [{self._values[value]}] ")
        kept = " ".join(self._word(word) for word in _words(text))
        kept = re.sub(rf"{re.escape(HIDDEN)}(?: {re.escape(HIDDEN)})+", HIDDEN, kept)
        return kept if len(kept) <= LONGEST else f"{kept[: LONGEST - 3]}..."

    def _word(self, word: str) -> str:
        if word[1:-1] in self._values.values() and word == f"[{word[1:-1]}]":
            return word
        if word.strip(".,;:'\"`()") in _PERMISSIONS:
            return word
        pieces = _PIECE.findall(word)
        if "".join(pieces) != word:
            return HIDDEN
        return word if all(map(_is_harmless, pieces)) else HIDDEN

    def name(self, text: str) -> str:
        """The name of an attribute or a limit; a placeholder for one that may be personal."""
        is_number_like = re.search(r"[0-9]{4}|[0-9a-fA-F]{8}", text)
        if _NAME.fullmatch(text) and not is_number_like and text.lower() not in self._values:
            return text
        return "[a name that is not shown]"


def _words(text: str) -> list[str]:
    """Split at blanks, but not inside a placeholder."""
    return re.findall(r"\[[a-z][a-z ]*[0-9]*\]|\S+", text)


def _is_harmless(piece: str) -> bool:
    if piece.isascii() and piece.isdigit():
        return len(piece) <= _LONGEST_NUMBER
    is_word = piece[0].isalpha() and not re.fullmatch(_PARAMETER, piece)
    return not is_word or piece.lower() in _WORDS


def _replaced(text: str, value: str, by: str) -> str:
    """Only whole words: a view may be called "/" or "a"."""
    pattern = rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])"
    return re.sub(pattern, lambda _: by, text, flags=re.IGNORECASE)


def media_type(content_type: str) -> str:
    """The media type if Datadog is known to send it; else "other", or "none"."""
    known = ("application/json", "application/vnd.api+json", "text/json", "text/plain", "text/html")
    name = content_type.partition(";")[0].strip().lower()
    return name if name in known else "other" if name else "none"


def count(text: str) -> int | None:
    """A small number in a header; None for anything else."""
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else None
