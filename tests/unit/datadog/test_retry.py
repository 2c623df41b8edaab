"""What a view's waits cost it."""

from etl.datadog.retry import RetryBudget


def test_waits_that_overlap_are_paid_once() -> None:
    budget = RetryBudget(10)
    for begun, ended in ((0, 4), (2, 6), (1, 3), (7, 8)):
        budget.spend(begun, ended)
    assert budget.left == 10 - 6 - 1


def test_a_wait_is_allowed_as_far_as_it_can_be_paid() -> None:
    budget = RetryBudget(10)
    budget.spend(0, 6)
    assert budget.allows(5, 5)  # of which one second is paid
    assert not budget.allows(6, 4.5)


def test_a_shortened_budget_says_what_bounds_it() -> None:
    budget = RetryBudget(120)
    budget.shorten(500)
    assert (budget.left, budget.limit) == (120, "max_wait_s = 120")
    budget.shorten(1.0)
    assert (budget.left, budget.limit) == (1, "1 s")
