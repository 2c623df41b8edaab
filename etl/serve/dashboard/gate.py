"""What is refused before Datasette sees it, and what each answer tells the browser."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

from etl.config.allowed_hosts import REFUSAL, AllowedHosts

App: TypeAlias = "Callable[[Any, Any, Any], Awaitable[None]]"

LONGEST_BODY = 6_000_000
"""Bytes of one answer."""
_MUCH = 500_000
_MOST_UNSENT = 40_000_000
_UNSENT_OF_STREAM = 4_000_000  # while it is sent, all rows of its query are in memory

MOST_AT_ONCE = 4
"""Answers that are made at once, as many as there are threads for queries."""
MAKING_S = 60.0
"""Seconds in which an answer is made: a page has several queries, of ten seconds at most."""
MOST_PARAMETERS = 100
"""An address may have so many. Each may stand for a query, such as that of a facet."""

# Vega compiles expressions with eval, and Datasette's pages have inline scripts.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_FILES = ("/assets/", "/-/static")  # no query is made for them
_PIECE = 65_536
_PLAIN = ((b"content-type", b"text/plain; charset=utf-8"),)


def with_security_headers(app: App) -> App:
    """Add what keeps pages from asking other servers, and pages of others from showing ours."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped


def refusing_foreigners(app: App, allowed: AllowedHosts) -> App:
    """Answer only GET and HEAD, for hosts that are allowed, and no page of another site."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        refusal = _refusal(scope, allowed) if scope["type"] == "http" else None
        if refusal:
            status, text = refusal
            await answer(send, status, *_PLAIN, body=f"{text}\n".encode())
        else:
            await app(scope, receive, send)

    return wrapped


def _refusal(scope: Any, allowed: AllowedHosts) -> tuple[int, str] | None:
    def values(name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]

    if not allowed.allow(values(b"host"), is_old=scope["http_version"] == "1.0"):
        return 421, REFUSAL
    if scope["method"] not in ("GET", "HEAD"):
        return 405, "only GET and HEAD are answered"
    if not scope["raw_path"].startswith(b"/"):
        return 400, "ask for a path, such as /"
    if scope["query_string"].count(b"&") >= MOST_PARAMETERS:
        return 400, f"the address has more than {MOST_PARAMETERS} parameters"
    is_link = (values(b"sec-fetch-mode"), values(b"sec-fetch-dest")) == (["navigate"], ["document"])
    if {"cross-site", "same-site"} & {*values(b"sec-fetch-site")} and not is_link:
        return 403, "a page of another site may link to this page, not load it"
    return None


def bounding_answers(app: App) -> App:
    """Make few answers at once, and none that would take the memory of many.

    An answer whose client has gone, or that takes too long, is given up: others wait for its turn.
    A whole answer is sent when all that it was made of is freed: its client may read slowly. When
    all that is being sent takes much memory, the oldest is given up.
    """
    turns = asyncio.Semaphore(MOST_AT_ONCE)
    unsent: dict[Callable[[], None], int] = {}  # bytes of each, by what drops its connection

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_FILES):
            await app(scope, receive, send)
            return
        kept: list[Any] = []
        turn = AsyncExitStack()
        limit = asyncio.timeout(None)
        drop = scope.get("state", {}).get("drop", _keep)

        async def keep(message: Any) -> None:
            if message.get("more_body"):  # it comes in parts, each sent when the last one was read
                if drop not in unsent:
                    _make_room(unsent, _UNSENT_OF_STREAM)
                    unsent[drop] = _UNSENT_OF_STREAM
                limit.reschedule(None)
                await turn.aclose()
                for earlier in kept:
                    await send(earlier)
                kept.clear()
                await send(message)
            else:
                kept.append(message)

        async def make() -> None:
            async with turn:
                await turn.enter_async_context(turns)
                async with limit:
                    limit.reschedule(asyncio.get_running_loop().time() + MAKING_S)
                    await app(scope, receive, keep)

        try:
            if not await _is_done_before(_has_gone(receive), make()):
                return
        except TimeoutError:
            text = f"the answer takes more than {MAKING_S:g} s; ask for less\n"
            kept.clear()
            await answer(send, 400, *_PLAIN, body=text.encode())
            return
        finally:
            unsent.pop(drop, None)
        await _send_whole(kept, unsent, drop, send)

    return wrapped


async def _has_gone(receive: Any) -> None:
    """Ends when the client has left; what it sends as a body is for nobody."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _is_done_before(end: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> bool:
    """Whether the work was done; if not, it was given up at the end."""
    tasks = [asyncio.create_task(work), asyncio.create_task(end)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        is_done = tasks[0].done()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if is_done:
        tasks[0].result()
    return is_done


async def _send_whole(
    kept: list[Any], unsent: dict[Callable[[], None], int], drop: Callable[[], None], send: Any
) -> None:
    """Send an answer that was kept until now, and forget it."""
    size = sum(len(message.get("body", b"")) for message in kept)
    if size > LONGEST_BODY:
        kept.clear()
        gc.collect()
        text = f"the answer has more than {LONGEST_BODY // 1_000_000} MB; ask for less\n"
        await answer(send, 400, *_PLAIN, body=text.encode())
        return
    _make_room(unsent, size)
    unsent[drop] = size
    if size > _MUCH:
        gc.collect()  # Datasette leaves the text of an answer in a circle of references
    try:
        while kept:
            for piece in _pieces(kept.pop(0)):
                await send(piece)
    finally:
        unsent.pop(drop, None)


def _make_room(unsent: dict[Callable[[], None], int], size: int) -> None:
    while unsent and size + sum(unsent.values()) > _MOST_UNSENT:
        oldest = next(iter(unsent))
        unsent.pop(oldest)
        oldest()


def _keep() -> None:
    """Under a server that cannot drop a connection."""


def _pieces(message: Any) -> Iterator[Any]:
    """uvicorn copies what it sends, several times: so it gets little at once."""
    body = memoryview(message.get("body", b""))
    while len(body) > _PIECE:
        yield {**message, "body": bytes(body[:_PIECE]), "more_body": True}
        body = body[_PIECE:]
    yield {**message, "body": bytes(body)} if "body" in message else message


async def answer(send: Any, status: int, *headers: tuple[bytes, bytes], body: bytes = b"") -> None:
    """Send a whole answer."""
    await send({"type": "http.response.start", "status": status, "headers": [*headers]})
    await send({"type": "http.response.body", "body": body})
