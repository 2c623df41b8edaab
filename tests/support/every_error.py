"""Every kind of exception that a library may raise, to be thrown at a boundary.

`throwing(kind, module)` is a function that raises it as that module would: its line counts as one
of the library.
"""

import binascii
import builtins
import email.errors
import errno
import http.client
import json
import pickle
import queue
import socket
import sqlite3
import ssl
import struct
import tomllib
import traceback
import urllib.error
import zlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import httpcore
import httpx
import msgspec
import psycopg
import pymysql.err
import sqlalchemy.exc

PLANTED = "planted-secret"
_MODULES: tuple[ModuleType, ...] = (
    *(builtins, httpx, httpcore, msgspec, ssl, socket, json, zlib, struct, tomllib, pickle, queue),
    *(binascii, email.errors, http.client, urllib.error, sqlalchemy.exc, psycopg, pymysql.err),
    sqlite3,
)
_ERRNOS = ("ENOENT", "EACCES", "EMFILE", "ENOSPC", "EIO", "ECONNRESET", "EPIPE", "EINVAL", "EBADF")
# Raised by the classes below, which are made by `throwing` where the library is.
_MADE = {
    "one that cannot be said": "class E(Exception):\n  def __str__(self): raise ValueError('{0}')",
    "one that cannot be made": "class E(Exception):\n  def __init__(self): raise KeyError('{0}')",
    "an error of the system that cannot be said": (
        "class E(OSError):\n  def __str__(self): raise ValueError('{0}')"
    ),
    "one of a network that cannot be said": (
        "import httpcore\nclass E(httpcore.ReadError):\n  def __str__(self): raise TypeError('{0}')"
    ),
}
_ARGUMENTS: dict[type[Exception], tuple[Any, ...]] = {
    UnicodeDecodeError: ("utf-8", PLANTED.encode(), 0, 1, PLANTED),
    UnicodeEncodeError: ("utf-8", PLANTED, 0, 1, PLANTED),
    UnicodeTranslateError: (PLANTED, 0, 1, PLANTED),
    ExceptionGroup: (PLANTED, [ValueError(PLANTED)]),
    json.JSONDecodeError: (PLANTED, PLANTED, 0),
    urllib.error.HTTPError: ("http://127.0.0.1/", 500, PLANTED, http.client.HTTPMessage(), None),
}


def _classes() -> Iterator[type[Exception]]:
    for module in _MODULES:
        for name in dir(module):
            found = getattr(module, name)
            if isinstance(found, type) and issubclass(found, Exception):
                yield found


def _made(kind: type[Exception]) -> Exception | None:
    """One of that class; None: nobody can make it like this."""
    for arguments in (_ARGUMENTS.get(kind, (PLANTED,)), (PLANTED,) * 2, (PLANTED,) * 3, ()):
        try:
            return kind(*arguments)
        except TypeError:
            continue
    return None


def _kinds() -> dict[str, Exception | str]:
    found: dict[str, Exception | str] = {}
    for kind in _classes():
        if error := _made(kind):
            found[f"{kind.__module__}.{kind.__qualname__}"] = error
    for name in _ERRNOS:
        found[f"OSError {name}"] = OSError(getattr(errno, name), PLANTED)
    return found | {name: text.format(PLANTED) for name, text in _MADE.items()}


EVERY = _kinds()
"""What to raise, by a name for people; a text: the code of its class, `E`."""


def throwing(name: str, module: str) -> Callable[..., Any]:
    """A function of this name's kind, whose line is one of `module`, such as `json.decoder`."""
    folder = traceback.__file__.rpartition("traceback")[0] + "site-packages/"
    error = EVERY[name]
    code = f"{error}\ndef throw(*_, **__): raise E()" if isinstance(error, str) else ""
    code = code or "def throw(*_, **__): raise error.with_traceback(None)"
    scope: dict[str, Any] = {"__name__": module, "error": error}
    exec(compile(code, f"{folder}{module}.py", "exec"), scope)
    throw: Callable[..., Any] = scope["throw"]
    return throw
