"""The bytes of one answer as they come -> its body, unpacked, within a bound of memory."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

from etl.library_faults import name_of

LARGE_BYTES = 16 * 1024 * 1024
"""From this size on, bodies take turns."""
_PIECE_BYTES = 1024 * 1024  # of what one call unpacks
_GZIP = 31  # zlib's word for gzip, whose checksum and length it then checks


class BodyTooLarge(Exception):
    """The body is larger than the bound, as sent or unpacked."""


class BadEncoding(Exception):
    """The body is not packed as its header says, or not whole."""


class Body:
    """One body, fed as it comes. Raises BodyTooLarge and BadEncoding; `encoding` is its header.

    At most `most_bytes` are kept. `on_large` is called once, when it has grown large.
    """

    def __init__(self, encoding: str, most_bytes: int, on_large: Callable[[], None]) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise BadEncoding(f"Content-Encoding {encoding}, which was not asked for")
        self._is_packed = encoding.endswith("gzip")
        self._most_bytes = most_bytes
        self._on_large = on_large
        self._is_large = False
        self._received = 0
        self._unpacker = zlib.decompressobj(_GZIP) if self._is_packed else None
        # Not a list of pieces, nor a bytearray: both would need the room twice in the end.
        self._content = io.BytesIO()

    def add(self, data: bytes) -> None:
        """The next bytes as sent."""
        self._received += len(data)
        self._check(self._received)
        if self._is_packed:
            self._unpack(data)
        else:
            self._content.write(data)

    def whole(self) -> bytes:
        """All of it, after the last byte has come."""
        if self._is_packed and self._received:
            self._unpack(b"")
            if self._unpacker is not None:
                raise BadEncoding("bad gzip: it ends too early")
        return self._content.getvalue()

    def _unpack(self, data: bytes) -> None:
        """Several packed bodies may follow each other, with zeros after each, as in a gzip file."""
        is_full = True
        while data or (is_full and self._unpacker is not None):
            if self._unpacker is None:
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._unpacker = zlib.decompressobj(_GZIP)
            try:
                piece = self._unpacker.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise BadEncoding(f"bad gzip: {error}") from None
            except Exception as error:  # noqa: BLE001 - of zlib, for bytes of anybody
                raise BadEncoding(f"bad gzip: {name_of(error)}") from None
            self._content.write(piece)
            self._check(self._content.tell())
            is_full = len(piece) == _PIECE_BYTES
            data = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                data, self._unpacker = self._unpacker.unused_data, None

    def _check(self, size: int) -> None:
        if size > self._most_bytes:
            self._content = io.BytesIO()
            raise BodyTooLarge
        if size > LARGE_BYTES and not self._is_large:
            self._is_large = True
            self._on_large()
