"""What others may add to our tables and build on them: it stays, and nothing of ours fails."""

from tests.support.api import Api, record
from tests.support.project import Project, counts


def test_a_unique_index_of_theirs_never_lets_one_row_replace_another(project: Project, api: Api):
    api.views["/home"] = [record("a", start=1)]
    project.run()
    before = project.snapshots()
    project.execute("CREATE UNIQUE INDEX theirs ON snapshots (start_ms)")
    api.views["/home"].append(record("b", start=1))
    (failed,) = project.run().views
    assert failed.error is not None
    assert project.snapshots() == before
    api.views["/home"] = [record("a", start=1), record("b", start=2)]
    assert counts(project.run(), "new", "unchanged") == {"new": 1, "unchanged": 1}
    before = project.snapshots()
    api.views["/home"] = [record("a", start=1), record("b", start=1)]
    (failed,) = project.run().views
    assert failed.error is not None
    assert project.snapshots() == before
