"""Properties of real runs over invented organizations: what a verdict and a removal are worth.

What cannot be known is left out by name: `is_betrayed` (a cap that no number of the run shows)
and `could_not_know` (an application that neither a list, an answer nor a row ever named).
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from etl.datadog import retry
from etl.extract.completeness import COMPLETE, FAILED
from etl.ledger.results import RunResult
from tests.support.invented import LISTED, MIX_UPS, SAID, UNLISTED, Invented, Story
from tests.support.project import Project, make_config, open_project

pytestmark = pytest.mark.slow

VIEWS = ["/a", "/b", "/c", "/d"]
ODD_CAP = 17
"""Neither round nor a limit: only a learned cap, or three views, can betray it."""
PLACES = [
    *[(application, device) for application in LISTED[:2] for device in ("desktop", "mobile")],
    ("app-a", None),
    ("app-a", "TV"),
    ("app-b", "Tablet"),
    (UNLISTED, "desktop"),
    (None, "desktop"),
    (None, None),
]
HEALTHY = PLACES[:4]


@dataclass(frozen=True)
class Turn:
    """What happens before a run, how the API behaves in it, and what changes meanwhile."""

    come: dict[str, list["Place"]]
    go: list[int]
    cap: int | None
    refusal: tuple[int, bool] | None
    order: str
    applications: str
    deaf: str | None
    meanwhile: dict[int, tuple[list[tuple[str, tuple[str | None, str | None]]], list[int]]]
    faults: frozenset[int]
    mix_ups: dict[int, str]
    cached: tuple[int, int]
    says_age: bool
    late_s: float
    doubtful: dict[int, str]


Place = tuple[str | None, str | None]


def _places(count: int, seed: int, pool: list[Place]) -> list[Place]:
    return random.Random(seed).choices(pool, k=count)


def _numbers(count: int, seed: int) -> list[int]:
    return random.Random(seed).sample(range(60), k=count)


# Drawn as one number and a seed: a list of many draws is slow, and seldom long.
places = st.builds(
    _places,
    st.sampled_from([0, 1, 3, 9, 10, 11, 14, 17, 18, 20, 21, 24, 26]),
    st.integers(0, 99),
    st.sampled_from([HEALTHY, HEALTHY, PLACES]),
)
moments = st.integers(1, 12)
turns = st.builds(
    Turn,
    come=st.dictionaries(st.sampled_from(VIEWS), places, max_size=4),
    go=st.builds(_numbers, st.sampled_from([0, 1, 2, 8, 30, 60]), st.integers(0, 99)),
    cap=st.sampled_from([None, 10, 20, 25, ODD_CAP]),
    refusal=st.sampled_from([None, None, None, (30, True), (12, True), (30, False)]),
    order=st.sampled_from(["newest", "random", "changing"]),
    applications=st.sampled_from(["listed", "listed", "forbidden", "broken", "next", "hit"]),
    deaf=st.sampled_from([None, None, None, "app-b", "app-c"]),
    meanwhile=st.just({})
    | st.dictionaries(
        moments,
        st.tuples(
            st.lists(st.tuples(st.sampled_from(VIEWS), st.sampled_from(HEALTHY)), max_size=2),
            st.lists(st.integers(0, 60), max_size=3),
        ),
        max_size=3,
    ),
    faults=st.just(frozenset()) | st.frozensets(moments, max_size=2),
    mix_ups=st.just({}) | st.dictionaries(moments, st.sampled_from(MIX_UPS), max_size=6),
    cached=st.just((0, 0)) | st.builds(lambda n, m: (n, n + m), moments, st.integers(1, 8)),
    says_age=st.booleans(),
    late_s=st.sampled_from([0.0, 0.0, 0.005]),
    doubtful=st.just({}) | st.dictionaries(moments, st.sampled_from(sorted(SAID)), max_size=3),
)
histories = st.lists(turns, min_size=1, max_size=4)
limits = st.sampled_from([1000, 1000, 24, 12])
ON_A_DATABASE = [
    HealthCheck.function_scoped_fixture,
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
]


@pytest.fixture(scope="module")
def server() -> Iterator[Invented]:
    with Invented() as server:
        yield server


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BASE_S", 0.002)


def play(story: Story, turn: Turn) -> RunResult:
    organization = story.server.organization
    for identifier in story.some(turn.go):
        del organization.items[identifier]
    for view, come in turn.come.items():
        new = [story.make(view, place) for place in come]
        organization.items |= {item.id: item for item in new}
    organization.cap, organization.refusal = turn.cap, turn.refusal
    organization.order, organization.applications = turn.order, turn.applications
    organization.deaf, organization.faults = turn.deaf, turn.faults
    organization.mix_ups, organization.cached = turn.mix_ups, turn.cached
    organization.says_age, organization.late_s = turn.says_age, turn.late_s
    organization.doubtful = turn.doubtful
    organization.changes = {
        moment: ([story.make(*one) for one in come], story.some(go))
        for moment, (come, go) in turn.meanwhile.items()
    }
    return story.run(accept=True)


@pytest.fixture
def tell(new_database: Callable[..., str], server: Invented) -> Iterator[Callable[..., Story]]:
    """A new story; the one before is closed."""
    open_ones: list[Project] = []

    def make(dialect: str = "sqlite", **changes: object) -> Story:
        while open_ones:
            open_ones.pop().database.close()
        project = open_project(make_config(new_database(dialect), server.url, VIEWS))
        project.configure(**changes)
        open_ones.append(project)
        return Story(project, server)

    yield make
    while open_ones:
        open_ones.pop().database.close()


def assert_complete_is_true(story: Story) -> None:
    for result in story.run_result.views:
        view = result.view.name
        if result.verdict != COMPLETE or not story.is_quiet(view):
            continue
        missing = story.server.organization.of(view) - story.live(view)
        unknowable = {i for i in missing if story.could_not_know(story.items[i], view)}
        if unknowable:
            event("complete, but for applications that nothing ever named")
        assert missing == unknowable, result.reason


def assert_removals_are_true(story: Story) -> None:
    removed = story.removed()
    if removed:
        event("rows were removed")
    assert removed <= story.away


def assert_nothing_read_is_lost(story: Story) -> None:
    """What was sent is listed, unless it went while the run still asked."""
    for result in story.run_result.views:
        view = result.view.name
        if result.verdict != FAILED:
            sent = story.server.sent.get(view, set()) - story.server.gone
            assert sent <= story.live(view), result.reason


def assert_rows_are_true(story: Story) -> None:
    """Each has the content that its snapshot had, and belongs to the view that it names."""
    for identifier, row in story.after.items():
        item = story.items[identifier]
        assert row["view_name"] == row["synced_view"] == item.view
        assert (row["application_id"], row["device_type"]) == (item.application, item.device)


def assert_who_is_answered_wrongly_twice_fails(story: Story) -> None:
    results = story.results()
    for view, times in story.server.wrong.items():
        if times > 1:
            event("answered wrongly twice")
            assert results[view].verdict == FAILED
            assert "the answer is for another view: " in results[view].reason


@settings(max_examples=60, suppress_health_check=ON_A_DATABASE)
@given(history=histories, limit=limits)
def test_verdicts_and_removals_are_true_and_nothing_read_is_lost(
    tell: Callable[..., Story], history: list[Turn], limit: int
) -> None:
    assert_true_and_lossless(tell(page_limit=limit), history)


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"])
@settings(max_examples=4, suppress_health_check=ON_A_DATABASE)
@given(history=histories, limit=limits)
def test_they_are_on_every_database(
    tell: Callable[..., Story], dialect: str, history: list[Turn], limit: int
) -> None:
    assert_true_and_lossless(tell(dialect, page_limit=limit), history)


def assert_true_and_lossless(story: Story, history: list[Turn]) -> None:
    for turn in history:
        run = play(story, turn)
        for result in run.views:
            event(result.verdict + " in parts" * ("parts" in result.reason))
        assert_nothing_read_is_lost(story)
        assert_rows_are_true(story)
        assert_who_is_answered_wrongly_twice_fails(story)
        if story.is_betrayed():
            assert_complete_is_true(story)
            assert_removals_are_true(story)
        else:
            event("a cap that nothing betrays")
