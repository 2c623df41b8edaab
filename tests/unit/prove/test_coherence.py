"""`benchmarks.prove.coherence` goes red when the tables contradict themselves."""

from typing import Any

import pytest

from benchmarks.prove import coherence
from tests.support.api import Api, record
from tests.support.project import Project


def version(number: int, **more: Any) -> dict[str, Any]:
    """Each begins where the one before ended."""
    began = "baseline" if number == 1 else "changed"
    span = {"valid_from": number, "valid_to": number + 1}
    return (
        {"snapshot_id": "a", "version": number, "began": began, "ended_by": "changed"} | span | more
    )


SOUND = [
    version(1),
    version(2, ended_by="removed"),
    version(3, began="returned", valid_from=5, valid_to=None, ended_by=""),
]


@pytest.mark.parametrize(
    ("number", "change", "said"),
    [
        (0, {"version": 2}, "its versions are [2, 2, 3]"),
        (0, {"began": "changed"}, "it began as changed"),
        (0, {"valid_to": 1}, "ended before it began"),
        (0, {"valid_to": 1.5}, "there is a gap"),
        (1, {"valid_to": 6}, "it began before the one before it ended"),
        (1, {"ended_by": ""}, "after one that was live"),
        (2, {"began": "changed"}, "it began as changed after one that was removed"),
    ],
)
def test_spans_that_do_not_fit(number: int, change: dict[str, Any], said: str):
    assert list(coherence.faults_of_spans(SOUND)) == []
    spoilt = [one | (change if at == number else {}) for at, one in enumerate(SOUND)]
    assert any(said in line for line in coherence.faults_of_spans(spoilt))


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE sync_runs SET status = 'running'", "was never closed"),
        ("UPDATE sync_runs SET new = new + 1", "its totals of new are not those"),
        ("UPDATE sync_run_views SET listed = listed + 1", "its counts do not add up"),
        ("DELETE FROM sync_runs", "has views and no row"),
        ("DELETE FROM snapshots WHERE id = '2'", "the ledger counts 2 new, the tables hold 1"),
        ("DELETE FROM snapshot_history", "its versions are [2]"),
        ("UPDATE snapshots SET removed_at = NULL", "counts 1 vanished, the tables hold 0"),
    ],
)
def test_a_ledger_that_does_not_add_up(project: Project, api: Api, sql: str, said: str):
    for listing in (
        [record("1"), record("2")],
        [record("1", snapshot_name="x"), record("2")],
        [record("1", snapshot_name="x")],
    ):
        api.views["/home"] = listing
        project.run()

    def faults() -> list[str]:
        found = coherence.versions(project.database)
        return [
            *coherence.faults_of_spans(found),
            *coherence.faults_of_ledger(project.database, found),
        ]

    assert faults() == []
    project.execute(sql)
    assert any(said in line for line in faults()), faults()
