"""What a view's waits cost it."""

from etl.datadog.retry import Patience


def test_waits_that_overlap_are_paid_once() -> None:
    patience = Patience(10)
    for begun, ended in ((0, 4), (2, 6), (1, 3), (7, 8)):
        patience.spend(begun, ended)
    assert patience.left == 10 - 6 - 1


def test_a_wait_is_allowed_as_far_as_it_can_be_paid() -> None:
    patience = Patience(10)
    patience.spend(0, 6)
    assert patience.allows(5, 5)  # of which one second is paid
    assert not patience.allows(6, 4.5)


def test_a_shortened_patience_says_what_bounds_it() -> None:
    patience = Patience(120)
    patience.shorten(500)
    assert (patience.left, patience.limit) == (120, "max_wait_s = 120")
    patience.shorten(1.0)
    assert (patience.left, patience.limit) == (1, "1 s")
