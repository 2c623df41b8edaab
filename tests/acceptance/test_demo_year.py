"""The large demo: a year that an analyst would believe, made by runs of `sync` alone."""

import re
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from etl.demo import year as large
from etl.demo.rounds import FILE, SOURCE
from etl.demo.year import _break_responses, run_year
from etl.errors import EtlError
from etl.fake_datadog.year import DAYS, PAGES, SALE, Year

INSTANT = "%Y-%m-%d %H:%M:%S.%f"


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    """File and lines of one run, for the tests that only look."""
    folder = tmp_path_factory.mktemp("year")
    lines: list[str] = []
    run_year(folder, lines.append)
    return folder / FILE, lines


def ask(file, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchall()


def one(file, sql: str):
    ((value,),) = ask(file, sql)
    return value


def test_it_leaves_one_file_of_the_demo(year):
    file, lines = year
    assert [path.name for path in file.parent.iterdir()] == [FILE]
    assert one(file, "SELECT DISTINCT source FROM snapshots") == SOURCE
    assert lines[-1].endswith(f"heatmap-etl dashboard --database {file}")


def test_there_is_enough_to_look_at(year):
    file, _ = year
    events = dict(ask(file, "SELECT event, COUNT(*) FROM snapshot_changes GROUP BY event"))
    assert events["baseline"] > 100
    assert events["added"] > 300
    assert events["changed"] > 100
    assert events["removed"] > 100
    assert events["returned"] > 20
    many = {
        "synced_view": 14,
        "device_type": 3,
        "application_id": 4,
        "created_by": 5,
    }
    for column, least in many.items():
        assert one(file, f"SELECT COUNT(DISTINCT {column}) FROM current_snapshots") >= least
    assert one(file, "SELECT COUNT(*) FROM current_snapshots") > 300


def test_it_spans_a_year_up_to_now(year):
    file, _ = year
    first, last = ask(file, "SELECT MIN(started_at), MAX(started_at) FROM sync_runs")[0]
    first, last = (datetime.strptime(t, INSTANT).replace(tzinfo=UTC) for t in (first, last))
    assert timedelta(0) < datetime.now(UTC) - last < timedelta(hours=1)
    assert timedelta(days=DAYS) <= last - first < timedelta(days=DAYS, hours=1)
    weeks = "SELECT COUNT(DISTINCT strftime('%Y%W', noticed_at)) FROM snapshot_changes"
    assert one(file, weeks) > 45


def test_no_instant_is_out_of_order(year):
    file, _ = year
    for table, before, after in (
        ("sync_runs", "started_at", "finished_at"),
        ("snapshot_history", "valid_from", "valid_to"),
        ("snapshots", "first_seen_at", "valid_from"),
        ("snapshots", "valid_from", "removed_at"),
        ("snapshots", "created_at", "first_seen_at"),
        ("snapshots", "modified_at", "valid_from"),
        ("view_state", "first_read_at", "last_read_at"),
    ):
        wrong = f"SELECT COUNT(*) FROM {table} WHERE {before} > {after}"
        assert one(file, wrong) == 0, (table, before, after)


def test_the_id_of_a_run_begins_with_its_start(year):
    file, _ = year
    for run_id, started_at in ask(file, "SELECT run_id, started_at FROM sync_runs"):
        assert run_id[:15] == re.sub(
            r"(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)\..*", r"\1\2\3T\4\5\6", started_at
        )
    for table, column in (("sync_run_views", "run_id"), ("view_state", "last_run_id")):
        lost = f"SELECT COUNT(*) FROM {table} WHERE {column} NOT IN (SELECT run_id FROM sync_runs)"
        assert one(file, lost) == 0


def test_coverage_has_gaps_that_matter(year):
    file, _ = year
    busy = "sampled_age_days <= 30 AND views_30d > 10000"
    without = f"SELECT view_name FROM view_coverage WHERE {busy} AND NOT has_snapshot ORDER BY 1"
    assert ("/wishlist",) in ask(file, without)
    old = (
        f"SELECT view_name FROM view_coverage WHERE {busy} AND has_snapshot"
        " GROUP BY view_name HAVING MIN(newest_age_days) > 180"
    )
    assert ("/category/?",) in ask(file, old)


def test_some_replays_have_expired_and_some_will(year):
    file, _ = year
    now = "datetime('now')"
    expired = f"SELECT COUNT(*) FROM current_snapshots WHERE replay_expires_at < {now}"
    soon = f"{expired.replace('<', '>')} AND replay_expires_at < datetime('now', '+90 days')"
    assert one(file, expired) > 5
    assert one(file, soon) > 5


def test_not_all_went_well(year):
    file, _ = year
    statuses = Counter(status for (status,) in ask(file, "SELECT status FROM sync_runs"))
    assert statuses["failed"] == 2
    assert statuses["partial"] == 3
    assert statuses["ok"] > 60
    now = ask(file, "SELECT view_name, verdict, held FROM sync_health WHERE NOT is_trusted OR held")
    assert sorted((view, verdict, held > 0) for view, verdict, held in now) == [
        ("/account/settings", "complete", True),
        ("/orders/?", "failed", False),
    ]


def test_each_month_is_told_as_the_ledger_has_it(year):
    file, lines = year
    cells = [line.split() for line in lines if re.match(r"  \d{4}-\d\d ", line)]
    told = {month: tuple(map(int, counts)) for month, *counts in cells}
    stored = ask(
        file,
        "SELECT strftime('%Y-%m', started_at), COUNT(*), SUM(status <> 'ok'), SUM(new),"
        " SUM(changed), SUM(vanished), SUM(returned), SUM(held) FROM sync_runs GROUP BY 1",
    )
    assert told == {month: tuple(counts) for month, *counts in stored}


def test_a_file_that_is_no_demo_is_not_touched(tmp_path):
    (tmp_path / FILE).write_text("my notes")
    with pytest.raises(EtlError, match="move it away"):
        run_year(tmp_path, print)
    assert (tmp_path / FILE).read_text() == "my notes"


def test_a_world_that_ends_now_began_a_year_ago():
    end_at = datetime(2026, 11, 25, 12, tzinfo=UTC)
    year = Year(end_at)
    assert timedelta(0) <= year.world.now - (end_at - timedelta(days=DAYS)) < timedelta(hours=1)
    for _ in range(DAYS):
        year.pass_day()
    assert timedelta(0) <= year.world.now - end_at < timedelta(hours=1)


@pytest.mark.parametrize("day", range(1, 29, 3))
def test_a_year_can_end_at_any_moment(day):
    """What happens depends on weekday and hour: none of it may trip over the bad answers."""
    year = Year(datetime(2026, day % 12 + 1, day, day % 24, 30, tzinfo=UTC))
    for _ in range(DAYS):
        year.pass_day()
        _break_responses(year)
    assert year.world.records("/home")
    assert year.world.records("/account/settings") == []


def test_equal_moments_give_equal_years():
    ends = datetime(2026, 11, 25, 12, tzinfo=UTC)
    one, other = Year(ends), Year(ends)
    for year in (one, other):
        for _ in range(60):
            year.pass_day()
    names = [page.name for page in PAGES]
    assert [one.world.records(n) for n in names] == [other.world.records(n) for n in names]


def test_a_view_comes_with_its_traffic_and_the_sale_goes_with_it():
    year = Year(datetime(2026, 11, 25, 12, tzinfo=UTC))
    had = set()
    for _ in range(DAYS):
        year.pass_day()
        visited = {traffic.view_name for traffic in year.world.traffic}
        had |= {SALE.name} & visited
        if year.world.records(SALE.name):
            assert SALE.name in visited
    assert had == {SALE.name}
    assert visited == {page.name for page in PAGES} - {SALE.name}
    assert year.world.records(SALE.name) == []


@pytest.mark.parametrize(
    ("pip", "command"),
    [(None, "make dashboard"), (object(), f"{sys.executable} -m pip install '.[dashboard]'")],
)
def test_what_installs_the_dashboard_is_the_pip_of_this_python(monkeypatch, pip, command):
    monkeypatch.setattr(large, "find_spec", lambda _: pip)
    assert large._to_install() == command
