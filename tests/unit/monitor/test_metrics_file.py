"""`sync --metrics-file`: a file of samples whose counters go on from run to run."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from etl.config.model import Sources
from etl.formatting import escaped
from etl.ledger.results import new_run
from etl.monitor.metrics import Metrics
from etl.monitor.metrics_file import write_metrics
from tests.support.project import Project, make_config
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


def test_the_node_exporter_may_read_it_as_far_as_the_umask_lets(
    tmp_path: Path,
) -> None:
    """It is another user, and no person is in the file; what an administrator chose stays."""
    config = make_config(f"sqlite:///{tmp_path}/none.db", "http://127.0.0.1:9")
    sources, path = Sources((config,), is_folder=False), tmp_path / "x.prom"
    for umask, mode in ((0, 0o644), (0o022, 0o644), (0o027, 0o640), (0o077, 0o600)):
        before = os.umask(umask)
        try:
            write_metrics(path, sources, [new_run(config.source)])
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == mode
        path.unlink()
    write_metrics(path, sources, [new_run(config.source)])
    path.chmod(0o604)
    write_metrics(path, sources, [new_run(config.source)])
    assert path.stat().st_mode & 0o777 == 0o604


NAMES = (
    "/a\rb",
    "/c\r\nd\n",
    "\r",
    "/\t\x01\x0b\x0c\x1c\x85\u2028",
    '"/q\\"',
    "\\n",
    "a} 7",
    "{x=",
    "#",
    " ",
)


def written(path: Path, project: Project, sources: Sources) -> dict[str, float]:
    run = project.run()
    write_metrics(path, sources, [run])
    return parsed(path.read_bytes().decode())


def test_no_name_of_a_view_makes_the_counters_begin_anew(
    project: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project.watch(*NAMES)
    sources, path = Sources((project.config,), is_folder=False), tmp_path / "x.prom"
    for number in (1, 2, 3):
        samples = written(path, project, sources)
        assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="ok"}'] == number
    assert caplog.text == ""


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4))
def test_every_label_comes_back_as_it_was(names: list[str]) -> None:
    metrics, again = Metrics(["x"]), Metrics(["x"])
    keys = {("heatmap_etl_last_complete_timestamp_seconds", _labels(name)): 7.0 for name in names}
    metrics._samples |= keys
    again.restore(metrics.text().decode())
    assert again._samples == metrics._samples


CONTROLS = [chr(number) for number in (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E)]
ALIKE = (
    "\x1b[31m",
    "\\x1b[31m",
    "\\\\x1b[31m",
    "\n",
    "\\n",
    "\u2028",
    "\\u2028",
    "\ud800",
    "\\ud800",
)


@pytest.fixture(scope="module")
def told_of_names() -> tuple[list[str], str]:
    """Names with all that no text for people may hold, and the metrics of a source of each."""
    names = [*(f"/{character}x" for character in CONTROLS), *ALIKE]
    metrics = Metrics(names)
    for name in names:
        run = new_run(name)
        run.status, run.finished_at = "ok", run.started_at
        metrics.add(run)
    return names, metrics.text().decode()


def test_metrics_hold_no_raw_control_character(told_of_names: tuple[list[str], str]) -> None:
    names, text = told_of_names
    assert all(line.isprintable() for line in text.split("\n"))
    assert r'runs_total{source="/\\x1bx",status="ok"} 1.0' in text
    assert text.count('status="ok"} 1.0') == len(names)


def test_no_two_names_are_one_series_to_prometheus(told_of_names: tuple[list[str], str]) -> None:
    names, text = told_of_names
    families = {family.name: family for family in text_string_to_metric_families(text)}
    runs = families["heatmap_etl_runs"].samples
    assert {s.labels["source"] for s in runs if s.value == 1} == {*map(escaped, names)}
    assert len({*map(escaped, names)}) == len(names)
    again = Metrics(names)
    again.restore(text)
    assert again.text().decode() == text


def test_promtool_takes_every_name(told_of_names: tuple[list[str], str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("LOUD: not tested: promtool was not found (Debian: prometheus)")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=told_of_names[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "error while linting" not in done.stderr
    assert done.returncode in (0, 3), done.stderr  # 3: it dislikes a name or a help text


@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_two_texts_are_never_escaped_alike(texts: list[str]) -> None:
    first, second = map(escaped, texts)
    assert first != second
    assert (first + second).isprintable()


def _labels(name: str) -> tuple[tuple[str, str], ...]:
    return ("source", "x"), ("view_name", name)


def test_a_text_that_is_spoilt_further_down_restores_nothing() -> None:
    metrics, again = Metrics(["x"]), Metrics(["x"])
    metrics._samples = dict.fromkeys(metrics._samples, 7.0)
    with pytest.raises(ValueError, match="float"):
        again.restore(f"{metrics.text().decode()}\nbad {{")
    assert set(again._samples.values()) == {0.0, 1.0}


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
