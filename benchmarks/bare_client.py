"""The least a client can do: read every body from one socket, and look at none.

    python bare_client.py API_URL VIEWS.json

What it takes shows that the server of the benchmarks is not what the others wait for.
"""

import json
import socket
import sys
from urllib.parse import quote, urlsplit


def main() -> None:
    with open(sys.argv[2], encoding="utf-8") as file:  # noqa: PTH123 - every import counts here
        views = json.load(file)
    netloc = urlsplit(sys.argv[1]).netloc
    host, _, port = netloc.partition(":")
    buffer = memoryview(bytearray(4 << 20))
    with socket.create_connection((host, int(port))) as connection:
        for view in views:
            query = f"filter%5Bview_name%5D={quote(view, safe='')}&page%5Blimit%5D=5000"
            target = f"/api/v2/replay/heatmap/snapshots?{query}"
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {netloc}\r\n\r\n".encode())
            _read(connection, buffer)


def _read(connection: socket.socket, buffer: memoryview) -> None:
    received, end = 0, -1
    while end < 0:
        received += connection.recv_into(buffer[received:])
        end = bytes(buffer[:received]).find(b"\r\n\r\n")
    head = bytes(buffer[:end]).lower()
    missing = int(head.partition(b"content-length:")[2].split()[0]) - (received - end - 4)
    while missing > 0:
        missing -= connection.recv_into(buffer[:missing])


main()
