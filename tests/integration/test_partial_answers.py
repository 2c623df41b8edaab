"""What an answer says of itself is believed: that it is partial, or that it comes from a cache."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from etl.config.views import View
from etl.datadog import retry
from etl.diagnose.check import OK, PROBLEM, find_points
from etl.ledger.results import exit_code
from etl.pipeline.plan import make_plan
from etl.pipeline.run import Options
from tests.support.api import APPLICATIONS, Api, record
from tests.support.project import Project

FIVE = [record(f"r{n}", snapshot_name=f"name {n}, or so") for n in range(5)]
ONE = FIVE[:1]


def answer(
    records: list[Any], headers: dict[str, str] | None = None, **beside: Any
) -> tuple[int, dict[str, str], bytes]:
    return 200, headers or {}, json.dumps({"data": records, **beside}).encode()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BASE_S", 0.002)


@pytest.fixture
def read(project: Project, api: Api) -> Project:
    """Five rows, stored by a whole reading."""
    api.views["/home"] = FIVE
    assert project.run().views[0].verdict == "complete"
    return project


PARTIAL = {
    "links.next": {"links": {"next": "/?page=2"}},
    "meta.page.after": {"meta": {"page": {"after": "abc"}}},
    "next_cursor": {"next_cursor": "abc"},
    "total 5": {"total": 5},
    "meta.page.total_filtered_count 120": {"meta": {"page": {"total_filtered_count": 120}}},
    "meta.status: timeout": {"meta": {"status": "timeout"}},
    "meta.warnings": {"meta": {"warnings": [{"title": "partial results"}]}},
    "truncated": {"truncated": True},
    "has_more": {"has_more": True},
}


@pytest.mark.parametrize(("named", "beside"), PARTIAL.items(), ids=PARTIAL)
def test_partial_answer_is_truncated_names_the_member_and_removes_nothing(
    read: Project, api: Api, named: str, beside: dict[str, Any]
) -> None:
    api.views["/home"] = answer([*ONE, record("new")], **beside)
    for _ in range(2):
        run = read.run()
        (view,) = run.views
        assert (view.verdict, exit_code(run)) == ("truncated", 1)
        assert f"the answer says that it is not whole ({named})" in view.reason
        assert read.live() == {"new", *(f"r{n}" for n in range(5))}
        assert view.counts["requests"] == 1
        state = read.one("SELECT * FROM view_state")
        assert state["shortcut_digest"] is None
        assert state["last_complete_at"] < state["last_read_at"]
    api.views["/home"] = ONE
    run = read.run()
    assert run.views[0].verdict == "complete"
    assert run.total("vanished") + run.total("held") == 5


def test_a_200_that_is_a_part_is_truncated(read: Project, api: Api) -> None:
    api.views["/home"] = answer(ONE, {"Content-Range": "items 0-0/5"})
    (view,) = read.run().views
    assert view.verdict == "truncated"
    assert "Content-Range: items 0-0/5" in view.reason
    assert len(read.live()) == 5


NO_ANSWER = {
    "error": {"error": "boom"},
    "errors": {"errors": {"title": "boom"}},
    "status": {"status": "error"},
    "meta.errors": {"meta": {"errors": ["boom"]}},
}


@pytest.mark.parametrize("beside", NO_ANSWER.values(), ids=NO_ANSWER)
def test_answer_that_says_it_went_wrong_is_none(
    read: Project, api: Api, beside: dict[str, Any]
) -> None:
    api.views["/home"] = answer(ONE, **beside)
    (view,) = read.run().views
    assert view.verdict == "failed"
    assert view.counts["requests"] > 5  # it may pass
    assert len(read.live()) == 5


@pytest.mark.parametrize(
    "body", [b'{"data":[],"data":[]}', b'{"data":[{}],"data":[]}', b'{"data":[],"a":1,"a":1}']
)
def test_name_given_twice_is_no_answer(read: Project, api: Api, body: bytes) -> None:
    api.views["/home"] = body
    (view,) = read.run().views
    assert (view.verdict, view.error is not None) == ("failed", True)
    assert "a key twice" in (view.error or "")
    assert len(read.live()) == 5


def test_record_that_gives_a_key_twice_is_rejected_and_removes_nothing(
    read: Project, api: Api
) -> None:
    once, twice = json.dumps(FIVE[0]), json.dumps(FIVE[1]).replace('"id"', '"id":"r7","id"', 1)
    api.views["/home"] = f'{{"data":[{once},{twice}]}}'.encode()
    run = read.run()
    assert (run.total("rejected"), run.total("vanished"), run.total("held")) == (1, 0, 0)
    assert len(read.live()) == 5
    assert read.one("SELECT reason FROM rejected_records")["reason"] == "a key is given twice"


@pytest.mark.parametrize("created_by", ["keep", "drop"])
def test_row_whose_record_gives_a_key_twice_for_good_is_still_listed(
    project: Project, api: Api, created_by: str
) -> None:
    project.configure(created_by=created_by)
    api.views["/home"] = FIVE
    project.run()
    once = [json.dumps(r) for r in FIVE[:4]]
    once[1] = once[1].replace('"start"', '"start":7,"start"')
    api.views["/home"] = f'{{"data":[{",".join(once)}]}}'.encode()
    for _ in range(3):
        project.run()
        assert {"r0", "r1", "r2", "r3"} <= project.live()
    # The fifth is gone in truth; where the record's text is dropped, nothing says which it is.
    assert ("r4" in project.live()) == (created_by == "drop")


def test_accept_truncated_keeps_the_verdict_but_not_the_exit_code(read: Project, api: Api) -> None:
    read.configure(views=(View("/home", accept_truncated=True),))
    api.views["/home"] = answer(ONE, has_more=True)
    run = read.run()
    assert (run.views[0].verdict, exit_code(run)) == ("truncated", 0)


CACHED = [
    {"Age": "0"},
    {"Warning": '110 - "Response is Stale"'},
    {"Warning": '112 cache "Disconnected Operation" "Sat, 28 Nov 2026 00:00:00 GMT"'},
    {"X-Cache": "HIT from proxy.example.com"},
    {"X-Cache-Lookup": "HIT from proxy.example.com:3128"},
    {"CF-Cache-Status": "STALE"},
    {"X-Varnish": "32770 3"},
    {"Cache-Status": "ExampleCache; hit; ttl=30"},
    {"X-From-Cache": "1"},
]


@pytest.mark.parametrize("headers", CACHED, ids=str)
def test_answer_from_a_cache_proves_no_absence(
    read: Project, api: Api, headers: dict[str, str]
) -> None:
    api.views["/home"] = answer(ONE, headers)
    for _ in range(2):
        run = read.run()
        (view,) = run.views
        assert (view.verdict, exit_code(run), view.counts["requests"]) == ("unproven", 0, 1)
        ((name, value),) = headers.items()
        assert f"the answer comes from a cache ({name.lower()}: {value})" in view.reason.replace(
            name, name.lower()
        )
        assert len(read.live()) == 5
        assert read.one("SELECT shortcut_digest FROM view_state")["shortcut_digest"] is None


def test_equal_answer_from_a_cache_is_unproven_and_changes_nothing(read: Project, api: Api) -> None:
    before = read.one("SELECT * FROM view_state")
    rows = read.snapshots()
    api.views["/home"] = answer(FIVE, {"Age": "60"})
    run = read.run()
    assert (run.views[0].verdict, run.total("unchanged"), run.total("listed")) == ("unproven", 5, 5)
    assert read.snapshots() == rows
    after = read.one("SELECT * FROM view_state")
    for name in ("shortcut_digest", "answer_digest", "last_complete_at", "listed"):
        assert after[name] == before[name], name
    api.views["/home"] = FIVE
    assert "the same as last time" in read.run().views[0].reason


def test_answer_from_a_cache_that_fills_the_limit_is_cut(project: Project, api: Api) -> None:
    project.configure(page_limit=5)
    api.views["/home"] = answer(FIVE, {"X-Cache": "HIT"})
    run = project.run()
    assert (run.views[0].verdict, run.total("new"), exit_code(run)) == ("truncated", 5, 1)


def test_partial_answer_is_no_evidence_for_other_views(project: Project, api: Api) -> None:
    """A larger answer proves that ten are no cut; one that is itself in doubt does not."""
    ten = [record(f"t{n}") for n in range(10)]
    project.watch("/ten", "/more")
    api.views = {
        "/ten": ten,
        "/more": answer([record(f"m{n}") for n in range(11)], {"Age": "1"}),
    }
    verdicts = {view.view.name: view.verdict for view in project.run().views}
    assert verdicts == {"/ten": "unproven", "/more": "unproven"}


HARMLESS = {"meta": {"status": "done", "elapsed": 1}, "request_id": "a"}


def test_harmless_members_are_drift_that_is_warned_of_once_and_keep_the_shortcut(
    project: Project, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    elapsed = iter(range(9))

    def reply() -> tuple[int, dict[str, str], bytes]:
        number = next(elapsed)
        return answer(FIVE, meta={"status": "done", "elapsed": number}, request_id=str(number))

    api.views["/home"] = reply
    reasons = [project.run().views[0].reason for _ in range(3)]
    assert ["the same as last time" in reason for reason in reasons] == [False, True, True]
    api.views["/home"] = answer(FIVE[:4], meta={"total": 4}, request_id="z")
    assert project.run().views[0].verdict == "complete"
    found = project.rows("SELECT name, kind, count FROM schema_drift ORDER BY name")
    assert found == [
        {"name": name, "kind": "unknown member", "count": 2}
        for name in ("$body.meta", "$body.request_id")
    ]
    (warning,) = [text for text in caplog.messages if "beside their records" in text]
    assert "meta, request_id" in warning


def test_member_that_comes_later_ends_the_shortcut(project: Project, api: Api) -> None:
    api.views["/home"] = answer(FIVE, meta={"total": 5})
    assert project.run().views[0].verdict == "complete"
    api.views["/home"] = answer(FIVE, meta={"total": 50})
    assert project.run().views[0].verdict == "truncated"
    api.views["/home"] = answer(FIVE, meta={"total": 5})
    assert project.run().views[0].verdict == "complete"


# --- parts, applications, and commands that only look --------------------------------------------

A, B = "app-a", "app-b"


def split_project(project: Project, api: Api, of_part: Callable[[str], Any]) -> Project:
    """Ten records, a round number: the view is asked for by application."""
    ten = {a: [record(f"{a}{n}", application_id=a) for n in range(5)] for a in (A, B)}

    def reply() -> Any:
        application = api.requests[-1].get("filter[application_id]")
        if application is None:
            return ten[A] + ten[B]
        return of_part(application) or ten[application]

    api.views["/home"] = reply
    api.applications = {"data": [{"id": a, "attributes": {"application_id": a}} for a in (A, B)]}
    project.configure(concurrency=1)
    return project


def test_whole_parts_prove_a_whole_view(project: Project, api: Api) -> None:
    assert split_project(project, api, lambda _: None).run().views[0].verdict == "complete"


@pytest.mark.parametrize(
    ("part", "verdict", "named"),
    [
        (answer([], {"X-Cache": "HIT"}), "unproven", "X-Cache: HIT"),
        (answer([], next="abc"), "truncated", "(next)"),
    ],
    ids=["cached", "partial"],
)
def test_part_that_is_partial_or_cached_proves_nothing(
    project: Project, api: Api, part: Any, verdict: str, named: str
) -> None:
    split_project(project, api, lambda _: None).run()
    split_project(project, api, lambda a: part if a == B else None)
    whole = api.views["/home"]

    def reply() -> Any:
        """Of the whole, and of its part, all of B is gone, and others are new."""
        answered = whole()
        if "filter[application_id]" not in api.requests[-1]:
            return answered[:5] + [record(f"new{n}", application_id=A) for n in range(5)]
        return answered

    api.views["/home"] = reply
    (view,) = project.run(accept=True).views
    assert view.verdict == verdict
    assert "1 of them proves nothing: " in view.reason
    assert named.strip("()").lower() in view.reason.lower()
    assert {f"{B}{n}" for n in range(5)} <= project.live()


@pytest.mark.parametrize(
    ("headers", "beside"),
    [
        ({}, {"links": {"next": "/?page=2"}}),
        ({}, {"has_more": True}),
        ({}, {"meta": {"total": 9}}),
        ({"X-Cache": "HIT"}, {}),
    ],
    ids=str,
)
def test_list_of_applications_that_is_not_whole_does_not_make_a_view_complete(
    project: Project, api: Api, headers: dict[str, str], beside: dict[str, Any]
) -> None:
    split_project(project, api, lambda _: None)
    api.applications = answer(api.applications["data"], headers, **beside)
    (view,) = project.run().views
    assert view.verdict == "unproven"
    assert "the known applications" in view.reason
    assert len(api.asked[APPLICATIONS]) <= 3


def test_plan_says_it_too(read: Project, api: Api) -> None:
    api.views["/home"] = answer(ONE, has_more=True)
    (plan,) = make_plan(read.config, read.database, Options(), stop=read.stop)
    assert (plan.verdict, plan.vanished, plan.held) == ("truncated", [], [])
    assert "has_more" in plan.reason


@pytest.mark.parametrize(
    ("reply", "verdict", "named"),
    [
        (answer(ONE, has_more=True), PROBLEM, "truncated, 1 listed"),
        (answer(ONE, {"Age": "9"}), OK, "unproven, 1 listed"),
    ],
    ids=["partial", "cached"],
)
def test_check_says_it_too(read: Project, api: Api, reply: Any, verdict: str, named: str) -> None:
    api.views["/home"] = reply
    (point,) = [point for point in find_points(read.config, stop=read.stop) if point.view]
    assert point.verdict == verdict
    assert named in point.text
    assert "has_more" in point.text or "age: 9" in point.text.lower()


def test_an_answer_that_is_too_large_is_not_asked_for_again(
    read: Project, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.transform.decode.MAX_RECORDS", 3)
    read.configure(views=(*read.config.views, View("/other")))
    api.views = {
        "/home": [record(f"x{n}") for n in range(4)],
        "/other": [record("y", view_name="/other")],
    }
    run = read.run()
    bad, good = run.views
    assert (bad.verdict, bad.counts["requests"], good.verdict) == ("failed", 1, "complete")
    assert bad.error == "view /home: 200: the answer holds more than 3 records"
    assert len(read.live()) == 6


def test_a_203_is_not_asked_for_again(read: Project, api: Api) -> None:
    api.views["/home"] = replace_status(answer(ONE), 203)
    (view,) = read.run().views
    assert (view.verdict, view.counts["requests"]) == ("failed", 1)
    assert "a proxy on the way changed the answer" in (view.error or "")
    assert len(read.live()) == 5


def replace_status(reply: tuple[int, dict[str, str], bytes], status: int) -> Any:
    return (status, *reply[1:])


@pytest.mark.parametrize("status", [202, 206])
def test_another_2xx_is_no_answer(read: Project, api: Api, status: int) -> None:
    read.config = replace(read.config, max_wait_s=0.1)
    api.views["/home"] = replace_status(answer(ONE), status)
    (view,) = read.run().views
    assert view.verdict == "failed"
    assert len(read.live()) == 5
