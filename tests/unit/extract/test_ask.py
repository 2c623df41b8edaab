"""The loop around one question, without a network."""

import threading
from collections.abc import Callable

import pytest

from etl.datadog.retry import Retryable, RetryBudget
from etl.errors import DatadogError, DatadogHostUnknown, DatadogRequestError, DatadogUnavailable
from etl.extract.ask import ask


class Clock(threading.Event):
    """Waiting costs no time and is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0
        self.waits.append(timeout or 0)
        return self.is_set()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budget(clock: Clock, seconds: float = 100) -> RetryBudget:
    return RetryBudget(seconds, stop=clock, monotonic=clock.monotonic, jitter=lambda: 1)


def fault(
    wait_s: float | None = None, *, requests: int = 1, kind: type[DatadogError] = DatadogUnavailable
) -> Retryable:
    error = kind("oops")
    error.requests = requests
    return Retryable(error, wait_s=wait_s)


def tries(*outcomes: Exception | str) -> Callable[[], str]:
    left = list(outcomes)

    def attempt() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return attempt


def test_it_waits_as_the_server_says_or_backs_off(clock: Clock) -> None:
    found = ask(tries(fault(), fault(7), fault(), "found"), budget(clock))
    assert found == ("found", 4)
    assert clock.waits == [0.2, 7, 0.8]


def test_a_closed_gate_is_a_wait_but_no_request(clock: Clock) -> None:
    assert ask(tries(fault(3, requests=0), "found"), budget(clock)) == ("found", 1)
    assert clock.waits == [3]


def test_an_error_knows_every_request(clock: Clock) -> None:
    final = DatadogRequestError("404")
    final.requests = 1
    with pytest.raises(DatadogRequestError) as caught:
        ask(tries(fault(), fault(), final), budget(clock))
    assert caught.value.requests == 3


def test_it_gives_up_before_a_wait_that_the_budget_does_not_pay(clock: Clock) -> None:
    end = r"^oops; given up: another wait would exceed max_wait_s = 10$"
    with pytest.raises(DatadogUnavailable, match=end) as caught:
        ask(tries(fault(5), fault(6)), budget(clock, 10))
    assert (caught.value.requests, clock.waits) == (2, [5])
    assert caught.value.__context__ is None


def test_a_try_that_failed_is_paid_from_when_it_began(clock: Clock) -> None:
    spent = budget(clock, 100)
    clock.now = 30
    slow = Retryable(DatadogUnavailable("oops"), wait_s=5, began=0)
    assert ask(tries(slow, "found"), spent)[0] == "found"
    assert spent.left == 65


def test_a_host_that_is_unknown_from_the_start_gets_little_time(clock: Clock) -> None:
    unknown = fault(11, kind=DatadogHostUnknown)
    with pytest.raises(DatadogHostUnknown, match=r"would exceed 10 s$"):
        ask(tries(unknown), budget(clock))
    assert ask(tries(fault(), unknown, "found"), budget(clock)) == ("found", 3)


def test_nothing_is_asked_again_when_stopped(clock: Clock) -> None:
    clock.set()
    with pytest.raises(DatadogUnavailable, match=r"^stopped while waiting$") as caught:
        ask(tries(fault(), "found"), budget(clock))
    assert (caught.value.requests, clock.waits) == (1, [])


def test_what_a_try_had_in_its_hands_is_let_go_before_the_wait() -> None:
    class Body:
        alive = 0

        def __init__(self) -> None:
            Body.alive += 1

        def __del__(self) -> None:
            Body.alive -= 1

    class Watched(Clock):
        alive: int | None = None

        def wait(self, timeout: float | None = None) -> bool:
            self.alive = Body.alive
            return super().wait(timeout)

    watched = Watched()

    def attempt() -> str:
        _body = Body()
        if watched.alive is None:
            raise fault()
        return "found"

    assert ask(attempt, budget(watched)) == ("found", 2)
    assert watched.alive == 0
