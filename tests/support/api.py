"""A scripted API over real HTTP: what each view answers is what the test says, to the byte."""

import json
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

APPLICATIONS = "/api/v2/rum/applications"
AGGREGATE = "/api/v2/rum/analytics/aggregate"
VALIDATE = "/api/v2/validate"
Reply = tuple[int, dict[str, str], bytes]


class Api:
    """`views[name]` is a list of records, raw bytes, a Reply, or a callable giving one of these.

    A list is cut at `page[limit]`, as a server would. `applications` and `rum` are what the two
    RUM endpoints answer, `validate` what that for keys does: a Reply, bytes, anything JSON, or a
    callable that takes the body of the request; None: 404. `asked` holds the bodies of what was
    asked there, by path. `clock_s`: how far its clock is ahead of ours, for the header Date.
    """

    def __init__(self) -> None:
        self.views: dict[str, Any] = {}
        self.requests: list[dict[str, str]] = []
        self.applications: Any = None
        self.rum: Any = None
        self.validate: Any = None
        self.asked: dict[str, list[Any]] = {APPLICATIONS: [], AGGREGATE: [], VALIDATE: []}
        self.clock_s = 0.0
        self._lock = threading.Lock()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def date_time_string(self, timestamp: float | None = None) -> str:
                at = time.time() if timestamp is None else timestamp
                return formatdate(at + api.clock_s, usegmt=True)

            def do_GET(self) -> None:
                self._answer(api._reply(self.path))

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(api._reply_of_rum(self.path, json.loads(sent)))

            def _answer(self, reply: Reply) -> None:
                status, headers, body = reply
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Clients that are killed leave broken pipes."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _reply_of_rum(self, path: str, sent: Any) -> Reply:
        with self._lock:
            self.asked[path].append(sent)
        answers = {APPLICATIONS: self.applications, AGGREGATE: self.rum, VALIDATE: self.validate}
        answer = answers[path]
        if callable(answer):
            answer = answer(sent)
        if answer is None:
            return 404, {}, b'{"errors": ["Not found"]}'
        if isinstance(answer, tuple):
            return answer
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return 200, {}, body

    def _reply(self, path: str) -> Reply:
        if path in (APPLICATIONS, VALIDATE):
            return self._reply_of_rum(path, None)
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        with self._lock:
            self.requests.append(query)
        answer = self.views.get(query.get("filter[view_name]", ""), [])
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer()
        if isinstance(answer, tuple):
            return answer
        if isinstance(answer, bytes):
            return 200, {}, answer
        return 200, {}, json.dumps({"data": answer[: int(query["page[limit]"])]}).encode()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def record(identifier: object, **attributes: object) -> dict[str, Any]:
    """A healthy record; `attributes` replace or add."""
    usual = {
        "application_id": "aaaaaaaa-1111-2222-3333-bbbbbbbbbbbb",
        "created_at": "2026-02-01T10:00:00.123456Z",
        "created_by": "Ada",
        "created_by_handle": "ada@example.com",
        "created_by_user_id": 7,
        "device_type": "desktop",
        "event_id": "event-1",
        "is_device_type_selected_by_user": False,
        "modified_at": "2026-02-01T10:00:00Z",
        "org_id": 42,
        "session_id": "session-1",
        "snapshot_name": "Menu open",
        "start": 0,
        "view_id": "view-1",
        "view_name": "/home",
    }
    return {"id": identifier, "type": "snapshots", "attributes": usual | attributes}
