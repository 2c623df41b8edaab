"""`--listen`: what a daemon says of itself over HTTP. Knows nothing but paths and answers."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from etl.errors import EtlError

log = logging.getLogger(__name__)

_SLOW_CLIENT_S = 10.0


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


def page(status: int, content: Any) -> Page:
    """An answer in JSON."""
    return Page(status, json.dumps(content).encode() + b"\n", "application/json")


Pages = Mapping[str, Callable[[], Page]]


@contextmanager
def listening(address: tuple[str, int], pages: Pages) -> Iterator[str]:
    """Answer in the background; yields the URL. Raises `EtlError` when it cannot listen."""
    host, port = address

    class Handler(_Handler):
        known = pages

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
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    known: Pages
    timeout = _SLOW_CLIENT_S
    server_version = "heatmap-etl"
    sys_version = ""

    def do_GET(self) -> None:
        answer = self._answer()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815 - named by the base

    def _answer(self) -> Page:
        make = self.known.get(self.path.partition("?")[0])
        if make is None:
            return Page(404, f"there is {', '.join(self.known)}\n".encode())
        try:
            return make()
        except Exception:
            log.critical("a bug; please report it with what follows", exc_info=True)
            return Page(500, b"a bug, see the log\n")

    def log_message(self, *_: object) -> None:
        """A probe every few seconds is no event."""
