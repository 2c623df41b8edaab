"""The driver's own cursor: for statements that run very often, or that SQLAlchemy lacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from etl.database.private_errors import hide_values_of
from etl.errors import EtlError
from etl.library_faults import is_raised_in


class DriverFault(Exception):
    """A driver raised something else than its own errors, in a call of a room of the database."""


@contextmanager
def driver_cursor(connection: Connection, *, begins: bool = True) -> Iterator[Any]:
    """A cursor inside SQLAlchemy's transaction; the driver's errors are raised as `DBAPIError`,
    and what else it raises as `DriverFault`.

    `begins`: a transaction where there is none, as SQLAlchemy's own statements do.
    """
    if begins and not connection.in_transaction():
        connection.begin()
    cursor: Any = connection.connection.cursor()
    driver = connection.dialect.loaded_dbapi
    try:
        yield cursor
        cursor.close()
    except driver.Error as error:
        is_lost = connection.dialect.is_disconnect(error, connection.connection, cursor)
        if is_lost:
            connection.invalidate(error)
        hide_values_of(error, connection)
        raise DBAPIError.instance(
            None, None, error, driver.Error, connection_invalidated=is_lost
        ) from error
    except Exception as error:
        # Drivers written in C have no frame of their own: the innermost one is that of the caller.
        if isinstance(error, EtlError) or not is_raised_in(error, "etl.database"):
            raise
        raise DriverFault from error
