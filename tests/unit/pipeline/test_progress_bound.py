"""etl.pipeline.progress_bound: how long is too long?"""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.pipeline.progress_bound import (
    STEP_S,
    longest_question_s,
    longest_run_s,
    longest_silence_s,
)


@dataclass
class Waits:
    max_wait_s: float = 120
    timeout_s: float = 30
    concurrency: int = 4


def test_with_the_defaults_it_is_minutes() -> None:
    assert longest_question_s(Waits()) == 120 + 30 + 120 == 270
    assert longest_silence_s(Waits()) == 270 + STEP_S == 570
    assert longest_run_s(Waits(), views=3) == (2 + 2 + 3) * 270 + 3 * 10 + 300
    assert longest_run_s(Waits(), views=3) < 3600


@pytest.mark.parametrize("max_wait_s", [0, 5])
def test_an_exchange_may_take_its_time_out_though_nothing_may_wait(max_wait_s: float) -> None:
    assert longest_question_s(Waits(max_wait_s, timeout_s=30)) == max_wait_s + 30 + 30


counts = st.integers(0, 5000)


@given(counts, counts, st.integers(1, 64), st.floats(0, 1e4), st.floats(0.1, 3600))
def test_whatever_is_read_in_its_worst_time_is_within_the_bound(
    views: int, parts: int, concurrency: int, max_wait_s: float, timeout_s: float
) -> None:
    waits = Waits(max_wait_s, timeout_s, concurrency)
    exchange = timeout_s + max(max_wait_s, timeout_s)
    question = max_wait_s + exchange
    worst = 2 * math.ceil(views / concurrency) * question + views * question + parts * exchange
    assert worst < longest_run_s(waits, views, parts) < math.inf
    assert longest_run_s(waits, views, parts) <= longest_run_s(waits, views + 1, parts + 1)
    assert longest_silence_s(waits) > question
