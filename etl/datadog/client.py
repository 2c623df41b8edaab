"""One request to Datadog -> the raw answer.

The only module that knows URLs, headers, status codes and rate limits; it does not know what a
record is. Only a 200 is an answer (rule 9). A failure that may pass is raised as `Retryable`, for
the loop of the caller (rule 10).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from etl.config.credentials import Keys
from etl.config.model import Config
from etl.config.views import View
from etl.datadog.cache_headers import cache_header, part_header
from etl.datadog.gates import Gates
from etl.datadog.rate_limit import remaining, stated_wait
from etl.datadog.refused_keys import (
    PAGE_ADVICE,
    VALIDATE,
    Validation,
    advice,
    said_of_api_key,
)
from etl.datadog.responses import error_text, host_of, is_page, one_line
from etl.datadog.retry import (
    SHORTEST_EXCHANGE_S,
    SIDE_TRIES,
    SIDE_WAIT_S,
    Retryable,
    RetryBudget,
    backoff_s,
    stopped,
)
from etl.datadog.server_clock import (
    OLD_DATE,
    WORTH_A_WORD_S,
    Sample,
    ServerClock,
)
from etl.datadog.wire.body import LARGE_BYTES
from etl.datadog.wire.transport import API_KEY_ALONE, Reply, Terms, Transport
from etl.errors import (
    ClockAhead,
    DatadogAnswerTooLarge,
    DatadogAuthError,
    DatadogError,
    DatadogHostUnknown,
    DatadogRequestError,
    DatadogResponseError,
    DatadogUnavailable,
)
from etl.formatting import LARGEST_SKEW_S, skew_text
from etl.library_faults import frames_of, origin_of, packages_of
from etl.own_keys import NO_KEYS, OwnKeys

T = TypeVar("T")

SNAPSHOTS = "/api/v2/replay/heatmap/snapshots"
APPLICATIONS = "/api/v2/rum/applications"
AGGREGATE = "/api/v2/rum/analytics/aggregate"
CHANGED_ON_THE_WAY, TOO_MANY = 203, 429
RETRIED_4XX = frozenset({408, 425, TOO_MANY})
HOLDS_A_KEY = "the answer holds one of our keys; nothing of it was stored"
USED_UP = f"the rate limit is used up ({TOO_MANY})"
log = logging.getLogger(__name__)


class Answer(msgspec.Struct, frozen=True):
    """The body of a 200, and what came with it. `what`: the question, for messages.

    `cache_header`: the one that says that it comes from a cache, "" for none; such an answer
    proves no absence. `part_header`: the one that says that it is only a part of the answer.
    `own_keys`: what its body must not hold.
    """

    what: str
    body: bytes
    began: float  # when the request was sent, on the client's monotonic clock
    arrived_at: datetime  # UTC, when the last byte had arrived
    rate_limit_remaining: int | None
    rate_limit_name: str | None
    cache_header: str = ""
    part_header: str = ""
    own_keys: OwnKeys = NO_KEYS

    def decoded(self, decode: Callable[[bytes], T]) -> T:
        """What `decode` makes of the body, to be stored or shown.

        Raises DatadogResponseError where the body holds one of our keys. That is not asked for
        again: the same server would get the keys once more. Otherwise raises as `opened`.
        """
        if self.own_keys.are_in(self.body):
            text = f"{self.what}: 200: {HOLDS_A_KEY}"
            raise DatadogResponseError(text, status=200, detail=HOLDS_A_KEY, requests=1)
        return self.opened(decode)

    def opened(self, decode: Callable[[bytes], T]) -> T:
        """What `decode` makes of the body, of which nothing is stored: it may hold our keys.

        Raises `Retryable` where `decode` raises DatadogResponseError, whose text must quote little
        of the body, and where a library raises anything; that error itself where the body is large,
        and DatadogAnswerTooLarge. A bug of `decode` passes through.
        """
        is_too_large = False
        try:
            return decode(self.body)
        except DatadogResponseError as error:
            is_too_large = isinstance(error, DatadogAnswerTooLarge)
            detail = self.safe(error.detail or str(error))
        except Exception as error:
            if not packages_of(error):
                raise
            log.debug("%s was raised here:\n%s", origin_of(error), frames_of(error))
            detail = f"it could not be read: {origin_of(error)}"
        text = f"{self.what}: 200: {detail}"
        if is_too_large:  # waiting would not help
            raise DatadogAnswerTooLarge(text, status=200, detail=detail, requests=1)
        if len(self.body) > LARGE_BYTES:  # to bring as much again costs more than it promises
            raise DatadogResponseError(text, status=200, detail=detail, requests=1)
        refused = DatadogResponseError(text, status=200, detail=detail, requests=1)
        raise Retryable(refused, began=self.began)

    def safe(self, text: str) -> str:
        """A text of the answer made fit for a message: one short line without our keys."""
        return one_line(text, self.own_keys)


class Client:
    """Datadog's API for one organization.

    All threads share one connection pool and the gates of the rate limits. Raises ConfigError when
    the keys cannot be sent in a header, or the certificates or the proxy that the environment names
    cannot be used. `stop` ends every wait; it is checked before each request. `on_request` is
    called before each request, in the thread that sends it. `codes` counts requests by status code.
    `validation`, `server_clock`: shared with the other clients of the same run; None: of this
    client alone. Every request raises ClockAhead when this machine's clock is too far ahead of the
    server's, unless the configuration accepts that.

    `list_snapshots`, `list_applications` and `aggregate_rum` send one request each. They raise
    DatadogAuthError (401, 403), DatadogRequestError (3xx, other 4xx), DatadogUnavailable (stopped,
    or a certificate that is not trusted), and `Retryable` for a failure that may pass, a rate
    limit that is used up included.
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
        validation: Validation | None = None,
        server_clock: ServerClock | None = None,
    ) -> None:
        self._config = config
        self._keys = keys
        self._server_clock = server_clock or ServerClock()
        self._validation = validation or Validation()
        own_keys = (keys.api_key, keys.app_key, keys.bearer_token, config.hash_key)
        self.own_keys = OwnKeys(own_keys)
        self._stop = stop or threading.Event()
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._on_request = on_request
        self._gates = Gates(monotonic)
        self._slots = threading.Semaphore(config.concurrency)
        self._transport = Transport(config, keys, self._stop, clock=clock, codes=codes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections.

        Requests under way in other threads end at once with DatadogUnavailable, so that a stopped
        process does not wait for `timeout_s`.
        """
        self._transport.close()

    def retry_budget(
        self, seconds: float | None = None, *, most_tries: int | None = None
    ) -> RetryBudget:
        """A new budget of `seconds` on the clocks of this client; None: `max_wait_s`."""
        return RetryBudget(
            self._config.max_wait_s if seconds is None else seconds,
            most_tries=most_tries,
            stop=self._stop,
            monotonic=self._monotonic,
            jitter=self._jitter,
        )

    def side_budget(self) -> RetryBudget:
        """A new budget for a question that no listing depends on."""
        budget = self.retry_budget(most_tries=SIDE_TRIES)
        budget.shorten(SIDE_WAIT_S)
        return budget

    def list_snapshots(
        self,
        view: View,
        limit: int,
        *,
        before_body: Callable[[], None] | None = None,
        on_large: Callable[[float], bool] | None = None,
        is_fresh: bool = False,
        within_s: float | None = None,
    ) -> Answer:
        """Ask which snapshots `view` has now.

        `before_body` is called after the headers of a 200, before its body is received; it may
        wait. `on_large` is called when a body has grown large, with the seconds that it may wait
        for its turn; False: it did not come. `is_fresh`: on a new connection. The head may take
        `timeout_s`. `within_s`: the answer has ended by then or, where the head took longer, so
        much later; None: `max_wait_s`. Raises DatadogRequestError also when the view
        makes no valid URL, and DatadogAnswerTooLarge when the body is larger than `max_body_mb`.
        """
        what = f"view {view.label}"
        try:
            url = httpx.URL(f"{self._config.api_url}{SNAPSHOTS}?{query_string(view, limit)}")
        except (UnicodeEncodeError, httpx.InvalidURL):
            reason = "makes no valid URL: too long, half a surrogate pair, or a wrong api_url"
            raise DatadogRequestError(f"{what}: {reason}") from None
        terms = Terms(on_large, is_fresh, self._config.timeout_s, within_s)
        return self._ask(httpx.Request("GET", url), what, terms, before_body)

    def list_applications(self, *, within_s: float | None = None) -> Answer:
        """Ask for every RUM application; the endpoint has no pages."""
        request = httpx.Request("GET", f"{self._config.api_url}{APPLICATIONS}")
        return self._ask(request, "the list of RUM applications", Terms(within_s=within_s))

    def aggregate_rum(self, query: Mapping[str, Any], *, within_s: float | None = None) -> Answer:
        """Ask RUM to count events; `query` is a RUMAggregateRequest."""
        request = httpx.Request("POST", f"{self._config.api_url}{AGGREGATE}", json=dict(query))
        return self._ask(request, "RUM's count of views", Terms(within_s=within_s))

    def try_once(
        self,
        path: str,
        parameters: Mapping[str, str],
        body: object = None,
        *,
        max_wait_s: float,
        is_api_key_alone: bool = False,
    ) -> Reply:
        """Send one request and return the reply, whatever its status; asks once more if that helps.

        With a `body` it is a POST. `is_api_key_alone`: without the application key. All has ended
        `max_wait_s` after the rate limit let it through, or little later. Raises DatadogError when
        the rate limit needs a wait of more than `max_wait_s`, when stopped, and when `parameters`
        make no valid URL.
        """
        what = f"a question to {path}"
        try:
            url = f"{self._config.api_url}{path}?{_encoded(parameters)}".rstrip("?")
            request = httpx.Request("GET" if body is None else "POST", url, json=body)
            request.extensions[API_KEY_ALONE] = is_api_key_alone
        except (UnicodeEncodeError, httpx.InvalidURL):
            raise DatadogRequestError("the view name makes no valid URL") from None
        budget = self.retry_budget(max_wait_s)
        self._check_running()
        while fault := self._closed_gate(request, what):
            budget.sleep_or_raise(fault, 0)
        end = self._monotonic() + max_wait_s
        terms = Terms(within_s=max(SHORTEST_EXCHANGE_S, max_wait_s))
        reply = self._exchange(request, what, terms)
        status = reply.status or 0
        is_broken = reply.broken and not reply.is_too_large
        may_pass = is_broken or status in RETRIED_4XX or status >= 500
        stated = stated_wait(status, reply.headers, self._clock())
        pause = stated or backoff_s(1, self._jitter())
        left_s = end - self._monotonic() - pause
        if not may_pass or left_s < 0:
            return reply
        budget.sleep(pause, DatadogUnavailable(f"{what}: {status or 'no answer'}"))
        self._check_running()
        return self._exchange(request, what, Terms(within_s=max(SHORTEST_EXCHANGE_S, left_s)))

    def explained(self, error: DatadogError) -> DatadogError:
        """The error; one of refused keys says which of the two was refused, where that can be told.

        Datadog is asked once, for a few seconds, by all clients that share a `Validation`.
        """
        if not isinstance(error, DatadogAuthError) or not error.advice or self._keys.bearer_token:
            return error
        is_valid = self._validation.is_api_key_valid(self._ask_validity)
        told = advice(self._keys, self._config.site, is_api_key_valid=is_valid)
        return DatadogAuthError(
            str(error).replace(error.advice, told),
            status=error.status,
            detail=error.detail,
            requests=error.requests,
        )

    def _ask_validity(self) -> bool | None:
        """What Datadog says of the API key; None: nothing. Raises `DatadogError` for no answer."""
        wait_s = min(SIDE_WAIT_S, self._config.max_wait_s)
        reply = self.try_once(VALIDATE, {}, max_wait_s=wait_s, is_api_key_alone=True)
        status = reply.status or 0
        if reply.broken or status in RETRIED_4XX or status >= 500:
            text = ": ".join(filter(None, (VALIDATE, str(status or "no answer"), reply.broken)))
            raise DatadogUnavailable(text, status=reply.status, requests=1)
        return said_of_api_key(status, reply.body)

    def _ask(
        self,
        request: httpx.Request,
        what: str,
        terms: Terms,
        before_body: Callable[[], None] | None = None,
    ) -> Answer:
        with self._slots:
            self._check_running()
            if fault := self._closed_gate(request, what):
                raise fault
            began = self._monotonic()
            reply = self._exchange(request, what, terms, before_body)
        if reply.status == 200 and not reply.broken:
            name = self._safe(reply.headers.get("X-RateLimit-Name", "")) or None
            left = remaining(reply.headers)
            return Answer(
                what,
                reply.body,
                began,
                reply.arrived_at,
                left,
                name,
                cache_header=self._safe(cache_header(reply.headers)) or OLD_DATE * reply.is_old,
                part_header=self._safe(part_header(reply.headers)),
                own_keys=self.own_keys,
            )
        error = self._passing_error(reply, what)
        self._check_running(requests=1)
        wait_s = stated_wait(reply.status, reply.headers, self._clock())
        raise Retryable(error, wait_s=wait_s, began=began)

    def _closed_gate(self, request: httpx.Request, what: str) -> Retryable | None:
        """The fault of a request that the rate limit does not let through; None: it does."""
        pause = self._gates.closed_for_s(request.url.path)
        if pause <= 0:
            return None
        return Retryable(DatadogUnavailable(f"{what}: {USED_UP}"), wait_s=pause)

    def _check_running(self, requests: int = 0) -> None:
        """Raises DatadogUnavailable when stopped or closed."""
        if self._stop.is_set() or self._transport.is_closed:
            raise stopped(requests)

    def _exchange(
        self,
        request: httpx.Request,
        what: str,
        terms: Terms,
        before_body: Callable[[], None] | None = None,
    ) -> Reply:
        """Send one request; a network error is part of the reply, never raised.

        Raises ClockAhead.
        """
        samples: list[Sample] = []

        def on_head(status: int, headers: Mapping[str, str]) -> None:
            self._gates.note(request.url.path, headers)
            now_s = self._monotonic()
            sample = self._server_clock.note(
                status,
                headers,
                head_at=self._clock(),
                monotonic_s=now_s,
                took_s=now_s - started,
            )
            samples.extend([sample] if sample else [])
            if before_body and status == 200:
                before_body()

        if self._on_request:
            self._on_request()
        started = self._monotonic()
        reply = self._transport.send(request, on_head, terms)
        reply.broken = self._safe(reply.broken)
        took_ms = 1000 * (self._monotonic() - started)
        outcome = ", ".join(filter(None, (str(reply.status or ""), reply.broken)))
        log.debug("%s: %s, %d ms, %d bytes", what, outcome, took_ms, len(reply.body))
        for sample in samples:
            self._require_right_clock(sample)
            reply.is_old = self._server_clock.is_old(sample)
        return reply

    def _require_right_clock(self, sample: Sample) -> None:
        """Raises ClockAhead where this machine's clock is too far ahead, by all that is known.

        Before that another question is asked, as after the first answer that shows it a minute
        ahead: a cache may have given that, or it waited while the machine slept.
        """
        clock = self._server_clock
        if sample.skew_s <= WORTH_A_WORD_S:
            return
        with clock.confirming:
            is_asking, is_refused = clock.is_confirming, self._is_ahead(sample)
            if not is_asking and (is_refused or not clock.is_confirmed):
                clock.is_confirming = clock.is_confirmed = True
                try:
                    self._ask_for_date()
                finally:
                    clock.is_confirming = False
        skew_s = clock.skew_s or 0.0
        if is_asking or not self._is_ahead(sample):
            return
        raise ClockAhead(
            f"this machine's clock is {skew_text(skew_s)} of the Date of"
            f" {host_of(self._config.api_url)}, and nothing is stored: set the clock (NTP), or"
            " accept it with datadog.accept_wrong_clock = true"
        )

    def _is_ahead(self, sample: Sample) -> bool:
        """Whether, by all that is known at this answer, this machine's clock must be refused."""
        clock = self._server_clock
        is_ahead = (clock.skew_s or 0.0) > LARGEST_SKEW_S and not clock.is_old(sample)
        return is_ahead and not self._config.accept_wrong_clock

    def _ask_for_date(self) -> None:
        """Ask for what no cache should have, whatever the answer, only for its `Date`."""
        request = httpx.Request("GET", f"{self._config.api_url}{VALIDATE}")
        request.extensions[API_KEY_ALONE] = True
        wait_s = min(SIDE_WAIT_S, self._config.timeout_s)
        self._exchange(request, "a question for the time", Terms(within_s=wait_s))

    def _passing_error(self, reply: Reply, what: str) -> DatadogError:
        """The error of a reply that is no answer; raised here where another try would not help."""
        # Never raised from a variable: the variable, the error and its traceback would make a
        # cycle, which keeps the frames of all callers, and a slot with them, until it is collected.
        status = reply.status or 0
        detail = reply.broken if status in (0, 200) else self._safe(error_text(reply.body))
        text = ": ".join(filter(None, (what, str(status or "no answer"), detail)))
        text = self._used_up(what, text) if status == TOO_MANY else text
        if reply.refused_by:  # waiting would not help
            text = f"{what}: no answer: {reply.refused_by} asks for a user and a password (407)"
            raise DatadogUnavailable(text, detail=detail, requests=1)
        if status in (401, 403):
            told = advice(self._keys, self._config.site)
            if is_page(reply.body):
                text, told = f"{text}; {PAGE_ADVICE}{told}", ""
            else:
                text = f"{text}; {told}"
            raise DatadogAuthError(text, status=status, detail=detail, requests=1, advice=told)
        if 300 <= status < 400:
            to = self._safe(host_of(reply.headers.get("Location", "")))
            text += f"; the API redirects{' to ' * bool(to)}{to}: check site and api_url"
        if status == CHANGED_ON_THE_WAY:
            text += "; a proxy on the way changed the answer: it must pass answers on unchanged"
            raise DatadogRequestError(text, status=status, detail=detail, requests=1)
        if 300 <= status < 500 and status not in RETRIED_4XX:
            raise DatadogRequestError(text, status=status, detail=detail, requests=1)
        if reply.is_too_large and status == 200:  # another try makes it no smaller
            raise DatadogAnswerTooLarge(text, status=status, detail=detail, requests=1)
        if reply.is_untrusted:  # waiting would not help
            raise DatadogUnavailable(f"{text}; {_untrusted(detail)}", detail=detail, requests=1)
        if reply.is_unknown_host:
            place = f"site and api_url ({self._config.api_url})"
            text += f"; check {'that proxy' if reply.is_proxy_fault else place}, and the network"
            return DatadogHostUnknown(text, detail=detail, requests=1)
        return DatadogUnavailable(text, status=reply.status, detail=detail, requests=1)

    def _used_up(self, what: str, text: str) -> str:
        """The text of a request that was not even sent, in place of the server's own."""
        log.debug("%s", text)
        return f"{what}: {USED_UP}"

    def _safe(self, text: str) -> str:
        """Foreign text made fit for a message: one short line, our keys blotted out."""
        return one_line(text, self.own_keys)


def _untrusted(detail: str) -> str:
    """What to check of a certificate that is not trusted, for the reason `detail`."""
    is_about_time = "expired" in detail or "not yet valid" in detail
    return "check SSL_CERT_FILE" + " and this machine's clock" * is_about_time


def query_string(view: View, limit: int) -> str:
    """The list parameters, strictly percent-encoded: `/`, `+` and `%` would change the name.

    Raises UnicodeEncodeError for a lone surrogate.
    """
    parameters = {
        "filter[view_name]": view.name,
        "filter[application_id]": view.application_id,
        "filter[device_type]": view.device_type,
        "page[limit]": str(limit),
    }
    return _encoded({name: value for name, value in parameters.items() if value})


def _encoded(parameters: Mapping[str, str]) -> str:
    return "&".join(
        f"{quote(n, safe='')}={quote(value, safe='')}" for n, value in parameters.items()
    )
