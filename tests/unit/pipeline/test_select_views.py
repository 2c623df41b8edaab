"""Which views a run covers: the configured ones, those read once, those discovered."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.config.views import View
from etl.extract.view_selection import Bounds, ReadBefore
from etl.ledger.known_views import KnownViews
from etl.pipeline.select_views import ViewSelection, add_known_views

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def selection(
    configured: Sequence[View] = (),
    read: Sequence[ReadBefore] = (),
    traffic: dict[str, int] | None = None,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
    max_views: int = 1000,
) -> ViewSelection:
    bounds = Bounds(include, exclude, max_views)
    return add_known_views(configured, KnownViews(tuple(read), traffic or {}), bounds, NOON)


def names(views: Sequence[View]) -> list[str]:
    return [view.name for view in views]


TRAFFIC = {"/a": 1, "/b": 9, "/c": 5}


@pytest.mark.parametrize(
    ("given", "covered", "note"),
    [
        pytest.param({}, [], "", id="nothing"),
        pytest.param({"traffic": TRAFFIC}, ["/a", "/b", "/c"], "", id="discovered"),
        pytest.param({"read": [ReadBefore("/old")]}, ["/old"], "", id="read, no traffic any more"),
        pytest.param(
            {"traffic": TRAFFIC, "max_views": 2}, ["/b", "/c"], "1 discovered view not", id="max"
        ),
        pytest.param(
            {
                "traffic": TRAFFIC,
                "max_views": 2,
                "read": [ReadBefore("/x"), ReadBefore("/y"), ReadBefore("/z")],
            },
            ["/x", "/y", "/z"],
            "3 discovered views not added, beyond discover.max_views = 2; the busiest is /b",
            id="those read once stay",
        ),
        pytest.param({"traffic": TRAFFIC, "include": ("/[ab]",)}, ["/a", "/b"], "", id="in"),
        pytest.param({"traffic": TRAFFIC, "exclude": ("/B", "/c*")}, ["/a", "/b"], "", id="out"),
        pytest.param({"traffic": TRAFFIC, "include": ()}, [], "", id="none included"),
        pytest.param(
            {"read": [ReadBefore("/a"), ReadBefore("/x")], "exclude": ("/x",)},
            ["/a"],
            "",
            id="read, left out",
        ),
        pytest.param(
            {"configured": [View("/b", device_type="m"), View("/z")], "traffic": TRAFFIC},
            ["/b", "/z", "/a", "/c"],
            "",
            id="a configured one stands for its name",
        ),
        pytest.param(
            {"configured": [View("/out")], "exclude": ("*",), "traffic": TRAFFIC},
            ["/out"],
            "",
            id="the bounds are for what is not configured",
        ),
    ],
)
def test_what_was_read_or_discovered_is_covered_with_what_is_configured(
    given: dict[str, Any], covered: list[str], note: str
) -> None:
    found = selection(**given)
    assert names(found.views) == covered
    assert found.due == found.views
    assert (note in "".join(found.notes)) if note else not found.notes


@pytest.mark.parametrize(
    ("read", "is_asked"),
    [
        pytest.param(ReadBefore("/a"), True, id="had snapshots"),
        pytest.param(ReadBefore("/a", had_snapshots=False), True, id="never asked as a whole"),
        pytest.param(
            ReadBefore("/a", had_snapshots=False, last_run_at=NOON - HOUR),
            False,
            id="empty an hour ago",
        ),
        pytest.param(
            ReadBefore("/a", had_snapshots=False, last_run_at=NOON - DAY),
            True,
            id="empty a day ago",
        ),
        pytest.param(
            ReadBefore("/a", had_snapshots=False, is_failing=True, last_run_at=NOON - HOUR),
            True,
            id="failed an hour ago",
        ),
    ],
)
def test_a_view_that_never_had_a_snapshot_is_asked_once_a_day(
    read: ReadBefore, is_asked: bool
) -> None:
    found = selection(read=[read], traffic={"/a": 3})
    assert names(found.views) == ["/a"]
    assert bool(found.due) is is_asked
    assert bool(found.all_notes) is not is_asked


NAMES = st.sampled_from([f"/{c}" for c in "abcdeABC*?["])
READ = st.builds(
    ReadBefore,
    NAMES,
    st.booleans(),
    st.booleans(),
    st.none() | st.sampled_from([NOON, NOON - HOUR, NOON - DAY]),
)


@given(
    configured=st.lists(st.builds(View, NAMES), unique_by=lambda v: v.name, max_size=3),
    read=st.lists(READ, unique_by=lambda s: s.name),
    traffic=st.dictionaries(NAMES, st.integers(0, 9)),
    bounds=st.builds(
        Bounds,
        st.lists(st.sampled_from(["*", "/a", "/[a-c]", "/?"]), max_size=2).map(tuple),
        st.lists(st.sampled_from(["/a", "/[!a]", "/[[]"]), max_size=2).map(tuple),
        st.integers(1, 12),
    ),
    order=st.randoms(),
)
def test_properties_of_a_selection(
    configured: list[View],
    read: list[ReadBefore],
    traffic: dict[str, int],
    bounds: Bounds,
    order: Any,
) -> None:
    found = add_known_views(configured, KnownViews(tuple(read), traffic), bounds, NOON)
    shown = names(found.views)
    assert list(found.views[: len(configured)]) == configured
    assert len(shown) == len(set(shown))
    kept = {s.name for s in read if bounds.allow(s.name)} | set(names(configured))
    assert kept <= set(shown) <= kept | {n for n in traffic if bounds.allow(n)}
    assert len(shown) <= max(bounds.max_views, len(kept))
    added, left = set(shown) - kept, {n for n in traffic if bounds.allow(n)} - set(shown)
    assert bool(left) is bool(found.notes)
    least = min((traffic[name] for name in added), default=10)
    assert all(traffic[name] <= least for name in left)
    assert set(found.views) - set(found.due) <= found.asked_daily <= set(found.views)
    shuffled = list(traffic.items())
    order.shuffle(shuffled)
    order.shuffle(read)
    again = KnownViews(tuple(read), dict(shuffled))
    assert add_known_views(configured, again, bounds, NOON) == found
