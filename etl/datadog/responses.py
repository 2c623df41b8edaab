"""What a response that is no answer says, as one short line. Pure."""

from __future__ import annotations

import contextlib
import json
import re

from etl.own_keys import OwnKeys

LONGEST_TEXT = 200
LONGEST_READ = 20_000
"""Characters of a foreign text that are read at all."""


def error_text(body: bytes) -> str:
    """The first error text of an answer that is not a 200, in any known shape; "" for none."""
    text = body.decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, RecursionError):
        return _first_error(json.loads(text))
    if not text.startswith("<"):
        return text[:LONGEST_READ]
    import html  # with two thousand names of characters; no usual run sees a page

    page = text[:LONGEST_READ]
    heading = re.search(r"<(?:title|h1)\b[^<>]*>\s*([^<\s][^<]*)", page, re.IGNORECASE)
    return html.unescape(heading[1] if heading else re.sub(r"<[^<>]*>", " ", page)).strip()


def _first_error(found: object) -> str:
    """The text of one error, of the first of several, or of the object that holds them."""
    if isinstance(found, str):
        return found
    if isinstance(found, list):
        return next(filter(None, map(_first_error, found)), "")
    if not isinstance(found, dict):
        return ""
    texts = [
        found[key] for key in ("title", "detail", "message") if isinstance(found.get(key), str)
    ]
    source = found.get("source")
    if texts and isinstance(source, dict) and isinstance(source.get("parameter"), str):
        texts.append(source["parameter"])
    inner = (_first_error(found[key]) for key in ("errors", "error") if key in found)
    return next(filter(None, inner), "") or ": ".join(filter(None, texts))


def is_page(body: bytes) -> bool:
    """Whether it is markup, which Datadog's API never sends: something between answered."""
    return body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def host_of(location: str) -> str:
    """The host that a Location header names, without the user in it; "" for none."""
    found = re.match(r"(?:\w+:)?//(?:[^/?#]*@)?([^/?#:@]+)", location)
    return found[1] if found else ""


def one_line(text: str, own_keys: OwnKeys) -> str:
    """Foreign text made fit for a message: one short line, our keys blotted out."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = own_keys.blotted(text[:LONGEST_READ])
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 3] + "..."
