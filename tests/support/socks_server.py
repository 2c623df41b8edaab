"""A SOCKS5 proxy without login: it connects where it is told to, and passes bytes on."""

import contextlib
import socket
import struct
import threading
from typing import Self


class SocksServer:
    """Context manager; `url` is where it listens, `asked_for` each host and port it was sent to."""

    def __init__(self) -> None:
        self.asked_for: list[tuple[str, int]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socks5://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            stream.read(stream.read(2)[1])  # the ways to log in that it offers
            connection.sendall(b"\x05\x00")
            kind = stream.read(4)[3]
            size = {1: 4, 4: 16}.get(kind) or stream.read(1)[0]
            raw = stream.read(size)
            family = {1: socket.AF_INET, 4: socket.AF_INET6}.get(kind)
            host = socket.inet_ntop(family, raw) if family else raw.decode()
            (port,) = struct.unpack("!H", stream.read(2))
            self.asked_for.append((host, port))
            with socket.create_connection((host, port), 5) as target:
                connection.sendall(b"\x05\x00\x00\x01" + bytes(6))
                back = threading.Thread(target=_pass_on, args=(target, connection), daemon=True)
                back.start()
                _pass_on(connection, target)
                back.join(5)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while got := source.recv(65536):
            target.sendall(got)
        target.shutdown(socket.SHUT_WR)
