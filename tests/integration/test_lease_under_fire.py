"""Processes fight for a source, are stopped and continued: nothing is lost or double.

What `kill -9` leaves is tried by `benchmarks.prove.parts.kills`.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.api import Api, record
from tests.support.processes import ended, syncs
from tests.support.project import Project
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def run(database_url: str, api: Api) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    with syncs(database_url, api.url, [f"/v{n}" for n in range(4)]) as start:
        yield start


def at_round(number: int, view: int) -> list[dict[str, Any]]:
    """Records come, change, go and return from round to round."""
    return [
        record(f"{view}-{n}", snapshot_name=f"round {number if (n + number) % 3 == 0 else 0}")
        for n in range(40)
        if (n + number) % 5
    ]


def serve(api: Api, number: int, delay_s: float = 0.0) -> None:
    def answer(view: int) -> Callable[[], Any]:
        def slowly() -> Any:
            time.sleep(delay_s)
            return at_round(number, view)

        return slowly

    api.views = {f"/v{view}": answer(view) for view in range(4)}


def test_of_three_at_once_one_works_and_the_others_are_told_who(
    project: Project, api: Api, run: Callable[..., subprocess.Popen[str]]
) -> None:
    serve(api, 0, delay_s=4.0)
    found = [ended(process) for process in [run(), run(), run()]]
    assert sorted(code for code, _ in found) == [0, 75, 75], found
    for _, text in [one for one in found if one[0] == 75]:
        assert "works on source datadoghq.com, its lease lasts until 20" in text
    assert [row["status"] for row in project.rows("SELECT status FROM sync_runs")] == ["ok"]
    assert project.history() == []
    assert len(project.live()) == 4 * 32


def test_who_was_stopped_beyond_its_lease_cannot_write(
    project: Project, api: Api, run: Callable[..., subprocess.Popen[str]]
) -> None:
    serve(api, 0, delay_s=1.5)
    first = run(lease_s=1)
    wait_until(lambda: api.requests, 60)
    first.send_signal(signal.SIGSTOP)
    # On this machine a stopped process is alive: only its expiry frees the lease.
    time.sleep(2)
    serve(api, 1)
    assert ended(run()) == (0, "ok\n")
    before = (project.snapshots(), project.history(), project.rows("SELECT * FROM sync_run_views"))
    first.send_signal(signal.SIGCONT)
    code, text = ended(first)
    assert (code, "took the lease" in text) == (75, True), text
    after = (project.snapshots(), project.history(), project.rows("SELECT * FROM sync_run_views"))
    assert after == before
    rows = project.rows("SELECT status FROM sync_runs ORDER BY started_at")
    assert [row["status"] for row in rows] == ["died", "ok"]
