"""The HTTP server of `--listen`; it knows only paths and responses."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

from etl.errors import EtlError
from etl.runtime.refusals import refusal_of

log = logging.getLogger(__name__)

_SLOW_CLIENT_S = 10.0


@dataclass(frozen=True, slots=True)
class Response:
    """Status, body and its type."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


def json_response(status: int, content: Any) -> Response:
    """`content` as one line of JSON."""
    return Response(status, json.dumps(content).encode() + b"\n", "application/json")


Pages: TypeAlias = "Mapping[str, Callable[[], Response]]"
"""The function that makes the response, by path."""


@contextmanager
def listening(address: tuple[str, int], pages: Pages) -> Iterator[str]:
    """Serve in the background; yields the URL. Raises `EtlError` when it cannot listen."""
    host, port = address

    class Handler(_Handler):
        responders = pages

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            log.debug("a client of --listen went away")

    try:
        server = Server((host, port), Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EtlError(f"--listen: cannot listen on {host}:{port}: {reason}") from None
    threading.Thread(target=server.serve_forever, name="listen", daemon=True).start()
    try:
        url_host = f"[{host}]" if ":" in host else host
        yield f"http://{url_host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    responders: Pages
    timeout = _SLOW_CLIENT_S
    server_version = "heatmap-etl"
    sys_version = ""

    def do_GET(self) -> None:
        response = self._response()
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_HEAD = do_GET  # noqa: N815 - the base class sets the name

    def _response(self) -> Response:
        respond = self.responders.get(self.path.partition("?")[0])
        if respond is None:
            return Response(404, f"not found; there are {', '.join(self.responders)}\n".encode())
        try:
            return respond()
        except Exception as error:
            if refusal := refusal_of(error):
                log.error("%s: %s", self.path, refusal)  # noqa: TRY400 - it is no bug
                return Response(500, f"{refusal}\n".encode())
            log.critical("a bug; please report it with what follows", exc_info=True)
            return Response(500, b"a bug, see the log\n")

    def log_message(self, *_: object) -> None:
        """No log lines: probes come every few seconds."""
