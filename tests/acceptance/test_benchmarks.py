"""The benchmarks: small enough to run here, so that they cannot rot. No time is asserted."""

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import beside, contestants, environments, queries, workloads, year
from benchmarks.api import Api
from benchmarks.crowd import crowd, require_crowd
from benchmarks.data import Size
from benchmarks.databases import Databases
from benchmarks.environments import OURS, PEERS, Environments
from benchmarks.measure import Measure, Measures, ProcessFailed, Store, timed
from benchmarks.report import lines, page, targets
from benchmarks.truth import WrongContent, require_content
from benchmarks.workloads import LARGE, MANY, SMALL, Bench
from etl.database.migrations import upgrade
from etl.extract.completeness import ROUND_NUMBERS
from tests.support.paths import ROOT

TINY = Size(3, 120)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the benchmarks put what they make, instead of into the checkout."""
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    return tmp_path


def tiny_bench(*peers):
    here = Environments(is_here=True)
    entered = [contestants.heatmap_etl(here), *(peer(here) for peer in peers)]
    return Bench(Databases("sqlite"), Measures(), 1, entered, large=TINY)


def test_a_tiny_benchmark_measures_every_contestant_and_compares_the_tables(folder):
    bench = tiny_bench(contestants.floor, contestants.floor_with_digests, contestants.script)
    workloads.loads(bench)
    measured = [(m.workload, m.contestant) for m in bench.measures.all]
    assert measured == [
        *((w, OURS) for w in ("W2", "W3", "W4")),
        *(("W2", "floor"), ("W3", "floor+digests"), ("W4", "floor")),
        *((w, "script") for w in ("W2", "W3", "W4")),
    ]
    assert all(0 < m.cpu_s < 60 and 5 < m.peak_mb < 500 for m in bench.measures.all)
    assert [line.what for line in lines(bench.measures)][:3] == [
        *("W2, floor", "W3, floor+digests", "W4, floor"),
    ]
    assert list((folder / "databases").iterdir()) == []
    bench.databases.stop()


def test_a_run_that_loads_something_else_fails_the_benchmark(folder):
    bench = tiny_bench()
    (ours,) = bench.contestants
    with Api(TINY, 2) as api:
        loading = bench.begin(api, ours)
        bench.prepare("W2", ours, loading)
        api.set(stage=1)
        with pytest.raises(WrongContent, match=r"^W4, sqlite, heatmap-etl: found "):
            bench.prepare("W4", ours, loading)  # the rows of stage 0 are expected
        loading.stage = 1
        with pytest.raises(WrongContent, match="rows of history, 0 were changed"):
            bench.prepare("W4", ours, loading)
        loading.history = TINY.changed()
        bench.prepare("W4", ours, loading)
        change = "UPDATE snapshots SET start_ms = start_ms + 1 WHERE rowid = 7"
        with closing(sqlite3.connect(loading.url.removeprefix("sqlite:///"))) as connection:
            connection.execute(change)
            connection.commit()
        with pytest.raises(WrongContent, match="found "):
            require_content(bench.databases, loading.url, TINY, 1, start="start_ms")
    bench.databases.stop()


def test_rows_of_other_views_are_neither_counted_nor_touched(folder):
    bench = tiny_bench()
    workloads.crowded(bench)
    assert [m.workload for m in bench.measures.all] == ["W6: W4 alone", "W6"]
    bench.databases.stop()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("snapshots", "DELETE FROM snapshots WHERE rowid = (SELECT max(rowid) FROM snapshots)"),
        ("snapshots", "UPDATE snapshots SET removed_at = valid_from"),
        ("snapshots", "UPDATE snapshots SET version = version + 1"),
        ("snapshot_history", "DELETE FROM snapshot_history WHERE version = 3"),
    ],
)
def test_a_crowd_that_a_run_has_touched_fails_the_benchmark(folder, table, change):
    bench = tiny_bench()
    (ours,) = bench.contestants
    with Api(TINY, 2) as api:
        loading = bench.begin(api, ours)
        bench.prepare("W2", ours, loading)
        crowd(bench.databases, loading.url, TINY)
        require_crowd(bench.databases, loading.url, TINY)
        for name, of_each in (("snapshots", 10), ("snapshot_history", 25)):
            ((rows,),) = bench.databases.rows(
                loading.url, f"SELECT count(*) FROM {name} WHERE synced_view LIKE 'the crowd%'"
            )
            assert rows == of_each * sum(TINY.counts())
        bench.databases.run(loading.url, change)
        with pytest.raises(WrongContent, match=f"of the crowd in {table}"):
            require_crowd(bench.databases, loading.url, TINY)
    bench.databases.stop()


@pytest.mark.parametrize("size", [SMALL, LARGE, MANY, TINY])
def test_no_count_looks_like_a_cap_and_one_view_has_the_most(size):
    counts = size.counts()
    assert len(counts) == size.views
    assert len(set(counts)) > 1
    assert set(counts) & ROUND_NUMBERS == set()
    assert counts.count(max(counts)) == 1
    assert sum(counts) == pytest.approx(size.views * size.about, rel=0.1)


def test_a_stage_changes_one_snapshot_in_a_hundred_of_every_view():
    changed = []
    for number in range(TINY.views):
        before, after = (json.loads(TINY.body(number, stage))["data"] for stage in (0, 1))
        assert [r["id"] for r in before] == [r["id"] for r in after]
        assert len({r["id"] for r in before}) == len(before)
        assert all(len(r["attributes"]) == 15 for r in before)
        changed.append(sum(a != b for a, b in zip(before, after, strict=True)))
    assert changed == [2, 2, 2]  # of 121, 126 and 124: places 0 and 100, 1 and 101, 2 and 102
    assert sum(changed) == TINY.changed()
    assert LARGE.changed() == pytest.approx(sum(LARGE.counts()) / 100, rel=0.02)


def test_the_server_cuts_and_filters_like_datadog(folder):
    import httpx

    path = "/api/v2/replay/heatmap/snapshots"
    with Api(TINY, 1) as api, httpx.Client(base_url=api.url, trust_env=False) as client:
        name = TINY.name(1)
        whole = client.get(path, params={"filter[view_name]": name}).json()["data"]
        assert [r["attributes"]["view_name"] for r in whole] == [name] * TINY.counts()[1]
        query = {"filter[view_name]": name, "filter[device_type]": "mobile", "page[limit]": "5"}
        part = client.get(path, params=query).json()["data"]
        assert part == [r for r in whole if r["attributes"]["device_type"] == "mobile"][:5]
        assert client.get(path, params={"filter[view_name]": "/none"}).json() == {"data": []}
        listed = client.get("/api/v2/rum/applications").json()["data"]
        assert {r["attributes"]["application_id"] for r in whole} == {a["id"] for a in listed}
        assert client.get("/elsewhere").status_code == 404
        assert api.requests() == 3


def test_a_child_is_measured_and_not_the_harness(tmp_path):
    ballast = bytearray(200_000_000)
    took, output = timed([sys.executable, "-c", "print(len(bytearray(50_000_000)))"], {}, tmp_path)
    assert output == "50000000\n"
    assert 50 < took["peak_mb"] < 120 < len(ballast) / 1e6


def test_a_process_that_takes_too_long_is_killed_and_one_that_fails_says_why(tmp_path):
    took, _ = timed([sys.executable, "-c", "import time; time.sleep(60)"], {}, tmp_path, 0.3)
    assert took["exit"] == -9
    code = "import sys; print('out of luck', file=sys.stderr); sys.exit(3)"
    with pytest.raises(ProcessFailed, match="ended with 3:\nout of luck"):
        timed([sys.executable, "-c", code], {}, tmp_path)


def measure(workload, contestant, seconds, dialect="sqlite", **others):
    numbers = {"cpu_s": seconds / 2, "peak_mb": 50.0, "journal_mb": 0.5} | others
    return Measure(workload, dialect, contestant, 0, seconds, **numbers)


@pytest.mark.parametrize(
    ("measures", "what", "ratio", "is_met"),
    [
        ([("W2", OURS, 1.4), ("W2", "floor", 1.0)], "W2, floor", "1.40", True),
        ([("W2", OURS, 1.5), ("W2", "floor", 1.0)], "W2, floor", "1.50", False),
        ([("W3", OURS, 1.0), ("W3", "dlt", 20.0)], "W3, dlt", "20.00", True),
        ([("W3", OURS, 1.0), ("W3", "dlt", 19.0)], "W3, dlt", "19.00", False),
        ([("W6", OURS, 1.2), ("W6: W4 alone", OURS, 1.0)], "W6, W4 alone", "1.20", False),
    ],
)
def test_a_ratio_is_held_against_its_target(measures, what, ratio, is_met):
    found = lines(Measures([measure(*m) for m in measures]))
    line = next(line for line in found if line.what == what)
    assert (line.ratio, line.is_met) == (ratio, is_met)
    assert ("MISSED" in line.cells()) is not is_met


def test_ratios_are_of_medians():
    took = [measure("W4", OURS, s) for s in (1.0, 9.0, 1.0)]
    took += [measure("W4", "floor", s) for s in (2.0, 1.0, 1.0)]
    (line, *_) = lines(Measures(took))
    assert (line.what, line.ratio) == ("W4, floor", "1.00")


@pytest.mark.parametrize(("w5", "is_met"), [(2.7, True), (2.8, False)])
def test_w5_may_take_the_waiting_and_the_loading(w5, is_met):
    names = {"W5": w5, "W5: W1 again": 0.5, "W5: at 0 ms": 1.5, "W5: again at 0 ms": 0.8}
    found = lines(Measures([measure(name, OURS, took) for name, took in names.items()]))
    assert [line.is_met for line in found if line.what.startswith("W5")] == [is_met]


def test_memory_and_what_is_written_have_targets_too():
    took = [measure("W3", OURS, 1.0, peak_mb=119.0, journal_mb=1.1)]
    took += [measure("W2 once", OURS, 1.0, peak_mb=100.0)]
    took += [measure("W2 tenfold", OURS, 1.0, peak_mb=121.0)]
    assert {line.what: line.is_met for line in lines(Measures(took))} == {
        "peak memory (W3)": True,
        "peak memory, W2 tenfold": False,
        "written in W3": False,
    }


def test_results_are_kept_by_workload_and_written_as_one_page(tmp_path):
    facts = {"date": "2026-01-01", "revision": "abc", "load_before": "0.1", "load_after": "0.2"}
    facts["server"] = "sqlite 3"
    store = Store(tmp_path / "measures.json")
    store.put("W2 sqlite", Measures([measure("W2", OURS, 9.0)]), facts)
    store.put("W1 sqlite", Measures([measure("W1 again", OURS, 1.0)]), facts)
    store = Store(tmp_path / "measures.json")
    both = Measures([measure("W2", OURS, 2.0), measure("W2", "floor", 1.0)])
    store.put("W2 sqlite", both, facts)
    assert [m.seconds for m in store.measures().of("W2", "sqlite", OURS)] == [2.0]
    text = page(store.entries, store.measures(), ["2 cores"])
    assert targets(store.measures()) in text
    assert re.search(r"^\| W1 again +\| sqlite +\| heatmap-etl +\| 1 ", text, re.MULTILINE)
    assert "1 of 2 targets missed" in text
    assert "- 2 cores" in text


def test_our_lock_file_names_what_the_tests_run_with():
    pins = [
        dict(re.findall(r"^([\w.-]+)==([\w.]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in (PEERS / f"{OURS}.lock", ROOT / "requirements-dev.lock")
    ]
    assert {"httpx", "sqlalchemy", "psycopg", "pymysql"} <= pins[0].keys()
    assert pins[0].items() <= pins[1].items()


@pytest.mark.parametrize("lock", sorted(Path(PEERS).glob("*.lock")), ids=lambda path: path.stem)
def test_a_lock_file_names_hashes_and_no_address(lock):
    text = lock.read_text(encoding="utf-8")
    assert text.count("--hash=sha256:") >= text.count("==") > 0
    assert "://" not in text


def test_the_harness_refuses_what_it_does_not_know():
    command = [sys.executable, "-m", "benchmarks", "--only", "W9"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--only: W9 is none of" in done.stderr


def test_every_query_of_a_dashboard_finds_rows_in_an_invented_year(tmp_path):
    with queries.opened("sqlite", tmp_path) as database:
        year.fill(database, year.Size.of(0.01))
        found = queries.measure_all(database, "sqlite")
    assert [title for title, measured in found.items() if not measured.rows] == []
    assert all(measured.plan for measured in found.values())
    page = queries.report("sqlite", queries.Found(found, {"one run": 1.5}))
    assert all(f"| {query.title} | " in page for query in queries.QUERIES)
    assert "| one run | 1.50 |" in page


def test_runs_are_measured_with_and_without_the_indexes_of_the_views(tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "VIEWS", 3)
    monkeypatch.setattr(beside, "ROWS", 101)
    monkeypatch.setattr(beside, "ROUNDS", 2)
    with queries.opened("sqlite", tmp_path) as database:
        upgrade(database)
        assert len(beside.again(database)) == beside.ROUNDS
        beside.drop_indexes(database)
        assert beside.first(database, "first") > 0
        with database.connect(write=False) as connection:
            found = [
                connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").scalar()
                for table in ("snapshots", "snapshot_history")
            ]
            kept = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE name LIKE 'ix_snapshot%'"
            )
            assert kept.scalars().all() == ["ix_snapshots_view_key"]
    assert found == [101 + 101 + 102 + 103, 20]
