"""Waits for a server that end: it may be frozen, or a port that accepts may stay silent.

A login, and the question whether a pooled connection still works, must be answered soon; statements
may take longer, and those of `allow_long_answers` an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, event

LOGIN_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 120
LONG_ANSWER_TIMEOUT_S = 3600
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 30, 10, 3
UNACKNOWLEDGED_MS = 60_000
"""How long what was sent may stay without the other host's word that it arrived."""
_ANSWER, _LONG_ANSWER = "read_timeout", "heatmap_etl_long_answer_timeout_s"


class NoAnswer(Exception):
    """Mixed into the error of a driver: the server gave no answer in time."""


def no_answer(seconds: float) -> str:
    """The message of a `NoAnswer`."""
    return f"the server gave no answer for {seconds:g} s (timed out)"


def bound_waits(engine: Engine, connect: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Connect by `connect`, to a connection of the driver with an `answer_timeout_s`.

    `given`: parameters of the URL in their types, which go before our time-outs.
    """
    answer_timeout_s = given.get(_ANSWER, ANSWER_TIMEOUT_S)
    login_timeout_s = given.get("connect_timeout", min(answer_timeout_s, LOGIN_TIMEOUT_S))
    engine.update_execution_options(**{_LONG_ANSWER: given.get(_ANSWER, LONG_ANSWER_TIMEOUT_S)})

    @event.listens_for(engine, "do_connect")
    def open_bounded(
        _dialect: object, _record: object, positional: list[Any], named: dict[str, Any]
    ) -> Any:
        return connect(*positional, **{**named, _ANSWER: login_timeout_s})

    @event.listens_for(engine, "checkout")
    def begin_use(connection: Any, *_: object) -> None:
        connection.answer_timeout_s = answer_timeout_s

    @event.listens_for(engine, "checkin")
    def end_use(connection: Any, _record: object) -> None:
        if connection is not None:
            connection.answer_timeout_s = login_timeout_s


def allow_long_answers(connection: Connection) -> None:
    """Wait an hour for an answer, unless the URL says otherwise, until the connection is closed."""
    driver: Any = connection.connection.dbapi_connection
    driver.answer_timeout_s = connection.get_execution_options()[_LONG_ANSWER]
