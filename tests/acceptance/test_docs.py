"""The docs say what is: their commands, queries, tables and links are run or compared."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import text

import etl
from etl.cli.app import cli
from etl.config.model import Config
from etl.config.settings import settings_table
from etl.database.connection import Database, open_database
from etl.database.schema import metadata
from etl.demo import rounds as demo
from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog, World
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from scripts import data_dictionary as dictionary
from scripts.headings import anchors
from tests.support.installation import CONFIGURED, INSTALLED, cron_lines, parse
from tests.support.paths import ROOT
from tests.support.project import make_config

MARKDOWN = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PAGES = {path.name: path.read_text(encoding="utf-8") for path in MARKDOWN}
README = PAGES["README.md"]
CRONTAB = (ROOT / "crontab.example").read_text(encoding="utf-8")
MOMENT = "2026-01-03 12:00:00"


def blocks(language: str, page: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


def commands(program: str, page: str) -> list[str]:
    """Every command line of a page that starts with `program`, in blocks and in the text."""
    lines = re.findall(rf"^(?: {{4}})?({program}\b .*)$", PAGES[page], re.MULTILINE)
    inline = re.findall(rf"(?<!`)`({program} [^`\n]+)`", PAGES[page])
    return [line.split("  #")[0].strip().removesuffix(" &") for line in [*lines, *inline]]


def all_commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))
        else:
            yield (*path, name)


# --- commands -----------------------------------------------------------------------------


def test_every_command_of_the_docs_exists_with_its_options():
    found = {page: commands("heatmap-etl", page) for page in PAGES}
    assert all(found[page] for page in ("README.md", "start.md", "running.md", "on-call.md"))
    for page, lines in found.items():
        for command in lines:
            if command == "heatmap-etl --version":
                continue
            try:
                parse(shlex.split(command)[1:])
            except (click.UsageError, AssertionError) as error:
                pytest.fail(f"{page}: {command}: {error}")


@pytest.mark.parametrize("wrong", ["sink", "sync --plain", "db downgrade", "status /home"])
def test_a_command_that_does_not_exist_would_be_found(wrong: str):
    with pytest.raises((click.UsageError, AssertionError)):
        parse(shlex.split(wrong))


@pytest.mark.parametrize("path", list(all_commands()), ids=" ".join)
def test_every_command_is_in_the_docs_and_explains_itself(path: tuple[str, ...]):
    assert re.search(rf"^\| `heatmap-etl {' '.join(path)}\b", PAGES["running.md"], re.MULTILINE)
    done = CliRunner().invoke(cli, [*path, "--help"])
    assert done.exit_code == 0
    assert f"Usage: heatmap-etl {' '.join(path)}" in done.output.replace("cli", "heatmap-etl", 1)


def test_every_make_target_of_the_docs_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    pattern = r"(?:`|^ {4})make ([a-z-]+)"
    named = {m for p in MARKDOWN for m in re.findall(pattern, p.read_text("utf-8"), re.MULTILINE)}
    assert {"demo", "test", "docs"} <= named <= targets


def test_every_file_that_make_runs_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:scripts|dashboards)/[\w/-][\w./-]*", makefile))
    assert {"scripts/setup", "dashboards/try_dashboards.py"} <= named
    assert not [name for name in named if not (ROOT / name).exists()]


# --- first run and cron -------------------------------------------------------------------


@pytest.fixture
def datadog() -> Iterator[FakeDatadog]:
    with FakeDatadog(World(views=("/home", "/checkout/?"), snapshots_per_view=4)) as server:
        yield server


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """`heatmap-etl` as an installation has it, in a folder of its own."""
    path = tmp_path / "bin" / "heatmap-etl"
    path.parent.mkdir()
    python = shlex.quote(sys.executable)
    path.write_text(f'#!/bin/sh\nexec {python} -W error -m etl "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def shell(script: str, folder: Path, program: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(program.parent), os.environ.get("PATH", os.defpath)])
    return subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=folder,
        env={"PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def first_run(folder: Path, program: Path, url: str) -> str:
    """What a reader of start.md does, keys in `.env`; returns what was printed."""
    prepare, run = [
        block
        for block in blocks("sh", "start.md")
        if block.startswith(("heatmap-etl init", "heatmap-etl check"))
    ]
    (dotenv,) = blocks("ini", "start.md")
    done = shell(prepare, folder, program)
    assert (done.returncode, done.stderr) == (0, "")
    file = folder / ".env"
    assert file.read_text(encoding="utf-8").endswith(f"\n{dotenv}")
    lines = [
        f"{line.removesuffix('...')}{key}"
        for line, key in zip(dotenv.splitlines(), (API_KEY, APP_KEY), strict=True)
    ]
    file.write_text("\n".join([*lines, f"HEATMAP_ETL_DATADOG_API_URL={url}", ""]), "utf-8")
    assert file.stat().st_mode & 0o777 == 0o600
    ran = shell(run, folder, program)
    assert (ran.returncode, ran.stderr) == (0, "")
    return done.stdout + ran.stdout


def test_the_first_run_works_as_it_is_written(folder: Path, program: Path, datadog: FakeDatadog):
    said = first_run(folder, program, datadog.url)
    assert "Everything is in order." in said
    assert "8 records listed: 8 new" in said
    assert "2 views, 0 to look at" in said
    assert {path.name for path in folder.iterdir()} >= {"heatmap-etl.toml", "heatmap-etl.db"}
    for command in (
        "heatmap-etl sync --view /home",
        "heatmap-etl sync --full",
        "heatmap-etl db status",
        "heatmap-etl db upgrade",
        "heatmap-etl views list",
        "heatmap-etl status --max-age 3h",
    ):
        done = shell(command, folder, program)
        assert (done.returncode, done.stderr) == (0, ""), command


def test_the_first_run_of_the_readme_works_as_it_is_written(
    folder: Path, program: Path, datadog: FakeDatadog
):
    init, run = blocks("sh", "README.md")[1:3]
    install, writes = init.split("\n", 1)
    assert install == 'export PATH="$PWD/venv/bin:$PATH"'
    done = shell(writes, folder, program)
    assert (done.returncode, done.stderr) == (0, "")
    filled = (folder / ".env").read_text(encoding="utf-8")
    for key in (API_KEY, APP_KEY):
        filled = filled.replace("=...", f"={key}", 1)
    assert "=..." not in filled
    (folder / ".env").write_text(filled, encoding="utf-8")
    done = shell(f"export HEATMAP_ETL_DATADOG_API_URL={datadog.url}\n{run}", folder, program)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Everything is in order." in done.stdout
    assert "8 records listed: 8 new" in done.stdout
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600


def test_the_start_page_shows_what_is_printed(folder: Path, program: Path):
    """Against what `heatmap-etl fake-datadog` serves."""
    with FakeDatadog(World(1)) as datadog:
        said = first_run(folder, program, datadog.url).replace(f"{folder}/", "")
    said = re.sub(r"\b\d s ago", "just now", said).replace(datadog.url, "https://api.datadoghq.eu")
    printed = {" ".join(line.split()) for line in said.splitlines()}
    shown = [block for block in blocks("text", "start.md") if "* * * *" not in block]
    lines = [" ".join(line.split()) for block in shown for line in block.splitlines() if line]
    assert len(lines) >= 20
    assert [line for line in lines if line not in {*printed, "..."}] == []


def test_the_crontab_has_nothing_that_cron_would_trip_over():
    variables, jobs = cron_lines(CRONTAB)
    assert variables["MAILTO"]
    assert jobs
    for schedule, command in jobs:
        assert len(schedule) == 5
        assert all(re.fullmatch(r"[\d*/,-]+", field) for field in schedule)
        assert not re.search(r"(?<!\\)%", command)
        program, *arguments = shlex.split(command)
        assert program == INSTALLED
        assert arguments[arguments.index("--config") + 1] == CONFIGURED
        assert {"sync", "--quiet"} <= set(arguments)
        parse(arguments)
        assert command in README
        assert command in PAGES["running.md"]
    assert not re.search(r"(KEY|TOKEN)=(?!\.\.\.)", CRONTAB)
    hidden = re.findall(rf"^#.*?({INSTALLED} .*)$", CRONTAB, re.MULTILINE)
    assert [parse(shlex.split(command)[1:]) for command in hidden] == ["init", "status", "sync"]


def test_the_crontabs_command_runs_silently(folder: Path, program: Path, datadog: FakeDatadog):
    first_run(folder, program, datadog.url)
    for _, command in cron_lines(CRONTAB)[1]:
        config = folder / "heatmap-etl.toml"
        here = command.replace(INSTALLED, str(program)).replace(CONFIGURED, str(config))
        done = shell(here, Path("/"), program)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_readme_is_read_in_three_minutes():
    assert len(README.split()) <= 700


# --- queries ------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    return World(demo.SEED, views=demo.VIEWS)


@pytest.fixture
def configured(database_url: str, world: World) -> Iterator[tuple[Config, Database]]:
    """The views of the demo, on each database."""
    with FakeDatadog(world, api_key="api-key", app_key="app-key") as datadog:
        config = make_config(database_url, datadog.url, demo.VIEWS)
        with closing(open_database(config.database_url, label=config.database_label)) as database:
            yield config, database


def ask(database: Database, sql: str) -> list[tuple[Any, ...]]:
    with database.connect(write=False) as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def test_every_query_answers(configured: tuple[Config, Database], world: World):
    config, database = configured
    demo.play(config, database, world, lambda _: None)
    sync(replace(config, page_limit=5), database, Options(), stop=threading.Event())
    queries = blocks("sql", "README.md")
    assert len(queries) == 3
    for query in queries:
        assert ask(database, query), query


def test_the_query_of_a_moment_counts_what_was_listed_then(
    configured: tuple[Config, Database], world: World
):
    config, database = configured
    (query,) = [block for block in blocks("sql", "queries.md") if MOMENT in block]
    listed: list[set[tuple[str, int]]] = []
    for _ in range(3):
        run = sync(config, database, Options(), stop=threading.Event())
        listed.append({(view.view.name, view.counts["listed"]) for view in run.views})
        world.tick(demo.HOURS)
    ends = ask(database, "SELECT finished_at FROM sync_runs ORDER BY started_at")
    counted = [set(ask(database, query.replace(MOMENT, str(end)))) for (end,) in ends]
    assert counted == listed
    assert len(set(map(frozenset, listed))) == 3


# --- tables -------------------------------------------------------------------------------


def test_the_dictionary_is_that_of_the_catalogue():
    written = (ROOT / "docs" / "data-dictionary.md").read_text(encoding="utf-8")
    assert written == dictionary.dictionary(), "run: make docs"
    for table in metadata.tables.values():
        section = written.partition(f"## {table.name}\n")[2].partition("\n## ")[0]
        for column in table.columns:
            assert f"| `{column.name}` |" in section
            assert column.comment, f"{table.name}.{column.name}"
            assert column.comment in section


def test_every_table_is_introduced():
    section = PAGES["queries.md"].partition("## Tables")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == set(metadata.tables)


def test_the_table_of_settings_is_that_of_the_program():
    page = PAGES["configuration.md"]
    assert dictionary.with_settings(page) == page, "run: make docs"
    for setting in settings_table():
        rows = re.findall(rf"^\| `{re.escape(setting.key)}` \| (.*?) \|", page, re.MULTILINE)
        written = str if isinstance(setting.default, str) else json.dumps
        default = "" if setting.default is None else written(setting.default).lower()
        assert [row.strip('`"').lower() for row in rows] == [default]
        assert setting.environment in page


def test_the_module_prints_and_rewrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    dictionary.main([])
    assert capsys.readouterr().out == dictionary.dictionary()
    page = PAGES["configuration.md"]
    copy = tmp_path / "configuration.md"
    copy.write_text(
        page.replace("| `lease.seconds` | `60` |", "| `lease.seconds` | `6` |"), "utf-8"
    )
    dictionary.main([str(copy)])
    assert copy.read_text(encoding="utf-8") == page


# --- the rest -----------------------------------------------------------------------------


def test_the_changelog_names_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert versions[:2] == ["Unreleased", etl.__version__]


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings_that_exist(path: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            continue
        target = (path.parent / parts.path).resolve() if parts.path else path
        assert target.is_relative_to(ROOT), link
        assert target.is_file(), link
        assert not parts.fragment or parts.fragment in anchors(target), link


def test_the_docs_name_no_path_of_a_persons_machine():
    for path in [*MARKDOWN, ROOT / "crontab.example"]:
        found = re.findall(
            r"(?<![\w.])/(?:home/\w+/|root\b|Users\b|work\b|tmp\b)", path.read_text("utf-8")
        )
        assert found == [], path.name
