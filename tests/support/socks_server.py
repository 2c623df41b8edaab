"""A SOCKS5 proxy without login: it connects where it is told to, and passes bytes on."""

import socket
import struct

from tests.support.tunnel import ConnectionServer, pass_on


class SocksServer(ConnectionServer):
    """Context manager; `url` is where it listens, `asked_for` each host and port it was sent to."""

    def __init__(self) -> None:
        super().__init__(self._serve_one)
        self.asked_for: list[tuple[str, int]] = []
        self.url = f"socks5://127.0.0.1:{self.port}"

    def _serve_one(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
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
                pass_on(connection, target)
