"""The one loop over views: a run, a plan and a check differ in where their listings go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from etl.config.model import Config
from etl.config.views import View
from etl.database.connection import Database
from etl.datadog.client import Client
from etl.errors import DatadogError
from etl.extract.api_state import ApiState
from etl.extract.fetch import Fetcher, Result
from etl.extract.verify import Stored, Verifier
from etl.load.lookup import read_names, read_parts
from etl.pipeline.side_questions import SideQuestions

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where listings go: a `Loader`, or what only looks at them."""

    def load(self, results: Sequence[Result]) -> None:
        """Take a few views; their records are gone from memory afterwards."""

    def load_deferred(self, ask_organization: Callable[[], set[int]]) -> None:
        """Take what waited, now that every view was read; see `Loader.load_deferred`."""


def read_and_load(
    client: Client,
    side_questions: SideQuestions,
    verifier: Verifier,
    views: Sequence[View],
    sink: Sink,
) -> None:
    """Ask for each view, and hand on what its answer proves as soon as that is certain."""
    for results in verifier.results(views):
        sink.load(results)
    sink.load_deferred(lambda: _organizations(client, side_questions))


@contextmanager
def open_verifier(
    client: Client,
    side_questions: SideQuestions,
    config: Config,
    api_state: ApiState,
    stop: threading.Event,
    stored: Stored,
    *,
    is_hasty: bool = False,
) -> Iterator[Verifier]:
    """A verifier, which reads the configured views and says what their answers prove.

    `is_hasty`: for somebody who waits, see `Fetcher`.
    """

    def applications() -> tuple[list[str] | None, str]:
        try:
            return [a.application_id for a in side_questions.applications(client).whole()], ""
        except DatadogError as error:
            return None, str(error)

    with Fetcher(client, config, api_state, stop, is_hasty=is_hasty) as fetcher:
        names = {view.name for view in config.views}
        yield Verifier(fetcher, api_state, applications, stored, names)


def _organizations(client: Client, side_questions: SideQuestions) -> set[int]:
    """The organizations that the keys belong to.

    Where RUM does not say, none is known, and only the thresholds hold removals.
    """
    try:
        return side_questions.organizations(client)
    except DatadogError as error:
        log.debug("the organization of these keys is not known: %s", error)
        return set()


def stored_in(database: Database | None, source: str) -> Stored:
    """What the verifier asks the tables; None: there are none."""
    if database is None:
        return Stored(lambda: (set(), set()), lambda _view: set())

    def names(view: View) -> set[str]:
        return database.read(lambda connection: read_names(connection, view.key(source)))

    return Stored(lambda: database.read(lambda connection: read_parts(connection, source)), names)
