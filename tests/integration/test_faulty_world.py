"""A thousand requests through a world in which nothing can be relied on (`support.faulty_world`).

`SOAK_RUNS=500 SOAK_SEED=7 pytest tests/integration/test_faulty_world.py` goes on for longer, with
other misfortunes.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl.datadog import retry
from etl.ledger.results import RunResult
from etl.pipeline.progress_bound import STEP_S, longest_run_s
from tests.support.faulty_world import MISDEEDS, FaultyWorld
from tests.support.project import Project, make_config, open_project

pytestmark = pytest.mark.slow

RUNS = int(os.environ.get("SOAK_RUNS", "20"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
VIEWS = [f"/view{number:02}" for number in range(50)]

log = logging.getLogger(__name__)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyWorld]:
    monkeypatch.setattr(retry, "BASE_S", 0.01)
    with FaultyWorld(tmp_path, VIEWS, SEED) as world:
        monkeypatch.setenv("HTTPS_PROXY", world.proxy_url)
        monkeypatch.setenv("SSL_CERT_FILE", str(world.certificate))
        yield world


@pytest.fixture
def project(new_database: Callable[..., str], world: FaultyWorld) -> Iterator[Project]:
    project = open_project(make_config(new_database("sqlite"), world.url, VIEWS))
    project.configure(max_wait_s=1.5, timeout_s=0.5, concurrency=8)
    yield project
    project.database.close()


def contents(project: Project) -> dict[str, str]:
    """What each listed row says."""
    rows = project.snapshots().values()
    return {row["id"]: row["snapshot_name"] for row in rows if row["removed_at"] is None}


def removed(project: Project) -> dict[str, str]:
    """When each row that is no longer listed was removed."""
    rows = project.snapshots().values()
    return {row["id"]: str(row["removed_at"]) for row in rows if row["removed_at"] is not None}


def assert_no_false_removal(before: dict[str, str], project: Project, world: FaultyWorld) -> None:
    now = removed(project)
    fresh = {identifier for identifier in now if now[identifier] != before.get(identifier)}
    assert fresh & world.truth.listed().keys() == set()


def assert_reasons(run: RunResult) -> None:
    assert len(run.views) == len(VIEWS)
    for view in run.views:
        assert view.reason, view
        assert view.error or view.verdict != "failed", view


def test_a_faulty_world_costs_time_and_nothing_else(project: Project, world: FaultyWorld) -> None:
    longest_s = longest_run_s(project.config, len(VIEWS)) - STEP_S - 10 * len(VIEWS)
    verdicts: Counter[str] = Counter()
    took: list[float] = []
    for number in range(RUNS):
        world.begin(number)
        before, begun = removed(project), time.monotonic()
        run = project.run()
        took.append(time.monotonic() - begun)
        assert took[-1] < longest_s
        assert run.status in ("ok", "partial")
        assert_reasons(run)
        assert_no_false_removal(before, project, world)
        verdicts.update(view.verdict for view in run.views)
        world.truth.change()

    world.begin(RUNS)
    world.faults.is_off = True
    project.configure(max_wait_s=60.0, timeout_s=20.0)  # on a busy machine too
    before = removed(project)
    last = project.run()
    assert [view.verdict for view in last.views] == ["complete"] * len(VIEWS)
    assert_no_false_removal(before, project, world)
    assert contents(project) == {pin.id: pin.name for pin in world.truth.listed().values()}

    done = Counter(kind.partition(":")[0] for kind in world.faults.done.elements())
    log.info(
        "%d requests, %d connections, slowest run %.1f s, all %.0f s; %s; %s",
        *(world.asked, world.tunnels, max(took), sum(took)),
        *(dict(verdicts), dict(sorted(world.faults.done.items()))),
    )
    assert set(done) == set(MISDEEDS)
    assert world.asked > 50 * RUNS
    assert verdicts["complete"] > verdicts["failed"]
