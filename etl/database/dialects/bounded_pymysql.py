"""A connection of PyMySQL whose waits for an answer end, and that notices a host that is gone."""

from __future__ import annotations

import socket
import sys

from pymysql.connections import Connection
from pymysql.constants import CR
from pymysql.err import OperationalError

from etl.database.dialects.bounded import (
    KEEPALIVE_COUNT,
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    UNACKNOWLEDGED_MS,
    NoAnswer,
    no_answer,
)

# The driver itself has only switched them on: the system's own are two hours. Some platforms lack
# some of them.
_SOCKET_OPTIONS = {
    "TCP_KEEPIDLE": KEEPALIVE_IDLE_S,
    "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_S,
    "TCP_KEEPCNT": KEEPALIVE_COUNT,
    "TCP_USER_TIMEOUT": UNACKNOWLEDGED_MS,
}


class NoAnswerError(NoAnswer, OperationalError):
    """The driver has closed the connection then."""


class BoundedConnection(Connection):
    """Waits at most `answer_timeout_s` for the next bytes. The driver has no public way to it."""

    _sock: socket.socket | None
    _closed: bool

    @property
    def answer_timeout_s(self) -> float:
        """Also `read_timeout`, for the login."""
        seconds: float = self._read_timeout
        return seconds

    @answer_timeout_s.setter
    def answer_timeout_s(self, seconds: float) -> None:
        self._read_timeout = seconds

    def connect(self, sock: socket.socket | None = None) -> None:
        super().connect(sock)
        if self._sock is None or self._sock.family == socket.AF_UNIX:
            return
        for name, value in _SOCKET_OPTIONS.items():
            if hasattr(socket, name):
                self._sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def _force_close(self) -> None:
        """Whatever goes wrong with the socket, the driver calls this before it raises its error.

        To wrap what reads a packet would cost a call for each row.
        """
        cause, was_open = sys.exception(), not self._closed
        waited_s = self._sock.gettimeout() if self._sock else self.connect_timeout
        super()._force_close()  # type: ignore[misc]  # not public
        # One with a number is the system's: the host is gone, or the network.
        if was_open and waited_s and isinstance(cause, TimeoutError) and cause.errno is None:
            raise NoAnswerError(CR.CR_SERVER_LOST, no_answer(waited_s)) from None
