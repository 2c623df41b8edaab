"""Errors of a database without what its rows hold, which are names and addresses of people.

Drivers quote the value that was refused, or the whole row. Such messages end in the ledger, in
logs, and in the traceback of a bug: so they are changed where they come from.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

from etl.library_faults import said_of

_TELL = "tell_error"


def hide_values(engine: Engine, tell: Callable[[BaseException], str]) -> None:
    """Let every error of an engine say what `tell` makes of the driver's error, and no parameter.

    Errors of a driver's own cursor need `hide_values_of`.
    """
    engine.hide_parameters = True
    engine.update_execution_options(**{_TELL: tell})

    @event.listens_for(engine, "handle_error")
    def hide(context: ExceptionContext) -> None:
        told = context.sqlalchemy_exception
        if told is None:
            return  # not from the driver
        before = said_of(context.original_exception)
        _change(context.original_exception, tell)
        # Made from the driver's error, which it quotes.
        told.args = (str(told.args[0]).replace(before, said_of(context.original_exception)),)


def hide_values_of(error: BaseException, connection: Connection) -> None:
    """Change an error of the driver of this connection in the same way."""
    if tell := connection.get_execution_options().get(_TELL):
        _change(error, tell)


def _change(error: BaseException, tell: Callable[[BaseException], str]) -> None:
    # Its class and number stay, by which it is known.
    error.args = (*error.args[:-1], tell(error))
