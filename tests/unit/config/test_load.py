"""What the configuration accepts, what it refuses and how it says so; no secret in any text."""

from __future__ import annotations

import dataclasses
import datetime as dt
import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from etl.config.credentials import Keys
from etl.config.database_url import parse_database
from etl.config.load import load_config
from etl.config.model import Config, Needs, require_keys
from etl.config.settings import settings_table
from etl.config.views import View
from etl.config.writing.template import config_template
from etl.errors import ConfigError
from etl.formatting import to_install
from tests.support.paths import ROOT

MINIMAL = 'database_url = "sqlite:///x.db"\nviews = ["/home"]\n'
KEYS = {"DD_API_KEY": "a" * 32, "DD_APP_KEY": "b" * 40}


def write(folder: Path, text: str, name: str = "heatmap-etl.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str = MINIMAL, environ: dict[str, str] | None = None) -> Config:
    return load_config(write(folder, text), environ or {}, cwd=folder)


def problems(folder: Path, text: str = MINIMAL, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    assert all("\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


def only_problem(folder: Path, text: str, environ: dict[str, str] | None = None) -> str:
    found = problems(folder, text, environ)
    assert len(found) == 1, found
    return found[0]


# Where the configuration comes from


def test_minimal_file_has_every_default(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.path == tmp_path / "heatmap-etl.toml"
    assert config.views == (View("/home"),)
    assert (config.source, config.site) == ("datadoghq.com", "datadoghq.com")
    assert config.api_url == "https://api.datadoghq.com"
    assert config.app_url == "https://app.datadoghq.com"
    assert config.warnings == ()
    for field in dataclasses.fields(Config):
        if field.default is not dataclasses.MISSING:
            assert getattr(config, field.name) == field.default, field.name


def test_environment_alone_is_enough(tmp_path: Path) -> None:
    environ = {"HEATMAP_ETL_VIEWS": '["/a b/"]', "HEATMAP_ETL_DATABASE_URL": "sqlite:///x.db"}
    config = load_config(None, environ, cwd=tmp_path)
    assert config.path is None
    assert config.views == (View("/a b/"),)
    assert make_url(config.database_url).database == str(tmp_path / "x.db")


def test_file_in_the_current_folder_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert load_config(None, {}, cwd=tmp_path).path == path


def test_variable_names_the_file_and_paths_follow_it(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    path = write(tmp_path / "conf", MINIMAL, "other.toml")
    write(tmp_path, "broken = [")
    config = load_config(None, {"HEATMAP_ETL_CONFIG": "conf/other.toml"}, cwd=tmp_path)
    assert config.path == path
    assert config.database_label == f"sqlite:///{path.parent}/x.db"


def test_without_anything_init_is_named(tmp_path: Path) -> None:
    for environ in ({}, KEYS, {"DATABASE_URL": "sqlite:///of-another-program.db"}):
        with pytest.raises(ConfigError) as caught:
            load_config(None, environ, cwd=tmp_path)
        (problem,) = caught.value.problems
        assert problem.startswith("heatmap-etl.toml: there is none in ")
        assert "run `heatmap-etl init`" in problem


def make_missing(folder: Path) -> Path:
    return folder / "none.toml"


def make_folder(folder: Path) -> Path:
    return folder


def make_loop(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


def make_below_a_file(folder: Path) -> Path:
    return write(folder, "") / "below.toml"


def make_latin1(folder: Path) -> Path:
    (folder / "l.toml").write_bytes(b'views = ["\xe9"]')
    return folder / "l.toml"


def make_broken(folder: Path) -> Path:
    return write(folder, 'database_url = "sqlite:///x.db"\nviews = ["/a" "/b"]\n')


def make_cut(folder: Path) -> Path:
    return write(folder, 'views = ["/a",')


def make_deep(folder: Path) -> Path:
    return write(folder, "views = " + "[" * 5000)


def make_huge_number(folder: Path) -> Path:
    return write(folder, "views = " + "9" * 5000)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(make_missing, "run `heatmap-etl init`", id="missing-file"),
        pytest.param(make_folder, "is a folder; name one of the files in it", id="folder"),
        pytest.param(make_loop, "cannot be read", id="link-to-itself"),
        pytest.param(make_below_a_file, "cannot be read", id="below-a-file"),
        pytest.param(lambda _: Path("a\0b"), "not a usable file name", id="nul-in-name"),
        pytest.param(make_latin1, "not UTF-8 text (byte 11); save it as UTF-8", id="latin-1"),
        pytest.param(make_broken, "at line 2, column 15", id="broken-toml"),
        pytest.param(make_cut, "check quotes, brackets and commas", id="cut-toml"),
        pytest.param(make_deep, "nested too deeply", id="deep-toml"),
        pytest.param(make_huge_number, "number or date", id="huge-number"),
    ],
)
def test_unusable_file_is_one_line(tmp_path: Path, make: Any, expected: str) -> None:
    path = make(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {}, cwd=tmp_path)
    (problem,) = caught.value.problems
    assert expected in problem
    assert "\n" not in problem


def test_current_folder_that_is_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="current folder does not exist"):
        load_config(None, {})


def test_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + MINIMAL).views == (View("/home"),)


def test_key_nested_deeper_than_the_stack_is_unknown(tmp_path: Path) -> None:
    assert "is not a known key" in only_problem(tmp_path, MINIMAL + "x" + ".a" * 5000 + " = 1")


def test_loading_the_module_imports_no_database_library() -> None:
    code = (
        "import sys, etl.config.load; "
        "sys.exit(bool({'sqlalchemy', 'dotenv', 'zoneinfo'} & set(sys.modules)))"
    )
    root = ROOT
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


# Precedence


def test_environment_beats_file_beats_ambient(tmp_path: Path) -> None:
    text = MINIMAL + '[datadog]\nsite = "us5.datadoghq.com"\npage_limit = 5\n'
    ambient = {"DD_SITE": "datadoghq.eu", "DATABASE_URL": "sqlite:///ambient.db"}
    assert load(tmp_path, 'views = ["/"]', ambient).site == "datadoghq.eu"
    assert load(tmp_path, 'views = ["/"]', ambient).database_label.endswith("/ambient.db")
    assert load(tmp_path, text, ambient).site == "us5.datadoghq.com"
    assert load(tmp_path, text, ambient).database_label.endswith("/x.db")
    own = {
        **ambient,
        "HEATMAP_ETL_DATADOG_SITE": "ddog-gov.com",
        "HEATMAP_ETL_DATABASE_URL": "sqlite:///own.db",
        "HEATMAP_ETL_DATADOG_PAGE_LIMIT": "7",
    }
    config = load(tmp_path, text, own)
    assert (config.site, config.page_limit) == ("ddog-gov.com", 7)
    assert config.database_label.endswith("/own.db")


def test_empty_variables_count_as_not_set(tmp_path: Path) -> None:
    names = [s.environment for s in settings_table()] + [*KEYS, "DD_SITE", "HEATMAP_ETL_CONFIG"]
    config = load(tmp_path, MINIMAL, dict.fromkeys(names, ""))
    assert config == load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        pytest.param("DATADOG_SHORTCUT", "no", "shortcut", False, id="flag-no"),
        pytest.param("DATADOG_SHORTCUT", "TRUE", "shortcut", True, id="flag-true"),
        pytest.param("DATADOG_TIMEOUT_S", "2.5", "timeout_s", 2.5, id="number"),
        pytest.param("REMOVALS_HOLD_MIN", "3", "hold_min", 3, id="whole-number"),
        pytest.param("SCHEDULE_EVERY", "15m", "every_s", 900.0, id="duration"),
        pytest.param("DATADOG_SOURCE", "12", "source", "12", id="text-of-digits"),
        pytest.param("LEASE_SECONDS", "5", "lease_s", 5.0, id="lease"),
        pytest.param(
            "VIEWS",
            '[{"name": "/é", "device_type": "mobile"}]',
            "views",
            (View("/é", device_type="mobile"),),
            id="views-as-json",
        ),
    ],
)
def test_variable_is_typed(
    tmp_path: Path, name: str, value: str, field: str, expected: object
) -> None:
    config = load(tmp_path, MINIMAL, {f"HEATMAP_ETL_{name}": value})
    assert getattr(config, field) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        pytest.param("VIEWS", "/home", "views: expected a list", id="bare-view-name"),
        pytest.param("VIEWS", '["/home"', "views: is not valid JSON", id="cut-json"),
        pytest.param("VIEWS", "null", "views: expected a list", id="json-null"),
        pytest.param("DATADOG_PAGE_LIMIT", "null", "datadog.page_limit: expected", id="null"),
        pytest.param("DATADOG_TIMEOUT_S", "NaN", "datadog.timeout_s: expected", id="nan"),
        pytest.param("DATADOG_TIMEOUT_S", "1e999", "datadog.timeout_s: expected", id="infinite"),
        pytest.param("DATADOG_SHORTCUT", "maybe", "datadog.shortcut: expected true", id="flag"),
        pytest.param("VIEWS", "[" * 9999, "views: is not valid JSON", id="deep-json"),
    ],
)
def test_bad_variable_is_named(tmp_path: Path, name: str, value: str, expected: str) -> None:
    problem = only_problem(tmp_path, MINIMAL, {f"HEATMAP_ETL_{name}": value})
    assert problem.startswith(expected)
    assert problem.endswith(f"(set by HEATMAP_ETL_{name})")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("HEATMAP_ETL_PAGE_LIMIT", "HEATMAP_ETL_DATADOG_PAGE_LIMIT", id="no-section"),
        pytest.param("HEATMAP_ETL_SITE", "HEATMAP_ETL_DATADOG_SITE", id="short"),
        pytest.param("HEATMAP_ETL_DATABSE_URL", "HEATMAP_ETL_DATABASE_URL", id="typo"),
    ],
)
def test_unknown_variable_warns_with_nearest(tmp_path: Path, name: str, hint: str) -> None:
    (warning,) = load(tmp_path, MINIMAL, {name: "1"}).warnings
    assert warning.startswith(f"{name}: ")
    assert warning.endswith(f"did you mean {hint}?")


def test_known_variables_do_not_warn(tmp_path: Path) -> None:
    names = ("HEATMAP_ETL_CONFIG", "HEATMAP_ETL_HASH_KEY", "HEATMAP_ETL_LOG_FORMAT")
    assert load(tmp_path, MINIMAL, dict.fromkeys(names, "x")).warnings == ()


# Keys of the file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("page_limit = 3", "page_limit: * did you mean datadog.page_limit?", id="top"),
        pytest.param("[lease]\nsite = 'x'", "lease.site: * did you mean datadog.site?", id="other"),
        pytest.param("[datadog]\npage_limt = 3", "* did you mean datadog.page_limit?", id="typo"),
        pytest.param("[datadg]\nsite = 'x'", "datadg: * the section [[]datadog]?", id="section"),
        pytest.param("databse_url = 'x'", "databse_url: * did you mean database_url?", id="url"),
        pytest.param("zzz = 1", "zzz: is not a known key; see *", id="nothing-near"),
        pytest.param('"a\\nb" = 1', "'a\\\\nb': is not a known key*", id="line-break-in-key"),
        pytest.param(
            "[lease]\nviews = []", "lease.views: * above the first [[]section].", id="below-section"
        ),
        pytest.param("datadog = 3", "datadog: expected a section*a whole number", id="no-table"),
        pytest.param("[[datadog]]\nsite='x'", "datadog: expected a section*a list", id="array"),
    ],
)
def test_unknown_key_names_the_nearest(tmp_path: Path, text: str, expected: str) -> None:
    problem = only_problem(tmp_path, MINIMAL + text)
    assert fnmatch.fnmatchcase(problem, expected.replace("\\\\", "\\")), problem


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = """
        views = ["/a", "/a", 3]
        database_url = "oracle://u:p@h/d"
        pagelimit = 1
        [datadog]
        page_limit = 0
        site = "https://app.datadoghq.eu/x"
        concurrency = true
        [keep]
        runs = 90
    """
    keys = [p.split(":")[0] for p in problems(tmp_path, text)]
    assert sorted(keys) == sorted(
        [
            "views",
            "views",
            "database_url",
            "pagelimit",
            "datadog.page_limit",
            "datadog.site",
            "datadog.concurrency",
            "keep.runs",
        ]
    )


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "planted"',
        'apiKey = "planted"',
        'application_key = "planted"',
        '[datadog]\napp_key = "planted"',
        '[datadog]\nDD-API-KEY = "planted"',
        '[datadog]\nbearer_token = "planted"',
        '[whatever]\ntoken = ["planted"]',
        '[privacy]\nhash_key = "planted"',
        '[token]\nx = "planted"',
        'password = "planted"',
    ],
)
def test_keys_in_the_file_are_refused_unseen(tmp_path: Path, line: str) -> None:
    found = problems(tmp_path, MINIMAL + line)
    assert any("keys do not belong in the file" in p and "0600" in p for p in found)
    assert "planted" not in str(found)


def test_key_in_a_view_is_refused(tmp_path: Path) -> None:
    text = 'database_url = "sqlite:///x.db"\nviews = [{ name = "/", token = "planted" }]'
    problem = only_problem(tmp_path, text)
    assert problem.startswith("views[1].token: keys do not belong")


@pytest.mark.parametrize(
    ("section", "line", "expected"),
    [
        pytest.param("datadog", "page_limit = 1_000_001", "from 1 to 1000000", id="limit-high"),
        pytest.param("datadog", "page_limit = true", "found true or false", id="bool-is-no-int"),
        pytest.param("datadog", "page_limit = 10.0", "found a number", id="float-is-no-int"),
        pytest.param("datadog", 'page_limit = "10"', "found text", id="text-is-no-int"),
        pytest.param("datadog", "concurrency = 65", "from 1 to 64", id="concurrency-high"),
        pytest.param("datadog", "timeout_s = nan", "expected a number", id="nan"),
        pytest.param("datadog", "max_wait_s = inf", "expected a number", id="inf"),
        pytest.param("datadog", "max_wait_s = -1", "expected a number", id="negative"),
        pytest.param("datadog", f"timeout_s = {'9' * 400}", "expected a number", id="huge"),
        pytest.param("datadog", "shortcut = 1", "expected true or false", id="one-is-no-flag"),
        pytest.param("datadog", "source = 1979-05-27", "found a date", id="date-for-text"),
        pytest.param("datadog", 'source = " "', "is empty", id="blank-source"),
        pytest.param("datadog", 'source = "a\\nb"', "one line", id="line-break-in-source"),
        pytest.param("datadog", 'api_key_env = "0f3c"', "not the key itself", id="key-as-name"),
        pytest.param("datadog", 'api_key_env = "DD_APP_KEY"', "same variable", id="same-names"),
        pytest.param("datadog", 'api_url = "api.x.com"', "http:// or https://", id="no-scheme"),
        pytest.param("datadog", 'api_url = "ftp://x.com"', "http:// or https://", id="ftp"),
        pytest.param("datadog", 'api_url = "https://"', "and a host", id="no-host"),
        pytest.param("datadog", 'api_url = "https://u:p@x"', "before the @", id="user-in-url"),
        pytest.param("datadog", 'api_url = "https://x?a=b"', "before any ?", id="query-in-url"),
        pytest.param("datadog", 'api_url = "https://x:y"', "is not a URL", id="port-of-letters"),
        pytest.param("datadog", 'api_url = "https://[x"', "is not a URL", id="half-ipv6"),
        pytest.param("datadog", 'api_url = "https://[::1]x"', "is not a URL", id="behind-ipv6"),
        pytest.param("datadog", 'api_url = "https://[v1.a]"', "is not a URL", id="no-ipv6"),
        pytest.param("datadog", 'api_url = "https://x y"', "is not a URL", id="space-in-url"),
        pytest.param("datadog", 'api_url = "https://x:0"', "port from 1", id="port-zero"),
        pytest.param("datadog", f'api_url = "https://x/{"y" * 2000}"', "at most 2000", id="long"),
        pytest.param("datadog", "app_url = []", "found a list", id="list-for-url"),
        pytest.param("datadog", f'site = "x.{"y" * 64}"', "is not a site", id="long-label-in-site"),
        pytest.param("schedule", 'cron = "* * *"', "3 fields; expected five", id="cron-short"),
        pytest.param("schedule", 'cron = "60 * * * *"', "wrong minute", id="cron-minute"),
        pytest.param("schedule", 'cron = "* * * * 8"', "wrong day of week", id="cron-weekday"),
        pytest.param("schedule", 'cron = "*/0 * * * *"', "wrong minute", id="cron-step-zero"),
        pytest.param("schedule", 'cron = "@hourly x x x x"', "wrong minute", id="cron-word"),
        pytest.param("schedule", 'every = "15 min"', "is not a duration", id="duration-unit"),
        pytest.param("schedule", 'every = "1s"', "1m to 52w", id="duration-low"),
        pytest.param("schedule", "every = 15", "such as", id="duration-number"),
        pytest.param("schedule", 'timezone = "Europe/Berln"', "Europe/Berlin", id="zone-typo"),
        pytest.param("schedule", 'timezone = "../etc"', "not a known time zone", id="zone-path"),
        pytest.param("schedule", 'timezone = "Europe"', "not a known time zone", id="zone-folder"),
        pytest.param("schedule", 'heartbeat_url = "x"', "is not a URL", id="heartbeat"),
        pytest.param(
            "schedule", 'cron = "1 * * * *"\nevery = "1h"', "remove one", id="cron-and-every"
        ),
        pytest.param("removals", "hold_above = 1.1", "from 0 to 1", id="share-above-one"),
        pytest.param("removals", "hold_min = -1", "from 0", id="hold-min-negative"),
        pytest.param("discover", 'include = "*"', "found text", id="include-text"),
        pytest.param("discover", "exclude = [1]", "printable text", id="exclude-number"),
        pytest.param("discover", "max_views = 0", "from 1", id="max-views-zero"),
        pytest.param("privacy", 'created_by = "hash"', "HEATMAP_ETL_HASH_KEY", id="hash"),
        pytest.param("privacy", 'created_by = "Drop"', 'of "keep", "hash", "drop"', id="drop"),
        pytest.param("privacy", "person_attributes = 1", "a list", id="persons"),
        pytest.param("privacy", 'person_attributes = ["-"]', "names of attributes", id="no-name"),
        pytest.param("privacy", 'person_attributes = ["viewName"]', "of its own", id="column"),
        pytest.param("privacy", "created_by = []", 'of "keep", "hash", "drop"', id="privacy-list"),
        pytest.param("keep", 'runs = "90"', "is not a duration", id="keep-without-unit"),
        pytest.param("lease", "seconds = 0", "from 1", id="lease-zero"),
    ],
)
def test_bad_value_is_refused(tmp_path: Path, section: str, line: str, expected: str) -> None:
    problem = only_problem(tmp_path, f"{MINIMAL}[{section}]\n{line}\n")
    assert problem.startswith(f"{section}.")
    assert expected in problem


@pytest.mark.parametrize("key", ["datadog.api_url", "datadog.app_url", "schedule.heartbeat_url"])
@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("api..com", "has an empty part"),
        (".api.com", "has an empty part"),
        ("api.com..", "has an empty part"),
        (".", "has an empty part"),
        (f"{'x' * 64}.com", "has a part of more than 63 characters"),
        (f"{'ü' * 60}.com", "cannot be a name in DNS"),
        (f"{'x.' * 127}com", "has more than 253 characters"),
        ("☃.com", "cannot be a name in DNS"),
        ("bü..com", "cannot be a name in DNS"),
        ("xn--zz-.com", "has a part that begins with xn-- and is not IDNA"),
        ("1.2.3.256", "is not an IPv4 address"),
        ("{API_HOST}", "holds a character that no name of a host has"),
        ("api%2e.com", "holds a character that no name of a host has"),
    ],
)
def test_a_host_that_nobody_can_have_is_refused(
    tmp_path: Path, key: str, host: str, reason: str
) -> None:
    section, _, name = key.partition(".")
    for rest in ("", "/path", ":8443"):
        line = f'{MINIMAL}[{section}]\n{name} = "https://{host}{rest}"'
        found = only_problem(tmp_path, line)
        assert found.startswith(f"{key}: is not a URL that can be asked: its host {reason}")
    by_variable = {f"HEATMAP_ETL_{key.upper().replace('.', '_')}": f"https://{host}"}
    assert reason in only_problem(tmp_path, MINIMAL, by_variable)


@pytest.mark.parametrize(
    "host",
    [
        "api.example.com.",
        f"{'x' * 63}.com",
        "localhost",
        "my_api",
        "127.0.0.1",
        "[::1]",
        "[fe80::1%eth0]",
        "bücher.example",
        "xn--bcher-kva.example",
        "API.example.com",
    ],
)
def test_a_host_that_somebody_may_have_is_kept_as_written(tmp_path: Path, host: str) -> None:
    config = load(tmp_path, f'{MINIMAL}[datadog]\napi_url = "https://{host}:8443/dd/"')
    assert config.api_url == f"https://{host}:8443/dd"
    assert httpx.URL(config.api_url).host


@pytest.mark.parametrize(
    "line", ["*/5 0-6,22 1 jan-MAR mon", "0 0 * * 7", "17 * * * SUN", "1-9/2 * * * *"]
)
def test_standard_cron_is_accepted(tmp_path: Path, line: str) -> None:
    assert load(tmp_path, f'{MINIMAL}[schedule]\ncron = "{line}"').cron == line


def test_how_long_the_ledger_is_kept(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + '[keep]\nruns = "5d"').keep_runs_s == 5 * 86400


def test_heartbeat_may_have_a_query_and_is_not_printed(tmp_path: Path) -> None:
    url = "https://hc.example/hush?rid=1"
    config = load(tmp_path, f'{MINIMAL}[schedule]\nheartbeat_url = "{url}"')
    assert config.heartbeat_url == url
    assert "hush" not in repr(config)


def test_known_time_zone_is_accepted(tmp_path: Path) -> None:
    text = f'{MINIMAL}[schedule]\ntimezone = "Europe/Berlin"'
    assert load(tmp_path, text).timezone == "Europe/Berlin"


# Views


@pytest.mark.parametrize(
    "bounds", ["", '[discover]\ninclude = ["/s*"]\nmax_views = 7\nevery = "2h"']
)
def test_views_may_be_discovered(tmp_path: Path, bounds: str) -> None:
    config = load(tmp_path, f'database_url = "sqlite:///x.db"\nviews = "discover"\n{bounds}')
    assert (config.views, config.discovers, config.discover_exclude) == ((), True, ())
    expected = (("/s*",), 7, 7200.0) if bounds else (("*",), 1000, 86400.0)
    found = (config.discover_include, config.discover_max_views, config.discover_every_s)
    assert found == expected
    assert config.warnings == ()
    assert not load(tmp_path, MINIMAL).discovers


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        pytest.param("[]", "lists no view", id="none"),
        pytest.param('"/home"', "expected a list", id="bare-text"),
        pytest.param('[""]', "entry 1: name is empty", id="empty-name"),
        pytest.param("[3]", "entry 1: expected a name", id="number"),
        pytest.param('["a\\u0000"]', "no request can carry", id="nul"),
        pytest.param('[{ device_type = "x" }]', "has no name", id="no-name"),
        pytest.param("[{ name = 3 }]", "name must be text", id="name-is-number"),
        pytest.param('[{ name = "a", device = "x" }]', "did you mean device_type?", id="unknown"),
        pytest.param('[{ name = "a", device_type = "" }]', "device_type is empty", id="no-device"),
        pytest.param('[{ name = "a", accept_truncated = 1 }]', "true or false", id="flag"),
        pytest.param('["/a", "/b", "/a"]', "'/a' is listed twice", id="twice"),
        pytest.param(
            '["/a", { name = "/a", device_type = "m" }]', "'/a' and '/a [m]' overlap", id="wider"
        ),
        pytest.param(
            '[{ name = "/a", application_id = "1" }, { name = "/a", device_type = "m" }]',
            "'/a [1]' and '/a [m]' overlap",
            id="crosswise",
        ),
    ],
)
def test_bad_views_are_refused(tmp_path: Path, views: str, expected: str) -> None:
    problem = only_problem(tmp_path, f'database_url = "sqlite:///x.db"\nviews = {views}')
    assert problem.startswith("views: ")
    assert expected in problem


def test_lone_surrogate_in_a_name_is_refused(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, MINIMAL, {"HEATMAP_ETL_VIEWS": '["\\ud800"]'})
    assert "no request can carry" in problem
    problem.encode()


def test_distinct_filters_do_not_overlap(tmp_path: Path) -> None:
    text = """
        database_url = "sqlite:///x.db"
        views = [
            { name = "/a", device_type = "mobile" },
            { name = "/a", device_type = "desktop", accept_truncated = true },
            { name = "/a", application_id = "1", device_type = "tablet" },
            "/A", "/a/",
        ]
    """
    views = load(tmp_path, text).views
    assert len({view.key("s") for view in views}) == 5
    assert views[1] == View("/a", device_type="desktop", accept_truncated=True)


def test_names_are_exact_and_spaces_warn(tmp_path: Path) -> None:
    config = load(tmp_path, 'database_url = "sqlite:///x.db"\nviews = [" /a"]')
    assert config.views == (View(" /a"),)
    assert config.warnings[0].startswith("views: ' /a' has spaces around it")


# Sites and hosts


@pytest.mark.parametrize(
    ("site", "app"),
    [
        ("datadoghq.com", "app.datadoghq.com"),
        ("us3.datadoghq.com", "us3.datadoghq.com"),
        ("us5.datadoghq.com", "us5.datadoghq.com"),
        ("datadoghq.eu", "app.datadoghq.eu"),
        ("ap1.datadoghq.com", "ap1.datadoghq.com"),
        ("ap2.datadoghq.com", "ap2.datadoghq.com"),
        ("uk1.datadoghq.com", "uk1.datadoghq.com"),
        ("ddog-gov.com", "app.ddog-gov.com"),
        ("us2.ddog-gov.com", "us2.ddog-gov.com"),
    ],
)
def test_known_site_gives_hosts_and_source(tmp_path: Path, site: str, app: str) -> None:
    config = load(tmp_path, MINIMAL, {"DD_SITE": site.upper()})
    assert (config.site, config.source) == (site, site)
    assert (config.api_url, config.app_url) == (f"https://api.{site}", f"https://{app}")
    assert config.warnings == ()


def test_unknown_site_warns_with_the_nearest(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, {"DD_SITE": "us6.datadoghq.com"})
    assert config.api_url == "https://api.us6.datadoghq.com"
    assert re.match(r"datadog.site: .*did you mean us\d.datadoghq.com\?", config.warnings[0])


@pytest.mark.parametrize(
    ("site", "expected"),
    [
        pytest.param("https://app.datadoghq.eu/rum", 'write "datadoghq.eu"', id="app-url"),
        pytest.param("https://u:pw@api.us5.datadoghq.com", 'write "us5.datadoghq.com"', id="user"),
        pytest.param("api.datadoghq.com", 'write "datadoghq.com"', id="api-host"),
        pytest.param("app.datadoghq.com:443", 'write "datadoghq.com"', id="app-host-port"),
        pytest.param("EU1", 'write "datadoghq.eu"', id="short-name"),
        pytest.param("localhost", "datadog.api_url", id="no-domain"),
        pytest.param(" datadoghq.com", "is not a site", id="space"),
    ],
)
def test_site_that_is_none_says_what_to_write(tmp_path: Path, site: str, expected: str) -> None:
    problem = only_problem(tmp_path, f'{MINIMAL}[datadog]\nsite = "{site}"')
    assert problem.startswith("datadog.site: ")
    assert expected in problem
    assert "pw" not in problem


def test_api_url_overrides_and_the_source_stays_the_site(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, {"DD_API_URL": "http://127.0.0.1:8080/base/"})
    assert config.api_url == "http://127.0.0.1:8080/base"
    assert config.source == "datadoghq.com"
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("http://proxy.internal", True),
        ("http://localhost:1", False),
        ("http://[::1]:1", False),
        ("http://10.0.0.1", True),
        ("https://10.0.0.1", False),
    ],
)
def test_keys_in_clear_are_warned_about(tmp_path: Path, url: str, warns: bool) -> None:
    config = load(tmp_path, f'{MINIMAL}[datadog]\napi_url = "{url}"')
    assert [w.startswith("datadog.api_url: is plain http") for w in config.warnings] == [
        True
    ] * warns


def test_ambient_api_url_beside_a_chosen_site_warns(tmp_path: Path) -> None:
    text = f'{MINIMAL}[datadog]\nsite = "datadoghq.eu"'
    config = load(tmp_path, text, {"DD_API_URL": "https://api.datadoghq.com"})
    assert "DD_API_URL" in config.warnings[0]
    assert load(tmp_path, text, {"DD_API_URL": "https://api.datadoghq.eu"}).warnings == ()


# The database


@pytest.mark.parametrize(
    ("url", "expected", "label"),
    [
        pytest.param(
            "postgres://u:p%40ss%2F@h:5433/d?sslmode=require",
            "postgresql+psycopg://u:p%40ss%2F@h:5433/d?sslmode=require",
            "postgresql+psycopg://u@h:5433/d?sslmode=require",
            id="postgres",
        ),
        pytest.param(
            "postgresql:///d?host=/run/pg&password=hush&sslpassword=hush",
            "postgresql+psycopg:///d?host=/run/pg&password=hush&sslpassword=hush",
            "postgresql+psycopg:///d?host=/run/pg",
            id="socket-and-query-secrets",
        ),
        pytest.param(
            "postgresql://u:p@h1:5432,[::1]:5433/d",
            "postgresql+psycopg://u:p@/d?host=h1,%3A%3A1&port=5432,5433",
            "postgresql+psycopg://u@/d?host=h1,::1&port=5432,5433",
            id="several-hosts",
        ),
        pytest.param(
            "postgresql+psycopg://u:a b?#/c@h/d",
            "postgresql+psycopg://u:a b?#/c@h/d",
            "postgresql+psycopg://u@h/d",
            id="unescaped-password",
        ),
        pytest.param(
            "mysql://u:p@h/d", "mysql+pymysql://u:p@h/d", "mysql+pymysql://u@h/d", id="mysql"
        ),
        pytest.param(
            "MariaDB://u:p@[::1]/d",
            "mariadb+pymysql://u:p@[::1]/d",
            "mariadb+pymysql://u@[::1]/d",
            id="mariadb",
        ),
        pytest.param(
            "sqlite+pysqlite:////a/x.db",
            "sqlite+pysqlite:////a/x.db",
            "sqlite+pysqlite:////a/x.db",
            id="sqlite-absolute",
        ),
    ],
)
def test_database_url_gets_the_shipped_driver(
    tmp_path: Path, url: str, expected: str, label: str
) -> None:
    config = load(tmp_path, MINIMAL, {"HEATMAP_ETL_DATABASE_URL": url})
    assert (config.database_url, config.database_label) == (expected, label)


def test_password_survives(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, {"HEATMAP_ETL_DATABASE_URL": "postgresql://u:%C3%A9%25@h/d"})
    assert make_url(config.database_url).password == "é%"


@pytest.mark.parametrize("name", ["a b.db", "sub/x.db", "../x.db", "é@%25.db"])
def test_relative_sqlite_file_is_beside_the_configuration(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "what? 100%"
    folder.mkdir()
    config = load(folder, f'views = ["/"]\ndatabase_url = "sqlite:///{name}"')
    assert make_url(config.database_url).database == str(folder / name.replace("%25", "%"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("heatmap.db", "is not a database URL", id="bare-file"),
        pytest.param("sqlite://", "in memory keeps nothing", id="memory-short"),
        pytest.param("sqlite:///:memory:", "in memory keeps nothing", id="memory"),
        pytest.param("sqlite:///file:x?mode=memory&uri=true", "file: names", id="memory-uri"),
        pytest.param("sqlite://x.db", "three slashes", id="two-slashes"),
        pytest.param("oracle://u:hush@h/d", "oracle:// is not supported", id="oracle"),
        pytest.param("mssql+pyodbc://u:hush@h/d", "is not supported", id="mssql"),
        pytest.param("postgresql+psycopg2://u:hush@h/d", "write postgresql://", id="psycopg2"),
        pytest.param("mysql+mysqldb://u:hush@h/d", "write mysql://", id="mysqldb"),
        pytest.param("postgresql://u:a@hush@h/d", "write %40", id="at-in-password"),
        pytest.param("postgresql://u:a@hush/x@h/d", "write %40", id="at-and-slash-in-password"),
        pytest.param("postgresql://u/v:hush@h/d", "write %40", id="slash-in-user"),
        pytest.param("postgresql://u:hush/d", "cannot be read as a URL", id="no-host"),
        pytest.param("postgresql://u:hush@h:99999/d", "port", id="port"),
        pytest.param("postgresql://u:hush@h", "names no database", id="no-database"),
        pytest.param("postgresql://u:hush@h/d%00", "NUL", id="nul"),
        pytest.param("postgresql://u:hush@h/d\\n", "line break", id="line-break"),
        pytest.param("", "is not a database URL", id="empty"),
    ],
)
def test_unusable_database_url_is_refused(tmp_path: Path, url: str, expected: str) -> None:
    problem = only_problem(tmp_path, f'views = ["/"]\ndatabase_url = "{url}"')
    assert problem.startswith("database_url: ")
    assert expected in problem
    assert "hush" not in problem


def test_wrong_type_of_database_url_is_not_echoed(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, 'views = ["/"]\ndatabase_url = ["hush"]')
    assert problem == "database_url: expected a URL in quotes, found a list"


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [("psycopg", "postgres://h/d", "postgres"), ("pymysql", "mariadb://h/d", "mysql")],
)
def test_missing_driver_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, url: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    problem = only_problem(tmp_path, f'views = ["/"]\ndatabase_url = "{url}"')
    assert problem.endswith(f"; run: {to_install(extra)}")


def test_database_url_from_a_file(tmp_path: Path) -> None:
    write(tmp_path, "postgresql://u:p@h/d\n", "url")
    config = load(tmp_path, MINIMAL, {"HEATMAP_ETL_DATABASE_URL_FILE": "url"})
    assert config.database_url == "postgresql+psycopg://u:p@h/d"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({"_FILE": "nowhere"}, "nowhere does not exist", id="missing"),
        pytest.param({"_FILE": "x", "": "sqlite:///y"}, "set only one", id="both"),
        pytest.param({"_FILE": "mysql://u:hush@h/d"}, "not the value", id="url-for-path"),
    ],
)
def test_bad_database_url_file(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    names = {f"HEATMAP_ETL_DATABASE_URL{suffix}": value for suffix, value in environ.items()}
    problem = only_problem(tmp_path, 'views = ["/"]', names)
    assert problem.startswith("database_url: HEATMAP_ETL_DATABASE_URL")
    assert expected in problem
    assert "hush" not in problem


@pytest.mark.parametrize(
    ("schema", "url", "expected"),
    [
        ("heatmap", "sqlite:///x.db", "only PostgreSQL has schemas"),
        ("a-b", "postgresql://h/d", "is not a plain name"),
        ("a" * 64, "postgresql://h/d", "at most 63"),
        ("pg_x", "postgresql://h/d", "is reserved"),
        ("heatmap", "postgresql://h/d", None),
    ],
)
def test_schema_is_a_plain_name_on_postgresql(
    tmp_path: Path, schema: str, url: str, expected: str | None
) -> None:
    text = f'views = ["/"]\ndatabase_url = "{url}"\ndatabase_schema = "{schema}"'
    if expected is None:
        assert load(tmp_path, text).database_schema == schema
    else:
        assert expected in only_problem(tmp_path, text)


# Keys


def test_keys_come_from_the_environment_and_are_not_printed(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, KEYS)
    assert config.keys == Keys("a" * 32, "b" * 40)
    assert require_keys(config) is config.keys
    assert "aaa" not in repr(config)
    assert config.keys_problem == ""


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('"hush"', "has quotes around the key"),
        ("'hush'", "has quotes around the key"),
        ("`hush`", "has quotes around the key"),
        ('"hush', "has quotes around the key"),
        ("hush'", "has quotes around the key"),
        ("${HUSH}", "that nothing has replaced"),
        ("${HUSH:-hush}", "that nothing has replaced"),
        ('"${HUSH}"', "that nothing has replaced"),
        ("$(cat /run/secrets/hush)", "that nothing has replaced"),
        ("$HUSH", "that nothing has replaced"),
        ("%HUSH%", "that nothing has replaced"),
        ("{{ hush.key }}", "that nothing has replaced"),
        ("<hush>", "holds a placeholder"),
        ("<your hush key>", "holds a placeholder"),
        ("[hush]", "holds a placeholder"),
        ("...", "holds a placeholder"),
    ],
)
@pytest.mark.parametrize("name", ["DD_API_KEY", "DD_APP_KEY", "DD_BEARER_TOKEN", "MY_KEY"])
def test_a_key_that_was_never_filled_in_is_named(
    tmp_path: Path, name: str, value: str, reason: str
) -> None:
    text = MINIMAL + '[datadog]\napi_key_env = "MY_KEY"\n' * (name == "MY_KEY")
    environ = {**(KEYS if "APP" in name or "API" in name else {"DD_APP_KEY": "x"}), name: value}
    found = load(tmp_path, text, environ).keys_problem
    assert found.startswith(f"{name}: ")
    assert reason in found
    write(tmp_path, f"{value}\n", "secret")
    del environ[name]
    found = load(tmp_path, text, {**environ, f"{name}_FILE": "secret"}).keys_problem
    assert found.startswith(f"{name}_FILE: ")
    assert reason in found
    assert "hush" not in found.lower()


@pytest.mark.parametrize("key", ["a$b", "a${b}c", "a{b}c", "a<b>c", 'a"b', "%a", "$", "a..."])
def test_a_key_may_hold_any_sign_inside(tmp_path: Path, key: str) -> None:
    config = load(tmp_path, MINIMAL, {**KEYS, "DD_API_KEY": key})
    assert config.keys == Keys(key, KEYS["DD_APP_KEY"])


def test_a_hash_key_that_was_never_filled_in_is_refused(tmp_path: Path) -> None:
    text = f'{MINIMAL}[privacy]\ncreated_by = "hash"'
    for value in ("${HUSH_KEY_OF_THE_HASH}", "$(openssl rand -hex 32)", "<hush: 32 hex digits>"):
        problem = only_problem(tmp_path, text, {"HEATMAP_ETL_HASH_KEY": value})
        assert problem.startswith("privacy.created_by: HEATMAP_ETL_HASH_KEY: holds")
        assert "hush" not in problem.lower()
    # Quotes may belong to it: without them all hashes would be others.
    kept = load(tmp_path, text, {"HEATMAP_ETL_HASH_KEY": '"quoted-and-used"'})
    assert kept.hash_key == '"quoted-and-used"'


@pytest.mark.parametrize(
    "url", ["https://hc.example/${HUSH}", "https://${HUSH}/", "https://x?${X}"]
)
def test_a_heartbeat_url_that_was_never_filled_in_is_refused(tmp_path: Path, url: str) -> None:
    problem = only_problem(tmp_path, f'{MINIMAL}[schedule]\nheartbeat_url = "{url}"')
    assert "which nothing has replaced" in problem


def test_key_variables_can_be_renamed(tmp_path: Path) -> None:
    text = f'{MINIMAL}[datadog]\napi_key_env = "HEATMAP_ETL_ONE"\napp_key_env = "TWO"'
    write(tmp_path, "2222\n", "two").chmod(0o600)
    config = load(tmp_path, text, {**KEYS, "HEATMAP_ETL_ONE": "1111", "TWO_FILE": "two"})
    assert config.keys == Keys("1111", "2222")
    assert config.warnings == ()


def test_bearer_token_wins_with_a_warning(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, {**KEYS, "DD_BEARER_TOKEN": "ddpat_x"})
    assert config.keys == Keys(bearer_token="ddpat_x")
    assert config.warnings == (
        "DD_BEARER_TOKEN: is used instead of DD_API_KEY and DD_APP_KEY; remove what you do not use",
    )
    assert load(tmp_path, MINIMAL, {"DD_BEARER_TOKEN": "ddpat_x"}).warnings == ()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, "no Datadog keys found; set DD_API_KEY and DD_APP_KEY", id="none"),
        pytest.param({"DD_API_KEY": "x1"}, "DD_APP_KEY: not set, but DD_API_KEY is", id="one"),
        pytest.param({"DD_APP_KEY": "x1"}, "DD_API_KEY: not set, but DD_APP_KEY is", id="other"),
        pytest.param(
            {**KEYS, "DD_API_KEY_FILE": "empty"}, "set only one of DD_API_KEY and", id="both"
        ),
        pytest.param({"DD_API_KEY_FILE": "none"}, "none does not exist", id="no-file"),
        pytest.param({"DD_API_KEY_FILE": "empty"}, "empty is empty", id="empty-file"),
        pytest.param({"DD_API_KEY_FILE": "."}, "cannot be read", id="folder"),
        pytest.param({"DD_API_KEY_FILE": "a\0"}, "is not a text file", id="nul-in-path"),
        pytest.param({"DD_API_KEY_FILE": "f" * 32}, "not the value", id="key-for-path"),
        pytest.param({**KEYS, "DD_API_KEY": "hush x"}, "the bare key", id="space"),
        pytest.param({**KEYS, "DD_APP_KEY": "hush\n"}, "the bare key", id="line-break"),
        pytest.param({**KEYS, "DD_APP_KEY": "hushé"}, "the bare key", id="non-ascii"),
        pytest.param({"DD_BEARER_TOKEN": "Bearer hush"}, "the bare key", id="bearer-prefix"),
    ],
)
def test_unusable_keys_do_not_stop_loading(
    tmp_path: Path, environ: dict[str, str], expected: str
) -> None:
    write(tmp_path, "\n", "empty")
    config = load(tmp_path, MINIMAL, environ)
    assert config.keys is None
    assert expected in config.keys_problem
    assert "hush" not in config.keys_problem
    assert "f" * 32 not in config.keys_problem
    assert "\n" not in config.keys_problem
    with pytest.raises(ConfigError) as caught:
        require_keys(config)
    assert caught.value.problems == (config.keys_problem,)


@pytest.mark.parametrize(
    ("value", "mode"),
    [('"0600"', 0o600), ('"0640"', 0o640), ('"644"', 0o644), ('"0660"', 0o660)],
)
def test_the_mode_of_new_files_is_octal(tmp_path: Path, value: str, mode: int) -> None:
    assert load(tmp_path, f"{MINIMAL}files.mode = {value}\n").files_mode == mode
    environ = {"HEATMAP_ETL_FILES_MODE": value.strip('"')}
    assert load(tmp_path, MINIMAL, environ).files_mode == mode


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("600", "found a whole number"),
        ('"0o600"', 'such as "0600"'),
        ('"rw-------"', 'such as "0600"'),
        ('"0000600"', 'such as "0600"'),
        ('"4600"', 'such as "0600"'),
        ('"0680"', 'such as "0600"'),
        ('"0400"', "the owner must be able to read and write them"),
        ('"0666"', "not everybody may write them"),
        ('"0700"', "nobody runs them"),
    ],
)
def test_a_mode_that_is_no_good_is_refused(tmp_path: Path, value: str, words: str) -> None:
    problem = only_problem(tmp_path, f"{MINIMAL}files.mode = {value}\n")
    assert problem.startswith("files.mode: ")
    assert words in problem


# .env


def test_dotenv_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "export DD_API_KEY=from-dotenv\nDD_APP_KEY='a${HOME}b'\nDD_SITE=datadoghq.eu\n",
        ".env",
    )
    path.chmod(0o600)
    config = load(tmp_path, MINIMAL, {"DD_SITE": "ddog-gov.com", "DD_API_KEY": ""})
    assert config.keys == Keys("from-dotenv", "a${HOME}b")
    assert config.site == "ddog-gov.com"
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("names", "environ", "dotenv", "origins"),
    [
        pytest.param("", {"DD_API_KEY": "a", "DD_APP_KEY": "b"}, "", ("DD_API_KEY", "DD_APP_KEY")),
        pytest.param(
            "",
            {"DD_API_KEY_FILE": "key", "DD_APP_KEY": "b"},
            "",
            ("DD_API_KEY_FILE", "DD_APP_KEY"),
        ),
        pytest.param(
            "",
            {"DD_API_KEY": "a"},
            "DD_API_KEY=c\nDD_APP_KEY_FILE=key\n",
            ("DD_API_KEY", "DD_APP_KEY_FILE in .env"),
        ),
        pytest.param(
            'api_key_env = "ACME_API"\napp_key_env = "ACME_APP"',
            {"ACME_API": "a"},
            "ACME_APP=b\n",
            ("ACME_API", "ACME_APP in .env"),
        ),
    ],
)
def test_keys_know_the_variable_that_they_came_from(
    tmp_path: Path,
    names: str,
    environ: dict[str, str],
    dotenv: str,
    origins: tuple[str, str],
) -> None:
    write(tmp_path, "secret", "key")
    write(tmp_path, dotenv, ".env").chmod(0o600)
    keys = load(tmp_path, f"{MINIMAL}[datadog]\n{names}\n", environ).keys
    assert keys
    assert (keys.api_key_from, keys.app_key_from) == origins


def test_a_token_knows_the_variable_that_it_came_from(tmp_path: Path) -> None:
    write(tmp_path, "DD_BEARER_TOKEN=ddpat_x\n", ".env").chmod(0o600)
    keys = load(tmp_path).keys
    assert keys
    assert keys.bearer_token_from == "DD_BEARER_TOKEN in .env"


def test_dotenv_serves_without_a_file(tmp_path: Path) -> None:
    text = 'HEATMAP_ETL_VIEWS=["/a"]\nHEATMAP_ETL_DATABASE_URL=sqlite:///x.db\n'
    write(tmp_path, text, ".env")
    config = load_config(None, {}, cwd=tmp_path)
    assert config.views == (View("/a"),)
    assert config.warnings == ()


def test_key_of_the_environment_hides_the_key_file_of_dotenv(tmp_path: Path) -> None:
    write(tmp_path, "DD_API_KEY_FILE=nowhere\nDD_APP_KEY=x\n", ".env").chmod(0o600)
    write(tmp_path, "from-file\n", "app")
    config = load(tmp_path, MINIMAL, {"DD_API_KEY": "k", "DD_APP_KEY_FILE": "app"})
    assert config.keys == Keys("k", "from-file")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize(
    ("content", "mode", "warns"),
    [
        pytest.param("DD_API_KEY=x", 0o644, True, id="readable-key"),
        pytest.param("DD_API_KEY=x", 0o640, True, id="group-readable-key"),
        pytest.param("DD_API_KEY=x", 0o600, False, id="closed-key"),
        pytest.param("DATABASE_URL=mysql://u:p@h/d", 0o644, True, id="readable-password"),
        pytest.param("DD_SITE=datadoghq.eu", 0o644, False, id="no-secret"),
        pytest.param("DD_API_KEY=", 0o644, False, id="empty-key"),
    ],
)
def test_open_dotenv_with_keys_warns(tmp_path: Path, content: str, mode: int, warns: bool) -> None:
    path = write(tmp_path, content, ".env")
    path.chmod(mode)
    warnings = load(tmp_path).warnings
    assert [f"run: chmod 600 {path}" in w for w in warnings] == [True] * warns


@pytest.mark.parametrize(
    ("content", "number"),
    [
        pytest.param("DD_SITE=datadoghq.eu\nDD_API_KEY s3cret\n", 2, id="no-equals-sign"),
        pytest.param("\n\r\n# comment\n\nDD_API_KEY: s3cret\n", 5, id="colon-after-blank-lines"),
        pytest.param('DD_APP_KEY=x\nDD_API_KEY="s3cret\n', 2, id="open-quote"),
        pytest.param("DD_API_KEY='s3cret'x", 1, id="after-the-quote"),
        pytest.param("s3cret-of-nobody\n", 1, id="value-alone"),
    ],
)
def test_bad_line_of_dotenv_is_told_by_its_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, number: int
) -> None:
    path = write(tmp_path, content, ".env")
    path.chmod(0o600)
    problem = only_problem(tmp_path, MINIMAL)
    assert problem.startswith(f"{path}: line {number} cannot be read; write NAME=value")
    assert "s3cret" not in problem
    assert caplog.records == []


def test_name_alone_in_dotenv_sets_nothing(tmp_path: Path) -> None:
    write(tmp_path, "export PATH\nDD_SITE\n\n", ".env")
    assert load(tmp_path).warnings == ()


def test_dotenv_folder_is_ignored_and_a_binary_one_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load(tmp_path).warnings == ()
    (tmp_path / ".env").rmdir()
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in only_problem(tmp_path, MINIMAL)
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").symlink_to(".env")
    assert "cannot be read" in only_problem(tmp_path, MINIMAL)


# Settings table and template


def uncommented(template: str) -> str:
    return re.sub(r"^# (\w+ = .+)$", r"\1", template, flags=re.MULTILINE)


def test_template_works_as_it_is(tmp_path: Path) -> None:
    config = load(tmp_path, config_template())
    assert config.database_label == f"sqlite:///{tmp_path}/heatmap-etl.db"
    assert config.views == (View("/"),)
    assert config.warnings == ()


def test_template_shows_every_default_as_it_is(tmp_path: Path) -> None:
    template = config_template()
    assert uncommented(template) != template
    assert load(tmp_path, uncommented(template)) == load(tmp_path, template)


def test_template_and_table_name_the_same_settings() -> None:
    shown = tomllib.loads(uncommented(config_template()))
    flat = {
        f"{name}.{key}" if isinstance(value, dict) else name: inner
        for name, value in shown.items()
        for key, inner in (value if isinstance(value, dict) else {name: value}).items()
    }
    effective = {s.key: s.default for s in settings_table()}
    # One has no default to show, the other cannot stand beside cron.
    assert set(flat) == set(effective) - {"database_schema", "schedule.every"}
    for key, default in effective.items():
        assert default is None or flat[key] == default, key


def test_template_takes_any_url_and_names(tmp_path: Path) -> None:
    names = ('/"quoted"\\', "/{braces}", "/é\x7f")
    config = load(tmp_path, config_template("sqlite:///{x}.db", names))
    assert tuple(view.name for view in config.views) == names


def test_settings_table_gives_distinct_variables() -> None:
    table = settings_table()
    assert len({s.environment for s in table}) == len(table)
    assert {s.key: s.environment for s in table}["datadog.page_limit"] == (
        "HEATMAP_ETL_DATADOG_PAGE_LIMIT"
    )
    assert all(s.description for s in table)


# Properties

SECRET = "zQ7-pLanted-s3cret"
SECRET_URLS = [
    f"postgresql://u:{SECRET}@h/d",
    f"postgres://u:x@{SECRET}@h/d",
    f"mysql://u:x/{SECRET}@h:y/d",
    f"mysql://u:x@y/{SECRET}@h/d",
    f"mariadb://u:{SECRET}/d",
    f"mariadb://u@h/d?password={SECRET}&ssl_key_password={SECRET}",
    f"postgresql://u/x:{SECRET}@h/d",
    f"postgresql://h/d?x={SECRET}",
    f"postgresql+psycopg2://u:{SECRET}@h/d",
    f"oracle://u:{SECRET}@h/d",
    f"sqlite://u:{SECRET}@/x.db",
    f"postgresql://u:{SECRET}@[h/d",
    f"https://u:{SECRET}@h/",
    f"https://u:x/{SECRET}@datadoghq.com/",
    SECRET,
]
KEYS_OF_TABLE = [s.key for s in settings_table()]
# Where a secret may be put, rightly or by mistake, and must not come out again.
SECRET_SETTINGS = [
    "database_url",
    "datadog.api_url",
    "datadog.app_url",
    "datadog.api_key_env",
    "datadog.app_key_env",
    "schedule.heartbeat_url",
    "datadog.api_key",
    "token",
    "views.password",
]
SECRET_VARIABLES = [
    "DD_API_KEY",
    "DD_APP_KEY",
    "DD_BEARER_TOKEN",
    "HEATMAP_ETL_HASH_KEY",
    "HEATMAP_ETL_API_KEY",
    "HEATMAP_ETL_DATABASE_URL",
    "HEATMAP_ETL_DATADOG_API_KEY_ENV",
    "HEATMAP_ETL_SCHEDULE_HEARTBEAT_URL",
    "DATABASE_URL",
    "DD_API_URL",
]

scalars = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.dates()
    | st.sampled_from(["/home", "90d", "discover", "postgresql://h/d", "datadoghq.eu", "* * * * *"])
)
toml_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "device_type", "x", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)
any_text = st.text(max_size=12)
variables = st.dictionaries(
    st.sampled_from([s.environment for s in settings_table()])
    | st.sampled_from(["DD_API_KEY_FILE", "HEATMAP_ETL_DATABASE_URL_FILE", "DD_SITE", *KEYS])
    | any_text.map("HEATMAP_ETL_{}".format),
    any_text | st.sampled_from(['["/a"]', "1", "sqlite:///x.db"]),
    max_size=5,
)


def toml(value: object) -> str:
    """`value` as inline TOML."""
    match value:
        case dict():
            inner = ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items())
            return f"{{ {inner} }}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool():
            return str(value).lower()
        case dt.date():
            return value.isoformat()
        case _:
            return repr(value)


def document(flat: dict[str, object]) -> str:
    """TOML with a section for each dotted key."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, name = key.rpartition(".")
        target = nested.setdefault(section, {}) if section else nested
        if isinstance(target, dict):
            target[name] = value
    return "".join(f"{toml(name)} = {toml(value)}\n" for name, value in nested.items())


def said(folder: str, content: bytes, environ: dict[str, str]) -> Iterator[str]:
    """Everything loading lets a person see."""
    path = Path(folder) / "heatmap-etl.toml"
    path.write_bytes(content)
    try:
        config = load_config(path, environ, cwd=Path(folder))
    except ConfigError as error:
        yield from (repr(error), *error.problems)
        return
    yield repr(config)
    yield config.database_label
    yield config.keys_problem
    yield from config.warnings


property_settings = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
@property_settings
@given(
    flat=st.dictionaries(
        st.sampled_from(KEYS_OF_TABLE)
        | any_text.map(lambda t: t.encode("utf-8", "replace").decode()),
        toml_values,
        max_size=6,
    ),
    environ=variables,
)
def test_nothing_but_config_error_is_raised(
    flat: dict[str, object], environ: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for text in said(folder, document(flat).encode(), environ):
            assert text.isprintable(), text


@property_settings
@given(content=st.binary(max_size=60), environ=variables)
def test_any_bytes_are_a_configuration_or_a_config_error(
    content: bytes, environ: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        list(said(folder, content, environ))


@pytest.mark.slow
@property_settings
@given(
    planted=st.dictionaries(
        st.sampled_from(SECRET_SETTINGS), st.sampled_from(SECRET_URLS), max_size=3
    ),
    environ=st.dictionaries(
        st.sampled_from(SECRET_VARIABLES), st.sampled_from(SECRET_URLS), max_size=4
    ),
    flat=st.dictionaries(st.sampled_from(KEYS_OF_TABLE), toml_values, max_size=2),
    works=st.booleans(),
)
def test_no_secret_is_ever_said(
    planted: dict[str, object],
    environ: dict[str, str],
    flat: dict[str, object],
    works: bool,
) -> None:
    base = {"views": ["/"]} if works else flat
    with tempfile.TemporaryDirectory() as folder:
        for text in said(folder, document({**base, **planted}).encode(), environ):
            assert SECRET not in text


# What a command needs of it


LOOKS = Needs(keys=False, views=False)


def deny(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Files of these names cannot be read; the tests may run as root, who can read all."""
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name in names:
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)


def test_a_dotenv_that_may_not_be_read_is_a_problem_only_where_keys_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, MINIMAL)
    deny(monkeypatch, ".env", "heatmap-etl.env")
    files = [f"{tmp_path}/.env", f"{tmp_path}/heatmap-etl.env"]
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    denied = [f"{file}: cannot be read: Permission denied" for file in files]
    assert list(caught.value.problems) == denied
    config = load_config(path, {}, needs=LOOKS)
    assert [text.partition(";")[0] for text in config.unread] == denied
    assert all("a database URL in it" in text for text in config.unread)
    assert config.warnings == ()


def test_what_may_stand_in_an_unread_dotenv_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, 'views = ["/home"]\n')
    deny(monkeypatch, ".env")
    for needs in (Needs(), LOOKS):
        with pytest.raises(ConfigError) as caught:
            load_config(path, {}, needs=needs)
        unread, missing = caught.value.problems
        assert unread == f"{tmp_path}/.env: cannot be read: Permission denied"
        assert missing.startswith("database_url: is neither in the file nor")
        assert "is missing" not in missing


def test_who_only_looks_needs_no_views_and_no_hash_key(tmp_path: Path) -> None:
    path = write(tmp_path, 'database_url = "sqlite:///x.db"\n[privacy]\ncreated_by = "hash"\n')
    config = load_config(path, {}, needs=LOOKS)
    assert (config.has_views, config.has_source, config.views) == (False, False, ())
    assert (config.created_by, config.hash_key) == ("hash", "")
    assert load_config(path, {"DD_SITE": "datadoghq.eu"}, needs=LOOKS).has_source
    assert {p.partition(":")[0] for p in problems(tmp_path, path.read_text())} == {
        "views",
        "privacy.created_by",
    }
    whole = load_config(write(tmp_path, MINIMAL), {}, needs=LOOKS)
    assert (whole.has_views, whole.has_source) == (True, True)


def test_who_only_looks_is_not_told_to_write_a_configuration(tmp_path: Path) -> None:
    for path in (None, tmp_path / "no.toml"):
        with pytest.raises(ConfigError) as caught:
            load_config(path, {}, cwd=tmp_path, needs=LOOKS)
        (problem,) = caught.value.problems
        assert "name the one that `sync` uses with --config" in problem
    (problem,) = problems_of_looking(write(tmp_path, "[keep]\n"))
    assert "is missing; name the database that `sync` uses" in problem


def problems_of_looking(path: Path) -> Sequence[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, {}, needs=LOOKS)
    return caught.value.problems


def test_a_named_database_is_used_instead_of_the_configured_one(tmp_path: Path) -> None:
    named = parse_database("sqlite:///named.db", tmp_path)
    needs = Needs(keys=False, views=False, database=named)
    path = write(tmp_path, 'database_url = "nonsense"\ndatabase_schema = "heatmap"\n')
    environ = {"HEATMAP_ETL_DATABASE_URL_FILE": "/nonexistent"}
    config = load_config(path, environ, needs=needs)
    assert (config.database_url, config.database_schema) == (named.url, None)
    assert config.database_origin == "--database"
    path.unlink()
    alone = load_config(None, {}, cwd=tmp_path, needs=needs)
    assert (alone.path, alone.database_url, alone.has_source) == (None, named.url, False)


@pytest.mark.parametrize(
    ("dotenv", "environ", "origin"),
    [
        ("", {}, "database_url of {}/heatmap-etl.toml"),
        ("HEATMAP_ETL_DATABASE_URL=sqlite:///e.db", {}, "HEATMAP_ETL_DATABASE_URL in {}/.env"),
        ("HEATMAP_ETL_DATABASE_URL_FILE=url", {}, "HEATMAP_ETL_DATABASE_URL_FILE in {}/.env"),
        (
            "HEATMAP_ETL_DATABASE_URL=sqlite:///e.db",
            {"HEATMAP_ETL_DATABASE_URL_FILE": "url"},
            "HEATMAP_ETL_DATABASE_URL_FILE of the environment",
        ),
        ("", {"DATABASE_URL": "sqlite:///e.db"}, "database_url of {}/heatmap-etl.toml"),
    ],
)
def test_a_database_is_known_by_where_it_was_named(
    dotenv: str, environ: dict[str, str], origin: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(dotenv)
    (tmp_path / ".env").chmod(0o600)
    (tmp_path / "url").write_text("sqlite:///f.db")
    assert load(tmp_path, MINIMAL, environ).database_origin == origin.format(tmp_path)


def test_an_ambient_database_is_known_by_its_variable(tmp_path: Path) -> None:
    config = load(tmp_path, 'views = ["/home"]\n', {"DATABASE_URL": "sqlite:///e.db"})
    assert config.database_origin == "DATABASE_URL of the environment"
