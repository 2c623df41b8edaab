"""Listings that wait for others lie on disk, so that memory stays flat.

An unnamed temporary file: nobody else can open it, and it is gone with the process.
"""

from __future__ import annotations

import pickle
import tempfile
from typing import IO, NamedTuple

from etl.transform.snapshot import Decoded


class Ticket(NamedTuple):
    """Where a decoded answer lies."""

    offset: int
    length: int


class Spool:
    """Put decoded answers away and get them back, from one thread."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def put(self, decoded: Decoded) -> Ticket:
        """Write it down."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="heatmap-etl-")  # noqa: SIM115
        offset = self._file.seek(0, 2)
        return Ticket(offset, self._file.write(pickle.dumps(decoded, protocol=5)))

    def get(self, ticket: Ticket) -> Decoded:
        """Read it back."""
        if self._file is None:
            raise AssertionError("nothing was put")
        self._file.seek(ticket.offset)
        decoded: Decoded = pickle.loads(self._file.read(ticket.length))  # noqa: S301 - our own
        return decoded

    def close(self) -> None:
        """Forget everything."""
        if self._file is not None:
            self._file.close()
            self._file = None
