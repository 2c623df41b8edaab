"""A folder of configurations, as the commands take it."""

import json
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api, Reply, record
from tests.support.command_line import Cli
from tests.support.waiting import wait_until

FORBIDDEN: Reply = (403, {}, b'{"errors": [{"title": "Forbidden"}]}')
OWN_KEYS = {"DD_API_KEY": None, "DD_APP_KEY": None}
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def cli(tmp_path: Path, api: Api, other_api: Api) -> Cli:
    """Sources `a` and `b` in a folder; both have /home, each a view of its own."""
    folder = tmp_path / "orgs"
    folder.mkdir()
    for name, server in (("a", api), ("b", other_api)):
        organization(folder, name, server.url)
        server.views["/home"] = [record(f"{name}-1", org_id=ord(name))]
        server.views[f"/{name}"] = [record(f"{name}-2", view_name=f"/{name}", org_id=ord(name))]
    return Cli(tmp_path, {"HEATMAP_ETL_CONFIG": str(folder)})


def organization(folder: Path, name: str, api_url: str, text: str = "") -> None:
    (folder / f"{name}.toml").write_text(
        f'database_url = "sqlite:///all.db"\nviews = ["/home", "/{name}"]\n'
        f'[datadog]\nsource = "{name}"\napi_url = "{api_url}"\nmax_wait_s = 0.2\n{text}'
    )


def add_organization(folder: Path, name: str, api_url: str, database_url: str) -> None:
    """One with keys of its own."""
    organization(folder, name, api_url)
    path, keys = folder / f"{name}.toml", folder / f"{name}.env"
    path.write_text(path.read_text().replace("sqlite:///all.db", database_url))
    keys.write_text(f"DD_API_KEY=api-{name}\nDD_APP_KEY=app-{name}\n")
    keys.chmod(0o600)


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


def test_one_outage_of_many_sources_is_one_line_of_quiet(
    cli: Cli, api: Api, other_api: Api
) -> None:
    """One source has an outage of its own, and one cannot even start."""
    for name in "ab":
        server = other_api.url if name == "b" else api.url
        add_organization(cli.folder / "orgs", name, server, "sqlite:///all.db")
    other_api.views["/b"] = (500, {}, b"")
    for name in "cdefg":
        add_organization(cli.folder / "orgs", name, NOBODY, "sqlite:///all.db")
    add_organization(cli.folder / "orgs", "h", NOBODY, "sqlite:////no/such/x.db")
    result = cli("sync", "--quiet", **OWN_KEYS)
    assert (result.code, result.out) == (1, "")
    of_five, of_one, of_last = sorted(result.err.splitlines())
    assert of_five.startswith(
        "heatmap-etl: 5 sources (c, d, e, ...), 10 views: failed: no answer: "
    )
    assert of_one.startswith("heatmap-etl: b: /b: failed: 500")
    assert of_last.startswith("heatmap-etl: h: cannot open the database")


def test_one_database_that_is_away_is_one_line_for_many_sources(cli: Cli) -> None:
    folder = cli.folder / "orgs"
    for name in "abcdef":
        add_organization(folder, name, NOBODY, f"sqlite:////no/{name}.db")
    result = cli("sync", **OWN_KEYS)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith("heatmap-etl: 6 sources (a, b, c, ...), the first: cannot open")
    for name in "cdef":
        (folder / f"{name}.toml").unlink()
    assert cli("sync", **OWN_KEYS).err.count("\n") == 2


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
    assert result.out.count("would store 2 new") == 2
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
    assert (check.code, check.out.count("Everything is in order")) == (0, 2)
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


def test_a_source_with_a_new_name_is_told_beside_the_others(cli: Cli) -> None:
    assert cli("sync").code == 0
    path = cli.folder / "orgs" / "b.toml"
    path.write_text(path.read_text().replace('source = "b"', 'source = "beta"'))
    told = cli("status")
    assert told.code == 2
    assert "== a ==" in told.out
    assert "never read" not in told.out
    assert told.err == cli("sync").err
    assert "db rename-source b beta" in told.err
    found: Any = json.loads(cli("status", "--json").out)
    assert [(status["source"], "error" in status) for status in found] == [
        ("a", False),
        ("beta", True),
    ]


def test_one_outage_is_one_line_for_each_source(cli: Cli, api: Api, other_api: Api) -> None:
    assert cli("sync").code == 0
    for server, views in ((api, ("/home", "/a")), (other_api, ("/home", "/b"))):
        server.views = dict.fromkeys(views, (400, {}, b"{}"))
    cli("sync")
    lines = [line for line in cli("status").out.splitlines() if "failed: " in line]
    assert [line.partition(": failed: ")[0] for line in lines] == [
        "  2 views (/home, /a)",
        "  2 views (/home, /b)",
    ]


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
    told = cli("status", "--max-age", "1h")
    assert (told.code, told.out, told.err) == (2, "", refused.err)
    assert "db rename-source a acme" in cli("views", "list").out
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
