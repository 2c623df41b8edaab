"""Extract, several views at once: views -> unjudged answers, as they come.

Daemon threads ask, the thread that iterates goes on. At most `concurrency`
requests are in flight, and at most eight bodies are in memory: one more is not
read before an earlier one has been loaded or put on disk.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from etl.config.model import Config
from etl.config.views import View
from etl.datadog.client import Datadog
from etl.datadog.retry import Patience
from etl.errors import (
    DatadogAuthError,
    DatadogError,
    DatadogHostUnknown,
    DatadogRequestError,
    DatadogUnavailable,
)
from etl.extract.buffer import Bodies
from etl.extract.completeness import lowered_limit
from etl.extract.listing import ApiState, LastReading, Listing, read_whole
from etl.runtime.run_context import inherited
from etl.transform.privacy import Privacy

log = logging.getLogger(__name__)

BODIES = 8
GROUP = 4  # bodies that are loaded together
MOST = 100  # views that share a commit
IN_VAIN = 10
DOUBTFUL_S = 1.0
_TICK_S = 0.1
_LINGER_S = 0.5  # with what is written meanwhile less than a second of work, for one commit


class Failed(msgspec.Struct, frozen=True):
    """A view that gave no usable answer."""

    view: View
    error: DatadogError
    seconds: float


Result: TypeAlias = Listing | Failed


class Reader:
    """Asks for views in the background.

    After as many refusals in a row as no odd view name explains, no further view is asked.
    After as many views without any answer the next ones get `DOUBTFUL_S` of patience, and
    none is asked after `IN_VAIN` times as many; so too with refusals once a view was answered.
    `lowered_to` says afterwards which limit the API accepted instead of a larger one.
    """

    def __init__(
        self, client: Datadog, config: Config, memory: ApiState, stop: threading.Event
    ) -> None:
        self.stop = stop
        self.lowered_to: int | None = None
        self._client = client
        self._config = config
        self._privacy = Privacy(config.created_by, config.hash_key)
        self._memory = memory
        self._limit = min(config.page_limit, memory.page_limit or config.page_limit)
        self._lock = threading.Lock()
        self._bodies = Bodies(BODIES, stop)
        self._hopeless: list[DatadogError] = []
        self._has_answered = False

    def wholes(self, views: Sequence[View]) -> Iterator[list[Result]]:
        """The whole answer of each view; one equal to that of its last reading is not decoded."""
        return self._several(views, self._read_view, linger_s=_LINGER_S)

    def parts(self, views: Sequence[View], patience: Patience | None) -> Iterator[list[Result]]:
        """Answers for narrowed views, always decoded; none is asked after one without an answer.

        Each further one might wait as long as that one did, and asks an API that is not well.
        """
        unanswered: list[DatadogError] = []

        def read(view: View) -> Result:
            if unanswered:
                return Failed(view, _repeated(unanswered[0]), 0.0)
            result = self.read(view, patience)
            if isinstance(result, Failed) and not is_of_one(result.error):
                unanswered.append(result.error)
            return result

        return self._several(views, read, linger_s=0.0)

    def read(
        self, view: View, patience: Patience | None, last: LastReading | None = None
    ) -> Result:
        """One answer, with a smaller limit where the API refuses the one asked for."""
        started, body = time.monotonic(), self._bodies.place()
        limit, refused = self._limit, 0
        while True:
            try:
                listing = read_whole(
                    self._client,
                    view,
                    limit=limit,
                    privacy=self._privacy,
                    last=last,
                    body=body,
                    patience=patience,
                )
            except DatadogError as error:
                if _is_about_limit(error) and limit > 1:
                    lower = min(self._limit, lowered_limit(limit, error.detail))
                    log.info("the API refused page[limit] %d; asking for %d", limit, lower)
                    limit, refused = lower, refused + error.requests
                    continue
                body.free()
                error.requests += refused
                return Failed(view, error, time.monotonic() - started)
            if refused:
                self._accept(limit)
            return msgspec.structs.replace(
                listing,
                requests=listing.requests + refused,
                seconds=time.monotonic() - started,
                patience=patience,
            )

    def _read_view(self, view: View) -> Result:
        patience, last = Patience(self._config.max_wait_s), self._hopeless[-1:]
        # One oddly named view may be refused by a firewall; keys are refused for every view.
        if last and len(self._hopeless) >= max(3, self._config.concurrency):
            if self._is_in_vain(last[0]):
                return Failed(view, _not_asked(view, last[0]), 0.0)
            patience.shorten(DOUBTFUL_S)
        key = view.key(self._config.source)
        result = self.read(view, patience, self._memory.readings.get(key))
        if isinstance(result, Listing):
            self._has_answered = True
            self._hopeless.clear()
        elif _is_hopeless(result.error):
            self._hopeless.append(result.error)
        return result

    def _is_in_vain(self, error: DatadogError) -> bool:
        """Whether the other views can be taken for as hopeless as those before."""
        is_for_all = isinstance(error, DatadogAuthError | DatadogHostUnknown)
        many = IN_VAIN * max(3, self._config.concurrency)
        return (is_for_all and not self._has_answered) or len(self._hopeless) >= many

    def _accept(self, limit: int) -> None:
        """From now on ask for no more than this: only now is it certain what the 400 was about."""
        with self._lock:
            if limit < self._limit:
                self._limit = self.lowered_to = limit

    def _several(
        self, views: Sequence[View], read: Callable[[View], Result], *, linger_s: float
    ) -> Iterator[list[Result]]:
        """A few at a time; ends when all have answered or `stop` is set."""
        todo: queue.SimpleQueue[View] = queue.SimpleQueue()
        results = _Results()
        for view in views:
            todo.put(view)

        def work() -> None:
            while not self.stop.is_set() and not results.is_abandoned:
                try:
                    results.put(read(todo.get_nowait()))
                except queue.Empty:
                    return
                except BaseException as bug:  # noqa: BLE001 - raised in the thread that iterates
                    results.put(bug)
                    return

        for number in range(min(self._config.concurrency, len(views))):
            threading.Thread(target=inherited(work), name=f"reader-{number}", daemon=True).start()
        missing = len(views)
        try:
            while missing and not self.stop.is_set():
                group = results.next_group(missing, linger_s)
                missing -= len(group)
                if group:
                    yield group
        finally:
            results.abandon()


def is_of_one(error: DatadogError) -> bool:
    """Whether it was an answer, to this one question: others may be answered otherwise."""
    return isinstance(error, DatadogRequestError | DatadogAuthError)


def _repeated(error: DatadogError) -> DatadogError:
    """The same for a question that was not asked."""
    return type(error)(str(error), status=error.status, detail=error.detail)


def _is_hopeless(error: DatadogError) -> bool:
    """Keys refused, or no answer at all in all the time there was."""
    no_answer = isinstance(error, DatadogUnavailable) and error.status is None
    return no_answer or isinstance(error, DatadogAuthError)


def _not_asked(view: View, why: DatadogError) -> DatadogError:
    reason = "the keys were refused" if isinstance(why, DatadogAuthError) else "no answer came"
    return type(why)(f"view {view.label}: not asked, as {reason} for the views before")


class _Results:
    """What the threads have read, until it is fetched. What nobody will fetch gives its room back.

    It needs no bound of its own: a body has a place, and there are only so many.
    """

    def __init__(self) -> None:
        self.is_abandoned = False
        self._queue: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def put(self, result: Result | BaseException) -> None:
        with self._lock:
            if not self.is_abandoned:
                self._queue.put(result)
                return
        forget(result)

    def next_group(self, missing: int, linger_s: float) -> list[Result]:
        """A few results; none after a short wait in vain. Raises the bug of a thread.

        After the first it waits for others, which share its commit: for at most `GROUP` bodies,
        and `linger_s` seconds.
        """
        group: list[Result] = []
        bodies, until = 0, time.monotonic() + _TICK_S
        while len(group) < min(missing, MOST) and bodies < GROUP:
            try:
                result = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(result, BaseException):
                raise result
            until = until if group else time.monotonic() + linger_s
            group.append(result)
            bodies += isinstance(result, Listing) and not result.is_same
        return group

    def abandon(self) -> None:
        """Nothing will be fetched any more."""
        with self._lock:
            self.is_abandoned = True
        while not self._queue.empty():
            forget(self._queue.get())


def forget(result: Result | BaseException) -> None:
    """What nobody will fetch gives its place in memory back."""
    if isinstance(result, Listing):
        result.without_records()


def _is_about_limit(error: DatadogError) -> bool:
    return (
        isinstance(error, DatadogRequestError)
        and error.status == 400
        and "limit" in error.detail.lower()
    )
