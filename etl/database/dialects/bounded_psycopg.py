"""A connection of psycopg whose waits for an answer end: libpq bounds the login only."""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import timeout_from_conninfo

from etl.database.dialects.bounded import LOGIN_TIMEOUT_S, Silence, silence

T = TypeVar("T")


class ServerSilent(Silence, psycopg.OperationalError):
    """The connection is closed then: what the server still sends would be taken for an answer."""


class BoundedConnection(psycopg.Connection[Any]):
    """Waits at most `answer_timeout_s` for the next sign of life."""

    answer_timeout_s: float = LOGIN_TIMEOUT_S
    _silence = ""

    def wait(self, gen: Generator[Any, Any, T], *given: Any, **named: Any) -> T:
        if self._silence:  # psycopg wants to end what it began, as a COPY
            raise ServerSilent(self._silence)
        try:
            return super().wait(_bounded(gen, self.answer_timeout_s), *given, **named)
        except ServerSilent as error:
            self._silence = str(error)
            self.pgconn.finish()
            raise


def connect(*given: Any, read_timeout: float, **named: Any) -> BoundedConnection:
    """Connect within libpq's `connect_timeout`; `read_timeout`: for each answer after that."""
    try:
        connection = BoundedConnection.connect(*given, **named)
    except psycopg.errors.ConnectionTimeout as error:
        raise ServerSilent(silence(timeout_from_conninfo(named))) from error
    connection.answer_timeout_s = read_timeout
    return connection


def _bounded(gen: Generator[Any, Any, T], limit_s: float) -> Generator[Any, Any, T]:
    """As `gen`, which is sent what its socket is ready for: nothing, each tenth of a second."""
    try:
        state = next(gen)
        deadline = monotonic() + limit_s
        while True:
            ready = yield state
            if ready:
                deadline = monotonic() + limit_s
            elif monotonic() > deadline:
                raise ServerSilent(silence(limit_s))
            state = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result
