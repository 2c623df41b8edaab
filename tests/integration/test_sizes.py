"""Large and many: one long record, one long answer, long names, many names, many rejects."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from etl.load import schema_drift
from tests.support.api import Api, record
from tests.support.paths import ROOT
from tests.support.project import Project, counts

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000


def drift(project: Project) -> dict[tuple[str, str], int]:
    query = "SELECT name, kind, count FROM schema_drift"
    return {(row["name"], row["kind"]): row["count"] for row in project.rows(query)}


def assert_nothing_changes(project: Project) -> None:
    listed = len(project.live())
    for is_full in (False, True):
        assert project.run(is_full=is_full).total("unchanged") == listed
    assert project.history() == []


def test_a_text_of_5_megabytes_is_held(project: Project, api: Api) -> None:
    text = "ä" * (5 * MEGABYTE // 2)
    api.views["/home"] = [record("1", created_by=text), record("2", theme=text[:MEGABYTE])]
    assert counts(project.run()) == {"listed": 2, "new": 2}
    found = project.snapshots()
    assert found["1"]["created_by"] == text
    assert json.loads(found["2"]["extra"]) == {"theme": text[:MEGABYTE]}
    assert_nothing_changes(project)
    api.views["/home"] = [record("1", created_by=text + "."), record("2")]
    assert counts(project.run()) == {"listed": 2, "changed": 2}
    (one, two) = project.history()
    assert (one["created_by"], json.loads(two["extra"])) == (text, {"theme": text[:MEGABYTE]})


def test_an_answer_of_20_megabytes_is_held(project: Project, api: Api) -> None:
    api.views["/home"] = [
        record(f"{n:03}", snapshot_name=f"{n:03}" + "x" * 30_000) for n in range(667)
    ]
    assert counts(project.run()) == {"listed": 667, "new": 667}
    lengths = project.one("SELECT SUM(LENGTH(snapshot_name)) AS length FROM snapshots")
    assert lengths["length"] == 667 * 30_003 > 20 * MEGABYTE
    assert_nothing_changes(project)


def test_a_record_that_no_packet_holds_fails_its_view_alone(project: Project, api: Api) -> None:
    """MariaDB hangs up on a statement longer than `max_allowed_packet`, 16 MB by default."""
    long = "x" * 20 * MEGABYTE
    too_long = {
        "/text": [record("long", view_name="/text", created_by=long)],
        "/reject": [{"theme": long}],
    }
    if project.database.family == "mysql":
        too_long |= {
            "/extra": [record("e", view_name="/extra", theme=long)],
            "/name": [record("n", view_name="/name", **{long: 1})],
        }
    last = record("2", view_name="/last")
    api.views |= {"/home": [record("1")], "/last": [last], **too_long}
    project.watch("/home", *too_long, "/last")
    run = project.run()
    assert run.error is None
    bad = {view.view.name: view.error or "" for view in run.views if view.verdict == "failed"}
    if project.database.family == "mysql":
        assert (run.status, set(bad)) == ("partial", set(too_long))
        assert project.live() == {"1", "2"}
        for error in bad.values():
            assert error.startswith("a record of 20,000,")
            assert error.endswith("raise max_allowed_packet of the server, which is 16,777,216")
    else:
        assert (run.status, bad) == ("ok", {})
        assert project.live() == {"1", "2", "long"}
        assert len(project.one("SELECT raw FROM rejected_records")["raw"]) > 20 * MEGABYTE


def test_a_record_that_just_fits_a_packet_is_held(project: Project, api: Api) -> None:
    text = "'" * 8 * MEGABYTE  # each is escaped on its way, and that alone doubles it
    api.views["/home"] = [record("1", created_by=text), {"no id": text}]
    assert counts(project.run()) == {"listed": 2, "new": 1, "rejected": 1}
    assert project.snapshots()["1"]["created_by"] == text
    assert_nothing_changes(project)


DECODING = """
import resource
from etl.errors import DatadogResponseError
from etl.transform.decode import decode
body = {body}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(body)
except DatadogResponseError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
HOSTILE = {
    "two million tiny records": "b'{\"data\":[' + b'{\"id\":\"1\"},' * 2_000_000 + b'{}]}'",
    "two million empty records": "b'{\"data\":[' + b'{},' * 2_000_000 + b'{}]}'",
    "a long text with half a pair": (
        "b'{\"data\":[{\"id\":\"\\\\ud800' + b'x' * 120_000_000 + b'\"}]}'"
    ),
    "a long text beside NaN": 'b\'{"data":[],"x":NaN,"y":"\' + b\'x\' * 120_000_000 + b\'"}\'',
    "many escapes": "b'{\"data\":[{\"id\":\"' + b'\\\\n' * 60_000_000 + b'\"}]}'",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_what_no_run_can_hold_is_refused_before_it_takes_memory(body: str) -> None:
    code = DECODING.format(body=body)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    reason, megabytes = done.stdout.splitlines()
    assert "more than" in reason or "at most" in reason
    assert int(megabytes) < 150


def test_5000_rejects_are_kept_and_counted_in_no_time(project: Project, api: Api) -> None:
    project.configure(page_limit=10_000)
    rejects: list[Any] = [{"number": n % 4_900} for n in range(5_000)]
    for times in (1, 2):
        api.views["/home"] = [*rejects, *(record(str(n)) for n in range(times))]
        started = time.process_time()
        assert project.run().total("rejected") == 5_000
        assert time.process_time() - started < 2  # it was far more, row by row
        query = "SELECT count, COUNT(*) AS many FROM rejected_records GROUP BY count"
        found = {row["count"]: row["many"] for row in project.rows(query)}
        assert found == {times: 4_800, 2 * times: 100}
    api.views["/home"] = [record("1")]
    project.run()
    resolved = project.one("SELECT COUNT(resolved_at) AS many FROM rejected_records")
    assert resolved["many"] == 4_900


def test_2001_unknown_attributes_drift_each_by_its_name(project: Project, api: Api) -> None:
    project.configure(page_limit=10_000)
    names = [f"key {n}" for n in range(2_001)]
    api.views["/home"] = [record(name, **{name: 1, "every": 2}) for name in names]
    for times in (1, 2):
        assert project.run().total("listed") == 2_000 + times
        expected = dict.fromkeys(((name, "unknown attribute") for name in names), times)
        assert drift(project) == {**expected, ("every", "unknown attribute"): 2_001 * times}
        api.views["/home"] = [*api.views["/home"], record("one more")]


def test_names_that_are_the_same_once_shortened_are_counted_together(
    project: Project, api: Api
) -> None:
    names = ["n" * 10_000 + end for end in "abcd"]
    for times in (1, 2, 3):
        api.views["/home"] = [record(name[-1], start=times, **{name: 1}) for name in names]
        project.run()
        assert drift(project) == {("n" * 254 + "…", "unknown attribute"): 4 * times}
    found = project.snapshots()
    assert [json.loads(found[name[-1]]["extra"]) for name in names] == [{n: 1} for n in names]


def test_names_without_end_do_not_fill_the_table(
    project: Project, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_drift, "MAX_UNKNOWN_NAMES", 10)
    for run in range(4):
        api.views["/home"] = [record(str(n), **{f"{run} {n}": 1}, start="1") for n in range(6)]
        project.run()
    found = drift(project)
    assert found.pop(("start", "text for integer")) == 4 * 6
    assert found.pop(("…", "unknown attribute")) == 4 * 6 - 10 + 1
    assert list(found.values()) == [1] * 9
    rows = project.snapshots()
    assert [json.loads(rows[str(n)]["extra"]) for n in range(6)] == [
        {f"3 {n}": 1} for n in range(6)
    ]
