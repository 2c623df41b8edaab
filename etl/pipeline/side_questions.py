"""What one run asks besides its views: each question once, and none that is left alone."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime

from etl.datadog.client import Client
from etl.datadog.refused_keys import Validation
from etl.datadog.server_clock import ServerClock
from etl.errors import DatadogError, DatadogUnavailable
from etl.extract.discovery import ApplicationList, read_applications
from etl.extract.side_question import (
    APPLICATIONS,
    ORGANIZATION,
    VALIDATION,
    Unanswered,
    unanswered,
)
from etl.formatting import iso


class SideQuestions:
    """The side questions of one run, for one thread.

    `stored`: those without an answer when last asked, by question; none of them: each is asked.
    `failed`: those that got none in this run, for the table. `validation`: for the clients of the
    run, so that all of them together ask once which key was refused; `server_clock`: shared, too,
    of all answers.
    """

    def __init__(
        self,
        stop: threading.Event,
        stored: Mapping[str, Unanswered] | None = None,
        server_clock: ServerClock | None = None,
    ) -> None:
        self.server_clock = server_clock or ServerClock()
        self.failed: dict[str, Unanswered] = {}
        self._stop = stop
        self._stored = stored or {}
        self._applications: ApplicationList | None = None
        self.validation = Validation(is_left_alone=self.is_left_alone(VALIDATION))

    def has_no_answer(self, question: str) -> bool:
        """Whether it got none when last asked, by an earlier run or by this one."""
        return question in self._stored or question in self.failed

    def is_left_alone(self, question: str) -> bool:
        """Whether this run asked it without an answer, or an earlier one did so not long ago."""
        before = self._stored.get(question)
        is_early = before is not None and before.is_left_alone(datetime.now(UTC))
        return is_early or question in self.failed

    def note_failure(self, question: str, error: DatadogError) -> None:
        """Keep that it got no answer; what ended because the run must stop says nothing."""
        if not self._stop.is_set():
            before = self._stored.get(question)
            self.failed[question] = unanswered(question, error, before, datetime.now(UTC))

    def note_validation(self) -> bool:
        """Keep that it got no answer; returns whether an earlier failure is over: it got one, or
        nothing was refused."""
        asked = self.validation
        if asked.failure:
            self.note_failure(VALIDATION, asked.failure)
        is_over = asked.is_known or not asked.is_wanted
        return is_over and VALIDATION in self._stored

    def applications(self, client: Client) -> ApplicationList:
        """RUM's list of applications, asked for at most once.

        Raises `DatadogError`, as often as it is called, where there is no answer.
        """
        return self._listed(client, APPLICATIONS)

    def organizations(self, client: Client) -> set[int]:
        """The organizations that the keys belong to: the list of applications names that of each.

        Raises as `applications`, but asks where only that is left alone.
        """
        is_early = self.is_left_alone(APPLICATIONS) and APPLICATIONS not in self.failed
        listed = self._listed(client, ORGANIZATION if is_early else APPLICATIONS)
        return {a.org_id for a in listed.applications if a.org_id is not None}

    def _listed(self, client: Client, question: str) -> ApplicationList:
        if self._applications is not None:
            return self._applications
        if self.is_left_alone(question):
            last = self.failed.get(question) or self._stored[question]
            until = iso(last.ask_again_at)
            raise DatadogUnavailable(f"{last.error}; not asked again before {until}")
        try:
            self._applications = read_applications(client)
        except DatadogError as error:
            self.note_failure(question, error)
            raise
        return self._applications
