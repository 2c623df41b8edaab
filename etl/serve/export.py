"""Exports a SQL view as CSV, JSON Lines or Parquet, into a stream or a file.

Rows are read and written in batches: memory does not grow with their number. A file is replaced
atomically. Text may be hostile: `escape_formulas` protects spreadsheets, which would run some of it
as formulas.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
from sqlalchemy import Boolean, Column, Connection, Double, Integer, Select, Table, select

from etl.config.model import Sources
from etl.config.output_file import Kind, output_beside
from etl.config.validators import BadValue, duration, plain
from etl.database.connection import Database
from etl.database.dialects import dialect_of
from etl.database.dialects.types import UtcDateTime
from etl.database.migrations import require_there
from etl.database.sql_views import metadata
from etl.errors import ConfigError, EtlError
from etl.files import PRIVATE, rights_of, whole_file
from etl.formatting import iso, to_install
from etl.library_faults import origin_of, packages_of

FORMATS = ("csv", "jsonl", "parquet")
_BY_ENDING = {**{name: name for name in FORMATS}, "ndjson": "jsonl"}
_LONGEST_HEADER = 4096
_BATCH_ROWS = 10_000  # also the size of Parquet's row groups

Rows: TypeAlias = "Sequence[Sequence[Any]]"
_Write: TypeAlias = "Callable[[Rows], object]"

SINCE_COLUMNS = {
    "current_snapshots": "valid_from",
    "snapshot_versions": "valid_from",
    "snapshot_changes": "noticed_at",
    "sync_health": "last_run_at",
}
"""The column that `--since` compares; view_coverage describes the present and has none."""


@dataclass(frozen=True, slots=True)
class Export:
    """What to export. `since`: only rows whose column of `SINCE_COLUMNS` is not earlier."""

    view: str
    file_format: str = "csv"
    view_name: str | None = None
    since: datetime | None = None
    is_spreadsheet: bool = False

    @property
    def columns(self) -> list[Column[Any]]:
        """The columns of the view, as the catalogue describes them."""
        return list(metadata.tables[self.view].columns)


def choose_format(file_format: str | None, output: Path | None) -> str:
    """The requested format, else the one the file name ends with, else CSV.

    Raises ConfigError for an ending that promises what cannot be written, such as `.xlsx`.
    """
    ending = _ending(output) if output else ""
    if file_format or not ending:
        return file_format or FORMATS[0]
    if ending not in _BY_ENDING:
        endings = ", ".join(f".{known}" for known in FORMATS)
        problem = f"no format ends in .{ending}; end the name in one of {endings}, or add --format"
        raise ConfigError([f"--output: {plain(output)}: {problem}"])
    return _BY_ENDING[ending]


def _ending(output: Path) -> str:
    return output.suffix.lower().removeprefix(".")


def require_possible(export: Export, output: Path | None) -> None:
    """Raises ConfigError with everything that cannot be exported as requested."""
    problems = []
    if export.since and export.view not in SINCE_COLUMNS:
        problems.append(
            f"--since: {export.view} shows only the present; it has no instant to compare"
        )
    if export.is_spreadsheet and export.file_format != "csv":
        problems.append("--spreadsheet is for CSV; the other formats have no formulas")
    if export.file_format == "parquet" and output is None:
        problems.append("--format parquet needs --output FILE")
    if problems:
        raise ConfigError(problems)
    if export.file_format == "parquet":
        _import_pyarrow()


def parse_since(text: str, now: datetime) -> datetime:
    """Parse an ISO 8601 date or instant (UTC by default), or an age before `now` such as 30d.

    Raises ConfigError for anything else.
    """
    try:
        return now - timedelta(seconds=float(duration("1s", "5200w")(text)))
    except BadValue:
        pass
    try:
        instant = datetime.fromisoformat(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "an instant such as 2026-11-01 or 2026-11-01T09:00:00Z, or a time such as 30d"
        raise ConfigError([f"--since: {plain(text)}: expected {expected}"]) from None


def output_path(output: Path, sources: Sources) -> Path:
    """The path of the file, relative to the configuration; raises ConfigError if unusable.

    A file whose name ends as an export's is replaced; any other only when it holds an export.
    """
    kind = None if _ending(output) in _BY_ENDING else Kind("an export", _holds_an_export)
    return output_beside("--output", output, sources, kind)


def _holds_an_export(file: BinaryIO) -> bool:
    start = file.read(_LONGEST_HEADER)
    if start.startswith(b"PAR1"):
        return True
    start = start.removeprefix(_BOM.encode())
    columns = [[column.name for column in view.columns] for view in metadata.tables.values()]
    return any(
        start.startswith((",".join(names).encode(), f'{{"{names[0]}":'.encode()))
        for names in columns
    )


def write_file(
    database: Database,
    export: Export,
    path: Path,
    check: Callable[[], None],
    *,
    new_mode: int = PRIVATE,
) -> int:
    """Replace the file atomically, or leave it as it is; returns the number of rows.

    One that is replaced hands on its permissions; `new_mode`: those of a new one.
    """
    try:
        mode, owner = rights_of(path)
        with whole_file(path, mode=new_mode if mode is None else mode, owner=owner) as file:
            return write_rows(database, export, file, check)
    except OSError as error:
        raise EtlError(f"{plain(path)}: cannot be written: {error.strerror or error}") from None
    except Exception as error:
        if isinstance(error, EtlError) or not packages_of(error):
            raise
        raise EtlError(f"{plain(path)}: cannot be written: {origin_of(error)}") from None


def write_rows(
    database: Database, export: Export, file: BinaryIO, check: Callable[[], None]
) -> int:
    """Write the rows to the stream; returns their number. `check` may raise between batches."""
    require_there(database)
    writers = {"csv": _csv, "jsonl": _json_lines, "parquet": _parquet}

    def copy_rows(connection: Connection) -> int:
        count = 0
        # All rows are sorted before the first comes.
        dialect_of(connection).allow_long_answers(connection)
        with writers[export.file_format](export, file) as write_batch:
            for rows in dialect_of(connection).batches(connection, query(export), _BATCH_ROWS):
                check()
                write_batch(rows)
                count += len(rows)
        return count

    return database.read(copy_rows)


def query(export: Export) -> Select[Any]:
    """Select the rows in a stable order: by key, or by time."""
    view = metadata.tables[export.view]
    statement = select(view).order_by(*(view.c[name] for name in _ORDER[export.view]))
    if export.view_name is not None:
        statement = statement.where(_name_column(view) == export.view_name)
    if export.since is not None:
        statement = statement.where(view.c[SINCE_COLUMNS[export.view]] >= export.since)
    return statement


_ORDER = {
    "current_snapshots": ("id",),
    "snapshot_versions": ("snapshot_id", "version"),
    "snapshot_changes": ("noticed_at", "snapshot_id", "version", "event"),
    "view_coverage": ("source", "view_name", "application_id", "device_type"),
    "sync_health": ("source", "view_name", "view_key"),
}


def _name_column(view: Table) -> Column[Any]:
    return view.c["synced_view"] if "synced_view" in view.c else view.c["view_name"]


# --- CSV ----------------------------------------------------------------------------------

_BOM = "\ufeff"  # without it Excel assumes the local encoding instead of UTF-8
_SEPARATORS = frozenset(";\t\n\v\f\r\0\x1c\x1d\x1e\x85\u2028\u2029")
# Also the forms that programs may fold to the plain ones, as Unicode does, and other minus signs.
_SIGN = re.compile(
    r"[=+\-@\u2212\u207a-\u207c\u208a-\u208c\u2a75\u2a76\ufb29"
    r"\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20]"
)
# Letters and signs that show nothing: fillers of Hangul and Braille, a note without a head.
_BLANK = frozenset("\"'\u115f\u1160\u3164\uffa0\u2800\U0001d159")


def escape_formulas(text: str) -> str:
    """Put an apostrophe before whatever a spreadsheet would take for a formula.

    Also after whatever is not seen, and after characters that separate lines or, as the semicolon
    in some countries, cells.
    """
    signs = [match.start() for match in _SIGN.finditer(text)]
    is_formula = text[:1] in ("\t", "\r", "\n") or (bool(signs) and _is_unseen(text[: signs[0]]))
    cuts = [at for at in signs if _is_first_of_part(text, at)]
    parts = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    return "'" * is_formula + "'".join(parts)


def _is_first_of_part(text: str, at: int) -> bool:
    """Whether nothing is seen between the character and the separator before it."""
    for before in reversed(range(at)):
        if text[before] in _SEPARATORS:
            return True
        if not _is_unseen(text[before]):
            return False
    return False


def _is_unseen(text: str) -> bool:
    """Whether all of it may be dropped or not shown: controls, blanks, marks, quotes."""
    return all(c in _BLANK or unicodedata.category(c)[0] in "CZM" for c in text)


@contextlib.contextmanager
def _csv(export: Export, file: BinaryIO) -> Iterator[_Write]:
    text_stream = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text_stream)
    converters = [_cell_converter(column, export.is_spreadsheet) for column in export.columns]

    def write_batch(rows: Rows) -> None:
        for row in rows:
            pairs = zip(converters, row, strict=True)
            writer.writerow(["" if value is None else convert(value) for convert, value in pairs])

    try:
        if export.is_spreadsheet:
            text_stream.write(_BOM)
        writer.writerow([column.name for column in export.columns])
        yield write_batch
    finally:
        text_stream.detach()


def _cell_converter(column: Column[Any], is_spreadsheet: bool) -> Callable[[Any], str]:
    if isinstance(column.type, UtcDateTime):
        return iso
    if isinstance(column.type, Boolean):
        return lambda value: "true" if value else "false"
    if isinstance(column.type, Integer | Double):
        return repr
    return escape_formulas if is_spreadsheet else str


# --- JSON Lines ---------------------------------------------------------------------------


@contextlib.contextmanager
def _json_lines(export: Export, file: BinaryIO) -> Iterator[_Write]:
    names = [column.name for column in export.columns]
    encode = msgspec.json.Encoder(enc_hook=str).encode

    def write_batch(rows: Rows) -> None:
        for row in rows:
            values = [iso(value) if isinstance(value, datetime) else value for value in row]
            file.write(encode(dict(zip(names, values, strict=True))) + b"\n")

    yield write_batch


# --- Parquet ------------------------------------------------------------------------------


def _import_pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise EtlError(f"Parquet needs an extra; run: {to_install('parquet')}") from None
    return pa, pq


@contextlib.contextmanager
def _parquet(export: Export, file: BinaryIO) -> Iterator[_Write]:
    pa, pq = _import_pyarrow()
    schema = pa.schema([(c.name, _arrow_type(pa, c)) for c in export.columns])

    def write_batch(rows: Rows) -> None:
        columns = zip(zip(*rows, strict=True), schema, strict=True)
        arrays = [pa.array(values, type=field.type) for values, field in columns]
        writer.write_batch(pa.record_batch(arrays, schema=schema))

    with pq.ParquetWriter(file, schema) as writer:
        yield write_batch


def _arrow_type(pa: Any, column: Column[Any]) -> Any:
    if isinstance(column.type, UtcDateTime):
        return pa.timestamp("us", tz="UTC")
    if isinstance(column.type, Boolean):
        return pa.bool_()
    if isinstance(column.type, Double):
        return pa.float64()
    return pa.int64() if isinstance(column.type, Integer) else pa.string()
