"""`views list`, `views discover` and `views = "discover"`, as a person or cron meets them."""

import json
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.config.views import View, parse_views
from etl.config.writing.edit import add_views, with_views
from etl.config.writing.template import config_template, quoted
from etl.errors import ConfigError
from tests.support.api import Api, record
from tests.support.command_line import Cli

SHOP, IOS = "aaaaaaaa-1111-2222-3333-bbbbbbbbbbbb", "cccccccc-1111-2222-3333-dddddddddddd"
CONFIG = """\
# ours
database_url = "sqlite:///heatmap-etl.db"
views = [
  "/home",  # the front page
  { name = "/pay", device_type = "mobile" },
  "/unseen",
  # more to come
]

[datadog] # as told
max_wait_s = 0.3
"""
DISCOVERING = """\
database_url = "sqlite:///heatmap-etl.db"
views = "discover"
[datadog]
max_wait_s = 0.3
"""


def page(*buckets: tuple[str, str, int], **meta: object) -> dict[str, Any]:
    found = [
        {"by": {"@view.name": view, "@application.id": app}, "computes": {"c0": count}}
        for view, app, count in buckets
    ]
    return {"meta": {"status": "done"} | meta, "data": {"buckets": found}}


@pytest.fixture
def rum(api: Api) -> Api:
    api.rum = page(
        ("/home", SHOP, 1200), ("/home", IOS, 34), ("/new/?", SHOP, 800), ("/a b\u2028ü", IOS, 7),
        ("/pay", SHOP, 5),
    )  # fmt: skip
    shop = {"id": SHOP, "attributes": {"name": "shop-web"}}
    api.applications = {"data": [shop, {"id": IOS, "attributes": {"name": "shop-ios"}}]}
    api.views["/home"] = [record("1")]
    return api


@pytest.fixture
def cli(tmp_path: Path, rum: Api) -> Iterator[Cli]:
    folder = tmp_path / "project"
    folder.mkdir()
    cli = Cli(folder, {"HEATMAP_ETL_DATADOG_API_URL": rum.url})
    cli.configure(CONFIG)
    yield cli
    assert {name for name in cli.files() if "heatmap-etl.toml" in name} <= {"heatmap-etl.toml"}


def text(cli: Cli) -> str:
    return (cli.folder / "heatmap-etl.toml").read_text(encoding="utf-8")


def views(cli: Cli) -> list[Any]:
    found: list[Any] = tomllib.loads(text(cli))["views"]
    return found


# --- views discover -----------------------------------------------------------------------


def test_discover_compares_what_rum_saw_with_what_is_configured(cli: Cli) -> None:
    done = cli("views", "discover")
    assert done.code == 0
    assert done.err == ""
    paragraphs = [part.split("\n") for part in done.out.split("\n\n")]
    assert [part[0] for part in paragraphs[:3]] == [
        "Seen and configured: 2",
        "Seen, not configured: 2",
        "Configured, never seen: 1",
    ]
    assert paragraphs[0][2].split() == ["/home", "1,234", "shop-web,", "shop-ios"]
    assert [line.split()[0] for line in paragraphs[1][2:]] == ["/new/?", "/a"]
    assert "/unseen" in paragraphs[2][2]
    assert "not stored: the schema of" in done.out
    assert "--write` adds 2 views" in done.out
    assert text(cli) == CONFIG
    assert not cli.database.exists()


def test_discover_as_json(cli: Cli) -> None:
    found = cli("views", "discover", "--json").json
    assert list(found) == (
        ["contract", "source", "views", "to_add", "added_to", "warnings", "not_stored"]
    )
    assert found["to_add"] == ["/new/?", "/a b\u2028ü"]
    assert [(v["view_name"], v["state"], v["views_30d"]) for v in found["views"]] == [
        ("/home", "configured", 1234),
        ("/new/?", "missing", 800),
        ("/a b\u2028ü", "missing", 7),
        ("/pay", "configured", 5),
        ("/unseen", "never_seen", 0),
    ]
    assert found["views"][0]["applications"][1] == {
        "application_id": IOS,
        "application_name": "shop-ios",
        "views_30d": 34,
    }


def test_toml_prints_lines_that_can_be_pasted(cli: Cli) -> None:
    done = cli("views", "discover", "--toml")
    assert tomllib.loads(f"views = [\n{done.out}]")["views"] == ["/new/?", "/a b\u2028ü"]
    assert done.out.startswith('    "/new/?",  # 800 page views in 30 days\n')
    assert done.out.isascii() or "\u2028" not in done.out
    refused = cli("views", "discover", "--toml", "--write")
    assert refused.code == 2
    assert refused.is_one_line()


def test_write_adds_the_missing_views_and_keeps_everything_else(cli: Cli) -> None:
    path = cli.folder / "heatmap-etl.toml"
    path.chmod(0o640)
    done = cli("views", "discover", "--write")
    assert done.code == 0
    assert "2 views added to" in done.out
    new = '  # more to come\n  "/new/?",\n  "/a b\\u2028ü",\n'
    assert text(cli) == CONFIG.replace("  # more to come\n", new)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    again = cli("views", "discover", "--write", "--json").json
    assert (again["to_add"], again["added_to"]) == ([], None)
    assert cli("check").code == 0


def test_write_stays_within_the_bounds(cli: Cli) -> None:
    cli.configure(CONFIG + '[discover]\nexclude = ["/new*"]\n')
    assert (
        "because of include, exclude or max_views: 1 view."
        in cli("views", "discover", "--write").out
    )
    assert views(cli)[3:] == ["/a b\u2028ü"]
    cli.configure(CONFIG + "[discover]\nmax_views = 4\n")
    cli("views", "discover", "--write")
    assert views(cli)[3:] == ["/new/?"]


def test_write_follows_a_link_to_the_file(cli: Cli) -> None:
    real = cli.folder / "real.toml"
    (cli.folder / "heatmap-etl.toml").rename(real)
    (cli.folder / "heatmap-etl.toml").symlink_to(real)
    assert cli("views", "discover", "--write").code == 0
    assert (cli.folder / "heatmap-etl.toml").is_symlink()
    assert "/new/?" in views(cli)


@pytest.mark.parametrize("has_file", [True, False])
def test_write_refuses_where_it_would_have_no_effect(cli: Cli, has_file: bool) -> None:
    if not has_file:
        (cli.folder / "heatmap-etl.toml").unlink()
    before = cli.files()
    done = cli(
        *("views", "discover", "--write"),
        HEATMAP_ETL_VIEWS='["/else"]',
        HEATMAP_ETL_DATABASE_URL="sqlite:///heatmap-etl.db",
    )
    assert (done.code, done.out) == (2, "")
    assert done.is_one_line()
    assert ("from the environment" if has_file else "no configuration file") in done.err
    assert cli.files() == before


def test_write_leaves_discover_alone(cli: Cli) -> None:
    cli.configure(DISCOVERING)
    done = cli("views", "discover", "--write")
    assert done.code == 2
    assert "reads every discovered view already" in done.err
    assert text(cli) == DISCOVERING


def test_warnings_are_said_out_loud(cli: Cli, rum: Api) -> None:
    rum.rum = page(("/home", SHOP, 1), status="timeout", warnings=[{"title": "partial"}])
    rum.applications = (403, {}, b"")
    done = cli("views", "discover")
    assert done.code == 0
    assert "Warning: RUM ran out of time" in done.out
    assert "Warning: RUM warns: partial" in done.out
    assert "Warning: applications have no names: " in done.out
    assert "RUM ran out of time" in cli("views", "discover", "--toml").err


def test_a_missing_permission_is_named(cli: Cli, rum: Api) -> None:
    rum.rum = (403, {}, b'{"errors": ["Forbidden"]}')
    done = cli("views", "discover")
    assert (done.code, done.out) == (2, "")
    assert "rum_apps_read" in done.err
    assert done.is_one_line()


def test_what_was_found_is_stored_when_nobody_works_on_the_source(cli: Cli) -> None:
    assert cli("db", "upgrade").code == 0
    assert "stored in discovered_views" in cli("views", "discover").out
    rows = "SELECT view_name, views_30d FROM discovered_views ORDER BY views_30d DESC"
    assert cli.sql(rows)[:2] == [("/home", 1200), ("/new/?", 800)]
    assert len(cli.sql("SELECT * FROM applications")) == 2
    assert cli.sql("SELECT lease_token FROM sources") == [(None,)]
    cli.sql("DELETE FROM discovered_views")
    cli.sql(
        "UPDATE sources SET lease_token = 'x', lease_host = 'elsewhere', lease_holder = '7@1',"
        " lease_expires_at = '2999-01-01 00:00:00'"
    )
    found = cli("views", "discover", "--json").json
    assert "process 7 on elsewhere works on source" in found["not_stored"]
    assert len(found["views"]) == 5
    assert cli.sql(rows) == []


# --- views list ---------------------------------------------------------------------------


def test_list_asks_nobody(cli: Cli, rum: Api) -> None:
    cli("sync")
    asked = len(rum.requests)
    done = cli("views", "list", DD_API_KEY=None, DD_APP_KEY=None)
    assert (done.code, done.err, len(rum.requests)) == (0, "", asked)
    lines = {line.split("  ")[0]: line.split() for line in done.out.splitlines()}
    assert lines["/home"][1:4] == ["configured", "complete", "1"]
    assert lines["/pay [mobile]"][2:4] == ["configured", "complete"]


def test_list_without_a_database(cli: Cli) -> None:
    done = cli("views", "list")
    assert done.code == 0
    assert "never read" in done.out
    assert "nothing more is known: the schema of" in done.out
    found = cli("views", "list", "--json").json
    assert [v["verdict"] for v in found["views"]] == [None] * 3
    assert not cli.database.exists()


def test_list_says_why_a_view_is_covered(cli: Cli, rum: Api) -> None:
    cli.configure(DISCOVERING)
    assert "0 views" in cli("views", "list").out
    cli("sync")
    rum.rum = page(("/home", SHOP, 3), ("/fresh", SHOP, 1))
    cli("views", "discover")
    found = cli("views", "list", "--json").json
    assert {v["view_name"]: v["origin"] for v in found["views"]} == {
        "/home": "read before",
        "/new/?": "read before",
        "/a b\u2028ü": "read before",
        "/pay": "read before",
        "/fresh": "discovered",
    }
    assert found["notes"] == ["3 views without any snapshot so far: asked once a day"]
    cli.configure(DISCOVERING + '[discover]\nexclude = ["/pay"]\n')
    assert "1 view read before, now outside [discover]" in cli("views", "list").out


# --- views = "discover" -------------------------------------------------------------------


def test_sync_with_discover(cli: Cli, rum: Api) -> None:
    cli.configure(DISCOVERING + "[discover]\nmax_views = 3\n")
    done = cli("sync")
    assert done.code == 0
    assert "Note: 1 discovered view not added" in done.out
    assert "1 discovered view not added" in done.err
    assert "3 views: 3 complete" in done.out
    done = cli("sync", "--json")
    assert [v["view_name"] for v in done.json["views"]] == ["/home"]
    assert cli("sync", "--quiet").err == ""
    assert cli("status", "--max-age", "1h").code == 0


def test_check_with_discover(cli: Cli, rum: Api) -> None:
    cli.configure(DISCOVERING)
    done = cli("check")
    assert done.code == 0
    assert '"discover" means 4 views now' in done.out
    assert "4 views: 4 requests a run" in done.out
    assert not cli.database.exists()
    rum.rum = (403, {}, b"")
    done = cli("check")
    assert done.code == 2
    assert "rum_apps_read" in done.out


def test_sync_with_discover_and_no_view_says_so(cli: Cli, rum: Api) -> None:
    cli.configure(DISCOVERING)
    rum.rum = page()
    done = cli("sync")
    assert (done.code, done.out) == (2, "")
    assert (
        'views = "discover", but no view is known: in 30 days RUM counted no page view' in done.err
    )
    assert cli("status", "--max-age", "1h").code == 1


# --- the file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("views = []\n", 'views = [\n    "/n",\n]\n', id="empty"),
        pytest.param(
            'views = ["/a", "/b"] # c\n[x]\n',
            'views = [\n    "/a",\n    "/b",\n    "/n",\n] # c\n[x]\n',
            id="one line",
        ),
        pytest.param(
            'views = [\n  "/a",\n  "/b" # last\n]\n',
            'views = [\n  "/a",\n  "/b", # last\n  "/n",\n]\n',
            id="no comma at the end",
        ),
        pytest.param(
            "views = [\n# none yet\n]\nx = 1\n",
            'views = [\n# none yet\n    "/n",\n]\nx = 1\n',
            id="only a comment",
        ),
        pytest.param(
            '\ufeffviews = [\r\n\t"/a", # c\r\n]\r\n',
            '\ufeffviews = [\r\n\t"/a", # c\r\n\t"/n",\r\n]\r\n',
            id="windows",
        ),
    ],
)
def test_added_views_look_like_those_that_are_there(before: str, after: str) -> None:
    assert with_views(before, ["/n"]) == after


def test_a_file_as_init_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(config_template(views=["/a", "/b"]), encoding="utf-8")
    add_views(path, [View("/a"), View("/b")], ["/c"])
    old, new = config_template(views=["/a", "/b"]), path.read_text(encoding="utf-8")
    line = 'views = ["/a", "/b"]\n'
    assert new == old.replace(line, 'views = [\n    "/a",\n    "/b",\n    "/c",\n]\n')


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_written_as_toml_reads_it(text: str) -> None:
    written = quoted(text)
    assert tomllib.loads(f"x = {written}")["x"] == text
    assert written.isprintable()


SPACE = st.sampled_from(["", " ", "\n", "\n  ", " # c ]\n", "\n# x, y\n\t"])
ENTRY = st.sampled_from(['"/a"', "'/b'", '{ name = "/c" }', '"""/d"""', '"/e\\u00e9"'])


@given(
    st.lists(st.tuples(SPACE, ENTRY, SPACE), max_size=4),
    SPACE,
    st.booleans(),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3),
)
def test_whatever_the_list_looks_like_only_views_are_added(
    entries: list[tuple[str, str, str]], end: str, has_comma: bool, names: list[str]
) -> None:
    inner = ",".join(f"{before}{entry}{after}" for before, entry, after in entries)
    comma = "," if has_comma and entries else ""
    text = f"# top\nviews = [{inner}{comma}{end}] # end\n[datadog] # x\nsite = 'a'\n"
    before = tomllib.loads(text)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.toml"
        path.write_text(text, encoding="utf-8")
        listed = parse_views(before["views"], lambda _: None, lambda _: None)
        problem = ""
        try:
            add_views(path, listed, names)
        except ConfigError as error:
            problem = str(error)
        new = path.read_text(encoding="utf-8")
    if problem:  # a comment before a comma is what tomlkit cannot write behind
        assert "cannot be edited" in problem
        assert any("#" in after for _, _, after in entries)
        assert new == text
        return
    assert tomllib.loads(new) == before | {"views": [*before["views"], *names]}
    assert new.startswith("# top\n")
    assert new.endswith(" # end\n[datadog] # x\nsite = 'a'\n")
    assert new.count("# c ]") == text.count("# c ]")
    assert new.count("# x, y") == text.count("# x, y")


def test_a_file_that_cannot_be_written_stays(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "x.toml"
    path.write_text('views = ["/a"]\n', encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left"):
        add_views(path, [View("/a")], ["/b"])
    assert [p.name for p in tmp_path.iterdir()] == ["x.toml"]
    assert path.read_text(encoding="utf-8") == 'views = ["/a"]\n'
    with pytest.raises(ConfigError, match="come from the environment"):
        add_views(path, [View("/other")], ["/b"])


def test_json_of_several_sources_is_a_list(cli: Cli) -> None:
    url = cli.environ["HEATMAP_ETL_DATADOG_API_URL"]
    for name in ("one", "two"):
        file = cli.folder / "sources" / f"{name}.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(
            f'database_url = "sqlite:///{name}.db"\nviews = ["/home"]\n'
            f'[datadog]\nsource = "{name}"\napi_url = "{url}"\n',
            encoding="utf-8",
        )
        (cli.folder / "sources" / f"{name}.env").write_text(
            f"DD_API_KEY=key-{name}\nDD_APP_KEY=app-{name}\n", encoding="utf-8"
        )
    changes: dict[str, str | None] = dict.fromkeys(
        ["HEATMAP_ETL_DATADOG_API_URL", "DD_API_KEY", "DD_APP_KEY"]
    )
    done = cli("views", "discover", "--json", "--config", "sources", **changes)
    assert done.code == 0, done.err
    assert [found["source"] for found in json.loads(done.out)] == ["one", "two"]
    assert cli("views", "list", "--config", "sources", **changes).code == 0
