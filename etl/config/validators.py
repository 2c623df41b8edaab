"""Checks of single values: a value of TOML or the environment -> a typed value, or BadValue.

A check never echoes a value of the wrong type, and none that may hold a secret:
people paste keys and passwords into the wrong line.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from etl.config.cron_line import checked_line
from etl.config.host_name import ascii_host

_TYPE_NAMES: dict[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
    dt.datetime: "a date",
    dt.date: "a date",
    dt.time: "a time",
    type(None): "nothing",
}

_LONGEST_URL = 2000  # far below what httpx refuses to send
_SECRET_NAME = re.compile(
    r"(?:.*_)?(?:api_?key|app_?key|application_?key|hash_?key|token|bearer|secret|passw(?:or)?d)"
)


class BadValue(Exception):
    """A value that cannot be used; the text says why and what is expected, on one line."""


Check = Callable[[object], Any]


def type_name(value: object) -> str:
    """The type of `value` for a message, in the words of TOML: `a whole number`."""
    return _TYPE_NAMES.get(type(value), "something else")


def shown(value: str) -> str:
    """`value` quoted for a message: one line, shortened, without user:password of a URL."""
    quoted = repr(re.sub(r"//.*@", "//***@", value, flags=re.DOTALL))
    return quoted if len(quoted) <= 80 else f"{quoted[:76]}...{quoted[-1]}"


def plain(value: object) -> str:
    """A path or a key as people write it; quoted only when it would not print on one line."""
    text = str(value)
    return text if text.isprintable() else shown(text)


def is_secret_name(name: str) -> bool:
    """Whether a key of this name would hold a key, a token or a password."""
    return _SECRET_NAME.fullmatch(name.lower().replace("-", "_")) is not None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant: same last part first, then the most alike."""
    candidates = list(known)
    last = {candidate: candidate.rpartition(".")[2] for candidate in candidates}
    wanted = name.rpartition(".")[2].lower()
    for candidate in candidates:
        if last[candidate].lower() == wanted:
            return candidate
    import difflib  # not before there is a mistake

    if close := difflib.get_close_matches(name, candidates, n=1, cutoff=0.75):
        return close[0]
    close = difflib.get_close_matches(wanted, list(last.values()), n=1, cutoff=0.6)
    return next((c for c in candidates if close and last[c] == close[0]), None)


def text(value: object) -> str:
    """Printable text of 1 to 255 characters."""
    if not isinstance(value, str):
        raise BadValue(f"expected text in quotes, found {type_name(value)}")
    if not value.strip():
        raise BadValue("is empty; write a value or remove the line")
    if not value.isprintable() or value != value.strip() or len(value) > 255:
        raise BadValue("expected one line of at most 255 characters without spaces around it")
    return value


def anything(value: object) -> object:
    """Accepts any value: a later step checks it."""
    return value


def variable_name(value: object) -> str:
    """The name of an environment variable. Never echoed: here people paste the key itself."""
    if not isinstance(value, str):
        raise BadValue(f"expected the name of an environment variable, found {type_name(value)}")
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", value):
        raise BadValue(
            "expected the name of an environment variable in capitals, such as DD_API_KEY, "
            "not the key itself"
        )
    return value


def identifier(value: object) -> str:
    """A name of a PostgreSQL schema that needs no quotes."""
    name = text(value)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name):
        raise BadValue(
            f"{shown(name)} is not a plain name; expected at most 63 letters, digits and "
            "underscores, not starting with a digit"
        )
    if name.lower().startswith("pg_"):
        raise BadValue(f"{shown(name)} is reserved by PostgreSQL; choose another name")
    return name


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise BadValue(f"expected true or false, found {type_name(value)}")
    return value


def whole(minimum: int, maximum: int) -> Check:
    """A check for whole numbers between two bounds, both included."""
    expected = f"expected a whole number from {minimum} to {maximum}"

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValue(f"{expected}, found {type_name(value)}")
        if not minimum <= value <= maximum:
            raise BadValue(expected)
        return value

    return check


def number(minimum: float, maximum: float) -> Check:
    """A check for numbers, whole or not, between two bounds, both included."""
    expected = f"expected a number from {minimum:g} to {maximum:g}"

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadValue(f"{expected}, found {type_name(value)}")
        if not minimum <= value <= maximum or math.isnan(value):
            raise BadValue(expected)
        return float(value)

    return check


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _seconds(value: str) -> float | None:
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", value)
    return float(int(match[1]) * _UNITS[match[2]]) if match else None


def duration(minimum: str, maximum: str) -> Check:
    """A check that turns "30s", "15m", "2h", "90d", "1w" into seconds."""
    low, high = _seconds(minimum), _seconds(maximum)
    if low is None or high is None:
        raise ValueError((minimum, maximum))

    def check(value: object) -> float:
        if not isinstance(value, str):
            raise BadValue(f'expected a duration such as "15m" in quotes, found {type_name(value)}')
        seconds = _seconds(value)
        if seconds is None:
            raise BadValue(
                f"{shown(value)} is not a duration; expected a whole number and one of "
                's, m, h, d, w, such as "15m" or "90d"'
            )
        if not low <= seconds <= high:
            raise BadValue(f"{shown(value)} is out of range; expected {minimum} to {maximum}")
        return seconds

    return check


def patterns(value: object) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list):
        raise BadValue(f'expected a list such as ["/shop*"], found {type_name(value)}')
    for item in value:
        if not isinstance(item, str) or not item.isprintable():
            raise BadValue("expected a list that holds only printable text")
    return tuple(value)


def file_mode(value: object) -> int:
    """Permissions of a file in octal; its owner may read and write it, nobody may run it."""
    expected = 'expected permissions in quotes, such as "0600" or "0640"'
    if not isinstance(value, str):
        raise BadValue(f"{expected}, found {type_name(value)}")
    if not re.fullmatch(r"0?[0-7]{3}", value.strip()):
        raise BadValue(expected)
    mode = int(value, 8)
    if mode & 0o600 != 0o600:
        raise BadValue(f"{expected}: the owner must be able to read and write them")
    if mode & 0o113:
        raise BadValue(f"{expected}: nobody runs them, and not everybody may write them")
    return mode


def attribute_names(value: object) -> tuple[str, ...]:
    """A list of names of attributes, none of which a table has a column for."""
    names = patterns(value)
    for name in names:
        if not re.search(r"[a-zA-Z0-9]", name) or len(name) > 100:
            raise BadValue(f'expected names of attributes such as "pinned_by", found {shown(name)}')
        if re.sub(r"[^a-z0-9]", "", name.casefold()) in _COLUMNS:
            raise BadValue(f"{shown(name)} has a column of its own, which is always stored")
    return names


# Those of a snapshot; `created_by` is hidden without being named here.
_COLUMNS = frozenset(
    {
        *("id", "type", "attributes", "applicationid", "createdat", "devicetype", "eventid"),
        *("isdevicetypeselectedbyuser", "modifiedat", "orgid", "sessionid", "snapshotname"),
        *("start", "viewid", "viewname"),
    }
)


def one_of(*choices: str) -> Check:
    """A check that accepts one of `choices`."""
    expected = ", ".join(f'"{choice}"' for choice in choices)

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise BadValue(f"expected one of {expected}, found {type_name(value)}")
        if value not in choices:
            raise BadValue(f"{shown(value)} is not known; expected one of {expected}")
        return value

    return check


def web_url(value: object) -> str:
    """An http(s) URL without user, query and fragment; no slash at the end. Never echoed."""
    if not isinstance(value, str):
        raise BadValue(f"expected a URL in quotes, found {type_name(value)}")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadValue("is not a URL; expected something like https://example.com") from None
    if parts.scheme not in ("http", "https") or not host or not _is_url_text(value):
        raise BadValue("is not a URL; expected http:// or https:// and a host")
    if "${" in value:
        raise BadValue("is not a URL; it holds ${...}, which nothing has replaced")
    if len(value) > _LONGEST_URL:
        raise BadValue(f"is not a URL; expected at most {_LONGEST_URL} characters")
    if "@" in parts.netloc:
        raise BadValue("must not hold a user name or password; remove the part before the @")
    if "?" in value or "#" in value:
        raise BadValue("must end before any ? or #; write scheme, host and path only")
    if port == 0:
        raise BadValue("is not a URL; expected a port from 1 to 65535")
    if "[" in parts.netloc and not re.fullmatch(r"\[[^\]]*:[^\]]*\](?::[0-9]*)?", parts.netloc):
        raise BadValue("is not a URL; expected only an IPv6 address between [ and ]")
    _require_host(host)
    return value.rstrip("/")


def _require_host(host: str) -> None:
    try:
        ascii_host(host)
    except ValueError as error:
        raise BadValue(f"is not a URL that can be asked: its host {error}") from None


def optional_secret_url(value: object) -> str:
    """An http(s) URL that may have a query, or "" for none. Never echoed."""
    if value == "":
        return ""
    if isinstance(value, str):
        web_url(re.split(r"[?#]", value, maxsplit=1)[0])
        if not _is_url_text(value):
            raise BadValue("is not a URL; it holds spaces or control characters")
        if "${" in value:
            raise BadValue("is not a URL; it holds ${...}, which nothing has replaced")
        return value
    return web_url(value)


def _is_url_text(value: str) -> bool:
    return value.isprintable() and " " not in value and "\\" not in value


def cron(value: object) -> str:
    """A standard cron line of five fields that is due some day."""
    line = text(value)
    try:
        checked_line(line)
    except ValueError as error:
        raise BadValue(f"{shown(line)} {error}") from None
    return " ".join(line.split())


UTC_NAMES = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT"})
"""Time zones that need no database of them."""


def timezone(value: object) -> str:
    """A name in the time zone database, which a small system may lack."""
    name = text(value)
    if name in UTC_NAMES:
        return name
    import zoneinfo  # most configurations keep UTC and need no zone data

    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = sorted(zoneinfo.available_timezones())
        if not known:
            raise BadValue(
                f"{shown(name)} needs the time zone database: install tzdata (apt, apk), or "
                'pip install tzdata; "UTC" needs none'
            ) from None
        close = nearest(name, known)
        hint = f"did you mean {close}?" if close else 'expected a name such as "Europe/Berlin"'
        raise BadValue(f"{shown(name)} is not a known time zone; {hint}") from None
    return name
