"""What the headers of a 200 say about how its body came: from a cache, or only in part. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_CACHED = frozenset({"hit", "refreshhit", "stale", "updating", "revalidated", "fresh", "cached"})
_NOT_AFTER_ALL = re.compile(r"hit[\W_]*(?:for[\W_]*)?(?:miss|pass)", re.IGNORECASE)
_NO_STATUS = ("control", "key", "tag", "group", "able")  # X-Cache-Key, X-Cacheable, ...
_YES = ("x-cached", "x-is-cached", "x-from-cache", "x-served-from-cache", "x-fromcache")
_COUNTS = ("x-cache-hits", "x-cache-hit")
_PATTERNS = {
    "warning": re.compile(r"(?:^|,)\s*11[0-3]\b"),
    "cache-status": re.compile(r";\s*hit\b(?!\s*=\s*\?0)", re.IGNORECASE),
    # Such as "cdn-cache; desc=HIT".
    "server-timing": re.compile(r"cache\b[^,]*;\s*desc\s*=\s*\"?(?:\w+_)?hit\b", re.IGNORECASE),
}
_NEXT_LINK = re.compile(r";\s*rel\s*=\s*(?:\"[^\"]*\bnext\b|next\b)", re.IGNORECASE)
_NEXT = ("x-next-page", "x-next-cursor")
_NO = frozenset({"", "0", "false", "no"})


def cache_header(headers: Mapping[str, str]) -> str:
    """The first header that says that a cache answered, with its value; "" for none."""
    said = (f"{name}: {value}" for name, value in headers.items() if _is_cached(name, value))
    return next(said, "")


def part_header(headers: Mapping[str, str]) -> str:
    """The header that says that a 200 is a part of the answer, with its value; "" for none."""
    said = (f"{name.title()}: {value}" for name, value in headers.items() if _is_part(name, value))
    return next(said, "")


def _is_part(name: str, value: str) -> bool:
    name = name.lower()
    if name == "link":
        return bool(_NEXT_LINK.search(value))
    return name == "content-range" or (name in _NEXT and bool(value.strip()))


def _is_cached(name: str, value: str) -> bool:
    name = name.lower()
    if name == "age":
        return True
    if name in _PATTERNS:
        return bool(_PATTERNS[name].search(value))
    if name == "x-varnish":
        return len(value.split()) > 1  # the second number is that of the request it was kept from
    if name in _YES or name in _COUNTS:
        return any(number.strip().lower() not in _NO for number in value.split(","))
    is_status = "cache" in name and not name.endswith(_NO_STATUS)
    return is_status and any(map(_is_hit, value.split(",")))


def _is_hit(status: str) -> bool:
    """`status`: such as TCP_HIT, or "Hit from cloudfront"; a host's name says nothing."""
    status = re.split(r"\sfrom\s", status, maxsplit=1, flags=re.IGNORECASE)[0]
    words = re.findall(r"[a-z]+", status.lower())
    return not _CACHED.isdisjoint(words) and not _NOT_AFTER_ALL.search(status)
