"""The comparison with the oracle: it holds for what the program wrote, and sees each difference."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.prove.places import opened
from benchmarks.prove.story import invent
from benchmarks.prove.telling import Telling, configure, serve
from tests.support.api import Api
from tests.support.project import Project

ROUNDS = 8
SEED = 5

ONE = "id = (SELECT MIN(id) FROM snapshots WHERE removed_at IS NULL)"
PAST = "rowid = (SELECT MIN(rowid) FROM snapshot_history)"
BREAKAGES = {
    f"DELETE FROM snapshots WHERE {ONE}": "1 rows are lost",
    f"UPDATE snapshots SET id = 'double' WHERE {ONE}": "1 rows are lost",
    f"UPDATE snapshots SET snapshot_name = 'other' WHERE {ONE}": "snapshot_name is 'other'",
    f"UPDATE snapshots SET view_key = 'other' WHERE {ONE}": "view_key is 'other'",
    f"UPDATE snapshots SET removed_at = '2999-01-01 00:00:00' WHERE {ONE}": "removed_at is",
    "UPDATE snapshots SET removed_at = NULL": "removed_at is None",
    f"UPDATE snapshots SET missing_since = valid_from WHERE {ONE}": "missing_since is",
    f"UPDATE snapshots SET first_seen_at = '2020-01-01 00:00:00' WHERE {ONE}": "first_seen_at is",
    "UPDATE snapshots SET version = version + 1 WHERE version = 2": r"versions \[1, 3\]",
    f"DELETE FROM snapshot_history WHERE {PAST}": "versions",
    f"UPDATE snapshot_history SET valid_to = '2999-01-01 00:00:00' WHERE {PAST}": "overlaps",
    f"UPDATE snapshot_history SET valid_to = valid_from WHERE {PAST}": "overlaps",
    "UPDATE snapshot_history SET changed_columns = 'other'": "changed_columns is 'other'",
    "UPDATE view_state SET held = 99 WHERE view_name = '/cart'": "held is 99",
    "UPDATE view_state SET last_run_id = 'other'": "last_run_id is 'other'",
    "UPDATE rejected_records SET count = count + 1": "reject .* count is",
    "UPDATE rejected_records SET resolved_at = NULL": "resolved_at is None",
    "DELETE FROM schema_drift": "schema_drift: .* rows are lost",
    "UPDATE sync_runs SET status = 'running'": "is running",
    "UPDATE sync_runs SET listed = listed + 1": "listed is",
    "DELETE FROM sync_run_views WHERE view_name = '/cart'": "is ok with 5 views",
    "DELETE FROM sync_runs": "and no such run",
    "UPDATE sync_run_views SET vanished = vanished + 1": "vanished is",
    "UPDATE sync_run_views SET verdict = 'unproven'": "unproven",
}


def test_it_sees_whatever_differs(
    new_database: Callable[..., str], api: Api, tmp_path: Path
) -> None:
    url = new_database("sqlite")
    file = Path(url.removeprefix("sqlite:///"))
    with opened(url) as database:
        project = Project(configure(url, api.url), database)
        telling = Telling(database, invent(SEED, ROUNDS))
        for answers in telling.story:
            serve(api, answers)
            assert project.run().status == "ok"
            telling.hear()
            telling.check()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    for number, (statement, found) in enumerate(BREAKAGES.items()):
        broken = tmp_path / f"broken-{number}.db"
        shutil.copyfile(file, broken)
        with closing(sqlite3.connect(broken)) as connection, connection:
            assert connection.execute(statement).rowcount, statement
        with opened(f"sqlite:///{broken}") as database:
            telling.database = database
            with pytest.raises(AssertionError, match=found):
                telling.check()
