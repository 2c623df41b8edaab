"""What is said of a wait that ended: how long it was."""

import socket
from typing import Any
from unittest.mock import patch

import psycopg
import pytest

from etl.database.dialects import bounded_psycopg, bounded_pymysql


@pytest.mark.parametrize(("timeout_s", "waited_s"), [(10, 10), (1, 2)])
def test_a_login_is_waited_for_as_long_as_libpq_does(timeout_s: int, waited_s: int) -> None:
    expired = psycopg.errors.ConnectionTimeout()
    with (
        patch.object(psycopg.Connection, "connect", side_effect=expired),
        pytest.raises(bounded_psycopg.NoAnswerError, match=f"no answer for {waited_s} s"),
    ):
        bounded_psycopg.connect(connect_timeout=timeout_s, read_timeout=5)


def test_to_send_has_a_time_out_of_its_own() -> None:
    ours, theirs = socket.socketpair()
    connection: Any = bounded_pymysql.BoundedConnection(
        defer_connect=True, read_timeout=30, write_timeout=0.1
    )
    connection._sock, connection._closed, connection._current_timeout = ours, False, None
    with pytest.raises(bounded_pymysql.NoAnswerError, match=r"no answer for 0\.1 s"):
        connection._write_bytes(b"x" * 10_000_000)
    theirs.close()


def test_to_connect_has_a_time_out_of_its_own() -> None:
    with (
        patch.object(socket, "create_connection", side_effect=TimeoutError("timed out")),
        pytest.raises(bounded_pymysql.NoAnswerError, match="no answer for 7 s"),
    ):
        bounded_pymysql.BoundedConnection(host="localhost", connect_timeout=7, read_timeout=1)
