"""A body -> where its list of records is, and what the members beside it say. Pure.

An answer is `{"data": [...]}`. A member beside `data` may say that something went wrong, which
is no answer, or that there is more, which is a partial one. Anything else is schema drift.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from etl.errors import DatadogAnswerTooLarge, DatadogResponseError
from etl.transform import lenient_json, strict_json
from etl.transform.json_pieces import TOKEN
from etl.transform.lenient_json import Constant, Number, Value

MAX_BESIDE = 2**20
"""Bytes beside the records: they are read with each answer, and take many times their size."""
MAX_TOKENS = 2**24
"""Texts and brackets in a body that is no strict JSON: each takes about 200 ns to be passed."""
BESIDE = "$body."
"""The name of drift beside the records begins with this."""

_NO_ANSWER = 'the answer is not {"data": [...]}'
_OPENING = re.compile(rb'\s*\{\s*"data"\s*:\s*(?=\[)')
_KEY = re.compile(rb'"data"\s*:\s*')
_LONGEST_BLANK = 64
_CONTAINER_PARTS = ("meta", "link", "page", "paging", "pagina", "resultinfo", "summary")
_ERRORS = frozenset(
    {
        *("error", "errors", "exception", "exceptions"),
        *("errormessage", "errormessages", "errorcode", "errordetail", "errordetails"),
    }
)
_WARNINGS = frozenset({"warning", "warnings"})
_STATUS_DONE = frozenset({"done", "ok", "complete", "completed", "success", "succeeded", "200"})
_STATUS_BAD = frozenset({"error", "errors", "failed", "failure", "fail"})
_DONE_FLAGS = frozenset({"ok", "success"})
_WHOLE_FLAGS = frozenset(
    {
        *("complete", "iscomplete", "done", "isdone", "finished", "isfinished"),
        *("islast", "islastpage"),
    }
)
_PARTIAL_FLAGS = frozenset(
    {
        *("truncated", "istruncated", "partial", "ispartial", "partialresults", "incomplete"),
        *("isincomplete", "incompleteresults", "timedout", "istimedout", "more"),
        *("hasmore", "ismore", "morepages", "hasmorepages", "moreresults", "hasmoreresults"),
        *("hasnext", "moreavailable", "moreitems", "limitreached", "limitexceeded"),
    }
)
_NEXT = frozenset({"next", "after", "nexturl", "nexthref", "nextlink", "nextid", "nextoffset"})
_NEXT_PARTS = (
    *("cursor", "nextpage", "nexttoken", "pagetoken", "continuation", "nextrecord"),
    *("nextmarker", "nextkey", "resumetoken", "scrollid"),
)
_BACKWARDS = ("prev", "before", "first", "last", "self", "start")
_TOTAL = re.compile(
    r"(?:total|full|overall)?(?:filtered|matching|matched)?"
    r"(?:records?|results?|items?|snapshots?|elements?|rows?|hits)?(?:filtered)?(?:total|count)"
    r"|total(?:records?|results?|items?|snapshots?|elements?|rows?|hits|size|number)|numfound"
)
_PAGES = frozenset({"totalpages", "totalpagecount", "pagecount"})


class Envelope(msgspec.Struct, frozen=True):
    """A body whose list of records is `body[start:end]`; `beside`: the members beside it."""

    body: bytes
    start: int
    end: int
    beside: Mapping[str, Value] = msgspec.field(default_factory=dict)

    @property
    def essence(self) -> bytes | memoryview:
        """The bytes that say what is listed: not those of members that change with each answer."""
        return memoryview(self.body)[self.start : self.end] if self.beside else self.body

    def partial(self, came: int) -> str:
        """The member that says that there is more than the `came` records; "" for none."""
        return next(filter(None, (_more(*member, came) for member in _said(self.beside))), "")

    def drift(self) -> Iterator[tuple[str, str]]:
        """Each member beside the records: its name, and its canonical JSON."""
        for name, value in self.beside.items():
            yield BESIDE + lenient_json.escape(name), lenient_json.canonical(value)


def open_envelope(body: bytes) -> Envelope:
    """Find the records of a body, and read the members beside them.

    Raises `DatadogResponseError` when it is not `{"data": [...]}`, when a name is given twice, and
    when a member says that something went wrong. The records themselves may still be no JSON.
    """
    opening = _OPENING.match(body)
    if opening:
        # The first bracket that closes is the last of all: there is nothing beside the records.
        closing = body.find(b"]", opening.end())
        is_near = len(body) - closing < _LONGEST_BLANK
        if is_near and body[closing + 1 :].strip(b" \t\n\r") == b"}":
            return Envelope(body, opening.end(), closing + 1)
    try:
        if bounds := _quick_bounds(body):
            return _opened(body, *bounds)
    except (_WrongPlace, lenient_json.NotJson):
        pass
    try:
        return _opened(body, *_exact_bounds(body))
    except lenient_json.KeyTwice:
        raise DatadogResponseError("the answer gives a key twice") from None
    except (_WrongPlace, lenient_json.NotJson) as error:
        raise DatadogResponseError(f"the answer is not JSON: {error}") from None


class _Data(msgspec.Struct, gc=False):
    data: msgspec.Raw


class _WrongPlace(Exception):
    """What was cut out of the body is not its list of records."""


_data = msgspec.json.Decoder(_Data)


def _quick_bounds(body: bytes) -> tuple[int, int] | None:
    """Where the list of records probably is; None: only a closer look can tell.

    It is there when the rest of the body has a `data` that was cut out.
    """
    try:
        records = memoryview(strict_json.read(_data, body).data)
    except strict_json.NotStrict:
        return None
    key = _KEY.search(body) if records[0] == ord("[") else None
    return (key.end(), key.end() + len(records)) if key else None


def _exact_bounds(body: bytes) -> tuple[int, int]:
    """Where the list `data` of the outermost object is; raises `DatadogResponseError`."""
    depth = start = key_end = 0
    key = b""
    for number, token in enumerate(TOKEN.finditer(body)):
        if number > MAX_TOKENS:
            raise DatadogAnswerTooLarge(f"more than {MAX_TOKENS:,} texts and brackets")
        first = body[token.start()]
        if first == ord('"'):
            if depth == 1 and not start:
                key, key_end = token.group() if len(token.group()) < 50 else b"", token.end()
        elif first in b"[{":
            depth += 1
            if depth == 2 and first == ord("[") and not start and _names_data(key):
                start = token.start() if body[key_end : token.start()].strip() == b":" else 0
        else:
            depth -= 1
            if depth == 1 and start:
                return start, token.end()
    raise DatadogResponseError(_why_no_list(body))


def _names_data(key: bytes) -> bool:
    try:
        return bool(key) and lenient_json.parse(key) == "data"
    except lenient_json.NotJson:
        return False


def _why_no_list(body: bytes) -> str:
    """Why a body without a list `data` is no answer."""
    if len(body) > MAX_BESIDE:
        return _NO_ANSWER
    try:
        members = lenient_json.parse(body)
    except lenient_json.NotJson as error:
        return f"the answer is not JSON: {error}"
    failure = _failure(members) if isinstance(members, dict) else ""
    return failure or _NO_ANSWER


def _failure(members: Mapping[str, Value]) -> str:
    """The first member that says that something went wrong; "" for none."""
    return next(filter(None, (_wrong(*member) for member in _said(members))), "")


def _opened(body: bytes, start: int, end: int) -> Envelope:
    """Raises `NotJson` and `_WrongPlace`, too, when the list cannot stand there."""
    size = len(body) - (end - start)
    if size > MAX_BESIDE:
        raise DatadogAnswerTooLarge(f"{size:,} bytes beside the records: at most {MAX_BESIDE:,}")
    members = lenient_json.parse(body[:start] + b"null" + body[end:])
    if not isinstance(members, dict) or members.pop("data", start) is not None:
        raise _WrongPlace("its list is not where it should be")
    if failure := _failure(members):
        raise DatadogResponseError(failure)
    return Envelope(body, start, end, members)


# --- what members say ---------------------------------------------------------------------


def _said(members: Mapping[str, Value]) -> Iterator[tuple[str, str, Value]]:
    """Path, plain name and value of each member that may say something about the answer."""
    for name, value in members.items():
        plain = _plain(name)
        yield _shown(name), plain, value
        if any(part in plain for part in _CONTAINER_PARTS):
            yield from _inside(_shown(name), value)


def _inside(path: str, value: Value) -> Iterator[tuple[str, str, Value]]:
    if isinstance(value, list):
        for item in value:
            yield from _inside(path, item)
    elif isinstance(value, dict):
        relation = value.get("rel")  # of a link in a list: {"rel": "next", "href": "..."}
        if isinstance(relation, str) and "next" in relation.casefold().split():
            yield f"{path}.next", "next", relation
        for name, inner in value.items():
            inner_path = f"{path}.{_shown(name)}"
            yield inner_path, _plain(name), inner
            yield from _inside(inner_path, inner)


def _plain(name: str) -> str:
    """The name without case, signs, and a namespace such as that of `@odata.nextLink`."""
    return re.sub(r"[\W_]", "", name.casefold().rpartition(".")[2])


def _shown(text: str) -> str:
    """Received text fit for a message: short and printable."""
    return "".join(c if c.isprintable() else "?" for c in text[:40])


def _says_nothing(value: Value) -> bool:
    """null, false, 0 and what is empty; an object or list of nothing else is empty, too."""
    if isinstance(value, dict):
        return all(map(_says_nothing, value.values()))
    if isinstance(value, list):
        return all(map(_says_nothing, value))
    if isinstance(value, Number):
        return not _number(value)
    return value in (None, False, "") or _is_false(value)


def _word(value: Value) -> str:
    """A text in the case that is compared; "" for anything else."""
    return value.strip().casefold() if isinstance(value, str) else ""


def _is_false(value: Value) -> bool:
    return value is False or (isinstance(value, str) and value.casefold() in ("false", "no", "0"))


def _number(value: Value) -> float:
    """A number, also one in a text; 0 for anything else."""
    if not isinstance(value, str) or isinstance(value, Constant):
        return 0.0
    try:
        return float(value.replace(",", ""))  # 1,200
    except ValueError:
        return 0.0


def _wrong(path: str, plain: str, value: Value) -> str:
    """How a member says that something went wrong; "" when it does not."""
    if plain in _ERRORS and not _says_nothing(value):
        # JSON:API forbids both in one answer; such a listing would retire what it leaves out.
        return f"the answer holds {path} beside its data"
    is_bad_status = (
        plain == "status"
        and isinstance(value, str)
        and (_word(value) in _STATUS_BAD or _number(value) >= 400)
    )
    if is_bad_status or (plain in _DONE_FLAGS and _is_false(value)):
        return f"the answer says {path}: {_value(value)}"
    return ""


def _more(path: str, plain: str, value: Value, came: int) -> str:
    """How a member says that there is more than `came` records; "" when it does not."""
    if plain in _WHOLE_FLAGS:
        return f"{path}: {_value(value)}" if _is_false(value) else ""
    if plain == "status" and value is False:
        return f"{path}: false"
    if _says_nothing(value):
        return ""
    if plain == "status":
        is_done = not isinstance(value, str) or _word(value) in _STATUS_DONE
        return "" if is_done else f"{path}: {_value(value)}"
    largest = _largest(value)
    is_total = _TOTAL.fullmatch(plain) and largest > came
    if is_total or (plain in _PAGES and largest > 1):
        return f"{path} {largest:.0f}"
    return path if plain in _WARNINGS or _is_flag(plain, value) or _leads_on(plain) else ""


def _is_flag(plain: str, value: Value) -> bool:
    # A time-out that is not `true` may be what was allowed: {"timeout": 30}.
    return plain in _PARTIAL_FLAGS or (plain == "timeout" and value is True)


def _leads_on(plain: str) -> bool:
    """Whether it is the name of a link or cursor to more."""
    is_next = plain in _NEXT or any(part in plain for part in _NEXT_PARTS)
    return is_next and not plain.startswith(_BACKWARDS)


def _largest(value: Value) -> float:
    """The number, or the largest in an object such as {"value": 120, "relation": "gte"}."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return max(map(_largest, inner), default=0.0)
    return _number(value)


def _value(value: Value) -> str:
    return _shown(value) if isinstance(value, str) else lenient_json.canonical(value)
