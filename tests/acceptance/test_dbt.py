"""dbt itself reads `dashboards/dbt/sources.yml`, against a PostgreSQL that syncs have filled."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from tests.support.api import Api, record
from tests.support.environments import DBT
from tests.support.paths import ROOT
from tests.support.project import Project, make_config, open_project

PARSE = ["parse"]
FRESHNESS = ["source", "freshness"]
TEST = ["test"]
PATIENT = "{heatmap_etl_warn_after_hours: 100, heatmap_etl_error_after_hours: 200}"

# Several commands in one process: each new one takes seconds to load dbt.
RUN = """
import json, sys
from dbt.cli.main import dbtRunner
told = []
for command in json.loads(sys.argv[1]):
    done = dbtRunner().invoke(["--no-version-check", "--warn-error", *command])
    results = getattr(done.result, "results", [])
    told.append({
        "success": done.success,
        "said": str(done.exception or ""),
        "results": {result.node.name: str(result.status) for result in results},
    })
with open("told.json", "w") as file:
    json.dump(told, file)
"""


@pytest.fixture
def dbt(new_database: Callable[..., str], tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """`dbt(url, command, ...)`: what each of them came to, with all warnings as errors."""
    if not DBT.is_there():
        pytest.skip("LOUD: dbt is not tested: build/dbt is not there or of another lock file")
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "dashboards" / "dbt" / "sources.yml", tmp_path / "models")
    project = {"name": "heatmaps", "config-version": 2, "profile": "heatmaps"}
    (tmp_path / "dbt_project.yml").write_text(json.dumps(project), encoding="utf-8")

    def run(url: str, *commands: list[str]) -> list[dict[str, Any]]:
        at = make_url(url)
        target = {
            "type": "postgres",
            "schema": "public",
            "threads": 1,
            "host": at.host,
            "port": at.port,
            "dbname": at.database,
            "user": at.username,
            "password": at.password,
        }
        profiles = {"heatmaps": {"target": "tests", "outputs": {"tests": target}}}
        (tmp_path / "profiles.yml").write_text(json.dumps(profiles), encoding="utf-8")
        done = subprocess.run(
            [DBT.python, "-c", RUN, json.dumps(commands)],
            cwd=tmp_path,
            env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told: list[dict[str, Any]] = json.loads((tmp_path / "told.json").read_text("utf-8"))
        return told

    return run


def fill(project: Project, api: Api) -> None:
    """Snapshots of each kind: changed, removed, and there from the beginning."""
    api.views["/home"] = [record(str(number)) for number in range(5)]
    project.run()
    api.views["/home"][0] = record("0", start=99)
    api.views["/home"].pop()
    project.run()


@pytest.mark.slow
def test_dbt_takes_the_sources_and_tells_good_data_from_bad(
    new_database: Callable[..., str], dbt: Callable[..., list[dict[str, Any]]], api: Api
) -> None:
    url = new_database("postgresql")
    project = open_project(make_config(url, api.url))
    try:
        fill(project, api)
        parsed, fresh, tested = dbt(url, PARSE, FRESHNESS, TEST)
        assert parsed["success"], parsed["said"]
        assert fresh == {"success": True, "said": "", "results": {"sync_health": "pass"}}
        assert tested["success"], tested
        assert len(tested["results"]) > 40
        assert set(tested["results"].values()) == {"pass"}

        project.database.transaction(spoil)
        stale, patient, tested = dbt(url, FRESHNESS, [*FRESHNESS, "--vars", PATIENT], TEST)
        assert (stale["success"], stale["results"]) == (False, {"sync_health": "error"})
        assert (patient["success"], patient["results"]) == (True, {"sync_health": "pass"})
        assert not tested["success"]
        failed = {name for name, status in tested["results"].items() if status != "pass"}
        assert failed == {"source_unique_heatmap_etl_current_snapshots_id"}
    finally:
        project.database.close()


def spoil(connection: Any) -> None:
    """A last reading of three days ago, and an id that is there twice."""
    connection.execute(text("UPDATE view_state SET last_trusted_at = now() - interval '3 days'"))
    connection.execute(text("ALTER TABLE snapshots DROP CONSTRAINT pk_snapshots CASCADE"))
    connection.execute(text("INSERT INTO snapshots SELECT * FROM snapshots WHERE id = '1'"))
