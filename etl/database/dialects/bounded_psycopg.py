"""A connection of psycopg whose waits for an answer end: libpq bounds the login only."""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import timeout_from_conninfo

from etl.database.dialects.bounded import LOGIN_TIMEOUT_S, NoAnswer, no_answer
from etl.library_faults import said_of

T = TypeVar("T")


class NoAnswerError(NoAnswer, psycopg.OperationalError):
    """The connection is closed then: what the server still sends would be taken for an answer."""


class BoundedConnection(psycopg.Connection[Any]):
    """Waits at most `answer_timeout_s` for the next sign of life."""

    answer_timeout_s: float = LOGIN_TIMEOUT_S
    _no_answer = ""

    def wait(self, gen: Generator[Any, Any, T], *given: Any, **named: Any) -> T:
        if self._no_answer:  # psycopg wants to end what it began, as a COPY
            raise NoAnswerError(self._no_answer)
        try:
            return super().wait(_bounded(gen, self.answer_timeout_s), *given, **named)
        except NoAnswerError as error:
            self._no_answer = said_of(error)
            self.pgconn.finish()
            raise


def connect(*given: Any, read_timeout: float, **named: Any) -> BoundedConnection:
    """Connect within libpq's `connect_timeout`; `read_timeout`: for each answer after that."""
    try:
        connection = BoundedConnection.connect(*given, **named)
    except psycopg.errors.ConnectionTimeout as error:
        raise NoAnswerError(no_answer(timeout_from_conninfo(named))) from error
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
                raise NoAnswerError(no_answer(limit_s))
            state = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result
