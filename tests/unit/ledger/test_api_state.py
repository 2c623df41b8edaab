"""What runs learn of the API and remember: where it stops, and how much it may be asked for."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from etl.datadog import retry
from etl.ledger import api_state
from etl.ledger.api_state import PROBE_AFTER, read_api_state
from tests.support.api import Api, record
from tests.support.invented import Invented, Story
from tests.support.project import Project, make_config, open_project

HIDDEN_CAP = 37


@pytest.fixture(scope="module")
def server() -> Iterator[Invented]:
    with Invented() as server:
        yield server


@pytest.fixture
def story(new_database: Callable[..., str], server: Invented) -> Iterator[Story]:
    project = open_project(make_config(new_database("sqlite"), server.url, ["/home", "/other"]))
    yield Story(project, server)
    project.database.close()


def requests_of(story: Story) -> list[tuple[str, str | None, int]]:
    return [
        (q["filter[view_name]"], q.get("filter[application_id]"), int(q["page[limit]"]))
        for q in story.server.requests
    ]


def row(story: Story) -> dict[str, Any]:
    return story.project.one(
        "SELECT learned_cap, learned_cap_probed_at, largest_accepted_limit FROM sources"
    )


def let_time_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was remembered is as old as it may get."""
    monkeypatch.setattr(api_state, "PROBE_AFTER", timedelta(0))


def a_seen_cap(story: Story) -> None:
    """Three views stop at it, and their parts have more."""
    story.project.watch("/home", "/other", "/third")
    story.server.organization.cap = HIDDEN_CAP
    for view in ("/home", "/other", "/third"):
        for application in ("app-a", "app-b"):
            story.add(view, 30, application)
    assert {r.verdict for r in story.run().views} == {"complete"}
    assert row(story)["learned_cap"] == HIDDEN_CAP


# --- what is asked ------------------------------------------------------------------------


def test_plainly_complete_views_cost_one_request_each(story: Story) -> None:
    story.add("/home", 7)
    story.add("/other", 36, "app-b")
    run = story.run()
    assert requests_of(story).count(("/home", None, 1000)) == 1
    assert requests_of(story).count(("/other", None, 1000)) == 1
    assert len(story.server.requests) == 2 == run.total("requests")
    assert [r.reason for r in run.views] == [
        "7 of 1000 asked for; another view had 36",
        "36 of 1000 asked for",
    ]


def test_a_round_number_costs_nothing_when_another_view_had_more(story: Story) -> None:
    story.add("/home", 20)
    story.add("/other", 21)
    assert story.run().total("requests") == 2


def test_a_round_number_alone_is_read_in_parts(story: Story) -> None:
    story.add("/home", 12, "app-a")
    story.add("/home", 8, "app-b")
    result = story.run().views[0]
    assert (result.verdict, result.counts["requests"]) == ("complete", 4)
    assert requests_of(story)[-3:] == [("/home", f"app-{x}", 1000) for x in "abc"]
    assert (
        result.reason == "20 of 1000 asked for (a round number); 20 in 3 parts by all applications"
    )


def test_a_full_part_is_read_by_device_type(story: Story) -> None:
    story.add("/home", 20)
    result = story.run().views[0]
    assert (result.verdict, result.counts["requests"]) == ("unproven", 7)
    assert {q.get("filter[device_type]") for q in story.server.requests[-3:]} == {
        "desktop",
        "mobile",
        "tablet",
    }


def test_an_unchanged_answer_that_has_become_the_largest_is_read_again_and_counted(
    story: Story,
) -> None:
    """It was skipped as long as another view had more."""
    story.add("/home", 20)
    more = story.add("/other", 21)
    story.run()
    story.drop(more)
    result = story.run().views[0]
    assert result.verdict == "unproven"
    assert result.counts["requests"] == 8 == len(story.server.requests) - 1
    assert result.counts["unchanged"] == 20


def test_a_part_that_is_refused_costs_the_proof_and_not_the_view(story: Story) -> None:
    ids = story.add("/home", 12, "app-a") + story.add("/home", 8, "app-b")
    story.run()
    story.server.organization.deaf = "app-b"
    story.drop(ids[:1])
    story.drop(ids[12:13])
    story.add("/home", 2, "app-a")
    result = story.run().views[0]
    assert (result.verdict, result.counts["vanished"], result.counts["new"]) == ("unproven", 1, 2)
    assert story.removed() == {ids[0]}  # the other's own part did not answer
    assert result.reason.endswith("; 1 of them proves nothing: view /home [app-b]: 404: Not found")


def test_a_part_that_gives_no_answer_ends_the_asking_for_parts(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.project.configure(max_wait_s=0.01, concurrency=1)
    # With the usual pauses, chance lets one try in twenty begin within the time there is.
    monkeypatch.setattr(retry, "BASE_S", 1e6)
    monkeypatch.setattr(retry, "CAP_S", 1e6)
    ids = story.add("/home", 12, "app-a") + story.add("/home", 8, "app-b")
    story.server.organization.faults = frozenset({3})
    result = story.run().views[0]
    assert (result.verdict, result.counts["requests"]) == ("unproven", 2)
    assert len(story.server.requests) <= 4  # one may be under way already
    assert "3 of them prove nothing: view /home [app-a]: 500: oops; given up" in result.reason
    assert set(ids) == story.project.live()


# --- where it stops -----------------------------------------------------------------------


def test_a_cap_is_doubted_in_the_next_run_without_other_views(story: Story) -> None:
    a_seen_cap(story)
    before = row(story)["learned_cap_probed_at"]
    story.project.watch("/home")
    result = story.run().views[0]
    assert (result.verdict, result.counts["unchanged"]) == ("complete", 60)
    assert (
        "37 of 1000 asked for (the API stopped at this number before); 60 in 3 parts"
        in result.reason
    )
    assert row(story)["learned_cap"] == HIDDEN_CAP
    assert row(story)["learned_cap_probed_at"] > before


def test_what_a_wrong_clock_has_learned_is_not_believed_for_years(story: Story) -> None:
    a_seen_cap(story)

    def learned() -> tuple[bool, int | None]:
        state = story.project.database.read(
            lambda c: read_api_state(c, story.project.config, is_full=False)
        )
        return state.is_cap_recent, state.page_limit

    story.project.execute(
        "UPDATE sources SET largest_accepted_limit = 50,"
        " largest_accepted_limit_at = learned_cap_probed_at"
    )
    assert learned() == (True, 50)
    future = "2099-01-01 00:00:00.000000"
    story.project.execute(
        "UPDATE sources SET learned_cap_probed_at = :at, largest_accepted_limit_at = :at", at=future
    )
    assert learned() == (False, None)


def test_a_view_of_exactly_that_size_does_not_renew_it(story: Story) -> None:
    a_seen_cap(story)
    before = row(story)
    story.project.watch("/exact")
    for application in ("app-a", "app-b"):
        story.add("/exact", 18, application)
    story.add("/exact", 1, "app-c")
    result = story.run().views[0]
    assert (result.verdict, result.counts["listed"]) == ("complete", 37)
    assert row(story) == before


def test_a_cap_is_forgotten_when_a_larger_answer_comes(story: Story) -> None:
    a_seen_cap(story)
    story.server.organization.cap = None
    assert story.run().total("requests") == 12  # all three stop at 60, a round number
    story.add("/home", 1)
    story.project.watch("/home")
    assert story.run().total("requests") == 1
    assert row(story)["learned_cap"] is None


def test_an_old_cap_is_doubted_though_not_certain_until_the_api_exceeds_it(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_seen_cap(story)
    let_time_pass(monkeypatch)
    story.project.watch("/exact")
    story.server.organization.cap = None
    story.add("/exact", HIDDEN_CAP)
    assert [r.verdict for r in story.run().views] == ["unproven"]
    assert row(story)["learned_cap"] == HIDDEN_CAP
    story.add("/exact", 1)
    assert [r.verdict for r in story.run().views] == ["complete"]
    assert row(story)["learned_cap"] is None


def test_the_limit_itself_is_never_learned_as_a_cap(story: Story) -> None:
    story.project.configure(page_limit=HIDDEN_CAP)
    for application in ("app-a", "app-b"):
        story.add("/home", 30, application)
    result = story.run().views[0]
    assert (result.verdict, result.counts["listed"]) == ("complete", 60)
    assert row(story)["learned_cap"] is None


# --- how much it may be asked for ---------------------------------------------------------


@pytest.mark.parametrize(("names_it", "accepted", "requests"), [(True, 30, 3), (False, 15, 8)])
def test_a_refused_limit_is_lowered_and_remembered(
    story: Story, names_it: bool, accepted: int, requests: int
) -> None:
    story.add("/home", 14)
    story.add("/other", 7)
    story.server.organization.refusal = (30, names_it)
    run = story.run()
    assert [v.page_limit for v in run.views] == [accepted, accepted]
    assert run.total("requests") == len(story.server.requests) == requests
    assert [
        r["page_limit"] for r in story.project.rows("SELECT page_limit FROM sync_run_views")
    ] == [
        accepted,
        accepted,
    ]
    assert row(story)["largest_accepted_limit"] == accepted
    assert story.run().total("requests") == 2


def test_a_refused_limit_is_asked_for_again_some_day(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.add("/home", 14)
    story.server.organization.refusal = (30, True)
    story.run()
    let_time_pass(monkeypatch)
    assert [v.page_limit for v in story.run().views] == [30, 30]
    assert story.server.requests[0]["page[limit]"] == "1000"
    story.server.organization.refusal = None
    assert [v.page_limit for v in story.run().views] == [1000, 1000]


def test_a_smaller_configured_limit_is_the_one_asked_for(story: Story) -> None:
    story.server.organization.refusal = (30, True)
    story.run()
    story.project.configure(page_limit=5)
    assert [v.page_limit for v in story.run().views] == [5, 5]


def test_a_view_that_is_refused_at_every_limit_lowers_it_for_nobody_else(
    project: Project, api: Api
) -> None:
    """The word "limit" may be about something else, such as the length of the name."""
    project.configure(concurrency=1)
    project.watch("/bad", "/home")
    api.views = {
        "/bad": (400, {}, b'{"errors": ["filter[view_name] is over the limit of 255"]}'),
        "/home": [record(str(n)) for n in range(12)],
    }
    bad, home = project.run().views
    assert (bad.verdict, home.verdict, home.page_limit) == ("failed", "complete", 1000)
    assert bad.counts["requests"] == len(api.requests) - 1
    assert project.one("SELECT largest_accepted_limit AS it FROM sources") == {"it": None}
    assert timedelta(days=1) < PROBE_AFTER


def test_a_limit_refused_while_parts_are_read_proves_nothing(story: Story) -> None:
    ids = story.add("/home", 12, "app-a") + story.add("/home", 8, "app-b")
    story.project.watch("/home")
    story.run()
    story.drop(ids[:1])
    story.add("/home", 1, "app-b")
    story.server.refuses_from = (2, 7)
    result = story.run(accept=True).views[0]
    story.server.refuses_from = None
    assert (result.verdict, result.counts["vanished"]) == ("unproven", 0)
    assert "prove nothing: the API now refuses a limit of 1000" in result.reason
