"""Extract: one question to Datadog -> one raw answer.

The only module that knows URLs, headers, status codes and rate limits; it does not know
what a record is. Only a 200 whose body `read` accepts counts as an answer (rule 9). What may
get better by itself is asked again until `max_wait_s` is used up (rule 10).
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from etl.config.credentials import Keys
from etl.config.model import Config
from etl.config.views import View
from etl.datadog.responses import error_text, host_of, remaining, reset_seconds, wait_seconds
from etl.datadog.retry import Patience
from etl.datadog.transport import Reply, Wire
from etl.errors import (
    DatadogAuthError,
    DatadogError,
    DatadogHostUnknown,
    DatadogRequestError,
    DatadogResponseError,
    DatadogUnavailable,
)
from etl.extract.buffer import Bodies

T = TypeVar("T")

SNAPSHOTS = "/api/v2/replay/heatmap/snapshots"
APPLICATIONS = "/api/v2/rum/applications"
AGGREGATE = "/api/v2/rum/analytics/aggregate"
NAME_PATIENCE_S = 10.0
RETRIED_4XX = frozenset({408, 425, 429})
LONGEST_TEXT = 200
KEYS_ADVICE = (
    "the keys were refused: check that they belong to site {site}, that each is the key's value"
    " and not its id, that they have rum_session_replay_read and rum_apps_read, and that the"
    " owner of the application key is still in the organization"
)

log = logging.getLogger(__name__)


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """What one question brought."""

    content: T  # what `read` made of the body
    arrived_at: datetime  # UTC, when the last byte had arrived
    requests: int  # HTTP requests sent for it, retries included
    rate_limit_remaining: int | None
    rate_limit_name: str | None


class _Fault(Exception):
    """A try that failed in a way that may pass."""

    def __init__(self, error: DatadogError, reply: Reply) -> None:
        super().__init__(str(error))
        self.error = error
        self.reply = reply


class _Question(msgspec.Struct, Generic[T]):
    """One question and the tries to get it answered, which use up `patience`."""

    request: httpx.Request
    what: str
    read: Callable[[bytes], T]
    body: Bodies.Place | None
    patience: Patience
    sent: int = 0
    pause: float = 0.0
    fault: _Fault | None = None

    @property
    def last_fault(self) -> _Fault:
        if self.fault is None:
            raise AssertionError("no try has failed")
        return self.fault


class Datadog:
    """Datadog's API for one organization; one connection pool and one rate-limit gate for
    all threads.

    Raises ConfigError when the keys cannot stand in a header, or the certificates or the
    proxy named in the environment cannot be used. `stop` ends every wait; it is checked before
    each request. `on_request` is called before each one, in the thread that sends it; `codes`
    counts them by status code.
    """

    def __init__(
        self,
        config: Config,
        keys: Keys,
        *,
        stop: threading.Event | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        on_request: Callable[[], None] | None = None,
        codes: Counter[str] | None = None,
    ) -> None:
        self._config = config
        secrets = filter(None, (keys.api_key, keys.app_key, keys.bearer_token))
        self._secrets = sorted(secrets, key=len, reverse=True)  # one may be part of another
        self._stop = stop or threading.Event()
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._on_request = on_request
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(config.concurrency)
        self._open_at = -math.inf
        self._wire = Wire(config, keys, self._stop, clock=clock, monotonic=monotonic, codes=codes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Requests under way in other threads end at once with
        DatadogUnavailable, so that a stopped process need not wait for `timeout_s`."""
        self._wire.close()

    def list_snapshots(
        self,
        view: View,
        *,
        limit: int,
        read: Callable[[bytes], T],
        body: Bodies.Place | None = None,
        patience: Patience | None = None,
    ) -> Answer[T]:
        """Ask which snapshots `view` has now; `read` makes the content from a 200's body.

        `body` is taken before a body is received, and freed when it was of no use. `patience`:
        what is left of `max_wait_s` for the view; None: all of it.

        `read` raises DatadogResponseError when the body is not `{"data": [...]}`: then it is
        asked again. Anything else it raises passes through.

        Raises DatadogAuthError (401, 403), DatadogRequestError (3xx, other 4xx),
        DatadogResponseError (the last 200 was refused by `read`) and DatadogUnavailable.
        """
        what = f"view {view.label}"
        try:
            url = httpx.URL(f"{self._config.api_url}{SNAPSHOTS}?{query_string(view, limit)}")
        except (UnicodeEncodeError, httpx.InvalidURL):
            reason = "makes no valid URL: too long, half a surrogate pair, or a wrong api_url"
            raise DatadogRequestError(f"{what}: {reason}") from None
        return self._ask(httpx.Request("GET", url), what, read, body, patience)

    def list_applications(self, *, read: Callable[[bytes], T]) -> Answer[T]:
        """Ask for every RUM application; the endpoint has no pages. Raises as `list_snapshots`."""
        url = f"{self._config.api_url}{APPLICATIONS}"
        return self._ask(httpx.Request("GET", url), "the list of RUM applications", read)

    def aggregate_rum(self, query: Mapping[str, Any], *, read: Callable[[bytes], T]) -> Answer[T]:
        """Ask RUM to count events; `query` is a RUMAggregateRequest. Raises as `list_snapshots`."""
        request = httpx.Request("POST", f"{self._config.api_url}{AGGREGATE}", json=dict(query))
        return self._ask(request, "RUM's count of views", read)

    def try_once(
        self, path: str, parameters: Mapping[str, str], body: object = None, *, patience: float
    ) -> Reply:
        """What is answered, whatever it is; asked again once where that may help. With a `body` a
        POST. Raises DatadogError when `patience` seconds of waiting do not do, and when stopped.
        """
        what = f"a question to {path}"
        try:
            url = f"{self._config.api_url}{path}?{_encoded(parameters)}".rstrip("?")
            request = httpx.Request("GET" if body is None else "POST", url, json=body)
        except (UnicodeEncodeError, httpx.InvalidURL):
            raise DatadogRequestError("the view name makes no valid URL") from None
        self._pass_gate(what, Patience(patience))
        reply = self._exchange(request, what)
        status = reply.status or 0
        may_help = reply.broken or status in RETRIED_4XX or status >= 500
        pause = wait_seconds(status, reply.headers, 1, self._clock(), self._jitter())
        if not may_help or pause > patience:
            return reply
        self._wait(pause, DatadogUnavailable(f"{what}: {status or 'no answer'}"))
        return self._exchange(request, what)

    def _ask(
        self,
        request: httpx.Request,
        what: str,
        read: Callable[[bytes], T],
        body: Bodies.Place | None = None,
        patience: Patience | None = None,
    ) -> Answer[T]:
        """Ask until there is an answer, or no patience is left for another try.

        Failed tries count as waiting: twelve time-outs of 30 s are no better than a wait of
        six minutes. A try under way is not cut short.
        """
        patience = patience or Patience(self._config.max_wait_s)
        question = _Question(request, what, read, body, patience)
        try:
            try:
                return self._try(question)
            except _Fault as fault:
                first = fault
            return self._try_again(question, first)
        except DatadogError as error:
            error.requests = question.sent
            raise

    def _try(self, question: _Question[T]) -> Answer[T]:
        """One request. Raises `_Fault` for what another one may mend."""
        with self._slots:
            self._pass_gate(question.what, question.patience)
            started, question.sent = self._monotonic(), question.sent + 1
            reply = self._exchange(question.request, question.what, question.body)
        content, error = self._read(reply, question.what, question.read)
        if error is None:
            return self._answer(content, reply, question.sent)
        question.patience.spend(started, self._monotonic())
        if isinstance(error, DatadogHostUnknown) and question.sent == 1:
            # A name that does not resolve is mistyped more often than missing for long.
            question.patience.shorten(NAME_PATIENCE_S)
        if question.body:
            question.body.free()
        question.fault = _Fault(error, reply)
        raise question.fault

    def _try_again(self, question: _Question[T], first: _Fault) -> Answer[T]:
        """The same question until it is answered; waits are those that the server asks for."""
        # Only a fault pays for the import.
        from tenacity import Retrying, retry_if_exception_type

        faults = [first]

        def attempt() -> Answer[T]:
            if faults:
                raise faults.pop()
            return self._try(question)

        retrying = Retrying(
            retry=retry_if_exception_type(_Fault),
            wait=lambda state: self._pause(question, state.attempt_number),
            stop=lambda state: self._is_over(question, state.upcoming_sleep),
            sleep=lambda seconds: self._sleep(question, float(seconds)),
            reraise=True,
        )
        with contextlib.suppress(_Fault):
            return retrying(attempt)
        raise _given_up(question.last_fault.error, question.pause, question.patience)

    def _pause(self, question: _Question[T], attempt: int) -> float:
        reply = question.last_fault.reply
        return wait_seconds(reply.status, reply.headers, attempt, self._clock(), self._jitter())

    def _is_over(self, question: _Question[T], pause: float) -> bool:
        self._check_stopped()
        question.pause = pause
        return not question.patience.allows(self._monotonic(), pause)

    def _sleep(self, question: _Question[T], seconds: float) -> None:
        begun = self._monotonic()
        question.patience.spend(begun, begun + seconds)
        self._wait(seconds, question.last_fault.error)

    def _read(self, reply: Reply, what: str, read: Callable[[bytes], T]) -> tuple[T, Any]:
        """The content and no fault, or no content and the fault that may pass."""
        fault = self._fault(reply, what)
        nothing: Any = None
        if fault is not None:
            return nothing, fault
        try:
            return read(reply.body), None
        except DatadogResponseError as error:
            detail = self._safe(error.detail or str(error))
        text = f"{what}: 200: {detail}"
        return nothing, DatadogResponseError(text, status=200, detail=detail)

    def _pass_gate(self, what: str, patience: Patience) -> None:
        """Wait until the rate limit lets anybody through."""
        self._check_stopped()
        while (pause := self._open_at - (now := self._monotonic())) > 0:
            used_up = DatadogUnavailable(f"{what}: the rate limit is used up")
            if not patience.allows(now, pause):
                raise _given_up(used_up, pause, patience)
            patience.spend(now, now + pause)
            self._wait(pause, used_up)

    def _wait(self, pause: float, error: DatadogError) -> None:
        self._check_stopped()
        log.info("%s; waiting %.1f s", error, pause)
        self._stop.wait(pause)
        self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stop.is_set() or self._wire.is_closed:
            raise DatadogUnavailable("stopped while waiting")

    def _exchange(
        self, request: httpx.Request, what: str, body: Bodies.Place | None = None
    ) -> Reply:
        """Send one request. What the network does is told in the reply, never raised."""

        def on_head(status: int, headers: Mapping[str, str]) -> None:
            self._close_gate(headers)
            if body and status == 200:
                body.take()

        if self._on_request:
            self._on_request()
        started = self._monotonic()
        reply = self._wire.send(request, on_head)
        reply.broken = self._safe(reply.broken)
        took_ms = 1000 * (self._monotonic() - started)
        outcome = ", ".join(filter(None, (str(reply.status or ""), reply.broken)))
        log.debug("%s: %s, %d ms, %d bytes", what, outcome, took_ms, len(reply.body))
        return reply

    def _close_gate(self, headers: Mapping[str, str]) -> None:
        reset = reset_seconds(headers)
        if remaining(headers) == 0 and reset is not None:
            with self._lock:
                self._open_at = max(self._open_at, self._monotonic() + reset)

    def _answer(self, content: T, reply: Reply, sent: int) -> Answer[T]:
        name = self._safe(reply.headers.get("X-RateLimit-Name", "")) or None
        return Answer(content, reply.arrived_at, sent, remaining(reply.headers), name)

    def _fault(self, reply: Reply, what: str) -> DatadogError | None:
        """Why the reply is no answer (None: it may be one), when a later one may be better.

        Raises DatadogAuthError or DatadogRequestError when no later one will be.
        """
        status = reply.status or 0
        if status == 200 and not reply.broken:
            return None
        detail = reply.broken if status in (0, 200) else self._safe(error_text(reply.body))
        text = ": ".join(filter(None, (what, str(status or "no answer"), detail)))
        if status in (401, 403):
            advice = KEYS_ADVICE.format(site=self._config.site)
            raise DatadogAuthError(f"{text}; {advice}", status=status, detail=detail)
        if 300 <= status < 400:
            to = self._safe(host_of(reply.headers.get("Location", "")))
            text += f"; the API redirects{' to ' * bool(to)}{to}: check site and api_url"
        if 300 <= status < 500 and status not in RETRIED_4XX:
            raise DatadogRequestError(text, status=status, detail=detail)
        if "CERTIFICATE_VERIFY_FAILED" in detail:  # which no waiting mends
            raise DatadogUnavailable(f"{text}; check SSL_CERT_FILE", detail=detail)
        if reply.is_unknown_host:
            text += f"; check site and api_url ({self._config.api_url}), and the network"
            return DatadogHostUnknown(text, detail=detail)
        return DatadogUnavailable(text, status=reply.status, detail=detail)

    def _safe(self, text: str) -> str:
        """Foreign text made fit for a message: one short line, our keys blotted out."""
        return _fit(text, self._secrets)


def _given_up(error: DatadogError, pause: float, patience: Patience) -> DatadogError:
    text = f"{error}; given up: another {pause:.1f} s would exceed {patience.limit}"
    return type(error)(text, status=error.status, detail=error.detail)


def query_string(view: View, limit: int) -> str:
    """The list parameters, strictly percent-encoded: `/`, `+` and `%` would change the name.

    Raises UnicodeEncodeError for a lone surrogate.
    """
    wanted = {
        "filter[view_name]": view.name,
        "filter[application_id]": view.application_id,
        "filter[device_type]": view.device_type,
        "page[limit]": str(limit),
    }
    return _encoded({name: value for name, value in wanted.items() if value})


def _encoded(given: Mapping[str, str]) -> str:
    return "&".join(f"{quote(n, safe='')}={quote(value, safe='')}" for n, value in given.items())


def _fit(text: str, secrets: Iterable[str] = ()) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    for secret in secrets:  # in any case: some texts are made small on their way
        text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 3] + "..."
