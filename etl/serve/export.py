"""The SQL views -> CSV, JSON Lines or Parquet, some thousand rows at a time.

Comes in: a database and what to export. Goes out: bytes, into a stream or into a file that is
replaced as a whole. Memory does not grow with the rows. Text is hostile until shown to be
harmless: `neutral` is for spreadsheets, which take some of it for formulas.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
from sqlalchemy import Boolean, Column, Connection, Double, Integer, Select, Table, select

from etl.config.validators import BadValue, duration, plain
from etl.database.connection import Database, is_there
from etl.database.migrations import require_schema
from etl.database.sql_views import metadata
from etl.database.types import UtcDateTime
from etl.errors import ConfigError, DatabaseUnreachable, EtlError
from etl.files import whole_file
from etl.formatting import iso

FORMATS = ("csv", "jsonl", "parquet")
_ROWS = 10_000  # at a time; also a row group of Parquet

Rows: TypeAlias = "Sequence[Sequence[Any]]"
_Write: TypeAlias = "Callable[[Rows], object]"

SINCE = {
    "current_snapshots": "valid_from",
    "snapshot_versions": "valid_from",
    "snapshot_changes": "noticed_at",
    "sync_health": "last_run_at",
}
"""The instant that `--since` looks at; view_coverage is of now and has none."""


@dataclass(frozen=True, slots=True)
class Export:
    """What to export. `since`: rows whose instant of `SINCE` is not earlier."""

    view: str
    form: str = "csv"
    view_name: str | None = None
    since: datetime | None = None
    is_spreadsheet: bool = False

    @property
    def columns(self) -> list[Column[Any]]:
        """As the catalogue has them."""
        return list(metadata.tables[self.view].columns)


def format_of(form: str | None, output: Path | None) -> str:
    """The format asked for, else the one that the name of the file ends with, else CSV."""
    ending = output.suffix.lower().removeprefix(".") if output else ""
    return form or (ending if ending in FORMATS else FORMATS[0])


def require_sense(export: Export, output: Path | None) -> None:
    """Raises ConfigError with everything about it that cannot be done."""
    problems = []
    if export.since and export.view not in SINCE:
        problems.append(f"--since: {export.view} says how it stands now and has no instant to ask")
    if export.is_spreadsheet and export.form != "csv":
        problems.append("--spreadsheet is for CSV; the other formats know text from formulas")
    if export.form == "parquet" and output is None:
        problems.append("--format parquet needs --output FILE")
    if problems:
        raise ConfigError(problems)
    if export.form == "parquet":
        _parquet()


def since(text: str, now: datetime) -> datetime:
    """An ISO 8601 date or instant (UTC unless it says otherwise), or so long before `now`."""
    try:
        return now - timedelta(seconds=float(duration("1s", "5200w")(text)))
    except BadValue:
        pass
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "an instant such as 2026-11-01 or 2026-11-01T09:00:00Z, or a time such as 30d"
        raise ConfigError([f"--since: {plain(text)}: expected {expected}"]) from None


def output_path(output: Path, folder: Path, kept: Sequence[Path]) -> Path:
    """Where the file goes, relative to `folder`; raises ConfigError when it cannot go there.

    `kept`: files of ours, which no export may replace.
    """
    path = (folder / output).resolve()
    problem = ""
    if path in {file.resolve() for file in kept}:
        problem = "holds the configuration or the database; name another file"
    elif path.exists() and not path.is_file():
        problem = "is no file; name one, or leave --output away for stdout"
    elif not path.parent.is_dir():
        problem = "its folder does not exist; make it"
    if problem:
        raise ConfigError([f"--output: {plain(path)}: {problem}"])
    return path


def write_file(database: Database, export: Export, path: Path, check: Callable[[], None]) -> int:
    """Replace the file as a whole, or leave what is there; returns the number of rows."""
    try:
        mode = path.stat().st_mode & 0o7777 if path.exists() else None
        with whole_file(path, mode=mode) as file:
            return write(database, export, file, check)
    except OSError as error:
        raise EtlError(f"{plain(path)}: cannot be written: {error.strerror or error}") from None


def write(database: Database, export: Export, file: BinaryIO, check: Callable[[], None]) -> int:
    """Write the rows into the stream; returns how many. `check` may raise between two batches."""
    if not is_there(database):
        raise DatabaseUnreachable(f"the database {database.label} does not exist")
    require_schema(database)
    streams = {"csv": _csv, "jsonl": _json_lines, "parquet": _parquet_file}

    def work(connection: Connection) -> int:
        count = 0
        with streams[export.form](export, file) as put:
            for rows in _batches(connection, export):
                check()
                put(rows)
                count += len(rows)
        return count

    return database.read(work)


def query(export: Export) -> Select[Any]:
    """The rows in an order that stays: of the key, or of time."""
    view = metadata.tables[export.view]
    found = select(view).order_by(*(view.c[name] for name in _ORDER[export.view]))
    if export.view_name is not None:
        found = found.where(_name_column(view) == export.view_name)
    if export.since is not None:
        found = found.where(view.c[SINCE[export.view]] >= export.since)
    return found


_ORDER = {
    "current_snapshots": ("id",),
    "snapshot_versions": ("snapshot_id", "version"),
    "snapshot_changes": ("noticed_at", "snapshot_id", "version", "event"),
    "view_coverage": ("source", "view_name", "application_id", "device_type"),
    "sync_health": ("source", "view_name", "view_key"),
}


def _name_column(view: Table) -> Column[Any]:
    return view.c["synced_view"] if "synced_view" in view.c else view.c["view_name"]


def _batches(connection: Connection, export: Export) -> Iterator[Rows]:
    """Off a cursor that stays on the server, where there is one."""
    streaming = connection.execution_options(yield_per=_ROWS)
    with streaming.execute(query(export)) as result:
        yield from result.partitions()


# --- CSV ----------------------------------------------------------------------------------

_BOM = "\ufeff"  # without it Excel takes UTF-8 for the encoding of the country
_FORMULA = re.compile(r"""[\s"'\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]""")
_FORMULA_INSIDE = re.compile(r"""([;\t\r\n][\s"']*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])""")


def neutral(text: str) -> str:
    """Text that no spreadsheet takes for a formula: with an apostrophe before it, if need be.

    Also after blanks and quotes, and behind what may separate cells elsewhere: some countries
    have the semicolon.
    """
    text = _FORMULA_INSIDE.sub(r"\1'", text)
    return f"'{text}" if text[:1] in ("\t", "\r", "\n") or _FORMULA.match(text) else text


@contextlib.contextmanager
def _csv(export: Export, file: BinaryIO) -> Iterator[_Write]:
    words = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(words)
    as_cells = [_cell(column, export.is_spreadsheet) for column in export.columns]

    def put(rows: Rows) -> None:
        for row in rows:
            pairs = zip(as_cells, row, strict=True)
            writer.writerow(["" if value is None else cell(value) for cell, value in pairs])

    try:
        if export.is_spreadsheet:
            words.write(_BOM)
        writer.writerow([column.name for column in export.columns])
        yield put
    finally:
        words.detach()


def _cell(column: Column[Any], is_spreadsheet: bool) -> Callable[[Any], str]:
    if isinstance(column.type, UtcDateTime):
        return iso
    if isinstance(column.type, Boolean):
        return lambda value: "true" if value else "false"
    if isinstance(column.type, Integer | Double):
        return repr
    return neutral if is_spreadsheet else str


# --- JSON Lines ---------------------------------------------------------------------------


@contextlib.contextmanager
def _json_lines(export: Export, file: BinaryIO) -> Iterator[_Write]:
    names = [column.name for column in export.columns]
    encode = msgspec.json.Encoder(enc_hook=str).encode

    def put(rows: Rows) -> None:
        for row in rows:
            values = [iso(value) if isinstance(value, datetime) else value for value in row]
            file.write(encode(dict(zip(names, values, strict=True))) + b"\n")

    yield put


# --- Parquet ------------------------------------------------------------------------------


def _parquet() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        install = "pip install 'heatmap-etl[parquet]'"
        raise EtlError(f"Parquet needs a library that is not installed: {install}") from None
    return pa, pq


@contextlib.contextmanager
def _parquet_file(export: Export, file: BinaryIO) -> Iterator[_Write]:
    pa, pq = _parquet()
    schema = pa.schema([(c.name, _arrow_type(pa, c)) for c in export.columns])

    def put(rows: Rows) -> None:
        columns = zip(zip(*rows, strict=True), schema, strict=True)
        arrays = [pa.array(values, type=field.type) for values, field in columns]
        writer.write_batch(pa.record_batch(arrays, schema=schema))

    with pq.ParquetWriter(file, schema) as writer:
        yield put


def _arrow_type(pa: Any, column: Column[Any]) -> Any:
    if isinstance(column.type, UtcDateTime):
        return pa.timestamp("us", tz="UTC")
    if isinstance(column.type, Boolean):
        return pa.bool_()
    if isinstance(column.type, Double):
        return pa.float64()
    return pa.int64() if isinstance(column.type, Integer) else pa.string()
