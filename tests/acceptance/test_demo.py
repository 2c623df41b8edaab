"""The demo: what it tells, what it leaves behind, and its queries on every database."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from etl.cli.app import cli
from etl.config.load import load_config
from etl.database.connection import open_database
from etl.demo import rounds as demo
from etl.demo.rounds import FILE, QUERIES, run_demo
from etl.errors import EtlError
from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog, World
from etl.fake_datadog.world import Event
from tests.support.paths import ROOT

COUNTS = ("listed", "new", "changed", "vanished", "returned")
SHOWN = ("listed", "new", "changed", "removed", "returned")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Folder and lines of one run, for the tests that only look."""
    folder = tmp_path_factory.mktemp("demo")
    lines: list[str] = []
    run_demo(folder, lines.append)
    return folder, lines


def ask(file, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchall()


def table_after(lines: list[str], start: str) -> list[list[str]]:
    """Cells of the first table below the line that starts so, its header first."""
    first = next(n for n, line in enumerate(lines) if line.startswith(start))
    ruler = next(n for n in range(first, len(lines)) if re.fullmatch(r"  -[- ]*", lines[n]))
    end = ruler + 1
    while end < len(lines) and re.search(r"\S {2,}\S", lines[end]):
        end += 1
    spans = [match.span() for match in re.finditer("-+", lines[ruler])]
    rows = [lines[ruler - 1], *lines[ruler + 1 : end]]
    return [[line[a:b].strip() for a, b in spans] for line in rows]


def words_of(row: tuple) -> list[str]:
    return [str(value or "-") for value in row]


def test_it_leaves_one_file(told):
    folder, _ = told
    assert [path.name for path in folder.iterdir()] == [FILE]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_table_of_a_round_is_what_the_ledger_says(told, number):
    folder, lines = told
    runs = ask(folder / FILE, "SELECT run_id FROM sync_runs ORDER BY started_at")
    columns = ", ".join(f"v.{name}" for name in COUNTS)
    stored = ask(
        folder / FILE,
        f"SELECT v.view_name, v.verdict, {columns} FROM sync_run_views v"
        f" WHERE v.run_id = '{runs[number - 1][0]}'",
    )
    header, *rows, total = table_after(lines, f"Round {number}")
    assert header == ["view", "verdict", *SHOWN]
    assert sorted(rows) == sorted(words_of(row) for row in stored)
    sums = [sum(row[n] for row in stored) for n in range(2, 7)]
    assert total == ["all", "", *words_of(tuple(sums))]


def test_what_happened_is_what_the_table_counts(told):
    _, lines = told
    columns = {"pinned": 3, "re-pointed": 4, "unpinned": 5, "pinned again": 6}
    for number in (2, 3):
        title = next(line for line in lines if line.startswith(f"Round {number}"))
        said = dict.fromkeys(columns, "-")
        for part in title.split(": ")[1].split(", "):
            count, _, word = part.partition(" ")
            said[word] = count
        total = table_after(lines, f"Round {number}")[-1]
        assert said == {word: total[column] for word, column in columns.items()}


def test_every_kind_of_change_is_shown(told):
    """The seed is chosen for it."""
    _, lines = told
    assert "-" not in table_after(lines, "Round 3")[-1]


def test_the_numbers_in_sentences_are_those_of_the_file(told):
    folder, lines = told
    text = "\n".join(lines)
    (listed,) = ask(folder / FILE, "SELECT COUNT(*) FROM snapshots WHERE removed_at IS NULL")[0]
    assert f"  {listed} snapshots without removed_at" in text
    assert f"{listed} snapshots as they were" in text
    assert f"{len(demo.VIEWS)} views, on http://127.0.0.1:" in text


def test_round_four_writes_no_snapshot(told):
    folder, _ = told
    last = "(SELECT MAX(started_at) FROM sync_runs)"
    for column, table in (
        ("valid_from", "snapshots"),
        ("removed_at", "snapshots"),
        ("valid_to", "snapshot_history"),
    ):
        assert ask(folder / FILE, f"SELECT 1 FROM {table} WHERE {column} >= {last}") == []


def test_each_view_was_asked_over_http_in_each_run(told):
    folder, _ = told
    requests = ask(folder / FILE, "SELECT requests, view_name FROM sync_run_views")
    assert sorted(requests) == sorted((1, view) for view in demo.VIEWS * 4)
    ((address,),) = ask(folder / FILE, "SELECT api_url FROM sources")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_a_query_is_printed_as_it_can_be_pasted_with_its_rows(told, number):
    folder, lines = told
    question, sql = QUERIES[number]
    rows = ask(folder / FILE, sql)
    assert rows
    printed = "\n".join(line.removeprefix("  ") for line in lines)
    assert f"{number + 1}. {question}\n\n{sql};\n\n" in printed
    shown = table_after(lines, f"{number + 1}. ")[1:]
    assert len(shown) == len(rows)
    for cells, row in zip(shown, rows, strict=True):
        for cell, value in zip(cells, row, strict=True):
            assert cell == "NULL" if value is None else str(value).startswith(cell)


def test_the_query_of_a_past_moment_gives_what_the_ledger_counted_then(told):
    folder, _ = told
    counted = ask(
        folder / FILE,
        "SELECT view_name, listed FROM sync_run_views"
        " WHERE run_id = (SELECT MIN(run_id) FROM sync_runs WHERE started_at ="
        " (SELECT MIN(started_at) FROM sync_runs)) ORDER BY view_name",
    )
    assert ask(folder / FILE, QUERIES[3][1]) == counted


def test_what_is_printed_fits_a_wide_terminal(told):
    folder, lines = told
    lines = [line.replace(str(folder), "/folder") for line in lines]  # whose length is not ours
    assert max(map(len, lines)) <= 100
    assert not any("\n" in line for line in lines)


def test_what_it_says_to_try_can_be_pasted_as_it_is(tmp_path):
    """By the path of the program, where no shell finds its name; in folders with a blank."""
    program = tmp_path / "my programs" / "heatmap-etl"
    program.parent.mkdir()
    start = "import sys\nfrom etl.__main__ import run\nsys.exit(run())\n"
    program.write_text(f"#!{sys.executable}\n{start}")
    program.chmod(0o755)
    environ = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}

    def shell(command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        return done.stdout

    said = shell("'my programs/heatmap-etl' demo 'the demo'").partition("Try next:")[2]
    status, export, large, init = [
        line.strip() for line in said.splitlines() if line.startswith("  ")
    ]
    assert "4 views" in shell(status)
    assert shell(export).startswith("id,source,")
    assert large == "'my programs/heatmap-etl' demo --large 'the demo'"
    assert "Wrote heatmap-etl.toml" in shell(init)


def test_its_help_says_what_it_does():
    said = " ".join(CliRunner().invoke(cli, ["demo", "--help"]).output.split())
    for words in ("four rounds", "127.0.0.1", "Nothing leaves the machine", FILE, "seconds"):
        assert words in said


def test_a_second_run_makes_the_file_anew(tmp_path):
    run_demo(tmp_path, lambda _: None)
    (tmp_path / f"{FILE}-wal").write_bytes(b"of the old file")
    run_demo(tmp_path, lambda _: None)
    assert ask(tmp_path / FILE, "SELECT COUNT(*) FROM sync_runs") == [(4,)]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_keys_and_configuration_of_the_folder_are_not_used(tmp_path):
    (tmp_path / ".env").write_text("DD_BEARER_TOKEN=real\nHEATMAP_ETL_DATADOG_PAGE_LIMIT=3\n")
    (tmp_path / "heatmap-etl.toml").write_text("this is not TOML")
    run_demo(tmp_path, lambda _: None)
    assert ask(tmp_path / FILE, "SELECT DISTINCT page_limit FROM sync_run_views") == [(1000,)]


@pytest.mark.parametrize("before", [None, "intranet.example"])
def test_no_proxy_is_asked(tmp_path, monkeypatch, before):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    if before:
        monkeypatch.setenv("no_proxy", before)
    run_demo(tmp_path, lambda _: None)
    assert os.environ.get("no_proxy") == before


def not_sqlite(file):
    file.write_text("my notes")


def empty(file):
    file.touch()


def without_our_tables(file):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE sources (name TEXT)")


def of_another_source(file):
    run_demo(file.parent, lambda _: None)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE sources SET source = 'datadoghq.eu'")


def of_a_real_datadog_called_demo(file):
    run_demo(file.parent, lambda _: None)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE sources SET api_url = 'https://api.datadoghq.com'")


def with_rows_of_another_source(file):
    run_demo(file.parent, lambda _: None)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE snapshots SET source = 'datadoghq.eu'")


@pytest.mark.parametrize(
    "make",
    [
        not_sqlite,
        empty,
        without_our_tables,
        of_another_source,
        of_a_real_datadog_called_demo,
        with_rows_of_another_source,
    ],
)
def test_a_file_that_is_no_demo_is_not_touched(tmp_path, make):
    file = tmp_path / FILE
    make(file)
    said: list[str] = []
    before = file.read_bytes()
    with pytest.raises(EtlError, match="move it away"):
        run_demo(tmp_path, said.append)
    assert file.read_bytes() == before
    assert said == []


def test_an_old_file_that_cannot_be_removed_is_told(tmp_path, monkeypatch):
    run_demo(tmp_path, lambda _: None)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(EtlError, match="Permission denied"):
            run_demo(tmp_path, lambda _: None)


def test_a_folder_of_that_name_is_not_touched(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(EtlError, match="move it away"):
        run_demo(tmp_path, lambda _: None)


@pytest.mark.parametrize("name", ["50%20 off", "größe 👟", "a#b", "what?", "x@y:z+&=;"])
def test_odd_folders(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    run_demo(folder, lambda _: None)
    run_demo(folder, lambda _: None)
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert ask(folder / FILE, "SELECT COUNT(*) FROM sync_runs") == [(4,)]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(EtlError, match="check that the folder exists"):
        run_demo(tmp_path / "no", lambda _: None)


def test_a_change_that_is_not_in_the_tables_is_not_told_as_if_it_were(tmp_path, monkeypatch):
    def pretend(self: World, hours: float = 6) -> list[Event]:
        return [Event("unpinned", self.records("/home")[0]["id"], "/home")]

    monkeypatch.setattr(World, "tick", pretend)
    with pytest.raises(EtlError, match="do not hold"):
        run_demo(tmp_path, lambda _: None)


def test_a_run_that_does_not_go_well_ends_the_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "API_KEY", "0" * 32)
    with pytest.raises(EtlError, match=r"round 1 of the demo ended failed: .*refused"):
        run_demo(tmp_path, lambda _: None)


def test_the_queries_on_every_database(database_url):
    world = World(demo.SEED, views=demo.VIEWS)
    with FakeDatadog(world) as datadog:
        config = load_config(
            environ={
                "HEATMAP_ETL_DATABASE_URL": database_url,
                "HEATMAP_ETL_VIEWS": json.dumps(demo.VIEWS),
                "HEATMAP_ETL_DATADOG_API_URL": datadog.url,
                "DD_API_KEY": API_KEY,
                "DD_APP_KEY": APP_KEY,
            }
        )
        database = open_database(config.database_url, label=config.database_label)
        with closing(database):
            demo.play(config, database, world, lambda _: None)
            for question, sql in QUERIES:
                names, rows = demo._select(database, sql)
                assert rows, question
                assert len(names) == len(rows[0])


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("x" * 40, "x" * 40),
        ("x" * 41, "x" * 39 + "…"),
        ("山" * 30, "山" * 19 + "…"),
        ("tab\tand\nline", r"tab\tand\nline"),
        ("\x1b[31mred\u202e", r"\x1b[31mred\u202e"),
        ("2026-03-02 09:00:00.123456", "2026-03-02 09:00:00"),
        ("2026-03-02", "2026-03-02"),
    ],
)
def test_a_cell(value, printed):
    assert demo._cell(value, 19) == printed


def test_odd_text_keeps_the_columns_in_line():
    lines: list[str] = []
    names = ("view", "count")
    demo.print_table(
        names, [("/ü", 1), ("u\u0308", 10), ("山田 👟", None), ("long " * 20, 7)], lines.append
    )
    assert {demo._width(line) for line in lines} == {2 + 40 + 2 + 5}
    assert lines[-2].endswith(" NULL")


def test_a_table_without_rows():
    lines: list[str] = []
    demo.print_table(("view", "count"), [], lines.append)
    assert lines == ["  view  count", "  ----  -----"]


@pytest.mark.parametrize(
    ("instants", "end"),
    [
        (["2026-03-02 09:00:00.100000", "2026-03-02 09:00:01.100000"], 19),
        (["2026-03-02 09:00:00.100000", "2026-03-02 09:00:00.200000"], 23),
        ([], 19),
    ],
)
def test_instants_are_cut_as_far_as_they_still_differ(instants, end):
    assert demo._end_of_instants([[instant, 1, None] for instant in instants]) == end


def test_a_folder_that_takes_no_file_is_one_line_without_advice_about_room():
    done = CliRunner().invoke(cli, ["demo", "/proc"])
    assert isinstance(done.exception, EtlError)
    assert str(done.exception).startswith("cannot write into the folder /proc: ")
    assert done.output == ""
