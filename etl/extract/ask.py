"""One question to Datadog, asked until it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from etl.datadog.retry import Retryable, RetryBudget
from etl.errors import DatadogError

T = TypeVar("T")


def ask(attempt: Callable[[], T], budget: RetryBudget) -> tuple[T, int]:
    """What `attempt` returns in the end, and how many requests were sent for it.

    `attempt` sends one request and decodes its answer; it raises `Retryable` for what another
    try may mend. A try under way is not cut short. Raises `DatadogError`, which knows the
    number of requests too; anything else that `attempt` raises passes through.
    """
    requests = 0
    try:
        while True:
            try:
                return attempt(), requests + 1
            except Retryable as caught:
                # Without what the try had in its hands: nothing of it is kept while we wait.
                fault = caught.with_traceback(None)
            requests += fault.error.requests
            budget.sleep_or_raise(fault, requests)
    except DatadogError as error:
        error.requests += requests
        raise
