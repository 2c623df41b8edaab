"""Servers of single connections: a proxy that opens a tunnel and then does what a test says."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import Self

Behave = Callable[[socket.socket], None]
"""What is done with a connection; it is closed afterwards."""


class ConnectionServer:
    """Context manager; calls `behave` for each connection in a thread. `port` is where it is."""

    def __init__(self, behave: Behave) -> None:
        self._behave = behave
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            for connection in (self._listener, *self._open):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def open_now(self) -> int:
        """Connections that neither side has closed."""
        with self._lock:
            return len(self._open)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, ValueError):  # the client leaves when it has enough
                self._behave(connection)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (got := connection.recv(1)):
            break
        head += got
    return head


def wait_for_the_end(connection: socket.socket) -> None:
    """Say nothing until the other side goes."""
    while connection.recv(65536):
        pass


def dripping(data: Iterable[bytes], pause_s: float) -> Behave:
    def drip(connection: socket.socket) -> None:
        for piece in data:
            connection.sendall(piece)
            time.sleep(pause_s)

    return drip


def after_connect(*behaviours: Behave) -> Behave:
    """A proxy that says 200 to CONNECT; then the first behaviour, next time the second, ..."""
    order, lock = list(behaviours), threading.Lock()

    def tunnel(connection: socket.socket) -> None:
        if not read_head(connection).startswith(b"CONNECT "):
            return
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with lock:
            behave = order.pop(0) if len(order) > 1 else order[0]
        behave(connection)

    return tunnel


def relay_to(port: int) -> Behave:
    """Pass everything on to a server on this machine, both ways."""

    def relay(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            pass_on(connection, server)

    return relay


def pass_on(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes from either, until one of them ends; then both have ended."""
    back = threading.Thread(target=_pump, args=(other, one), daemon=True)
    back.start()
    _pump(one, other)
    back.join(15)


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, and in what way it ends: in order, or with a reset."""
    try:
        while got := source.recv(65536):
            target.sendall(got)
    except ConnectionResetError:
        with contextlib.suppress(OSError):
            target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
