"""`status` and `export` of a database without the configuration that filled it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api, record
from tests.support.command_line import PASSWORD, Cli


@pytest.fixture
def filled(tmp_path: Path, api: Api, other_api: Api) -> Path:
    """A database of the sources `a` and `b`, whose configuration nobody has any more."""
    orgs = tmp_path / "orgs"
    orgs.mkdir()
    for name, server in (("a", api), ("b", other_api)):
        view = f"/{name}"
        server.views[view] = [record(f"{name}-1", view_name=view, org_id=ord(name))]
        (orgs / f"{name}.toml").write_text(
            f'database_url = "sqlite:///all.db"\nviews = ["{view}"]\n'
            f'[datadog]\nsource = "{name}"\napi_url = "{server.url}"\n[privacy]\n'
            f'created_by = "{"drop" if name == "b" else "keep"}"\n'
        )
    result = Cli(orgs, {"HEATMAP_ETL_CONFIG": str(orgs)})("sync", "--quiet")
    assert (result.code, result.err) == (0, "")
    return orgs / "all.db"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Somewhere else, without a configuration."""
    folder = tmp_path / "home"
    folder.mkdir()
    return Cli(folder)


def test_every_stored_source_is_shown(cli: Cli, filled: Path) -> None:
    result = cli("status", "--database", str(filled), "--max-age", "3h")
    assert (result.code, result.err) == (0, "")
    assert result.out.index("== a ==") < result.out.index("== b ==")
    for view in ("/a", "/b"):
        assert re.search(rf"^{view} +complete ", result.out, re.MULTILINE)
    assert "created_by: drop" in result.out
    assert "No run starts" not in result.out
    found: Any = json.loads(cli("status", "--json", "--database", "../orgs/all.db").out)
    assert [(s["source"], [v["view_name"] for v in s["views"]]) for s in found] == [
        ("a", ["/a"]),
        ("b", ["/b"]),
    ]
    assert cli.files() == set()


def test_a_url_in_the_environment_does_as_well(cli: Cli, filled: Path) -> None:
    url = f"sqlite:///{filled}"
    assert "== b ==" in cli("status", HEATMAP_ETL_DATABASE_URL=url).out
    one = cli("status", HEATMAP_ETL_DATABASE_URL=url, HEATMAP_ETL_DATADOG_SOURCE="b")
    assert "source b" in one.out
    assert "==" not in one.out
    assert "b-1" in cli("export", "current_snapshots", HEATMAP_ETL_DATABASE_URL=url).out


def test_export_needs_no_configuration(cli: Cli, filled: Path) -> None:
    for name in ("../orgs/all.db", "sqlite:///../orgs/all.db", f"sqlite:///{filled}"):
        result = cli("export", "current_snapshots", "--database", name)
        assert (result.code, result.err) == (0, "")
        assert {"a-1", "b-1"} <= set(re.split(r"[,\n]", result.out))
    cli("export", "sync_health", "--output", "health.csv", "--database", str(filled))
    assert cli.files() == {"health.csv"}


def test_a_configuration_without_views_is_enough_to_look(cli: Cli, filled: Path) -> None:
    cli.configure(f'database_url = "sqlite:///{filled}"\n')
    assert "== b ==" in cli("status").out
    assert "a-1" in cli("export", "current_snapshots").out
    assert "current" in cli("db", "status").out
    result = cli("sync")
    assert (result.code, "views: are missing" in result.err) == (2, True)
    cli.configure(f'database_url = "sqlite:///{filled}"\n[datadog]\nsource = "b"\n')
    result = cli("status", "--max-age", "3h")
    assert (result.code, result.err) == (0, "")
    assert "source b, created_by: drop" in result.out
    assert "==" not in result.out


def test_the_views_of_a_configuration_count(cli: Cli, filled: Path) -> None:
    cli.configure(
        'database_url = "sqlite:///other.db"\nviews = ["/a", "/new"]\n[datadog]\nsource = "a"\n'
    )
    result = cli("status", "--database", str(filled), "--max-age", "3h")
    assert (result.code, result.err) == (1, "")
    assert "/new: never read" in result.out
    assert "heatmap-etl.db" not in result.out
    assert not (cli.folder / "other.db").exists()


@pytest.mark.parametrize("command", [("status",), ("export", "sync_health")], ids=" ".join)
@pytest.mark.parametrize("name", ["no.db", "sqlite:///no.db"])
def test_nothing_is_made(cli: Cli, command: tuple[str, ...], name: str) -> None:
    result = cli(*command, "--database", name)
    assert result.code == 2
    assert result.is_one_line()
    assert str(cli.folder / "no.db") in result.err
    assert "--database" in result.err
    assert "name the one that `sync` uses" in result.err
    assert cli.files() == set()


@pytest.mark.parametrize(
    "name",
    [
        f"postgresql://me:{PASSWORD}@127.0.0.1:1/x",
        f"postgresql:/me:{PASSWORD}@127.0.0.1/x",
        f"//me:{PASSWORD}@127.0.0.1/x",
        f"me:{PASSWORD}@127.0.0.1/x",
        f"oracle://me:{PASSWORD}@127.0.0.1/x",
        f"postgres//me:{PASSWORD}@127.0.0.1/x",
        f"postgresql;//me:{PASSWORD}@127.0.0.1/x",
        f"me@127.0.0.1:{PASSWORD}/x",
        f"me/x:{PASSWORD}@127.0.0.1",
        f"host=127.0.0.1 password={PASSWORD}",
    ],
)
def test_no_password_is_shown(cli: Cli, name: str) -> None:
    result = cli("status", "--database", name)  # looks for the password itself
    assert result.code == 2
    assert result.is_one_line()


def test_what_is_no_database(cli: Cli) -> None:
    (cli.folder / "text.db").write_text("hello, this is text and no database at all\n" * 100)
    for name, reason in (
        ("text.db", "it is not a SQLite database"),
        (".", "is not a file"),
        ("text.db/x", "Not a directory"),
    ):
        result = cli("status", "--database", name)
        assert (result.code, result.is_one_line()) == (2, True)
        assert reason in result.err


@pytest.mark.parametrize("command", [("status",), ("export", "sync_health")], ids=" ".join)
def test_a_missing_database_is_named_with_where_its_name_was_found(
    cli: Cli, command: tuple[str, ...]
) -> None:
    file = cli.folder / "heatmap-etl.toml"
    cli.configure('database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home"]\n')
    url = "sqlite:///e.db"
    (cli.folder / "url").write_text(url)
    for environ, origin in (
        ({}, f"database_url of {file}"),
        ({"HEATMAP_ETL_DATABASE_URL": url}, "HEATMAP_ETL_DATABASE_URL of the environment"),
        ({"HEATMAP_ETL_DATABASE_URL_FILE": "url"}, "DATABASE_URL_FILE of the environment"),
    ):
        result = cli(*command, **environ)
        assert (result.code, result.is_one_line()) == (2, True)
        assert (
            f"{origin}) does not exist; is this the configuration that `sync` uses?" in result.err
        )
    dotenv = cli.folder / ".env"
    dotenv.write_text(f"HEATMAP_ETL_DATABASE_URL={url}\n")
    assert f"(HEATMAP_ETL_DATABASE_URL in {dotenv})" in cli(*command).err
    assert not list(cli.folder.glob("*.db"))


def test_without_any_configuration_nobody_is_told_to_write_one(cli: Cli) -> None:
    result = cli("status")
    assert (result.code, result.is_one_line()) == (2, True)
    assert "name the one that `sync` uses" in result.err
    assert "init" not in result.err


def test_quiet_says_nothing_when_all_is_well(cli: Cli, filled: Path) -> None:
    quiet = ("status", "--quiet", "--database", str(filled))
    for arguments in (quiet, (*quiet, "--max-age", "3h")):
        result = cli(*arguments)
        assert (result.code, result.out, result.err) == (0, "", "")


def test_quiet_says_each_cause_once(tmp_path: Path, api: Api) -> None:
    cli = Cli(tmp_path)
    views = [f"/{letter}" for letter in "abcde"]
    for view in views:
        api.views[view] = [record(f"id{view}", view_name=view)]
    cli.configure(
        f'database_url = "sqlite:///heatmap-etl.db"\nviews = {json.dumps(views)}\n'
        f'[datadog]\napi_url = "{api.url}"\nmax_wait_s = 0.2\n'
    )
    assert cli("sync").code == 0
    cli.sql(
        "UPDATE view_state SET verdict = 'failed', reason = 'view ' || view_name || ': 500: broken'"
        " WHERE view_name <> '/a'"
    )
    result = cli("status", "--quiet")
    assert (result.code, result.out) == (0, "")
    assert result.is_one_line()
    assert "4 views (/b, /c, /d, ...): failed: 500: broken" in result.err
    cli.sql("UPDATE view_state SET last_trusted_at = '2026-01-01 00:00:00.000000'")
    result = cli("status", "--quiet", "--max-age", "3h")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 2)
    assert "/a: older than --max-age" in result.err
    assert cli("status", "--quiet", "--json").code == 2


def test_a_schema_of_postgresql(
    cli: Cli, api: Api, tmp_path: Path, new_database: Callable[..., str]
) -> None:
    url = new_database("postgresql", migrated=False)
    api.views["/home"] = [record("a")]
    configured = tmp_path / "configured"
    configured.mkdir()
    (configured / "heatmap-etl.toml").write_text(
        f'database_url = "{url}"\ndatabase_schema = "heatmap"\nviews = ["/home"]\n'
        f'[datadog]\napi_url = "{api.url}"\n'
    )
    assert Cli(configured)("sync").code == 0
    result = cli("status", "--database", url, HEATMAP_ETL_DATABASE_SCHEMA="heatmap")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"^/home +complete ", result.out, re.MULTILINE)
    result = cli("status", "--database", url)
    assert (result.code, "(--database) has no schema yet" in result.err) == (2, True)
