"""Several organizations: a folder of configurations, side by side; one never touches another."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.cli.fan_out import (
    CommandResult,
    Outcome,
    code_of_runs,
    run_for_each,
)
from etl.config.credentials import Keys
from etl.config.load import load_config, load_configs
from etl.config.model import Config, Sources
from etl.config.views import View
from etl.database.connection import open_database
from etl.database.schema import metadata
from etl.errors import ConfigError, LeaseHeld, SourceMismatch
from etl.ledger.results import exit_code
from etl.pipeline.plan import make_plan
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.source.lease import Lease
from etl.source.rename import renamed
from tests.support.api import Api, Reply, record
from tests.support.command_line import Cli
from tests.support.project import Project, counts, make_config, open_project
from tests.support.waiting import wait_until

FORBIDDEN: Reply = (403, {}, b'{"errors": [{"title": "Forbidden"}]}')
NOBODY = "http://127.0.0.1:9"
STATE = ("snapshots", "snapshot_history", "view_state", "rejected_records", "schema_drift")


# --- the folder ---------------------------------------------------------------------------


def write(folder: Path, name: str, *, source: str | None = None, text: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    label = source if source is not None else name
    lines = ['database_url = "sqlite:///x.db"', 'views = ["/home"]', text, "[datadog]"]
    lines += [f'source = "{label}"'] if label else []
    lines += [f'api_key_env = "{name.upper()}_API_KEY"', f'app_key_env = "{name.upper()}_APP_KEY"']
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def plain(folder: Path, name: str, text: str = "") -> Path:
    """A file that names no variables of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.toml"
    base = 'database_url = "sqlite:///x.db"\nviews = ["/home"]\n'
    path.write_text(f'{base}[datadog]\nsource = "{name}"\n{text}', encoding="utf-8")
    return path


def dotenv(folder: Path, name: str, **values: str) -> None:
    path = folder / name
    path.write_text("".join(f"{n}={v}\n" for n, v in values.items()), encoding="utf-8")
    path.chmod(0o600)


def load(folder: Path, **environ: str) -> list[Config]:
    return load_configs(folder, environ, cwd=folder.parent)


def problems(folder: Path, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, **environ)
    assert all("\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


def test_each_file_of_a_folder_is_a_source(tmp_path: Path) -> None:
    folder = tmp_path / "orgs"
    for name in ("b", "a"):
        write(folder, name)
    for other in (".hidden.toml", "c.toml.bak", "notes.txt"):
        (folder / other).write_text("broken = [")
    configs = load(folder)
    assert [c.source for c in configs] == ["a", "b"]
    assert [c.neighbours for c in configs] == [("b",), ("a",)]
    assert {c.database_label for c in configs} == {f"sqlite:///{folder}/x.db"}
    named = {"HEATMAP_ETL_CONFIG": "orgs"}
    assert load_configs(None, named, cwd=tmp_path) == configs


def test_a_file_is_one_source(tmp_path: Path) -> None:
    path = write(tmp_path, "a")
    assert load_configs(path, {}) == [load_config(path, {})]
    assert load(tmp_path) == [load_config(path, {})]


def test_where_one_file_is_wanted_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; name one of the files in it"):
        load_config(tmp_path, {})


def test_a_folder_without_files_says_so(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path)
    assert problem.startswith(f"{tmp_path}: holds no *.toml; ")


def test_all_problems_of_all_files_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a", text="colour = 1")
    write(tmp_path, "b", text="[lease]\nseconds = 0")
    (tmp_path / "c.toml").write_text("broken = [")
    write(tmp_path, "d")
    found = problems(tmp_path)
    assert [p.split(": ")[0] for p in found] == [str(tmp_path / f"{n}.toml") for n in "abc"]
    assert "colour" in found[0]
    assert "lease.seconds" in found[1]


@pytest.mark.parametrize("label", ["same", ""])
def test_one_label_twice_in_a_database_is_refused(tmp_path: Path, label: str) -> None:
    write(tmp_path, "a", source=label)
    write(tmp_path, "b", source=label)
    (problem,) = problems(tmp_path)
    wanted = (str(tmp_path / "a.toml"), str(tmp_path / "b.toml"), 'datadog.source = "..."')
    assert all(text in problem for text in wanted)


def test_one_label_in_two_databases_is_fine(tmp_path: Path) -> None:
    write(tmp_path, "a", source="same")
    path = write(tmp_path, "b", source="same")
    path.write_text(path.read_text().replace("x.db", "y.db"))
    assert [c.source for c in load(tmp_path)] == ["same", "same"]


def test_keys_by_variables_of_each_file(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    dotenv(tmp_path, ".env", A_API_KEY="1", A_APP_KEY="2", B_API_KEY="3")
    found = load(tmp_path, B_APP_KEY="4", B_API_KEY="5")
    assert [c.keys for c in found] == [Keys("1", "2"), Keys("5", "4")]


def test_keys_by_a_dotenv_of_each_file(tmp_path: Path) -> None:
    for name in "ab":
        plain(tmp_path, name)
    dotenv(tmp_path, ".env", DD_API_KEY="shared", DD_APP_KEY="shared")
    dotenv(tmp_path, "b.env", DD_API_KEY="b", DD_APP_KEY="b")
    assert [c.keys for c in load(tmp_path)] == [Keys("shared", "shared"), Keys("b", "b")]
    assert load_config(tmp_path / "b.toml", {}).keys == Keys("b", "b")


def test_a_dotenv_of_a_file_hides_a_key_file_of_the_shared_one(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    dotenv(tmp_path, ".env", DD_API_KEY_FILE="none", DD_APP_KEY="shared")
    dotenv(tmp_path, "a.env", DD_API_KEY="mine")
    assert load(tmp_path)[0].keys == Keys("mine", "shared")


def test_an_open_dotenv_of_a_file_warns(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    dotenv(tmp_path, "a.env", DD_API_KEY="mine")
    (tmp_path / "a.env").chmod(0o644)
    (warning,) = load(tmp_path)[0].warnings
    assert "chmod 600" in warning
    assert "a.env" in warning


def test_two_sources_with_the_same_keys_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        plain(tmp_path, name)
        dotenv(tmp_path, f"{name}.env", DD_API_KEY=name, DD_APP_KEY=name)
    assert len(load(tmp_path)) == 2
    (problem,) = problems(tmp_path, DD_API_KEY="secret-1", DD_APP_KEY="secret-2")
    assert all(text in problem for text in ("a.toml", "b.toml", "same keys", "a.env, b.env"))
    assert "secret" not in problem
    (problem,) = problems(tmp_path, DD_BEARER_TOKEN="secret-3")
    assert "secret" not in problem


def test_the_same_keys_at_another_api_are_others(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    plain(tmp_path, "b", 'site = "datadoghq.eu"\n')
    assert len(load(tmp_path, DD_API_KEY="1", DD_APP_KEY="2")) == 2


@pytest.mark.parametrize("name", ["SOURCE", "SITE", "API_URL", "API_KEY_ENV"])
def test_a_variable_that_makes_all_sources_the_same_is_refused(tmp_path: Path, name: str) -> None:
    values = {"SOURCE": "s", "SITE": "datadoghq.eu", "API_URL": "https://a.example"}
    environ = {f"HEATMAP_ETL_DATADOG_{name}": values.get(name, "SOME_NAME")}
    write(tmp_path, "a")
    assert len(load(tmp_path, **environ)) == 1
    write(tmp_path, "b")
    found = problems(tmp_path, **environ)
    assert found[0].startswith(f"HEATMAP_ETL_DATADOG_{name}: would make every source")
    dotenv(tmp_path, ".env", **environ)
    assert problems(tmp_path)[0] == found[0]
    (tmp_path / ".env").unlink()
    dotenv(tmp_path, "a.env", **environ)
    assert len(load(tmp_path)) == 2


def test_one_variable_for_the_database_of_all(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    found = load(tmp_path, HEATMAP_ETL_DATABASE_URL="sqlite:///z.db")
    assert {c.database_label for c in found} == {f"sqlite:///{tmp_path}/z.db"}


def test_warnings_name_their_file_or_are_said_once(tmp_path: Path) -> None:
    write(tmp_path, "a", text='views = ["/home"]'.replace("views", "#"))
    path = write(tmp_path, "b")
    path.write_text(path.read_text() + 'site = "datadog.example"\n')
    first, second = load(tmp_path, HEATMAP_ETL_COLOUR="1")
    assert [w.split(":")[0] for w in first.warnings] == ["HEATMAP_ETL_COLOUR"]
    assert [w.startswith(f"{path}: datadog.site: ") for w in second.warnings] == [True]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((0, 0), 0),
        ((0, 75), 75),
        ((75, 75), 75),
        ((2, 2), 2),
        ((2, 75), 2),
        ((0, 2), 1),
        ((0, 1), 1),
        ((1, 75), 1),
        ((0, 2, 75), 1),
        ((0,), 0),
    ],
)
def test_the_exit_code_of_several_runs(codes: tuple[int, ...], expected: int) -> None:
    assert code_of_runs(codes) == code_of_runs(codes[::-1]) == expected


# --- side by side -------------------------------------------------------------------------


@pytest.fixture
def other_api() -> Iterator[Api]:
    with Api() as api:
        yield api


@pytest.fixture
def pair(database_url: str, api: Api, other_api: Api) -> Iterator[tuple[Project, Project]]:
    """Two sources with an equal view in one database."""
    with ExitStack() as stack:
        made = []
        for name, server in (("a", api), ("b", other_api)):
            config = make_config(database_url, server.url)
            other = "b" if name == "a" else "a"
            project = open_project(replace(config, source=name, neighbours=(other,)))
            stack.callback(project.database.close)
            made.append(project)
        yield made[0], made[1]


def run_all(*configs: Config) -> list[Outcome]:
    def work(config: Config) -> CommandResult:
        database = open_database(config.database_url, label=config.database_label)
        try:
            run = sync(config, database, Options(), stop=threading.Event())
        finally:
            database.close()
        return CommandResult(exit_code(run), as_json=run.as_json())

    return run_for_each(Sources(configs, is_folder=True), work)


def of_source(project: Project, source: str) -> dict[str, list[dict[str, Any]]]:
    """Everything that is stored of one source."""
    return {
        table: sorted(
            project.rows(f"SELECT * FROM {table} WHERE source = :source", source=source), key=str
        )
        for table in STATE
    }


def test_sources_run_side_by_side(pair: tuple[Project, Project], api: Api, other_api: Api) -> None:
    both_asked = threading.Barrier(2, timeout=20)

    def answer(*ids: str) -> Callable[[], list[dict[str, Any]]]:
        def reply() -> list[dict[str, Any]]:
            both_asked.wait()  # neither answers before both were asked
            return [record(i) for i in ids]

        return reply

    api.views["/home"] = answer("1", "2")
    other_api.views["/home"] = answer("3")
    outcomes = run_all(*(project.config for project in pair))
    assert [outcome.code for outcome in outcomes] == [0, 0]
    rows = pair[0].rows("SELECT id, source, synced_view, view_key FROM snapshots ORDER BY id")
    assert [(r["id"], r["source"], r["synced_view"]) for r in rows] == [
        ("1", "a", "/home"),
        ("2", "a", "/home"),
        ("3", "b", "/home"),
    ]
    assert rows[0]["view_key"] != rows[2]["view_key"]
    runs = pair[0].rows("SELECT source, status, new FROM sync_runs ORDER BY source")
    assert [(r["source"], r["status"], r["new"]) for r in runs] == [("a", "ok", 2), ("b", "ok", 1)]


def test_an_id_that_another_source_has_stays_there(
    pair: tuple[Project, Project], api: Api, other_api: Api
) -> None:
    api.views["/home"] = [record("1", event_id="a"), record("2")]
    other_api.views["/home"] = [record("1", event_id="b", org_id=43), record("3", org_id=43)]
    assert counts(pair[0].run()) == {"listed": 2, "new": 2}
    assert counts(pair[1].run()) == {"listed": 2, "new": 1, "rejected": 1}
    row = pair[0].snapshots()["1"]
    assert (row["source"], row["event_id"]) == ("a", "a")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda c: replace(c, keys=None, keys_problem="none"), id="no keys"),
        pytest.param(lambda c: replace(c, database_url="sqlite:////no/such/x.db"), id="database"),
        pytest.param(lambda c: replace(c, page_limit="a bug"), id="a bug"),
    ],
)
def test_a_source_that_fails_stops_no_other(
    pair: tuple[Project, Project], api: Api, spoil: Callable[[Config], Config]
) -> None:
    api.views["/home"] = [record("1")]
    bad, good = run_all(spoil(pair[1].config), pair[0].config)
    assert bad.result is None or bad.result.code == 1
    assert good.code == 0
    assert pair[0].live() == {"1"}


def test_a_held_lease_stops_no_other(pair: tuple[Project, Project], api: Api) -> None:
    api.views["/home"] = [record("1")]
    lease = Lease("b", 60)
    pair[1].database.transaction(lambda c: lease.take(c, pair[1].config))
    held, good = run_all(pair[1].config, pair[0].config)
    assert isinstance(held.error, LeaseHeld)
    assert [held.code, good.code] == [75, 0]


def test_many_sources_in_one_database_at_the_same_time(empty_database_url: str, api: Api) -> None:
    """They make the schema at once, and no write is lost to another's lock."""
    views = [f"/{n}" for n in range(8)]
    names = [f"source-{n}" for n in range(6)]
    base = make_config(empty_database_url, api.url, views)

    def reply() -> Reply:
        return 200, {}, b'{"data": []}'

    api.views = dict.fromkeys(views, reply)
    configs = [replace(base, source=n, neighbours=tuple(names)) for n in names]
    assert [o.code for o in run_all(*configs)] == [0] * len(names)
    project = open_project(base)
    row = project.one("SELECT COUNT(*) AS n FROM sync_run_views WHERE verdict = 'complete'")
    project.database.close()
    assert row["n"] == len(views) * len(names)


ids = st.lists(st.sampled_from("1234567"), unique=True, max_size=6)
listings = st.lists(st.tuples(st.booleans(), ids, st.sampled_from("xyz")), max_size=6)


@settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=listings)
def test_no_source_ever_changes_rows_of_another(
    pair: tuple[Project, Project], api: Api, other_api: Api, steps: list[Any]
) -> None:
    for is_first, listed, event in steps:
        number = 0 if is_first else 1
        mine, server = pair[number], (api, other_api)[number]
        org_id = 42 + number
        server.views["/home"] = [record(i, event_id=event, org_id=org_id) for i in listed]
        before = of_source(mine, "ba"[number])
        assert exit_code(mine.run()) == 0
        assert of_source(mine, "ba"[number]) == before


# --- the label ----------------------------------------------------------------------------


def test_a_changed_label_is_refused(project: Project, api: Api) -> None:
    api.views["/home"] = [record("1")]
    project.run()
    before = project.rows("SELECT * FROM sources"), project.rows("SELECT * FROM sync_runs")
    project.configure(source="new")
    command = "heatmap-etl db rename-source datadoghq.com new"
    with pytest.raises(SourceMismatch, match=command):
        project.run()
    with pytest.raises(SourceMismatch, match=command):
        make_plan(project.config, project.database, Options(), stop=threading.Event())
    after = project.rows("SELECT * FROM sources"), project.rows("SELECT * FROM sync_runs")
    assert after == before
    assert len(api.requests) == 1


def test_another_source_is_welcome(project: Project, api: Api, other_api: Api) -> None:
    api.views["/home"] = [record("1")]
    project.run()
    config = project.config
    other_api.views["/home"] = [record("2", org_id=43)]
    project.configure(source="elsewhere", api_url=other_api.url)
    assert project.run().status == "ok"
    project.configure(source="neighbour", neighbours=("datadoghq.com",), api_url=config.api_url)
    assert project.run().status == "ok"
    # Who was welcome once need not be configured beside it any more.
    project.configure(neighbours=())
    assert project.run().status == "ok"


def test_a_database_without_rows_takes_any_label(project: Project, api: Api) -> None:
    project.run()
    project.configure(source="new")
    api.views["/home"] = [record("1")]
    assert project.run().status == "ok"


def full_of_everything(project: Project, api: Api) -> None:
    """Two views with rows, history, rejects and drift, of which the second has filters."""
    project.watch("/home", View("/other", device_type="mobile"), "/empty")
    other = [record("3", device_type="mobile"), record("4", device_type="mobile")]
    api.views = {"/home": [record("1", colour="red"), record("2"), record(None)], "/other": other}
    project.run()
    api.views["/home"] = [record("1", event_id="changed"), record(None)]
    api.views["/other"] = other[:1]
    project.run()


def test_a_renamed_source_goes_on_as_if_nothing_had_happened(project: Project, api: Api) -> None:
    full_of_everything(project, api)
    before = project.snapshots()
    said = renamed(project.database, "datadoghq.com", "acme")
    assert "source datadoghq.com is acme now, 4 snapshots" in said
    for table in metadata.sorted_tables:
        if "source" in table.c:
            labels = project.rows(f"SELECT DISTINCT source FROM {table.name}")
            assert {row["source"] for row in labels} <= {"acme"}, table.name
    keys = {view.key("acme") for view in project.config.views}
    for name in [t.name for t in metadata.sorted_tables if "view_key" in t.c]:
        rows = project.rows(f"SELECT DISTINCT view_key FROM {name}")
        assert {row["view_key"] for row in rows} <= keys, name
    project.configure(source="acme")
    for is_full in (False, True):
        run = project.run(is_full=is_full)
        assert run.status == "ok"
        assert counts(run) == {"listed": 3, "unchanged": 2, "rejected": 1}
    changed = {"source", "view_key"}
    assert {i: without(row, changed) for i, row in project.snapshots().items()} == {
        i: without(row, changed) for i, row in before.items()
    }


def without(row: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_only_the_named_source_is_renamed(
    pair: tuple[Project, Project], api: Api, other_api: Api
) -> None:
    api.views["/home"] = [record("1"), record(None)]
    other_api.views["/home"] = [record("2", org_id=43), record(None)]
    for project in pair:
        project.run()
    before = of_source(pair[0], "b")
    renamed(pair[0].database, "a", "c")
    assert of_source(pair[0], "b") == before
    assert of_source(pair[0], "a") == {table: [] for table in STATE}


def test_keys_of_discovered_views_follow(project: Project, api: Api) -> None:
    from etl.extract.discovery import Traffic

    project.run()
    traffic = [Traffic("/home", "app", 3), Traffic("/home", None, 1)]
    for item in traffic:
        project.execute(
            "INSERT INTO discovered_views VALUES (:key, 'datadoghq.com', :name, :application, 1,"
            " '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
            key=item.key("datadoghq.com"),
            name=item.view_name,
            application=item.application_id,
        )
    renamed(project.database, "datadoghq.com", "acme")
    rows = project.rows("SELECT discovered_key FROM discovered_views")
    assert {row["discovered_key"] for row in rows} == {item.key("acme") for item in traffic}


def test_renaming_many_views_and_rows_is_quick(project: Project, api: Api) -> None:
    views = [f"/view-{n}" for n in range(310)]  # more than one statement takes
    api.views = {v: [record(v)] for v in views}
    api.views["/view-0"] = [record(f"{n}") for n in range(5000)]
    project.configure(page_limit=10_000)
    project.watch(*views)
    project.run()
    started = time.monotonic()
    renamed(project.database, "datadoghq.com", "acme")
    assert time.monotonic() - started < 10
    project.configure(source="acme")
    assert counts(project.run(is_full=True)) == {"listed": 5309, "unchanged": 5309}


def test_a_rename_that_would_mix_or_lose_is_refused(
    pair: tuple[Project, Project], api: Api, other_api: Api
) -> None:
    project = pair[0]
    api.views["/home"] = [record("1")]
    for one in pair:
        one.run()
    before = of_source(project, "a")
    with pytest.raises(SourceMismatch, match="has rows of source b already"):
        renamed(project.database, "a", "b")
    with pytest.raises(SourceMismatch, match="no source x; the database holds: a, b"):
        renamed(project.database, "x", "y")
    with pytest.raises(ConfigError, match="NEW"):
        renamed(project.database, "a", " ")
    lease = Lease("a", 60)
    project.database.transaction(lambda c: lease.take(c, project.config))
    with pytest.raises(LeaseHeld):
        renamed(project.database, "a", "c")
    assert of_source(project, "a") == before


# --- the command line ---------------------------------------------------------------------


@pytest.fixture
def cli(tmp_path: Path, api: Api, other_api: Api) -> Cli:
    """Sources `a` and `b` in a folder; both have /home, each a view of its own."""
    folder = tmp_path / "orgs"
    folder.mkdir()
    for name, server in (("a", api), ("b", other_api)):
        organization(folder, name, server.url)
        server.views["/home"] = [record(f"{name}-1", org_id=ord(name))]
        server.views[f"/{name}"] = [record(f"{name}-2", org_id=ord(name))]
    return Cli(tmp_path, {"HEATMAP_ETL_CONFIG": str(folder)})


def organization(folder: Path, name: str, api_url: str, text: str = "") -> None:
    (folder / f"{name}.toml").write_text(
        f'database_url = "sqlite:///all.db"\nviews = ["/home", "/{name}"]\n'
        f'[datadog]\nsource = "{name}"\napi_url = "{api_url}"\nmax_wait_s = 0.2\n{text}'
    )


def rows(cli: Cli, sql: str = "SELECT id, source FROM snapshots ORDER BY id") -> list[Any]:
    with closing(sqlite3.connect(cli.folder / "orgs" / "all.db")) as connection:
        return connection.execute(sql).fetchall()


ALL_ROWS = [("a-1", "a"), ("a-2", "a"), ("b-1", "b"), ("b-2", "b")]


def test_one_run_and_one_summary(cli: Cli) -> None:
    result = cli("sync")
    assert (result.code, result.err) == (0, "")
    assert result.out.index("== a ==") < result.out.index("== b ==")
    assert "2 sources: 2 ok; 4 views: 4 listed, 4 new" in result.out
    assert rows(cli) == ALL_ROWS


def test_json_is_a_list(cli: Cli) -> None:
    found: Any = json.loads(cli("sync", "--json").out)
    assert [(run["source"], run["status"], len(run["views"])) for run in found] == [
        ("a", "ok", 2),
        ("b", "ok", 2),
    ]
    (cli.folder / "orgs" / "b.toml").unlink()
    found = json.loads(cli("sync", "--json").out)
    assert [run["source"] for run in found] == ["a"]


def test_refused_keys_of_one_are_told_and_the_others_stored(cli: Cli, other_api: Api) -> None:
    other_api.views = dict.fromkeys(("/home", "/b"), FORBIDDEN)
    result = cli("sync", "--json")
    assert result.code == 1
    assert result.err.startswith("heatmap-etl: b: ")
    assert result.err.count("\n") == 1
    found: Any = json.loads(result.out)
    assert [run["status"] for run in found] == ["ok", "failed"]
    assert rows(cli) == ALL_ROWS[:2]


def test_a_source_that_cannot_start_is_in_the_list(cli: Cli, api: Api) -> None:
    organization(cli.folder / "orgs", "b", api.url, "[lease]\nseconds = 2\n")
    path = cli.folder / "orgs" / "b.toml"
    path.write_text(path.read_text().replace("sqlite:///all.db", "sqlite:////no/such/x.db"))
    result = cli("sync", "--json")
    assert result.code == 1
    found: Any = json.loads(result.out)
    assert [(run["source"], run["status"], run["run_id"]) for run in found][1] == (
        "b",
        "failed",
        None,
    )
    assert found[1]["error"] in result.err


def test_quiet_names_the_source(cli: Cli, other_api: Api) -> None:
    assert cli("sync", "--quiet").out == ""
    other_api.views["/home"] = (500, {}, b"")
    result = cli("sync", "--quiet")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("heatmap-etl: b: /home: failed: ")
    assert result.err.count("\n") == 1


def test_all_refused_is_2(cli: Cli, api: Api, other_api: Api) -> None:
    for name, server in (("a", api), ("b", other_api)):
        server.views = dict.fromkeys(("/home", f"/{name}"), FORBIDDEN)
    result = cli("sync")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 2)


def test_a_view_is_chosen_where_it_is(cli: Cli) -> None:
    found: Any = json.loads(cli("sync", "--view", "/a", "--json").out)
    assert [(run["source"], len(run["views"])) for run in found] == [("a", 1)]
    found = json.loads(cli("sync", "--view", "/home", "--view", "/b", "--json").out)
    assert [(run["source"], len(run["views"])) for run in found] == [("a", 1), ("b", 2)]
    result = cli("sync", "--view", "/nowhere")
    assert result.code == 2
    assert result.is_one_line()
    assert "/nowhere" in result.err


def test_plan_of_a_folder(cli: Cli) -> None:
    result = cli("sync", "--plan")
    assert (result.code, result.err) == (0, "")
    assert result.out.count("would find 2 new") == 2
    found: Any = json.loads(cli("sync", "--plan", "--json").out)
    assert [plan["source"] for plan in found] == ["a", "b"]
    assert not (cli.folder / "orgs" / "all.db").exists()


def test_other_commands_take_the_folder(cli: Cli) -> None:
    absent = cli("db", "status")
    assert (absent.code, absent.out.count("\n")) == (1, 1)
    assert cli("status").code == 2
    upgraded = cli("db", "upgrade")
    assert (upgraded.code, upgraded.out.count("upgraded")) == (0, 1)
    check = cli("check")
    assert (check.code, check.out.count("All holds")) == (0, 2)
    assert cli("sync").code == 0
    result = cli("status", "--max-age", "1h", "--json")
    found: Any = json.loads(result.out)
    assert (result.code, [status["source"] for status in found]) == (0, ["a", "b"])
    assert "== b ==" in cli("status").out
    assert cli("views", "list").code == 0
    listed: Any = json.loads(cli("views", "list", "--json").out)
    assert len(listed) == 2


def test_one_stale_source_is_enough(cli: Cli) -> None:
    cli("sync", "--view", "/a", "--view", "/home")
    assert cli("status", "--max-age", "1h").code == 1


def test_init_writes_no_folder(cli: Cli) -> None:
    result = cli("init", "--force")
    assert (result.code, result.is_one_line()) == (2, True)


def test_problems_of_all_files_on_stderr(cli: Cli) -> None:
    for name in "ab":
        organization(cli.folder / "orgs", name, NOBODY, "colour = 1\n")
    result = cli("sync")
    assert (result.code, result.err.count("\n")) == (2, 2)
    assert "a.toml: datadog.colour" in result.err
    assert "b.toml: datadog.colour" in result.err


def test_a_label_is_renamed_by_command(cli: Cli, api: Api) -> None:
    (cli.folder / "orgs" / "b.toml").unlink()
    assert cli("sync").code == 0
    path = cli.folder / "orgs" / "a.toml"
    path.write_text(path.read_text().replace('"a"', '"acme"'))
    refused = cli("sync")
    assert (refused.code, "db rename-source a acme" in refused.err) == (2, True)
    assert cli("check").code == 2
    assert cli("db", "rename-source", "a", "acme").code == 0
    found: Any = json.loads(cli("sync", "--json").out)
    assert [view["unchanged"] for view in found[0]["views"]] == [1, 1]
    wrong = cli("db", "rename-source", "a", "acme")
    assert (wrong.code, wrong.is_one_line()) == (2, True)


def test_a_signal_stops_all(cli: Cli, api: Api, other_api: Api) -> None:
    hang = threading.Event()

    def wait() -> list[Any]:
        hang.wait(30)
        return []

    api.views["/home"] = other_api.views["/home"] = wait
    process = cli.start("sync")
    wait_until(lambda: api.requests and other_api.requests)
    process.terminate()
    started = time.monotonic()
    with process:
        process.communicate(timeout=20)
    hang.set()
    assert process.returncode == 143
    assert time.monotonic() - started < 10
    assert {status for (status,) in rows(cli, "SELECT status FROM sync_runs")} == {"stopped"}
