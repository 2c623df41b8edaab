"""A host as people write it -> the name or address that is asked for. Pure."""

from __future__ import annotations

import ipaddress
import re

LONGEST_NAME, LONGEST_LABEL = 253, 63  # limits of DNS: RFC 1035


def ascii_host(host: str) -> str:
    """The host in lower case and ASCII, an IPv6 address without its brackets.

    Raises ValueError where no request can go to it; the text says why, and goes on after "its
    host".
    """
    host = host.lower()
    if host.startswith("[") or ":" in host:
        return _ipv6(host.removeprefix("[").removesuffix("]"))
    name = host if host.isascii() else _encoded(host)
    if not name:
        raise ValueError("is missing")
    labels = name.removesuffix(".").split(".")
    if not all(labels):
        raise ValueError("has an empty part: it begins with a dot, or has two in a row")
    if not re.fullmatch(r"[a-z0-9._-]+", name):
        raise ValueError("holds a character that no name of a host has")
    if max(map(len, labels)) > LONGEST_LABEL:
        raise ValueError(f"has a part of more than {LONGEST_LABEL} characters between its dots")
    if len(name.removesuffix(".")) > LONGEST_NAME:
        raise ValueError(f"has more than {LONGEST_NAME} characters")
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", name):
        _require_ipv4(name)
    if any(label.startswith("xn--") for label in labels):
        _require_idna(name)
    return name


def _encoded(host: str) -> str:
    import idna  # comes with httpx; most hosts are ASCII

    try:
        # Python's own codec is that of 2003, to which faß.de is fass.de: another host.
        return idna.encode(host).decode("ascii")
    except UnicodeError:
        raise ValueError("cannot be a name in DNS: IDNA cannot encode it") from None


def _require_idna(name: str) -> None:
    """httpx decodes each such name, and raises what it cannot decode."""
    import idna

    try:
        idna.decode(name)
    except UnicodeError:
        raise ValueError("has a part that begins with xn-- and is not IDNA") from None


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError("is not an IPv6 address") from None


def _require_ipv4(text: str) -> None:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError("is not an IPv4 address") from None
