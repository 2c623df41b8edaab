"""The head of an HTTP request -> what is asked for, or the response that refuses it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from etl.config.allowed_hosts import REFUSAL, AllowedHosts

MOST_BYTES = 16_384
_MOST_LINES = 100
_END = re.compile(rb"\r?\n\r?\n")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VERSION = re.compile(r"HTTP/1\.[0-9]")


class Refused(Exception):
    """Why a request is refused; `status` and the line that says so."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is without its query."""

    method: str
    path: str


def end_of_head(received: bytes | bytearray) -> int:
    """Where the head ends; 0 while it is not whole. Raises `Refused` when it is too long."""
    end = _END.search(received)
    if end is None and len(received) >= MOST_BYTES:
        raise Refused(431, f"the head of the request has more than {MOST_BYTES} bytes")
    return end.end() if end else 0


def read_head(head: bytes, allowed: AllowedHosts) -> Request:
    """The request; raises `Refused`, with no word of what was sent."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\n")
    if len(lines) > _MOST_LINES:
        raise Refused(431, f"the request has more than {_MOST_LINES} headers")
    parts = first.removesuffix("\r").split(" ")
    if len(parts) != 3 or not _NAME.fullmatch(parts[0]) or not _VERSION.fullmatch(parts[2]):
        raise Refused(400, "this is no HTTP/1.1 request")
    method, target, version = parts
    if not allowed.allow(_hosts(lines), is_old=version == "HTTP/1.0"):
        raise Refused(421, REFUSAL)
    if not target.startswith("/"):
        raise Refused(400, "ask for a path, such as /healthz")
    if method not in ("GET", "HEAD"):
        raise Refused(405, "only GET and HEAD are answered")
    return Request(method, target.partition("?")[0])


def _hosts(lines: list[str]) -> list[str]:
    """The value of each header `Host`."""
    hosts = []
    for line in lines:
        name, colon, value = line.removesuffix("\r").partition(":")
        if not colon or not _NAME.fullmatch(name) or "\r" in value or "\0" in value:
            raise Refused(400, "a header of the request is malformed")
        if name.lower() == "host":
            hosts.append(value.strip(" \t"))
    return hosts
