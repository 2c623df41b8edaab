"""What stands before Datasette, with a stand-in for it and for the server."""

import asyncio
from typing import Any

import pytest

from etl.config.allowed_hosts import AllowedHosts
from etl.serve.dashboard import gate

SCOPE = {"type": "http", "path": "/", "raw_path": b"/", "http_version": "1.1", "method": "GET"}
SCOPE |= {"query_string": b"", "headers": [(b"host", b"localhost")]}


async def has_left() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def stays() -> Any:
    await asyncio.Event().wait()


async def never_answers(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def asked(app: gate.App, receive: Any, scope: Any = SCOPE) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_clients_that_have_left_take_nobodys_turn() -> None:
    """They take few descriptors and many turns: each can ask, leave, and come again."""
    app = gate.bounding_answers(never_answers)

    async def many() -> None:
        for _ in range(gate.MOST_AT_ONCE + 1):
            assert await asked(app, has_left) == []

    asyncio.run(asyncio.wait_for(many(), 30))


def test_an_answer_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAKING_S", 0.01)
    app = gate.bounding_answers(never_answers)
    head, body = asyncio.run(asyncio.wait_for(asked(app, stays), 30))
    assert head["status"] == 400
    assert b"ask for less" in body["body"]


def test_an_answer_in_parts_has_no_such_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAKING_S", 0.01)

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"b"})

    sent = asyncio.run(asyncio.wait_for(asked(gate.bounding_answers(streaming), stays), 30))
    assert [message.get("body") for message in sent] == [None, b"a", b"b"]


@pytest.mark.parametrize(("number", "status"), [(100, 200), (101, 400)])
def test_an_address_has_few_parameters(number: int, status: int) -> None:
    """Each facet is a query of its own."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.answer(send, 200)

    guarded = gate.refusing_foreigners(app, AllowedHosts.of("127.0.0.1"))
    query = b"&".join([b"_facet=id"] * number)
    head, _ = asyncio.run(asked(guarded, stays, {**SCOPE, "query_string": query}))
    assert head["status"] == status
