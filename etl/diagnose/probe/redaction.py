"""Keeps of foreign text only what a report may hold that is published. Pure.

It does not look for personal data: only what is on a list passes. That is common words of errors,
numbers that follow a word about limits, and names that Datadog documents. All else is a placeholder
or a count, and so is each value that belongs to the organization, whatever its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

LONGEST = 200
HIDDEN = "[...]"
_PARAMETER = r"(?:filter|page)\[(?:view_name|device_type|application_id|limit)\]"
_OPENING, _CLOSING = r"[(\[{<\"'`]{0,2}", r"[)\]}>\"'`]{0,2}[.,;:!?]{0,2}"
_WORD = re.compile(rf"{_OPENING}([A-Za-z]+(?:'[a-z])?|{_PARAMETER}){_CLOSING}")
_SIGNS = re.compile(r"[-.,;:=<>|&\"'`()\[\]{}!?*]{1,2}")
# No part of a longer word: that may be an address, an id or a version. Up to 999,999.
_NUMBER = r"-?[0-9]{1,6}|[0-9]{1,3},[0-9]{3}"
_NUMBERS = re.compile(rf"{_OPENING}(?:{_NUMBER})(?:(?:\.\.|-)(?:{_NUMBER}))?{_CLOSING}")
_ASSIGNED = re.compile(r"(?:page\[limit\]|limit|max|maximum|min|minimum)[=:](?:[0-9]{1,6})[.,;:]?")
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


def _set_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS = _set_of(_TEXT)
# With a capital many a word is a name: Max, Page, Will. These begin a sentence, or are a reason.
_CAPITAL = _set_of("""
    Access An API App Application Authentication Authorization Bad Cannot Could Denied Error Errors
    Expected Failed Forbidden Heatmap HTTP ID Input Insufficient Internal Invalid JSON Key Keys
    Limit Missing No Not Only Organization Parameter Permission Please Query Rate Request RUM The
    This Too Unable Unauthorized Unexpected Unknown Unsupported Value View You Your
""") | {
    word for status in HTTPStatus if status >= 400 for word in re.findall(r"\w+", status.phrase)
}
# A number is one of a limit when it follows one of these, with only words of the next list between.
_LIMITS = _set_of("""
    page[limit] limit limits maximum max minimum min most least greater larger less smaller exceed
    exceeds exceeded exceeding range between up bound bounds
""")
_NAMES_OF_LIMITS = _set_of("page[limit] limit limits maximum max minimum min")
_BETWEEN = _set_of("""
    a an and as at be between by equal from in integer is must not number of or positive size than
    that the to value was
""")
_MOST_NUMBERS = 2  # of a range; more after one word may be an address or a telephone number
_PERMISSIONS = ("rum_apps_read", "rum_session_replay_read", "session_replay_read")
DOCUMENTED = _set_of("""
    after application_id attributes client_token count created_at created_by_handle cursor data
    elapsed error errors first hash id included is_active jsonapi last limit links meta modified_at
    name next number offset org_id page pagination prev relationships request_id self size status
    tags total_count total_filtered_count type updated_at updated_by_handle warnings
""")
"""Names that Datadog documents for members and attributes of its answers, or JSON:API does."""
# No names of rate limits are documented: a report is to tell them. They have only such words.
_OF_A_LIMIT = _set_of("""
    aggregate analytics api app application applications apps count default endpoint event events
    get heatmap heatmaps intake limit list logs metrics number organization post private public
    query rate read replay replays request requests rum search session sessions snapshot snapshots
    unstable usage v1 v2 view views write
""")
_MOST_PARTS = 8


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

    def sentence(self, text: str, status: int | None = None) -> str:
        """An error text: harmless words and placeholders, no longer than `LONGEST`.

        `status`: of the answer that holds it; that number is no secret.
        """
        for value in sorted(self._values, key=len, reverse=True):
            if value in text.lower():
                text = _replaced(text, value, f" [{self._values[value]}] ")
        shown: list[str] = []
        is_about_limit, numbers = False, 0
        for word in _words(text):
            shown.append(self._word(word, is_about_limit=is_about_limit, status=status))
            numbers = numbers + bool(_NUMBERS.fullmatch(word)) if is_about_limit else 0
            is_about_limit = shown[-1] != HIDDEN and _leads_to_number(word, is_about_limit)
            is_about_limit = is_about_limit and numbers < _MOST_NUMBERS
        kept = " ".join(shown)
        kept = re.sub(rf"{re.escape(HIDDEN)}(?: {re.escape(HIDDEN)})+", HIDDEN, kept)
        return kept if len(kept) <= LONGEST else f"{kept[: LONGEST - 3]}..."

    def _word(self, word: str, *, is_about_limit: bool, status: int | None) -> str:
        if word[1:-1] in self._values.values() and word == f"[{word[1:-1]}]":
            return word
        is_permission = word.strip(".,;:'\"`()") in _PERMISSIONS
        if is_permission or _SIGNS.fullmatch(word) or _ASSIGNED.fullmatch(word):
            return word
        if _NUMBERS.fullmatch(word):
            is_status = status is not None and word.strip(".,;:()") == str(status)
            return word if is_about_limit or is_status else HIDDEN
        return word if (found := _WORD.fullmatch(word)) and _is_harmless(found[1]) else HIDDEN

    def limit_name(self, text: str) -> str:
        """The name of a rate limit, where it is made of words that such names have."""
        parts = text.strip().split("_")
        is_known = len(parts) <= _MOST_PARTS and _OF_A_LIMIT.issuperset(parts)
        if is_known and text.strip().lower() not in self._values:
            return text.strip()
        return "a name that is not shown"


def documented(names: Iterable[str]) -> tuple[list[str], int]:
    """Those of the names that are documented, and how many are not."""
    some = set(names)
    return sorted(some & DOCUMENTED), len(some - DOCUMENTED)


def _words(text: str) -> list[str]:
    """Split at blanks, but not inside a placeholder."""
    return re.findall(r"\[[a-z][a-z ]*[0-9]*\]|\S+", text)


def _is_harmless(word: str) -> bool:
    is_parameter = re.fullmatch(_PARAMETER, word)
    return bool(is_parameter) or word in _WORDS or word in _CAPITAL


def _leads_to_number(word: str, is_about_limit: bool) -> bool:
    """Whether a number that follows is one of a limit. The end of a sentence or part ends that."""
    if _NUMBERS.fullmatch(word):
        return is_about_limit and word[-1] in "0123456789,"
    if _SIGNS.fullmatch(word):
        return is_about_limit and word in ("=", "-", "<", ">", "<=", ">=")
    found = _WORD.fullmatch(word)
    plain = found[1].lower() if found else ""
    if word[-1:] in tuple(".;!?"):
        return False
    if word.endswith(":"):
        return plain in _NAMES_OF_LIMITS
    return plain in _LIMITS or (is_about_limit and plain in _BETWEEN)


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
