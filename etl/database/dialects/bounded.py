"""Waits for a server that end: it may be frozen, or a port that accepts may stay silent.

A login, and the question whether a pooled connection still works, must be answered soon; statements
may take longer, and those of `be_patient` an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL

LOGIN_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 120
PATIENT_TIMEOUT_S = 3600
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 30, 10, 3
UNACKNOWLEDGED_MS = 60_000
"""How long what was sent may stay without the other host's word that it arrived."""
_ANSWER, _LOGIN = "read_timeout", "connect_timeout"


class Silence(Exception):
    """Mixed into the error of a driver: the server gave no answer in time."""


def silence(seconds: float) -> str:
    """The message of a `Silence`."""
    return f"the server gave no answer for {seconds:g} s (timed out)"


def answer_timeout_s(url: URL) -> int:
    """`read_timeout` of the URL, or ours. Raises `ValueError`."""
    seconds = int(str(url.query.get(_ANSWER, ANSWER_TIMEOUT_S)))
    if seconds <= 0:
        raise ValueError(f"{_ANSWER} must be more than 0 seconds")
    return seconds


def bound_waits(engine: Engine, connect: Callable[..., Any]) -> None:
    """Connect by `connect`, to a connection of the driver with an `answer_timeout_s`.

    Time-outs of the URL go before ours. Raises `ValueError` for what is none.
    """
    answer_s = answer_timeout_s(engine.url)
    login_s = int(str(engine.url.query.get(_LOGIN, 0))) or LOGIN_TIMEOUT_S  # 0: libpq's default

    @event.listens_for(engine, "do_connect")
    def open_bounded(
        _dialect: object, _record: object, given: list[Any], named: dict[str, Any]
    ) -> Any:
        return connect(*given, **{**named, _ANSWER: login_s})

    @event.listens_for(engine, "checkout")
    def begin_use(connection: Any, *_: object) -> None:
        connection.answer_timeout_s = answer_s

    @event.listens_for(engine, "checkin")
    def end_use(connection: Any, _record: object) -> None:
        if connection is not None:
            connection.answer_timeout_s = login_s


def be_patient(connection: Connection) -> None:
    """Wait an hour for an answer, unless the URL says otherwise, until the connection is closed."""
    driver: Any = connection.connection.dbapi_connection
    if _ANSWER not in connection.engine.url.query:
        driver.answer_timeout_s = PATIENT_TIMEOUT_S
