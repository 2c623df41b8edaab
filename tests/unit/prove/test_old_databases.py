"""The databases of earlier revisions are complete: a new revision needs one of the last."""

import pytest

from benchmarks.prove import old_databases
from benchmarks.prove.parts.upgrades import ADDED, Raw, check_kept
from etl.database.schema import HEAD
from tests.support.paths import ROOT
from tests.support.servers import DIALECTS


def revisions() -> list[str]:
    files = (ROOT / "migrations" / "versions").glob("[0-9]*.py")
    return sorted(file.name.partition("_")[0] for file in files)


def test_each_earlier_revision_has_a_database_of_each_story() -> None:
    """After a new revision: add the one before it to `PROGRAMS`, and make its databases."""
    earlier = [revision for revision in revisions() if revision != HEAD]
    assert sorted(old_databases.PROGRAMS) == earlier
    stories = old_databases.STORIES
    expected = [f"{revision}-{seed}" for revision in earlier for seed in sorted(stories)]
    assert old_databases.names() == expected
    for name in expected:
        old = old_databases.read(name)
        revision, _, seed = name.partition("-")
        assert (old.revision, old.told) == (revision, stories[int(seed)])
        assert sorted(old.dumps) == sorted(DIALECTS)
        assert len(old.story) == old_databases.ROUNDS


def test_what_each_revision_added_is_listed() -> None:
    assert sorted(ADDED) == revisions()[1:]


BEFORE: Raw = {"sync_runs": [{"run_id": "1", "views": 2}], "view_state": []}


def upgraded(*, table: str = "sync_runs", **values: object) -> Raw:
    run = {"run_id": "1", "views": 2, "clock_skew_s": None, **values}
    return {"sync_runs": [run], "view_state": [], "side_questions": [], table: [run]}


def test_an_upgrade_that_changes_a_value_is_seen() -> None:
    check_kept(BEFORE, upgraded(), "0004")
    for after, found in (
        (upgraded(views=3), "views changed from 2"),
        (upgraded(clock_skew_s=0.0), "is set"),
        (upgraded(other=None), "the list says"),
        (upgraded(table="view_state"), "1 of 0 rows"),
        (upgraded(table="side_questions"), "a new table has rows"),
    ):
        with pytest.raises(AssertionError, match=found):
            check_kept(BEFORE, after, "0004")
