"""Removals that are held (rule 2), keys of another organization (rule 8), and caps that nothing
betrays: what is removed, what waits, and who is asked."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from etl.cli.output.run import run_lines
from etl.cli.output.status import status_lines
from etl.database.schema import metadata
from etl.monitor.status import read_status
from etl.pipeline.plan import make_plan
from etl.pipeline.run import Options
from tests.support.api import Api, record
from tests.support.invented import Invented, Story
from tests.support.project import Project, counts, make_config, open_project
from tests.support.removal_rules import Sizes, outcomes

HIDDEN_CAP = 37
"""A cap that is neither round, nor a limit, nor shared by three views."""


@pytest.fixture(scope="module")
def server() -> Iterator[Invented]:
    with Invented() as server:
        yield server


@pytest.fixture
def story(new_database: Callable[..., str], server: Invented) -> Iterator[Story]:
    """One view, on SQLite; `watch` more before the first run."""
    project = open_project(make_config(new_database("sqlite"), server.url, ["/home"]))
    yield Story(project, server)
    project.database.close()


def missing(project: Project) -> set[str]:
    rows = project.rows("SELECT id FROM snapshots WHERE missing_since IS NOT NULL")
    return {row["id"] for row in rows}


def some(view: str, count: int, **attributes: object) -> list[dict[str, Any]]:
    return [record(f"{view}-{n}", view_name=view, **attributes) for n in range(count)]


# --- held ---------------------------------------------------------------------------------


def test_what_is_held_stands_in_ledger_json_status_and_summary(project: Project, api: Api) -> None:
    api.views["/home"] = some("/home", 52)
    project.run()
    api.views["/home"] = some("/home", 26)
    run = project.run()
    assert project.one("SELECT held, reason FROM sync_run_views WHERE held > 0") == {
        "held": 26,
        "reason": "26 of 1000 asked for; 26 removals held until the next reading confirms them",
    }
    assert project.one("SELECT sum(held) AS held FROM sync_runs")["held"] == 26
    (view,) = json.loads(json.dumps(run.as_json()))["views"]
    assert (view["held"], view["vanished"], view["verdict"]) == (26, 0, "complete")
    assert "26 held" in "\n".join(run_lines(run, "x", 1))
    status = read_status(project.config, project.database, max_age_s=None)
    assert status.as_json()["views"][0]["held"] == 26
    assert status.views[0].held == 26
    assert [line.split()[-1] for line in status_lines(status) if line.startswith("/home")] == ["26"]


def test_rows_missing_in_turns_are_never_removed(project: Project, api: Api) -> None:
    everything = some("/home", 62)
    api.views["/home"] = everything
    project.run()
    for half in (everything[:31], everything[31:]) * 3:
        api.views["/home"] = half
        assert counts(project.run()) == {"listed": 31, "unchanged": 31, "held": 31}
        assert missing(project) == {r["id"] for r in everything} - {r["id"] for r in half}
    assert len(project.live()) == 62


def test_a_failed_or_unproven_reading_confirms_nothing(project: Project, api: Api) -> None:
    everything = some("/home", 60)
    api.views["/home"] = everything
    project.run()
    api.views["/home"] = everything[:29]
    assert counts(project.run()) == {"listed": 29, "unchanged": 29, "held": 31}
    api.views["/home"] = (403, {}, b"{}")
    project.run()
    assert len(missing(project)) == 31
    project.configure(page_limit=29)  # full, by whichever application: truncated
    run = project.run()
    assert run.views[0].verdict == "failed"
    api.views["/home"] = everything[:29]
    run = project.run()
    assert (run.views[0].verdict, run.views[0].counts["held"]) == ("truncated", 31)
    project.configure(page_limit=1000)
    assert counts(project.run()) == {"listed": 29, "unchanged": 29, "vanished": 31}


@pytest.mark.parametrize(
    ("live", "gone", "is_held"), [(66, 20, False), (70, 21, False), (69, 21, True)]
)
def test_the_removal_guard_needs_both_a_share_and_a_number(
    story: Story, live: int, gone: int, is_held: bool
) -> None:
    ids = story.add("/home", live)
    story.run()
    story.drop(ids[:gone])
    result = story.run().views[0]
    expected = (gone, 0) if is_held else (0, gone)
    assert (result.counts["held"], result.counts["vanished"]) == expected


def watch(story: Story, count: int) -> list[str]:
    names = [f"/view-{n}" for n in range(count)]
    story.project.watch(*names)
    story.views = names
    return names


@pytest.mark.parametrize(("views", "waits"), [(6, True), (7, False)])
def test_half_of_the_views_and_three_wait_for_a_person(
    story: Story, views: int, waits: bool
) -> None:
    names = watch(story, views)
    ids = {name: story.add(name, 3 + n) for n, name in enumerate(names)}
    story.run()
    for name in names[:3]:
        story.drop(ids[name])
    assert story.run().total("held") == 12
    said = [name for name, r in story.results().items() if "--accept-removals" in r.reason]
    assert said == (names[:3] if waits else [])
    assert story.run().total("held") == (12 if waits else 0)
    assert story.run(accept=True).total("held") == 0
    assert len(story.removed()) == (12 if waits else 0)
    assert {i for name in names[:3] for i in ids[name]}.isdisjoint(story.project.live())


@pytest.mark.parametrize("to_the_front", [True, False])
def test_rows_that_another_view_lists_now_are_no_loss(
    project: Project, api: Api, to_the_front: bool
) -> None:
    """Two of three emptied views handed their rows on: one loses, and one is not many."""
    names = [f"/{n}" for n in range(6)]
    before, after = (names[3:], names[:3]) if to_the_front else (names[:3], names[3:])
    project.watch(*names)
    for n, name in enumerate(before):
        api.views[name] = [record(f"{name} {k}") for k in range(5 + n)]
    project.run()
    for old, new in list(zip(before, after, strict=True))[:2]:
        api.views[new], api.views[old] = api.views[old], []
    api.views[before[2]] = []
    run = project.run()
    assert (run.total("held"), run.total("vanished"), len(project.live())) == (7, 0, 18)
    run = project.run()
    assert (run.total("held"), run.total("vanished"), len(project.live())) == (0, 7, 11)


def test_what_waits_for_a_person_waits_when_its_view_is_read_alone_too(story: Story) -> None:
    names = watch(story, 3)
    ids = {name: story.add(name, 4) for name in names}
    story.run()
    story.drop([i for name in names for i in ids[name]])
    assert story.run().total("held") == 12
    for accepts, vanished in ((False, 0), (False, 0), (True, 4)):
        run = story.project.run(names[0], accept=accepts)
        assert (run.total("vanished"), run.total("held")) == (vanished, 4 - vanished)


def test_accepting_removals_lets_go_what_is_proven_and_nothing_else(story: Story) -> None:
    names = watch(story, 3)
    ids = {name: story.add(name, 4) for name in names}
    story.run()
    story.drop([i for name in names for i in ids[name]])
    story.add("/view-0", 12)
    story.server.organization.applications = "forbidden"
    story.project.configure(page_limit=12)  # view-0 is full now: nothing of it is proven
    assert story.run(accept=True).total("vanished") == 8
    assert story.removed() == {*ids["/view-1"], *ids["/view-2"]}


# --- everything at once -------------------------------------------------------------------


def waiting_for_a_person(project: Project) -> set[str]:
    rows = project.rows("SELECT view_name FROM view_state WHERE needs_acceptance")
    return {row["view_name"] for row in rows}


def lose(story: Story, ids: dict[str, list[str]], *names: str) -> None:
    story.drop([i for name in names for i in ids[name]])


def store(story: Story, *sizes: int) -> dict[str, list[str]]:
    """So many rows for each of as many views, after a first run."""
    names = watch(story, len(sizes))
    ids = {name: story.add(name, size) for name, size in zip(names, sizes, strict=True)}
    story.run()
    return ids


@pytest.mark.parametrize(
    ("sizes", "outcome"),
    [
        ((1,), "gone"),
        ((2,), "gone"),
        ((3,), "held"),
        ((20,), "held"),
        ((21,), "waits"),
        ((1, 1), "gone"),
        ((2, 2), "held"),
        ((1, 2, 0), "held"),
        ((10, 10), "held"),
        ((10, 11), "waits"),
        ((1, 1, 1), "held"),
        ((2,) * 10, "held"),
        ((2,) * 11, "waits"),
        ((3, 3, 3), "waits"),
    ],
)
def test_what_all_views_lose_at_once_is_held_and_much_of_it_waits_for_a_person(
    project: Project, api: Api, sizes: tuple[int, ...], outcome: str
) -> None:
    names = [f"/view-{n}" for n in range(len(sizes))]
    project.watch(*names)
    api.views = {name: some(name, size) for name, size in zip(names, sizes, strict=True)}
    project.run()
    api.views = {}
    run, size = project.run(), sum(sizes)
    assert run.total("vanished") == (size if outcome == "gone" else 0)
    assert run.total("held") == (0 if outcome == "gone" else size)
    with_rows = {name for name, size in zip(names, sizes, strict=True) if size}
    assert waiting_for_a_person(project) == (with_rows if outcome == "waits" else set())
    said = {v.view.name for v in run.views if "--accept-removals" in v.reason}
    assert said == waiting_for_a_person(project)
    for _ in range(2):
        run = project.run()
    assert run.total("held") == (size if outcome == "waits" else 0)
    run = project.run(accept=True)
    assert run.total("vanished") == (size if outcome == "waits" else 0)
    assert project.live() == waiting_for_a_person(project) == set()


def test_a_row_that_is_still_listed_shows_that_not_all_is_lost(story: Story) -> None:
    ids = store(story, 2, 2, 2)
    story.drop([*ids["/view-0"], *ids["/view-1"], ids["/view-2"][0]])
    assert story.run().total("vanished") == 5


def test_a_view_that_answers_as_last_time_shows_that_not_all_is_lost(
    project: Project, api: Api
) -> None:
    project.watch("/0", "/1", "/2")
    api.views = {"/0": some("/0", 2), "/1": some("/1", 4), "/2": some("/2", 2)}
    project.run()
    api.views = {"/1": api.views["/1"]}
    run = project.run()
    (reason,) = [v.reason for v in run.views if v.view.name == "/1"]
    assert "the same as last time" in reason
    assert run.total("vanished") == 4


def test_a_row_that_another_view_lists_now_shows_that_not_all_is_lost(
    project: Project, api: Api
) -> None:
    project.watch("/0", "/1", "/2")
    for name in ("/0", "/1"):
        api.views[name] = some(name, 2)
    project.run()
    api.views = {"/2": [record("/0-0", view_name="/2")]}
    assert project.run().total("vanished") == 3
    assert project.live() == {"/0-0"}


@pytest.mark.parametrize("silent", ["/view-0", "/view-1"])
def test_a_view_that_failed_does_not_show_that_anything_is_left(story: Story, silent: str) -> None:
    ids = store(story, 22, 22)
    lose(story, ids, *ids)
    story.server.failing = {silent}
    for _ in range(2):
        assert story.run().total("held") == 22
    story.server.failing = set()
    assert story.run().total("held") == 44
    assert waiting_for_a_person(story.project) == {"/view-0", "/view-1"}


def test_a_view_that_was_not_read_does_not_show_that_anything_is_left(story: Story) -> None:
    ids = store(story, 22, 22)
    lose(story, ids, "/view-0")
    for _ in range(2):
        assert story.project.run("/view-0").total("held") == 22
    assert waiting_for_a_person(story.project) == {"/view-0"}
    assert story.project.run("/view-0", accept=True).total("vanished") == 22


def test_what_waits_for_a_person_waits_no_more_when_it_is_listed_again(story: Story) -> None:
    ids = store(story, 30)
    items = dict(story.server.organization.items)
    lose(story, ids, *ids)
    story.run()
    assert waiting_for_a_person(story.project) == {"/view-0"}
    story.server.organization.items = items
    assert story.run().total("unchanged") == 30
    assert waiting_for_a_person(story.project) == missing(story.project) == set()


def test_new_rows_do_not_show_that_any_of_the_old_ones_is_left(story: Story) -> None:
    ids = store(story, 12, 12)
    lose(story, ids, *ids)
    story.add("/view-0", 5)
    for _ in range(3):
        story.run()
    assert len(missing(story.project)) == 24


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    views=st.lists(
        st.sampled_from([0, 1, 2, 3, 12, 23]).flatmap(
            lambda live: st.tuples(st.just(live), st.sampled_from([0, 0, 0, min(live, 1), live]))
        ),
        min_size=1,
        max_size=5,
    )
)
def test_of_any_views_what_goes_and_what_waits_is_as_the_rules_say(
    story: Story, views: Sizes
) -> None:
    largest = max(kept for _, kept in views)
    assume(not largest or [kept for _, kept in views].count(largest) < 3)  # else it may be a cap
    for table in reversed(metadata.sorted_tables):
        story.project.execute(f"DELETE FROM {table.name}")
    story.server.organization.items.clear()
    ids = store(story, *(live for live, _ in views))
    gone = [ids[name][kept:] for name, (_, kept) in zip(ids, views, strict=True)]
    story.drop([i for lost in gone for i in lost])
    expected = dict(zip(ids, outcomes(views), strict=True))
    for meant in ("held", "waits"):
        story.run()
        left = {
            i
            for name, lost in zip(ids, gone, strict=True)
            for i in lost
            if expected[name] in (meant, "waits")
        }
        assert missing(story.project) == left
    assert waiting_for_a_person(story.project) == {
        name for name, lost in zip(ids, gone, strict=True) if lost and expected[name] == "waits"
    }
    story.run(accept=True)
    assert story.project.live() == {*story.server.organization.items}


# --- another organization's keys ----------------------------------------------------------


@pytest.mark.parametrize("turn", range(5))
def test_another_organizations_keys_remove_nothing_in_whatever_order_it_shows(
    project: Project, api: Api, turn: int
) -> None:
    names = [f"/view-{n}" for n in range(5)]
    project.watch(*names)
    api.views = {name: some(name, 2) for name in names}
    project.run()
    api.views = {name: [] for name in names}
    api.views[names[turn]] = [record("other", view_name=names[turn], org_id=43)]
    run = project.run(accept=True)
    assert [v.view.name for v in run.views if v.verdict == "failed"] == [names[turn]]
    assert run.total("vanished") == 0
    assert len(project.live()) == 10


def test_small_views_that_are_all_empty_are_kept_when_rum_names_another_organization(
    project: Project, api: Api
) -> None:
    """Views of one or two rows have no guard of their own."""
    names = [f"/view-{n}" for n in range(5)]
    project.watch(*names)
    api.views = {name: some(name, 2) for name in names}
    project.run()
    api.views = {}
    api.applications = {"data": [{"id": "x", "attributes": {"org_id": 43}}]}
    assert project.run(accept=True).total("vanished") == 0
    api.applications = {"data": [{"id": "x", "attributes": {"org_id": 42}}]}
    assert project.run(accept=True).total("vanished") == 10


def test_many_views_of_another_organization_end_in_an_error_each(
    project: Project, api: Api
) -> None:
    """A view that is not stored must give back its room in memory: there is room for eight."""
    names = [f"/view-{n}" for n in range(20)]
    project.watch(*names)
    api.views = {name: some(name, 2) for name in names}
    project.run()
    api.views = {name: some(name, 40 - n, org_id=43) for n, name in enumerate(names)}
    run = project.run()
    assert {(v.verdict, v.error_class) for v in run.views} == {("failed", "SourceMismatch")}
    assert len(project.live()) == 40
    plans = make_plan(project.config, project.database, Options(), stop=project.stop)
    assert [plan.verdict for plan in plans] == ["failed"] * 20


# --- a cap that nothing betrays -----------------------------------------------------------


def test_a_sudden_cap_that_nothing_betrays_removes_nothing_at_first(story: Story) -> None:
    story.add("/home", 100)
    story.run()
    story.server.organization.cap = HIDDEN_CAP
    result = story.run().views[0]
    assert (result.verdict, result.counts["held"], story.removed()) == ("complete", 63, set())
    assert story.project.one("SELECT shortcut_digest AS digest FROM view_state") == {"digest": None}
    story.server.organization.cap = None
    assert story.run().total("unchanged") == 100
    assert missing(story.project) == set()


@pytest.mark.parametrize(
    ("rows", "is_held"), [(38, False), (57, False), (58, True), (74, True), (500, True)]
)
def test_a_sudden_cap_removes_twenty_rows_at_most_before_a_second_reading(
    story: Story, rows: int, is_held: bool
) -> None:
    """Or three in ten, where that is more: what the guard lets through, it lets through here."""
    story.add("/home", rows)
    story.run()
    story.server.organization.cap = HIDDEN_CAP
    story.run()
    assert len(story.removed()) == (0 if is_held else rows - HIDDEN_CAP)


def test_a_cap_that_nothing_betrays_is_believed_when_it_stays(story: Story) -> None:
    """What cannot be known: a second reading that says the same is all the proof there is."""
    story.add("/home", 100)
    story.run()
    story.server.organization.cap = HIDDEN_CAP
    story.run()
    assert story.run().total("vanished") == 63
    story.server.organization.cap = None
    assert story.run().total("returned") == 63


def test_a_cap_that_nothing_betrays_and_hides_few_rows_is_believed_at_once(story: Story) -> None:
    """The same: one row less is what a view looks like from which one was unpinned."""
    story.add("/home", HIDDEN_CAP)
    story.run()
    story.server.organization.cap = HIDDEN_CAP
    story.add("/home", 1)  # newest first: the oldest is no longer listed
    result = story.run().views[0]
    assert (result.verdict, result.counts["vanished"]) == ("complete", 1)


def test_a_cap_that_three_views_share_removes_nothing(story: Story) -> None:
    names = watch(story, 4)
    for name in names[:3]:
        story.add(name, 60)
        story.add(name, 4, application="app-b")
    story.add(names[3], 5)
    story.run()
    story.server.organization.cap = HIDDEN_CAP
    for _ in range(3):
        run = story.run()
        assert run.total("vanished") == run.total("held") == 0
        cut = [result.verdict for result in run.views]
        assert cut == ["truncated", "truncated", "truncated", "complete"]
    story.server.organization.cap = None
    assert story.run().total("unchanged") == 197


def test_a_row_without_an_application_stays_while_its_view_is_read_in_parts(story: Story) -> None:
    """Newest first, the oldest is cut off, and no part by application can hold it."""
    story.add("/home", 1, application=None)
    for application in ("app-a", "app-b"):
        story.add("/home", 15, application)
    story.run()
    story.server.organization.cap = 20
    for _ in range(3):
        result = story.run(accept=True).views[0]
        assert (result.verdict, result.counts["vanished"]) == ("unproven", 0)
    assert len(story.project.live()) == 31
