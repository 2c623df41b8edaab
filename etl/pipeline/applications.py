"""Refreshes the table `applications`, with one request a day."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from etl.database.connection import Database
from etl.datadog.client import Client
from etl.datadog.rum import Application
from etl.errors import DatadogError, StoreError
from etl.extract.discovery import read_applications
from etl.extract.view_selection import DAY_S, is_due
from etl.load.discovered import applications_asked_at, note_applications_asked, save_applications

log = logging.getLogger(__name__)


def refresh_applications(
    client: Client,
    database: Database,
    source: str,
    guard: Callable[[Connection], None],
    now: datetime,
) -> None:
    """Read them once a day. Nothing depends on them: a failure is only logged.

    `guard` begins a transaction of the run.
    """
    if not is_due(database.read(lambda c: applications_asked_at(c, source)), DAY_S, now):
        return
    listed: list[Application] | None = None
    try:
        listed = read_applications(client)
    except DatadogError as error:
        log.debug("the applications stay as they are: %s", error)

    def save(connection: Connection) -> None:
        guard(connection)
        if listed is None:
            note_applications_asked(connection, source, now)
        else:
            save_applications(connection, source, listed, now)

    try:
        database.transaction(save)
    except StoreError as error:
        log.warning("the applications could not be stored: %s", error)
