"""What answers at the port of a database and is none, or is one by its first words only."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PUBLIC_KEY = (
    rsa.generate_private_key(65537, 2048)
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)


@contextlib.contextmanager
def talking(parts: Sequence[bytes]) -> Iterator[int]:
    """A port where each connection hears the first part, and another after all that it says.

    The side that speaks first in the protocol of PostgreSQL is the client: for a part that begins
    as an answer of that server, so it is here.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, parts), daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, parts: Sequence[bytes]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                for number, part in enumerate(parts):
                    if number or part == b"N":
                        connection.recv(4096)
                    connection.sendall(part)
                # Closed with something unread, it would be reset, and the last part lost.
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass


def mysql_packet(content: bytes, number: int = 0) -> bytes:
    return struct.pack("<I", len(content))[:3] + bytes([number]) + content


def mysql_hello(version: bytes = b"8.0.36", plugin: bytes = b"mysql_native_password") -> bytes:
    """The first words of a server without TLS that knows login methods."""
    return mysql_packet(
        b"\n"
        + version
        + b"\0\7\0\0\0abcdefgh\0"
        + struct.pack("<HBHHB", 0xFFFF & ~0x0800, 45, 2, 0x0028, 21)
        + b"\0" * 10
        + b"ijklmnopqrst\0"
        + plugin
        + b"\0"
    )


REFUSED = mysql_packet(b"\xff\x15\x04#28000Access denied for user", 6)
