"""An answer whose records name another view or part than was asked for (rule 12), end to end."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from etl.config.views import View
from etl.ledger.results import ViewResult
from etl.pipeline.plan import make_plan
from etl.pipeline.run import Options
from tests.support.api import Api, record
from tests.support.invented import MIX_UPS, Invented, Story
from tests.support.project import Project, counts, make_config, open_project
from tests.support.rum import application

Records = list[dict[str, Any]]


def named(name: str | None, count: int, **attributes: object) -> Records:
    return [record(f"{name} {n}", view_name=name, **attributes) for n in range(count)]


def in_turn(*answers: Records) -> Callable[[], Records]:
    """Each answer once, then the last one for good."""
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def read(project: Project, name: str = "/home") -> ViewResult:
    (result,) = [result for result in project.run().views if result.view.name == name]
    return result


def requests(api: Api, name: str) -> int:
    return sum(query["filter[view_name]"] == name for query in api.requests)


def matching(project: Project) -> str | None:
    found: str | None = project.one("SELECT name_matching FROM sources")["name_matching"]
    return found


# --- another view's answer ----------------------------------------------------------------


def test_an_answer_for_another_configured_view_is_asked_for_again(
    project: Project, api: Api
) -> None:
    project.watch("/home", "/b")
    api.views = {"/home": in_turn(named("/b", 3), named("/home", 2)), "/b": named("/b", 3)}
    run = project.run()
    assert (run.status, run.total("new"), run.total("requests")) == ("ok", 5, 3)
    assert {v.verdict for v in run.views} == {"complete"}
    rows = project.rows("SELECT view_name, synced_view FROM snapshots")
    assert all(row["view_name"] == row["synced_view"] for row in rows)


def test_a_view_that_gets_another_ones_answer_twice_fails_and_keeps_its_rows(
    project: Project, api: Api
) -> None:
    project.watch("/home", "/b")
    api.views = {"/home": named("/home", 2), "/b": named("/b", 3)}
    project.run()
    api.requests.clear()
    api.views["/home"] = named("/b", 3)
    run = project.run(accept=True)
    result = next(v for v in run.views if v.view.name == "/home")
    assert run.status == "partial"
    assert (result.verdict, result.error_class) == ("failed", "DatadogResponseError")
    assert result.error == ("view /home: the answer is for another view: all 3 records name /b")
    assert result.counts["requests"] == requests(api, "/home") == 2
    assert len(project.live()) == 5
    (plan,) = (p for p in plans(project) if p.view.name == "/home")
    assert (plan.verdict, plan.reason) == ("failed", result.error)


def plans(project: Project) -> Any:
    return make_plan(project.config, project.database, Options(), stop=project.stop)


def test_a_view_alone_is_not_given_an_answer_that_names_nothing_it_ever_named(
    project: Project, api: Api
) -> None:
    """Neither is configured here: a cache that others share may hold any answer."""
    api.views["/home"] = named("/home", 2)
    project.run()
    api.views["/home"] = named("/elsewhere", 5)
    assert read(project).verdict == "failed"
    api.views["/home"] = in_turn(named("/elsewhere", 5), named("/home", 1))
    assert counts(project.run()) == {"listed": 1, "unchanged": 1, "vanished": 1}


def test_a_view_not_in_this_run_is_another_view_too(project: Project, api: Api) -> None:
    project.watch("/home", "/b")
    api.views["/home"] = named("/b", 3)
    run = project.run("/home")
    assert [v.verdict for v in run.views] == ["failed"]
    assert project.snapshots() == {}


def test_a_wrong_answer_is_no_evidence_that_a_smaller_one_is_whole(
    project: Project, api: Api
) -> None:
    """12 records for /home prove that the server sends 12, once it is known whose they are."""
    project.watch("/home", "/b")
    api.views = {"/home": named("/b", 12), "/b": named("/b", 10)}
    run = project.run()
    assert {v.view.name: v.verdict for v in run.views} == {"/home": "failed", "/b": "unproven"}


def test_an_answer_equal_to_the_last_one_needs_no_names(project: Project, api: Api) -> None:
    api.views["/home"] = named("/old", 3)
    for reason in ("is not known", "3 of 1000 asked for", "the same as last time"):
        assert reason in read(project).reason
    assert len(api.requests) == 3


def test_what_waits_to_be_asked_again_takes_no_room(project: Project, api: Api) -> None:
    """There is room for eight bodies in memory."""
    names = [f"/view-{n}" for n in range(30)]
    project.watch(*names, "/other")
    for name in names:
        api.views[name] = in_turn(named("/other", 40), named(name, 2))
    run = project.run()
    assert (run.status, len(project.live())) == ("ok", 60)


def test_a_doubted_view_that_then_gives_no_answer_says_how_often_it_was_asked(
    project: Project, api: Api
) -> None:
    project.watch("/home", "/b")
    api.views["/home"] = in_turn(named("/b", 1), (404, {}, b"{}"))  # type: ignore[arg-type]
    result = read(project)
    assert (result.error_class, result.counts["requests"]) == ("DatadogRequestError", 2)


# --- how names match ----------------------------------------------------------------------


def test_a_cap_that_also_cuts_a_listing_without_proof_is_seen(project: Project, api: Api) -> None:
    project.watch("/home", "/b", "/c")
    api.views = {"/home": named("/home", 37), "/b": named("/b", 37), "/c": named("/C", 37)}
    run = project.run()
    verdicts = {v.view.name: v.verdict for v in run.views}
    assert verdicts["/c"] == "unproven"
    assert "complete" not in verdicts.values()


def test_without_knowledge_a_listing_is_stored_and_removes_nothing(
    project: Project, api: Api
) -> None:
    api.views["/home"] = named("/Home", 3)
    result = read(project)
    assert (result.verdict, result.counts["new"]) == ("unproven", 3)
    assert result.reason == "all 3 records name /Home, and how the API matches names is not known"
    state = project.one("SELECT shortcut_digest, verdict FROM view_state")
    assert state == {"shortcut_digest": None, "verdict": "unproven"}
    # Its own rows say so by now.
    api.views["/home"] = named("/Home", 2)
    assert counts(project.run()) == {"listed": 2, "unchanged": 2, "vanished": 1}


def test_a_name_that_is_spelt_another_way_of_a_sudden_removes_nothing(
    project: Project, api: Api
) -> None:
    api.views["/home"] = named("/home", 2)
    project.run()
    api.views["/home"] = named("/HOME", 2)
    for _ in range(2):
        result = read(project)
        assert (result.verdict, result.counts["vanished"]) == ("unproven", 0)
    assert len(project.live()) == 4


def test_how_names_match_is_learned_and_kept_for_later_runs(project: Project, api: Api) -> None:
    project.watch("/home", "/b")
    api.views = {"/home": named("/home", 2) + named("/Home", 1), "/b": named("/B", 4)}
    project.run()
    assert matching(project) == "case"
    api.views["/home"] = named("/Home", 1)
    result = read(project)
    assert (result.verdict, result.counts["vanished"]) == ("complete", 2)
    assert matching(project) == "case"
    api.views["/home"] = named("/home", 1) + named("/homepage", 1)
    project.run()
    assert matching(project) == "case,prefix"


def test_a_relation_that_this_version_does_not_know_matches_nothing(
    project: Project, api: Api
) -> None:
    api.views["/home"] = named("/home", 2)
    project.run()
    project.execute("UPDATE sources SET name_matching = 'rhyme,case'")
    api.views["/home"] = named("/gnome", 2)
    assert read(project).verdict == "failed"
    api.views["/home"] = named("/Home", 2)
    assert read(project).verdict == "complete"


def test_rows_that_came_in_the_answer_of_another_view_prove_nothing_of_names(
    project: Project, api: Api
) -> None:
    """A filter may ignore a slash; but /home/ has an answer of its own here, and that may be it."""
    project.watch("/home", "/home/")
    api.views = {"/home": named("/home/", 4), "/home/": named("/home/", 4)}
    for _ in range(2):
        result = read(project)
        assert (result.verdict, result.counts["vanished"]) == ("unproven", 0)
    api.views["/home"] = named("/home", 5)
    assert read(project).verdict == "complete"
    live = [row for row in project.snapshots().values() if row["removed_at"] is None]
    assert len(live) == 9
    assert all(row["view_name"] == row["synced_view"] for row in live)


def test_names_that_no_relation_explains_teach_nothing(project: Project, api: Api) -> None:
    api.views["/home"] = named("/home", 2) + named("/cart", 1) + named(None, 1)
    assert read(project).verdict == "complete"
    assert matching(project) is None


def test_an_unproven_listing_that_fills_the_limit_is_cut(project: Project, api: Api) -> None:
    project.configure(page_limit=12)
    api.views["/home"] = named("/Home", 30)
    result = read(project)
    assert (result.verdict, result.counts["new"]) == ("truncated", 12)


# --- another part's answer ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "attributes", "reason"),
    [
        (
            View("/home", application_id="app-1"),
            {"application_id": "app-2"},
            "the answer is for another application: all 2 records name app-2",
        ),
        (
            View("/home", device_type="mobile"),
            {"device_type": "Tablet"},
            "the answer is for another device type: all 2 records name Tablet",
        ),
    ],
)
def test_a_view_with_a_filter_that_gets_another_parts_answer_twice_fails(
    project: Project, api: Api, view: View, attributes: dict[str, str], reason: str
) -> None:
    asked = {"application_id": "APP-1", "device_type": "Mobile"}
    project.watch(view)
    api.views["/home"] = right = named("/home", 2, **asked)
    assert read(project).verdict == "complete"
    wrong = named("/home", 2, **(asked | attributes))
    api.views["/home"] = wrong
    result = read(project)
    assert (result.verdict, result.counts["requests"]) == ("failed", 2)
    assert result.error == f"view {view.label}: {reason}"
    api.views["/home"] = in_turn(wrong, right[:1])
    result = read(project)
    assert (result.verdict, result.counts["vanished"]) == ("complete", 1)


def test_a_record_without_an_application_names_no_other(project: Project, api: Api) -> None:
    project.watch(View("/home", application_id="app-1"))
    api.views["/home"] = named("/home", 2, application_id=None)
    assert read(project).verdict == "complete"


# --- another endpoint's answer --------------------------------------------------------------


def test_a_list_of_applications_is_no_listing(project: Project, api: Api) -> None:
    project.configure(max_wait_s=0.3)
    api.views["/home"] = named("/home", 5)
    project.run()
    applications = [application(f"app-{n}", name="shop") for n in range(3)]
    api.views["/home"] = json.dumps({"data": applications}).encode()
    for _ in range(2):
        result = read(project)
        assert (result.verdict, len(project.snapshots())) == ("failed", 5)
        assert "lists applications, and no snapshots" in (result.error or "")


def test_a_listing_is_no_list_of_all_applications(project: Project, api: Api) -> None:
    """Ten records may be a cut, and the server has five more of an application not on it."""
    records = [r for a in "abc" for r in named("/home", 5, application_id=a)]
    for number, row in enumerate(records):
        row["id"] = str(number)

    def cut() -> Records:
        asked = api.requests[-1].get("filter[application_id]")
        of_part = [r for r in records if asked in (None, r["attributes"]["application_id"])]
        return of_part[:10]

    api.views["/home"] = cut
    api.applications = {"data": named("/b", 1, application_id="a")}
    for _ in range(2):
        result = read(project)
        assert result.verdict == "unproven"
        assert "lists snapshots, and no applications" in result.reason
    assert project.rows("SELECT application_id FROM applications") == []


@pytest.fixture(scope="module")
def server() -> Iterator[Invented]:
    with Invented() as server:
        yield server


@pytest.fixture
def story(new_database: Callable[..., str], server: Invented) -> Iterator[Story]:
    project = open_project(make_config(new_database("sqlite"), server.url, ["/home"]))
    yield Story(project, server)
    project.database.close()


@pytest.mark.parametrize(
    ("wrong", "verdict", "vanished"), [({3}, "complete", 1), ({3, 5}, "unproven", 0)]
)
def test_a_part_that_gets_another_parts_answer_twice_proves_nothing(
    story: Story, wrong: set[int], verdict: str, vanished: int
) -> None:
    """Of 20 records, 12 of app-a and 8 of app-b: the third request is for those of app-b."""
    story.add("/home", 13, "app-a")
    ids = story.add("/home", 8, "app-b")
    story.run()
    story.drop(ids[:1])
    story.server.organization.mix_ups = dict.fromkeys(wrong, "application")
    result = story.run().views[0]
    assert (result.verdict, result.counts["vanished"]) == (verdict, vanished)
    assert result.counts["requests"] == 5
    assert ("another application: all 13 records name app-a" in result.reason) == (len(wrong) == 2)


# --- whatever the filter --------------------------------------------------------------------


def ignores_case(asked: str, name: str) -> bool:
    return asked.casefold() == name.casefold()


def begins(asked: str, name: str) -> bool:
    return name.startswith(asked)


def contains(asked: str, name: str) -> bool:
    return asked in name


VIEWS = ["/a", "/A", "/ab", "/b"]
NAMES = [*VIEWS, "/B", "/abc", "/c/ab"]
turns = st.tuples(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([1, 2, 4, 7]), max_size=4),
    st.lists(st.integers(0, 30), max_size=12),
    st.just({}) | st.dictionaries(st.integers(1, 8), st.sampled_from(MIX_UPS), max_size=4),
    st.just((0, 0)) | st.builds(lambda n, m: (n, n + m), st.integers(1, 6), st.integers(1, 6)),
)


@pytest.mark.slow
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    matches=st.sampled_from([ignores_case, begins, contains]),
    views=st.sets(st.sampled_from(VIEWS), min_size=1),
    history=st.lists(turns, min_size=1, max_size=4),
)
def test_no_row_goes_that_is_still_there_however_names_match(
    new_database: Callable[..., str],
    server: Invented,
    matches: Callable[[str, str], bool],
    views: set[str],
    history: list[Any],
) -> None:
    config = make_config(new_database("sqlite"), server.url, sorted(views))
    project = open_project(config)
    story = Story(project, server)
    organization = server.organization
    organization.matches = matches
    for come, go, mix_ups, cached in history:
        story.drop(story.some(go))
        for name, count in come.items():
            story.add(name, count)
        organization.mix_ups, organization.cached = mix_ups, cached
        for result in story.run(accept=True).views:
            event(result.verdict)
        # What came first of all in another one's answer, without knowledge, leaves the view again.
        strangers = {
            identifier
            for identifier, row in story.after.items()
            if not matches(row["synced_view"], story.items[identifier].view)
        }
        assert story.removed() - strangers <= story.away
        for identifier, row in story.after.items():
            assert row["view_name"] == story.items[identifier].view
        if story.removed():
            event("rows were removed")
    project.database.close()
