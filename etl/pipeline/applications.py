"""Refreshes the table `applications`, with one request a day."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from etl.database.connection import Database
from etl.datadog.client import Client
from etl.errors import DatadogError, StoreError
from etl.extract.side_question import APPLICATIONS
from etl.extract.view_selection import DAY_S, is_due
from etl.load.discovered import applications_asked_at, save_applications
from etl.pipeline.side_questions import SideQuestions

log = logging.getLogger(__name__)


def refresh_applications(
    client: Client,
    side_questions: SideQuestions,
    database: Database,
    source: str,
    guard: Callable[[Connection], None],
    now: datetime,
) -> None:
    """Read them once a day, after a failure when they may be asked for again.

    Nothing depends on them: a failure is only logged. `guard` begins a transaction of the run.
    """
    asked_at = database.read(lambda c: applications_asked_at(c, source))
    if not (side_questions.has_no_answer(APPLICATIONS) or is_due(asked_at, DAY_S, now)):
        return
    try:
        listed = side_questions.applications(client).applications
    except DatadogError as error:
        log.debug("the applications stay as they are: %s", error)
        return

    def save(connection: Connection) -> None:
        guard(connection)
        save_applications(connection, source, listed, now)

    try:
        database.transaction(save)
    except StoreError as error:
        log.warning("the applications could not be stored: %s", error)
