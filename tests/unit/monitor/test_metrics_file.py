"""`sync --metrics-file`: a file of samples whose counters go on from run to run."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from etl.config.model import Sources
from etl.ledger.results import new_run
from etl.monitor.metrics_file import write_metrics
from tests.support.project import make_config
from tests.support.watched import parsed


def test_counters_of_a_file_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = make_config(f"sqlite:///{tmp_path}/none.db", "http://127.0.0.1:9")
    sources, path = Sources((config,), is_folder=False), tmp_path / "x.prom"
    run = new_run(config.source)
    run.status, run.finished_at, run.died = "ok", run.started_at + timedelta(seconds=3), 1
    for number in (1, 2, 3):
        write_metrics(path, sources, [run])
        samples = parsed(path.read_text())
        assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="ok"}'] == number
        assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="died"}'] == number
        assert samples["heatmap_etl_run_duration_seconds_sum"] == 3 * number
        assert samples['heatmap_etl_run_duration_seconds_bucket{le="2.5"}'] == 0
        assert samples['heatmap_etl_run_duration_seconds_bucket{le="5.0"}'] == number
    bounds = re.findall(r'_bucket\{le="(.*?)"\}', path.read_text())
    assert bounds == sorted(bounds, key=float)
    assert caplog.text == ""
    path.write_text("no {metrics")
    write_metrics(path, sources, [run])
    assert "begin at zero again" in caplog.text
    assert parsed(path.read_text())["heatmap_etl_run_duration_seconds_count"] == 1
    assert {file.name for file in tmp_path.iterdir()} == {"x.prom"}


def test_a_source_that_is_gone_leaves_the_file(tmp_path: Path) -> None:
    config = make_config(f"sqlite:///{tmp_path}/none.db", "http://127.0.0.1:9")
    path, run = tmp_path / "x.prom", new_run("datadoghq.com")
    write_metrics(path, Sources((config,), is_folder=False), [run])
    assert "datadoghq.com" in path.read_text()
    other = Sources((replace(config, source="other"),), is_folder=False)
    write_metrics(path, other, [new_run("other")])
    assert "datadoghq.com" not in path.read_text()


def test_a_file_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(f"sqlite:///{tmp_path}/none.db", "http://127.0.0.1:9")
    path = tmp_path / "gone" / "x.prom"
    write_metrics(path, Sources((config,), is_folder=False), [new_run(config.source)])
    assert "could not be written" in caplog.text
