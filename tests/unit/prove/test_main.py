"""The frame of `benchmarks.prove`: nothing that did not hold is lost on the way to the page."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.prove import __main__ as prove
from benchmarks.prove import page
from benchmarks.prove.part import Effort, Findings, Result
from benchmarks.prove.parts import machine
from tests.support.api import Api
from tests.support.project import make_config, open_project


def test_a_trial_counts_and_keeps_what_did_not_hold():
    findings = Findings()
    for number in range(3):
        with findings.trial("numbers", again=f"seed 7, number {number}"):
            assert number != 1, "one is there\nand more lines"
    assert findings.tried == {"numbers": 3}
    assert [line.partition("\n")[0] for line in findings.broken] == [
        "numbers (seed 7, number 1): one is there"
    ]


def test_what_several_threads_found_is_added():
    both = Findings()
    for number in (1, 2):
        one = Findings(measured={f"lane {number}": "not tried"}, broken=[f"broken {number}"])
        one.tried["numbers"] = number
        both.add(one)
    assert both.tried == {"numbers": 3}
    assert both.measured == {"lane 1": "not tried", "lane 2": "not tried"}
    assert both.broken == ["broken 1", "broken 2"]


def test_a_fault_of_a_part_is_no_finding():
    findings = Findings()
    with pytest.raises(KeyError), findings.trial("numbers", again="seed 7"):
        raise KeyError("a bug of the part")
    assert findings.broken == []


def test_the_page_has_every_count_and_every_line_that_did_not_hold():
    result = Result("kills", 7, False, 61.0, {"kill -9": 1000}, {"longest": "2 s"}, {}, ["x broke"])
    text = page.written(
        [("Kills", "Nothing is lost.", result)], at=datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert "| Kills | 1,000 | 1 | 61 s |" in text
    assert "Tried: 1,000. Promises that did not hold: 1." in text
    assert "| kill -9 | 1,000 |" in text
    assert "- longest: 2 s" in text
    assert "- x broke" in text
    assert "Seed 7; 2026-01-02" in text


@pytest.mark.parametrize("name", prove.names())
def test_each_part_says_its_promise(name: str):
    part = prove.part(name)
    assert part.TITLE
    assert part.QUICK_S > 0
    assert prove.promise(name).endswith(".")


def test_a_part_that_breaks_is_no_result(tmp_path: Path):
    with pytest.raises(RuntimeError, match="no part is called nothing"):
        prove.prove_apart("nothing", 7, True, tmp_path)


def test_a_quick_effort_tries_less(tmp_path: Path):
    assert Effort(True, 1, tmp_path).times(whole=1000, quick=10) == 10
    assert Effort(False, 1, tmp_path).times(whole=1000, quick=10) == 1000


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("UPDATE snapshots SET version = 2 WHERE id = '/a 1'", "rows that nobody told"),
        ("DELETE FROM snapshots WHERE id = '/a 1'", "rows lost"),
        ("DELETE FROM snapshot_history WHERE snapshot_id = '/a 2'", "versions lost"),
        ("UPDATE sync_runs SET status = 'running'", "2 runs are left open"),
    ],
)
def test_the_oracle_of_a_bad_machine_sees_what_is_wrong(
    tmp_path: Path, api: Api, spoil: str, said: str
):
    projects = [
        open_project(make_config(f"sqlite:///{tmp_path}/{name}.db", api.url, ["/a"]))
        for name in ("disturbed", "undisturbed")
    ]
    here = machine.Place(tmp_path, api, projects[0], projects[1])
    for number in (1, 4):  # /a 2 gets another name
        api.views["/a"] = machine.records("/a", number)
        assert [project.run().status for project in projects] == ["ok", "ok"]
    here.assert_equal()
    projects[0].execute(spoil)
    with pytest.raises(AssertionError, match=said):
        here.assert_equal()
    for project in projects:
        project.database.close()
