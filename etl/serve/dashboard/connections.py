"""uvicorn's protocol, for a server that slow and many clients cannot stop."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 32
"""Connections at once. A browser opens six."""
REQUEST_S = 10.0
"""Seconds from a connection, or the first byte of its next request, to the end of the request."""
ANSWER_S = 300.0
"""Seconds until all of an answer is sent: a query takes ten at most, and each page has several."""


class BoundedProtocol(H11Protocol):
    """One connection. For a new one the oldest makes room that waits for no answer.

    Where each waits for one, it is the oldest that does not read its answer.
    """

    born = 0.0
    _deadline: asyncio.TimerHandle | None = None
    _timed: Any = None  # the exchange that has its deadline

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.app_state = {**self.app_state, "drop": self._drop}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or drop it where all others wait for their answers."""
        others = [other for other in self._all() if not other.transport.is_closing()]
        super().connection_made(transport)
        if len(others) >= MOST:
            idle = [other for other in others if not other.is_answering()]
            slow = [other for other in others if other.flow.write_paused]
            min(idle or slow, key=lambda other: other.born, default=self).transport.abort()
        self.born = self.loop.time()
        self._set_deadline(REQUEST_S)

    def _all(self) -> list[BoundedProtocol]:
        return [other for other in self.connections if isinstance(other, BoundedProtocol)]

    def is_answering(self) -> bool:
        """Whether a request is there whose answer is not."""
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request, which must be whole in time."""
        if self._deadline is None:
            self._set_deadline(REQUEST_S)
        super().data_received(data)
        self._time_answer()

    def on_response_complete(self) -> None:
        """Wait for the next request: uvicorn ends that after some seconds."""
        if not self.transport.get_write_buffer_size():
            self._clear_deadline()
        super().on_response_complete()
        self._time_answer()  # to a request that came behind the other

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._clear_deadline()
        super().connection_lost(exc)

    def _time_answer(self) -> None:
        is_whole = self.conn.their_state is not h11.SEND_BODY
        if is_whole and self.is_answering() and self._timed is not self.cycle:
            self._timed = self.cycle
            self._set_deadline(ANSWER_S)

    def _drop(self) -> None:
        self.transport.abort()

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _clear_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
