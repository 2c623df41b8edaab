"""One question to Datadog, asked until it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from etl.datadog.retry import Retryable, RetryBudget
from etl.errors import DatadogAnswerTooLarge, DatadogError

T = TypeVar("T")


def ask(attempt: Callable[[], T], budget: RetryBudget) -> tuple[T, int]:
    """Call `attempt` until it succeeds; returns its result, and how many requests were sent.

    `attempt` sends one request and decodes its answer; it raises `Retryable` for a failure that
    may pass. A try under way is not cut short. Raises `DatadogError`, with the number of requests
    in it; any other error of `attempt` passes through.
    """
    requests = 0
    try:
        while True:
            try:
                return attempt(), requests + 1
            except Retryable as caught:
                # Without its traceback: that would keep the body in memory while we wait.
                fault = caught.with_traceback(None)
            except DatadogAnswerTooLarge as error:
                raise error.with_traceback(None) from None  # as above, but for good
            requests += fault.error.requests
            budget.sleep_or_raise(fault, requests)
    except DatadogError as error:
        error.requests += requests
        raise
