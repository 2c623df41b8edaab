"""What a refused limit is lowered to."""

import pytest

from etl.datadog.page_limit import lowered_limit

LOWERED = {
    "the number it names": (1000, "page[limit] must be between 1 and 100", 100),
    "not the one that was asked for": (1000, "limit 1000 is larger than 250", 250),
    "the half without one": (1000, "page[limit] is too large", 500),
    "the half when it names no smaller one": (1000, "limit must be less than 5000", 500),
    "not a number of a path": (1000, "Invalid page[limit] for /api/v2/replay/heatmap", 500),
    "not a number of a request": (1000, "page[limit] is too large (trace 7)", 500),
    "one with a separator": (10000, "must not exceed 5,000", 5000),
    "a maximum of it": (1000, "page[limit] 1000 exceeds the maximum of 100", 100),
    "what the maximum is": (1000, "page[limit]: the maximum allowed value is 100.", 100),
    "a limit of it": (1000, "limit of 100 exceeded", 100),
    "what is the maximum": (1000, "page[limit]: 100 is the maximum", 100),
    "what it may not be above": (1000, "page[limit] can't be above 100", 100),
    "the end of a range": (1000, "page[limit] must be in [1, 100]", 100),
    "the end of dots": (1000, "page[limit] must be in the range 1..100", 100),
    "not zero": (10, "the limit must be above 0", 5),
    "of an odd number the smaller half": (5, "limit", 2),
    "never less than one": (2, "limit", 1),
}


@pytest.mark.parametrize(("limit", "refusal", "lowered"), LOWERED.values(), ids=LOWERED)
def test_a_refused_limit_is_lowered_to(limit: int, refusal: str, lowered: int) -> None:
    assert lowered_limit(limit, refusal) == lowered
