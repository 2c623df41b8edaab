"""`export`: the rows of the SQL views as files, on every database; hostile text stays text."""

import csv
import io
import json
import os
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Integer, insert, literal, select, text

from etl.cli.app import main
from etl.cli.commands import export as export_command
from etl.config.database_url import parse_database
from etl.database import schema, sql_views
from etl.database.connection import Database, open_database
from etl.errors import ConfigError, EtlError
from etl.serve import export
from etl.serve.export import Export, escape_formulas
from tests.support import known_history
from tests.support.known_history import day
from tests.support.paths import ROOT

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOSTILE = [
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("https://evil.example","x")',
    "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", "\r=1+1", "\n=1+1", "\tx", "  =1+1", '"=1+1', "'=1",
    "a;=1+1", "a\n=1+1", "\uff1d1+1", "a,b", 'a"b', "a\r\nb", "\u202egnp.exe", "NULL", "", " ",
]  # fmt: skip

# Exports and says the most memory it ever held; ru_maxrss would be that of the tests.
EXPORT = """
import re, sys
from pathlib import Path
from etl.cli.app import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    parsed = parse_database(database_url, Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    yield database
    database.close()


@pytest.fixture
def configured(database: Database, database_url: str, tmp_path: Path) -> Path:
    """The folder of a configuration file on a database that holds the known history."""
    known_history.write(database)
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "heatmap-etl.toml").write_text('views = ["/home"]\n', encoding="utf-8")
    (folder / ".env").write_text(f"HEATMAP_ETL_DATABASE_URL='{database_url}'\n", encoding="utf-8")
    (folder / ".env").chmod(0o600)
    return folder


@pytest.fixture
def run(configured: Path) -> Callable[..., int]:
    def run(*arguments: str) -> int:
        return main(["export", *arguments, "--config", str(configured / "heatmap-etl.toml")])

    return run


def rename(database: Database, names: list[str]) -> None:
    """One snapshot for each name; ids in their order."""
    rows = [
        known_history.snapshot(f"{n:03}", "/home", snapshot_name=name)
        for n, name in enumerate(names)
    ]
    with database.connect() as connection, connection.begin():
        connection.execute(schema.snapshots.delete())
        if rows:
            connection.execute(insert(schema.snapshots), rows)


def expected(database: Database, view: str) -> list[dict[str, Any]]:
    with database.connect(write=False) as connection:
        rows = connection.execute(export.query(Export(view)))
        return [dict(row._mapping) for row in rows]


def as_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# --- formats ------------------------------------------------------------------------------


def test_the_command_knows_the_views_of_the_catalogue():
    assert export_command._VIEWS == sql_views.NAMES
    assert set(export._ORDER) == set(sql_views.NAMES)
    for view, column in export.SINCE_COLUMNS.items():
        assert column in sql_views.metadata.tables[view].c


@pytest.mark.parametrize("view", sql_views.NAMES)
def test_every_format_holds_every_value_of_a_view(
    view: str, run: Callable[..., int], configured: Path, database: Database
):
    before: list[dict[str, Any]] = []
    while before != (rows := expected(database, view)):  # an age in minutes changes meanwhile
        before = rows
        for ending in ("csv", "jsonl", "parquet"):
            assert run(view, "--output", f"x.{ending}") == 0
    assert rows
    table = pq.read_table(configured / "x.parquet")
    assert table.to_pylist() == rows
    lines = (configured / "x.jsonl").read_text(encoding="utf-8").splitlines()
    as_text = [{k: _iso(v) for k, v in row.items()} for row in rows]
    assert [json.loads(line) for line in lines] == as_text
    cells = as_csv((configured / "x.csv").read_bytes().decode())
    assert cells == [{k: _cell(v) for k, v in row.items()} for row in as_text]


def _iso(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def test_parquet_keeps_the_types(run: Callable[..., int], configured: Path):
    for view in sql_views.NAMES:
        assert run(view, "--output", "x.parquet") == 0
        parquet_schema = pq.read_schema(configured / "x.parquet")
        assert parquet_schema.names == list(sql_views.metadata.tables[view].c.keys())
        for field in parquet_schema:
            if field.name.endswith(("_at", "_since", "_before", "_from", "_to")):
                assert field.type == pa.timestamp("us", tz="UTC")
            elif field.name.startswith(("is_", "has_")):
                assert field.type == pa.bool_()
            elif isinstance(sql_views.metadata.tables[view].c[field.name].type, Integer):
                assert field.type == pa.int64()
            else:
                assert field.type in (pa.string(), pa.float64(), pa.bool_())


def test_without_output_the_rows_go_to_stdout(
    run: Callable[..., int], capfdbinary: pytest.CaptureFixture[bytes], database: Database
):
    assert run("snapshot_changes", "--format", "jsonl") == 0
    out, err = capfdbinary.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["snapshot_id"] for line in lines] == [
        row["snapshot_id"] for row in expected(database, "snapshot_changes")
    ]
    assert err == b""


def test_an_empty_view_gives_a_header_and_a_schema(
    run: Callable[..., int], configured: Path, database: Database
):
    rename(database, [])
    for ending in ("csv", "jsonl", "parquet"):
        assert run("current_snapshots", "--output", f"x.{ending}") == 0
    names = list(sql_views.current_snapshots.c.keys())
    assert (configured / "x.csv").read_text(encoding="utf-8").strip().split(",") == names
    assert (configured / "x.jsonl").read_bytes() == b""
    assert pq.read_table(configured / "x.parquet").column_names == names


# --- which rows ---------------------------------------------------------------------------


def ids(run: Callable[..., int], folder: Path, *arguments: str) -> list[str]:
    assert run(*arguments, "--output", "ids.csv") == 0
    rows = as_csv((folder / "ids.csv").read_bytes().decode())
    return [row.get("id") or row.get("snapshot_id") or row["view_name"] for row in rows]


def test_only_the_views_of_a_name(run: Callable[..., int], configured: Path):
    assert ids(run, configured, "current_snapshots", "--view", "/old") == ["left"]
    assert ids(run, configured, "snapshot_versions", "--view", "/old") == ["gone", "left"]
    assert ids(run, configured, "snapshot_changes", "--view-name", "/OLD") == []
    assert ids(run, configured, "view_coverage", "--view", "/cart") == ["/cart"]
    assert ids(run, configured, "sync_health", "--view", "/cart") == ["/cart"]


def test_only_rows_since_an_instant(run: Callable[..., int], configured: Path):
    since = day(4).isoformat()
    assert ids(run, configured, "current_snapshots", "--since", since) == ["new"]
    assert ids(run, configured, "snapshot_versions", "--since", "2026-01-02") == [
        "moved", "new", "new",
    ]  # fmt: skip
    assert ids(run, configured, "snapshot_changes", "--since", since) == ["new", "new"]
    later = (day(4) + timedelta(microseconds=1)).isoformat()
    assert ids(run, configured, "snapshot_changes", "--since", later) == ["new"]
    assert ids(run, configured, "sync_health", "--since", "2026-01-03") == ["/cart", "/home"]
    assert ids(run, configured, "sync_health", "--since", "1d") == []


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T09:00:00Z", datetime(2026, 11, 1, 9, tzinfo=UTC)),
        ("2026-11-01 09:00:00.5+02:00", datetime(2026, 11, 1, 7, 0, 0, 500000, tzinfo=UTC)),
        ("30d", NOW - timedelta(days=30)),
        ("90m", NOW - timedelta(minutes=90)),
    ],
)
def test_an_instant_may_be_said_in_several_ways(text: str, instant: datetime):
    assert export.parse_since(text, NOW) == instant


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "1x", "-1d", "0001-01-01T00:00+14"]
)
def test_what_is_no_instant_is_said(text: str):
    with pytest.raises(ConfigError, match="expected an instant such as"):
        export.parse_since(text, NOW)


# --- hostile text -------------------------------------------------------------------------


def test_hostile_text_comes_out_as_it_is(
    run: Callable[..., int], configured: Path, database: Database
):
    rename(database, HOSTILE)
    for ending in ("csv", "jsonl", "parquet"):
        assert run("current_snapshots", "--output", f"x.{ending}") == 0
    cells = as_csv((configured / "x.csv").read_bytes().decode())
    assert [row["snapshot_name"] for row in cells] == HOSTILE
    lines = (configured / "x.jsonl").read_bytes().split(b"\n")[:-1]
    assert [json.loads(line)["snapshot_name"] for line in lines] == HOSTILE
    assert pq.read_table(configured / "x.parquet")["snapshot_name"].to_pylist() == HOSTILE


def test_a_spreadsheet_takes_no_text_for_a_formula(
    run: Callable[..., int], configured: Path, database: Database
):
    rename(database, HOSTILE)
    assert run("current_snapshots", "--spreadsheet", "--output", "x.csv") == 0
    content = (configured / "x.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfid,")
    cells = as_csv(content.decode("utf-8-sig"))
    names = [row["snapshot_name"] for row in cells]
    assert names == [escape_formulas(name) for name in HOSTILE]
    dangerous = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
    for row in cells:
        for cell in row.values():
            assert not cell.startswith(dangerous)
            assert not cell.strip(' "').startswith(dangerous)
            assert not any(part.strip(' "').startswith(dangerous) for part in cell.split(";"))
    assert [row["start_ms"] for row in cells] == ["1500"] * len(HOSTILE)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1", "'=1"), ("+1", "'+1"), ("-1", "'-1"), ("@x", "'@x"), ("\tx", "'\tx"),
        ("\rx", "'\rx"), ("  =1", "'  =1"), ('"=1', "'\"=1"), ("'=1", "''=1"),
        ("\u00a0=1", "'\u00a0=1"), ("\ufeff=1", "'\ufeff=1"), ("\uff1d1", "'\uff1d1"),
        ("a;=1", "a;'=1"), ('a; "@x', "a; \"'@x"), ("a\n-1", "a\n'-1"),
        ("", ""), (" ", " "), ("a=1", "a=1"), ("a-b", "a-b"), ("1-2", "1-2"), ("<b>", "<b>"),
        ("a, =1", "a, =1"), ("'a'", "'a'"),
    ],
)  # fmt: skip
def test_only_what_could_be_a_formula_gets_an_apostrophe(text: str, written: str):
    assert escape_formulas(text) == written


def unseen() -> list[str]:
    """What a spreadsheet, or the way to it, may drop or not show: all of it that Unicode has."""
    others = "\u115f\u1160\u3164\uffa0\u2800"  # fillers, of Hangul and of Braille
    kinds = {"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"}
    every = map(chr, range(sys.maxunicode + 1))
    # Of those for private use, and those that are none, one each.
    return [*others, "\ue000", "\uffff", *(c for c in every if unicodedata.category(c) in kinds)]


def test_nothing_that_is_not_seen_hides_a_formula():
    characters = unseen()
    assert {"\u00ad", "\u034f", "\u180e", "\u200d", "\u2060", "\ufe0f", "\U000e0020"} < {
        *characters
    }
    for character in characters:
        for begin in (character, f" {character}{character}'"):
            assert escape_formulas(f"{begin}=1").startswith("'"), ascii(character)
            assert escape_formulas(f"a;{begin}=1").endswith("'=1"), ascii(character)


def test_no_text_takes_long():
    for part in ("\n", "\n \u200b", "=", "\u200b=", "=\n", "\n=", ";"):
        long = part * 100_000 + "="
        assert len(escape_formulas(long)) >= len(long)


def test_whatever_becomes_a_sign_of_a_formula_is_one():
    """Programs may fold what they import to the plain form, as Unicode does."""
    folded = [c for c in map(chr, range(sys.maxunicode + 1)) if _fold(c)[:1] in tuple("=+-@")]
    assert len(folded) > 14
    for character in (*folded, "\u2212", "\u207b"):
        assert escape_formulas(f"{character}1") == f"'{character}1"
        assert escape_formulas(f"a\n\u200b{character}1") == f"a\n\u200b'{character}1"


def _fold(character: str) -> str:
    return unicodedata.normalize("NFKC", character)


@pytest.mark.parametrize("separator", list(";\t\r\n\v\f\0\x85\u2028\u2029"))
def test_no_other_cell_or_line_begins_with_a_formula(separator: str):
    assert escape_formulas(f"a{separator} =1").endswith(" '=1")


# --- files --------------------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole_or_not_at_all(configured: Path, database: Database):
    path = configured / "x.csv"
    path.write_text("before", encoding="utf-8")
    path.chmod(0o640)
    before = sorted(configured.iterdir())

    def stop() -> None:
        assert path.read_text(encoding="utf-8") == "before"
        raise EtlError("stopped")

    with pytest.raises(EtlError, match="stopped"):
        export.write_file(database, Export("current_snapshots"), path, stop)
    assert path.read_text(encoding="utf-8") == "before"
    with pytest.raises(EtlError):
        export.write_file(database, Export("current_snapshots", "parquet"), path, stop)
    assert path.read_text(encoding="utf-8") == "before"
    assert export.write_file(database, Export("current_snapshots"), path, lambda: None) == 5
    assert path.read_text(encoding="utf-8").startswith("id,source,")
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(configured.iterdir()) == before


def test_a_database_that_fails_leaves_the_file_as_it_was(
    run: Callable[..., int],
    configured: Path,
    database: Database,
    capsys: pytest.CaptureFixture[str],
):
    (configured / "x.csv").write_text("before", encoding="utf-8")
    with database.connect() as connection, connection.begin():
        connection.execute(text("DROP VIEW snapshot_changes"))
    assert run("snapshot_changes", "--output", "x.csv") == 2
    assert "snapshot_changes" in capsys.readouterr().err
    assert (configured / "x.csv").read_text(encoding="utf-8") == "before"
    names = sorted(path.name for path in configured.iterdir())
    assert names == [".env", "heatmap-etl.toml", "x.csv"]


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_a_link_stays_a_link(run: Callable[..., int], configured: Path):
    (configured / "there").mkdir()
    (configured / "x.csv").symlink_to("there/real.csv")
    assert run("sync_health", "--output", "x.csv") == 0
    assert (configured / "x.csv").is_symlink()
    assert (configured / "there" / "real.csv").read_bytes().startswith(b"source,")


@pytest.mark.parametrize("dialect", ["sqlite"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "heatmap-etl.toml"], "holds the configuration or the database"),
        (["--output", ".env"], "holds the configuration or the database"),
        (["--output", "no/x.csv"], "its folder does not exist; make it"),
        (["--output", "."], "is a folder; name a file in it"),
        (["--format", "parquet"], "--format parquet needs --output FILE"),
        (["--spreadsheet", "--format", "jsonl"], "--spreadsheet is for CSV"),
        (["--since", "soon"], "expected an instant such as 2026-11-01"),
        (["--format", "xml"], "'xml' is not one of"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
):
    assert run("current_snapshots", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert words in line


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_the_database_itself_is_never_replaced(
    run: Callable[..., int], database: Database, capsys: pytest.CaptureFixture[str]
):
    file = database.engine.url.database
    assert file is not None
    for suffix in ("", "-wal"):
        assert run("sync_health", "--output", file + suffix) == 2
        assert "holds the configuration or the database" in capsys.readouterr().err
    assert run("view_coverage", "--since", "1d") == 2
    assert "has no instant to compare" in capsys.readouterr().err


def test_without_a_schema_nothing_is_made(
    empty_database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "heatmap-etl.toml").write_text('views = ["/home"]\n', encoding="utf-8")
    (tmp_path / ".env").write_text(
        f"HEATMAP_ETL_DATABASE_URL='{empty_database_url}'\n", encoding="utf-8"
    )
    (tmp_path / ".env").chmod(0o600)
    before = sorted(tmp_path.iterdir())
    assert main(["export", "sync_health", "--output", "x.csv"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_reader_that_went_away_changes_nothing(configured: Path, database: Database):
    rename(database, ["x" * 50_000] * 40)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "etl", "export", "current_snapshots"],
        cwd=configured,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(3) == b"id,"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


# --- size ---------------------------------------------------------------------------------


def grow(database: Database, times: int, of: int = len(known_history.SNAPSHOTS)) -> int:
    """Double the `of` snapshots so many times; how many there are then."""
    table = schema.snapshots
    other_columns = [column for column in table.c if column.name != "id"]
    with database.connect() as connection, connection.begin():
        for n in range(times):
            more = select(table.c.id + literal(f"-{of}-{n}"), *other_columns)
            columns = [table.c.id, *other_columns]
            connection.execute(insert(table).from_select(columns, more))
    return of << times


def peak_kb(folder: Path, *arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, "export", *arguments],
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(configured: Path, database: Database, dialect: str):
    # The formats are the same behind each database: on servers it is the driver that may hold rows.
    endings = ("parquet", "csv", "jsonl") if dialect == "sqlite" else ("jsonl",)
    few = grow(database, 12)  # more than two batches
    before = peak_kb(configured, "snapshot_versions", "--output", f"x.{endings[0]}")
    many = grow(database, 2, of=few)
    for ending in endings:
        # Held at once, 100,000 rows are more than 150 MB.
        assert peak_kb(configured, "snapshot_versions", "--output", f"x.{ending}") < before + 60_000
    with (configured / "x.jsonl").open("rb") as file:
        assert sum(1 for _ in file) == many + len(known_history.HISTORY)


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_a_reader_may_be_slower_than_a_transaction_may_idle(
    database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("etl.database.dialects.postgresql.IDLE_TIMEOUT_S", 1)
    monkeypatch.setattr("etl.serve.export._BATCH_ROWS", 1)
    parsed = parse_database(database_url, Path.cwd())
    with closing(open_database(parsed.url, label=parsed.label)) as impatient:
        known_history.write(impatient)
        pauses = iter([1.5])
        file = io.BytesIO()
        count = export.write_rows(
            impatient,
            Export("current_snapshots", "jsonl"),
            file,
            lambda: time.sleep(next(pauses, 0)),
        )
    assert count == len(file.getvalue().splitlines()) > 1
