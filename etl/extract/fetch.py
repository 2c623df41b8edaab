"""Views -> their answers, without a verdict, in the order in which they come.

Daemon threads send the requests while the thread that iterates loads. At most `concurrency`
requests are in flight, and at most eight bodies are in memory: another one is not received
before an earlier one was loaded or spilled to disk.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Self, TypeAlias

import msgspec

from etl.causes import GIVEN_UP, NOT_ASKED
from etl.config.model import Config
from etl.config.views import View
from etl.datadog.client import Client
from etl.datadog.page_limit import lowered_limit
from etl.datadog.retry import RetryBudget
from etl.errors import (
    DatadogAnswerTooLarge,
    DatadogAuthError,
    DatadogError,
    DatadogHostUnknown,
    DatadogRequestError,
    DatadogResponseError,
    DatadogUnavailable,
)
from etl.extract.api_state import ApiState, LastReading
from etl.extract.ask import ask
from etl.extract.buffer import MAX_BODIES, Buffer
from etl.extract.listing import Listing, try_to_read
from etl.extract.spill_file import spill_folders
from etl.runtime.run_context import with_log_fields
from etl.transform.privacy import Privacy

log = logging.getLogger(__name__)

BATCH_BODIES = 4
"""Bodies that are loaded together; as many again have room to be received meanwhile."""
BATCH_VIEWS = 100
"""Views that share a commit."""
SHORTEST_STREAK = 3
"""Failures in a row from which on more than single views must be the cause. A firewall may refuse
one for its name; keys are refused for every view."""
STREAKS_TO_GIVE_UP = 10
"""After so many streaks of failures in a row no view is asked, even if one was answered before."""
DOUBTED_VIEW_WAIT_S = 1.0
"""Seconds that each view after a streak may wait for an answer, instead of `max_wait_s`."""
SHORTEST_ANSWER_S = 5.0
"""Seconds that the last answer may take however little is left of the budget, unless `timeout_s` is
less: it has been waited for so long."""
HASTY_WAIT_S = 10.0
"""Seconds that a view may wait for an answer, for somebody who waits in front of the screen."""
HASTY_TRIES = 5
"""How often that view is asked: what fails so often in a row is down, or a view's own trouble."""
FIRST_VIEWS = 4
"""Views that are asked before all others, then. More than one: a single one may hang."""
_TICK_S = 0.1
_LINGER_S = 0.5  # with the writing meanwhile, one commit holds less than a second of work


class Failed(msgspec.Struct, frozen=True):
    """A view that gave no usable answer. `is_asked`: False where views before it had none."""

    view: View
    error: DatadogError
    seconds: float
    is_asked: bool = True


Result: TypeAlias = Listing | Failed


class Fetcher:
    """Asks for views in the background; its `buffer` holds their records until they are read.

    After a streak of refusals no further view is asked. After a streak of views without any answer
    the next views get little time, and in the end none is asked either.
    `is_hasty`: a view gets little time, and after a streak, or when none of the first few views
    has any answer, no further one is asked.
    `lowered_to`: the limit that the API accepted instead of a larger one; None: it refused none.
    `parts_asked`: how many parts of views it had to ask for. `answers_read`: how many answers
    were decoded, in all. `own_keys`: those of the client, for texts that quote records.
    """

    def __init__(
        self,
        client: Client,
        config: Config,
        api_state: ApiState,
        stop: threading.Event,
        *,
        is_hasty: bool = False,
    ) -> None:
        self.stop = stop
        self.lowered_to: int | None = None
        self.parts_asked = 0
        self.answers_read = 0
        self.own_keys = client.own_keys
        self.buffer = Buffer(MAX_BODIES, stop, spill_folders(config, os.environ))
        self._client = client
        self._config = config
        self._privacy = Privacy(config.created_by, config.hash_key, config.person_attributes)
        self._api_state = api_state
        self._limit = min(config.page_limit, api_state.page_limit or config.page_limit)
        self._lock = threading.Lock()
        self._is_hasty = is_hasty
        self._first = min(FIRST_VIEWS, config.concurrency) if is_hasty else 0
        self._streak = _Streak(config.concurrency, enough=self._first)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.buffer.close()

    def fetch(self, views: Sequence[View]) -> Iterator[list[Result]]:
        """The answer for each view; one equal to that of its last reading is not decoded."""
        for some in filter(None, (views[: self._first], views[self._first :])):
            yield from self._in_threads(some, self._fetch_view, linger_s=_LINGER_S)

    def fetch_again(self, budgets: Mapping[View, RetryBudget | None]) -> Iterator[list[Result]]:
        """As `fetch`, each on a new connection, with what is left of its budget."""

        def fetch(view: View) -> Result:
            return self._fetch_view(view, budgets[view], is_fresh=True)

        return self._in_threads(list(budgets), fetch, linger_s=_LINGER_S)

    def fetch_parts(
        self,
        views: Sequence[View],
        budget: RetryBudget | None,
        *,
        is_fresh: bool = False,
        enough: threading.Event,
    ) -> Iterator[list[Result]]:
        """The answers for narrowed views, always decoded; none is asked after one without.

        Each further one might wait as long as that one did, and would burden an API that is down.
        Once `enough` is set none is asked either.
        """
        self.parts_asked += len(views)
        unanswered: list[DatadogError] = []

        def fetch(view: View) -> Result:
            if enough.is_set():
                return Failed(view, DatadogUnavailable("not asked"), 0.0)
            if unanswered:
                return Failed(view, _copy_of(unanswered[0]), 0.0)
            result = self.fetch_one(view, budget, is_fresh=is_fresh)
            if isinstance(result, Failed) and not was_answered(result.error):
                unanswered.append(result.error)
            return result

        return self._in_threads(views, fetch, linger_s=0.0)

    def fetch_one(
        self,
        view: View,
        budget: RetryBudget | None = None,
        last: LastReading | None = None,
        *,
        is_fresh: bool = False,
    ) -> Result:
        """The answer for one view, under a smaller limit where the API refuses the present one.

        `is_fresh`: on a new connection.
        """
        started = time.monotonic()
        budget = budget or self._retry_budget()
        limit, refused = self._limit, 0
        while True:
            attempt = partial(self._try_to_read, view, limit, budget, last, is_fresh=is_fresh)
            try:
                listing, requests = ask(attempt, budget)
            except DatadogError as error:
                if _is_about_limit(error) and limit > 1:
                    lower = min(self._limit, lowered_limit(limit, error.detail))
                    log.info("the API refused page[limit] %d; asking for %d", limit, lower)
                    limit, refused = lower, refused + error.requests
                    continue
                error.requests += refused
                return Failed(view, self._client.explained(error), time.monotonic() - started)
            if refused:
                self._lower_limit(limit)
            with self._lock:
                self.answers_read += 1
            return msgspec.structs.replace(
                listing,
                requests=refused + requests,
                seconds=time.monotonic() - started,
                budget=budget,
            )

    def _try_to_read(
        self,
        view: View,
        limit: int,
        budget: RetryBudget,
        last: LastReading | None,
        *,
        is_fresh: bool,
    ) -> Listing:
        """One request. Its answer takes no longer than what is left of the budget at its start."""
        return try_to_read(
            self._client,
            view,
            limit,
            buffer=self.buffer,
            privacy=self._privacy,
            last=last,
            is_fresh=is_fresh,
            within_s=max(min(SHORTEST_ANSWER_S, self._config.timeout_s), budget.left),
        )

    def _fetch_view(
        self, view: View, budget: RetryBudget | None = None, *, is_fresh: bool = False
    ) -> Result:
        budget = budget or self._retry_budget()
        if last_failed := self._streak.last:
            if self._streak.predicts_failure(last_failed.error):
                return Failed(view, _not_asked(view, last_failed), 0.0, is_asked=False)
            budget.shorten(DOUBTED_VIEW_WAIT_S)
        elif self._is_hasty and self._streak.is_without_answer:
            budget.shorten(DOUBTED_VIEW_WAIT_S)
        key = view.key(self._config.source)
        last = self._api_state.readings.get(key)
        result = self.fetch_one(view, budget, last, is_fresh=is_fresh)
        self._streak.add(result)
        return result

    def _retry_budget(self) -> RetryBudget:
        """A new one, of one view."""
        budget = self._client.retry_budget(most_tries=HASTY_TRIES if self._is_hasty else None)
        if self._is_hasty:
            budget.shorten(HASTY_WAIT_S)
        return budget

    def _lower_limit(self, limit: int) -> None:
        """Ask for no more than `limit` from now on: it was accepted, so the 400 was about it."""
        with self._lock:
            if limit < self._limit:
                self._limit = self.lowered_to = limit

    def _in_threads(
        self, views: Sequence[View], fetch: Callable[[View], Result], *, linger_s: float
    ) -> Iterator[list[Result]]:
        """Call `fetch` for each view in threads; ends when all are done, or `stop` is set."""
        todo: queue.SimpleQueue[View] = queue.SimpleQueue()
        results = _ResultQueue()
        for view in views:
            todo.put(view)

        def fetch_until_done() -> None:
            while not self.stop.is_set() and not results.is_abandoned:
                try:
                    result = fetch(todo.get_nowait())
                    # One that ends because the process must stop has not failed: it was not read.
                    if not (isinstance(result, Failed) and self.stop.is_set()):
                        results.put(result)
                except queue.Empty:
                    return
                except BaseException as bug:  # noqa: BLE001 - raised in the thread that iterates
                    results.put(bug)
                    return

        _start_threads(fetch_until_done, min(self._config.concurrency, len(views)))
        missing = len(views)
        try:
            while missing and not self.stop.is_set():
                batch = results.next_batch(missing, linger_s)
                missing -= len(batch)
                if batch:
                    yield batch
        finally:
            results.abandon()


def _start_threads(target: Callable[[], None], count: int) -> None:
    """As many as can be started, at least one; else raises RuntimeError."""
    for number in range(count):
        thread = threading.Thread(target=with_log_fields(target), name=f"reader-{number}")
        thread.daemon = True
        try:
            thread.start()
        except RuntimeError:  # there are too many on this machine: fewer do as well
            if number == 0:
                raise
            return


class _Streak:
    """The latest views that failed in a row, in a way in which every view may fail.

    Such failures are refused keys, and no answer at all until the budget was spent.
    `enough`: 0, or so many views without any answer, where none had one, end it all. Then an error
    of the server that lasts is such a failure, too, and no view is asked after a streak.
    """

    def __init__(self, concurrency: int, *, enough: int = 0) -> None:
        self._length = max(SHORTEST_STREAK, concurrency)  # the views in flight fail together
        self._enough = enough
        self._failed: list[Failed] = []
        self._has_answered = False

    @property
    def is_without_answer(self) -> bool:
        """Whether views have failed, and none was answered."""
        return bool(self._failed) and not self._has_answered

    @property
    def last(self) -> Failed | None:
        """The latest of a streak that is long enough to doubt the next view; else None."""
        if self._enough and not self._has_answered:
            mute = [failed for failed in self._failed if failed.error.status is None]
            if len(mute) >= self._enough:
                return mute[0]
        return self._failed[-1] if len(self._failed) >= self._length else None

    def predicts_failure(self, error: DatadogError) -> bool:
        """Whether asking the next view is useless, because it would fail with `error`, too."""
        is_for_all = isinstance(error, DatadogAuthError | DatadogHostUnknown)
        is_over = len(self._failed) >= STREAKS_TO_GIVE_UP * self._length
        return bool(self._enough) or (is_for_all and not self._has_answered) or is_over

    def add(self, result: Result) -> None:
        """Count the result of a view: a failure lengthens the streak, an answer ends it."""
        if isinstance(result, Listing):
            self._has_answered = True
            self._failed.clear()
            return
        error = result.error
        has_no_answer = isinstance(error, DatadogUnavailable) and error.status is None
        lasts = self._enough and isinstance(error, DatadogUnavailable | DatadogResponseError)
        if isinstance(error, DatadogAnswerTooLarge):  # it is this view's own
            return
        if has_no_answer or lasts or isinstance(error, DatadogAuthError):
            self._failed.append(result)


def was_answered(error: DatadogError) -> bool:
    """Whether the API answered, with a refusal of this one view: it may answer for others."""
    return isinstance(error, DatadogRequestError | DatadogAuthError)


def _copy_of(error: DatadogError) -> DatadogError:
    """The same error, without requests: for a view that was not asked."""
    return type(error)(str(error), status=error.status, detail=error.detail)


def _not_asked(view: View, why: Failed) -> DatadogError:
    """The error of a view that is not asked: that of the view before, with which it has its cause
    in common."""
    error = why.error
    reason = "the keys were refused" if isinstance(error, DatadogAuthError) else "no answer came"
    cause = str(error).removeprefix(f"view {why.view.label}: ").partition(GIVEN_UP)[0]
    text = f"view {view.label}: {cause}{NOT_ASKED}{reason} for the views before"
    return type(error)(text, status=error.status, detail=error.detail)


class _ResultQueue:
    """The results of the threads until they are taken; after `abandon` results are dropped.

    It needs no bound of its own: each body needs a slot, and there are only so many.
    """

    def __init__(self) -> None:
        self.is_abandoned = False
        self._queue: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def put(self, result: Result | BaseException) -> None:
        with self._lock:
            if not self.is_abandoned:
                self._queue.put(result)

    def next_batch(self, missing: int, linger_s: float) -> list[Result]:
        """Take a few results; none when nothing came in a short while. Raises the bug of a thread.

        After the first result it waits for others, to share a commit: at most `linger_s` seconds,
        and until there are `BATCH_BODIES` bodies.
        """
        batch: list[Result] = []
        bodies, until = 0, time.monotonic() + _TICK_S
        while len(batch) < min(missing, BATCH_VIEWS) and bodies < BATCH_BODIES:
            try:
                result = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(result, BaseException):
                raise result
            until = until if batch else time.monotonic() + linger_s
            batch.append(result)
            bodies += isinstance(result, Listing) and not result.is_same
        return batch

    def abandon(self) -> None:
        """Drop all results, those still to come included: none will be taken any more."""
        with self._lock:
            self.is_abandoned = True
        while not self._queue.empty():
            self._queue.get()


def _is_about_limit(error: DatadogError) -> bool:
    return (
        isinstance(error, DatadogRequestError)
        and error.status == 400
        and "limit" in error.detail.lower()
    )
