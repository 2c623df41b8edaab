"""A fast Datadog: bodies made beforehand, sent as they are. A process of its own.

    python -m benchmarks.server VIEWS ABOUT STAGES

prints its port when every body is made (STAGES of them for each view; 0: made when asked for),
and ends when its standard input does. `POST /control` with `{"stage": 1, "delay_ms": 50}` sets
what it answers; `GET /control` tells how many requests for snapshots came since.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from benchmarks.data import APPLICATIONS, Size

SNAPSHOTS = "/api/v2/replay/heatmap/snapshots"
RUM_APPLICATIONS = "/api/v2/rum/applications"
AGGREGATE = "/api/v2/rum/analytics/aggregate"
SEND_BUFFER = 4 << 20  # a whole body in one call


def response(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


class Answers:
    """What is answered now: stage, delay, and how often it was asked."""

    def __init__(self, size: Size, stages: int) -> None:
        self._size = size
        self._number = {name: number for number, name in enumerate(size.names())}
        self._counts = size.counts()
        self._made = {
            (number, stage): response(size.body(number, stage))
            for number in range(size.views)
            for stage in range(stages)
        }
        self.stage, self.delay_s, self.requests = 0, 0.0, 0

    def answer(self, method: str, target: str, body: bytes) -> tuple[bytes, float]:
        """The whole response, and the seconds to wait before it."""
        url = urlsplit(target)
        if url.path == SNAPSHOTS:
            self.requests += 1
            return self._snapshots(dict(parse_qsl(url.query))), self.delay_s
        if url.path == "/control":
            return self._control(method, body), 0.0
        if url.path == RUM_APPLICATIONS:
            listed = [{"id": a, "type": "rum_application", "attributes": {}} for a in APPLICATIONS]
            return response(json.dumps({"data": listed}).encode()), self.delay_s
        if url.path == AGGREGATE:
            return response(json.dumps(self._buckets()).encode()), self.delay_s
        return response(b'{"errors":["Not found"]}', "404 Not Found"), 0.0

    def _snapshots(self, query: dict[str, str]) -> bytes:
        number = self._number.get(query.get("filter[view_name]", ""))
        if number is None:
            return response(b'{"data":[]}')
        limit = int(query.get("page[limit]", "1000000"))
        wanted = {n: query.get(f"filter[{n}]") for n in ("application_id", "device_type")}
        if limit < self._counts[number] or any(wanted.values()):
            return response(self._part(number, wanted, limit))
        made = self._made.get((number, self.stage))
        return made or response(self._size.body(number, self.stage))

    def _part(self, number: int, wanted: dict[str, str | None], limit: int) -> bytes:
        found = [
            record
            for record in self._size.records(number, self.stage)
            if all(not v or json.loads(record)["attributes"][n] == v for n, v in wanted.items())
        ]
        return b'{"data":[' + b",".join(found[:limit]) + b"]}"

    def _control(self, method: str, body: bytes) -> bytes:
        if method == "POST":
            wanted = json.loads(body)
            self.stage, self.delay_s = wanted.get("stage", 0), wanted.get("delay_ms", 0) / 1000
            self.requests = 0
        return response(json.dumps({"requests": self.requests}).encode())

    def _buckets(self) -> dict[str, Any]:
        return {
            "data": {
                "buckets": [
                    {"by": {"@view.name": name, "@application.id": a}, "computes": {"c0": 100 + n}}
                    for n, name in enumerate(self._number)
                    for a in APPLICATIONS
                ]
            },
            "meta": {"status": "done"},
        }


class Connection(asyncio.Protocol):
    """Keep-alive; one request at a time, as every client here sends them."""

    def __init__(self, answer: Callable[[str, str, bytes], tuple[bytes, float]]) -> None:
        self._answer = answer
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.decode("ascii").split("\r\n")
        names = (line.lower().partition(":") for line in lines[1:])
        length = next((int(v) for n, _, v in names if n == "content-length"), 0)
        if len(rest) < length:
            return
        method, target, _ = lines[0].split(" ")
        self._received = rest[length:]
        answer, delay_s = self._answer(method, target, rest[:length])
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def serve(answers: Answers) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answers.answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    views, about, stages = map(int, sys.argv[1:4])
    asyncio.run(serve(Answers(Size(views, about), stages)))
