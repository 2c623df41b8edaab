"""Which names of attributes say that their value is about a person, in any spelling. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

RULES_VERSION = 2
"""Raise it whenever the same record would hide more or less: `privacy apply` is then due again."""

_ACTS = ("createdby", "modifiedby", "updatedby")  # also within a name: last_modified_by
_ROLES = ("creator", "owner", "user", "usr")  # `usr` is how RUM itself spells it
_PARTS = (
    *("handle", "id", "uuid", "login", "name", "email", "emailaddress", "mail"),
    *("displayname", "fullname", "firstname", "lastname", "givenname", "familyname"),
)
_NAMES = ("name", "key", "field", "attribute", "property", "column")
_NAMING = frozenset(
    f"{prefix}{name}{suffix}"
    for prefix in ("", *_NAMES[2:])
    for name in (*_NAMES, "label", "facet", "path")
    for suffix in ("", "name")
)
_OTHER_NAMING = frozenset({"id", "k", "n", "title", "type"})
"""These say more often what a thing is: `{"type": "user", ...}` is no pair, but created_by is."""
FORMER_SPELLINGS = frozenset(
    spelling
    for part in ("", "handle", "user_id", "id", "name", "email")
    for name in [f"created_by_{part}".rstrip("_")]
    for spelling in (
        *(name, name.upper(), name.replace("_", "-"), name.replace("_", ".")),
        *(name.title().replace("_", ""), name[0] + name.title().replace("_", "")[1:]),
    )
)
"""Names that the first rules hid where they stood as a text."""

_SIGNS = re.compile(r"[^a-z0-9]+")
_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")
# As in JSON or in a tag; "created by" in plain words does not count.
_ACT = re.compile(r"(?:created|modified|updated)[^a-z0-9\s]*by", re.IGNORECASE)
# What is in quotes, or opens one of them where a text was cut; the end of one may open another.
_QUOTED = re.compile(r"[\"']([^\"'{}\[\],:=]{1,80})(?=[\"':=])")
_TAG = re.compile(r"\s*([^:=]{1,80}?)\s*[:=]")
_STRING = re.compile(r'"([^"]*)"')  # in JSON without escapes
_LONGEST = 200  # of a name that is remembered: whatever a server sends stays in memory


def plain(name: str) -> str:
    """The name without case and signs: `createdBy`, `created-by` and `CREATED_BY` are one."""
    return _SIGNS.sub("", name.casefold())


def is_personal(name: str, more: tuple[str, ...] = ()) -> bool:
    """Whether a member of this name holds a person; `more`: attributes beyond the known ones."""
    return _is_personal(name, more) if len(name) <= _LONGEST else _names_one(name, more)


def may_name(text: str, more: tuple[str, ...] = ()) -> bool:
    """Whether canonical JSON may hold such a name, or a hash: it costs less than to read it."""
    if "\\" in text or '"$hash' in text:
        return True
    if not _anywhere(more).search(plain(text)):
        return False
    return any(is_personal(t, more) or quotes_a_name(t, more) for t in _STRING.findall(text))


def is_naming(name: str, value: str = "") -> bool:
    """Whether a member of this name may say what other members of its object are the values of.

    With `value`, also one of the names that do so only for what somebody did, such as created_by.
    """
    if len(name) > _LONGEST:
        return False
    is_act = value != "" and name.casefold() in _OTHER_NAMING and _ACT.match(value) is not None
    return is_act or _is_naming(name)


def tagged(text: str, more: tuple[str, ...] = ()) -> tuple[str, str] | None:
    """Name and value of a text such as `owner:ada`; None: it does not begin with such a name."""
    found = _TAG.match(text)
    return (found[1], text[found.end() :]) if found and is_personal(found[1], more) else None


def quotes_a_name(text: str, more: tuple[str, ...] = ()) -> bool:
    """Whether a text may be JSON, once or twice encoded, or cut, that names such an attribute."""
    if "\\" in text:
        text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    if _ACT.search(text) or tagged(text, more):
        return True
    if "{" not in text and "[" not in text:
        return False
    quoted = _QUOTED.finditer(text.replace("\\", ""))
    return any(is_personal(match[1], more) for match in quoted)


def _names_one(name: str, more: tuple[str, ...]) -> bool:
    found, role = plain(name), _role(more)
    if role.fullmatch(found) or any(act in found for act in _ACTS):
        return True
    return "." in name and any(role.fullmatch(plain(part)) for part in name.split("."))


_is_personal = lru_cache(maxsize=8192)(_names_one)  # many records have the same few names


@lru_cache(maxsize=8192)
def _is_naming(name: str) -> bool:
    return plain(name) in _NAMING


@lru_cache(maxsize=64)
def _anywhere(more: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(sorted({*_ACTS, *_ROLES, *map(plain, more)})))


@lru_cache(maxsize=64)
def _role(more: tuple[str, ...]) -> re.Pattern[str]:
    roles = "|".join(sorted({*_ROLES, *map(plain, more)}))
    return re.compile(rf"(?:{roles})s?(?:users?)?(?:(?:{'|'.join(_PARTS)})s?)?")
