"""SQLite: a file with one writer at a time; by its write-ahead log readers never wait."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import stat
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import URL, Connection, Engine, NullPool, Table, create_engine, event
from sqlalchemy import Dialect as SqlDialect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from etl.config.files import TMPDIR
from etl.config.output_file import files_of_sqlite
from etl.config.trust import planted
from etl.database.cursor import driver_cursor
from etl.database.dialects import LET_WRITE, MAKE_ROOM, Dialect, Row, lookup
from etl.database.dialects.types import UtcDateTime
from etl.files import PRIVATE, free_bytes, make_empty, room_left

_BUSY_TIMEOUT_S = 30
_ENOUGH_BYTES = 1_000_000  # with less, not even the index of the log can be made
_CACHE_KIB = 8_000
_WAL_PAGES = 8_000
# One idle connection: the cache of each is worth nothing once another connection has written.
_POOL = {"pool_size": 1}
_SAVE = "put it back from a backup, or save what can be read of it by: sqlite3 FILE .recover"
_HINTS = (
    ("not a SQLite database|is a folder|is no file|leads to itself", "name another file"),
    ("of another user", "remove it, or name a file in another folder"),
    ("belongs to another user", "run this as that user, or name a file in another folder"),
    ("cut short", _SAVE),
    ("", "check that the folder exists and can be written"),
)
_IN_OUR_WORDS = {
    "file is not a database": "it is not a SQLite database",
    "database disk image is malformed": "it is cut short or damaged",
}
_TEMPORARY_FOLDERS = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108 - where SQLite looks
_MAGIC = b"SQLite format 3\0"
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse.sshfs", "afs", "9p", "glusterfs", "ceph")


class Sqlite(Dialect):
    """A file and, while a process writes, its log and index next to it."""

    family = "sqlite"
    ids_at_once = 10_000  # in one parameter

    def make_engine(
        self,
        url: str,
        schema_name: str | None,  # noqa: ARG002
        file_mode: int = PRIVATE,
    ) -> Engine:
        file = Path(make_url(url).database or "")
        # `immutable` does not look for changes: no connection must outlive its use.
        pool: dict[str, Any] = {"poolclass": NullPool} if must_open_immutable(file) else _POOL
        engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S}, **pool)

        @event.listens_for(engine, "do_connect")
        def connect_immutable(
            dialect: SqlDialect, _record: object, _arguments: object, parameters: dict[str, Any]
        ) -> Any:
            if reason := _why_unusable(file):
                raise OSError(reason)
            if not must_open_immutable(file):
                _make_missing(file, file_mode)
                return None
            return dialect.connect(
                f"file:{quote(str(file))}?immutable=1", **{**parameters, "uri": True}
            )

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            # The driver's own transactions start too late and never for DDL; ours start in `begin`.
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000}")
            cursor.execute("PRAGMA synchronous = NORMAL")
            # The keys of four views of a thousand rows are all over the index. With a smaller cache
            # each of its pages is written several times in one commit, and again by a checkpoint
            # after every commit.
            cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            cursor.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            if not _has_temporary_folder(file):
                cursor.execute("PRAGMA temp_store = MEMORY")
            cursor.close()

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            kind = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
            connection.exec_driver_sql(f"BEGIN {kind}")

        return engine

    def file(self, url: str | URL) -> Path | None:
        return Path(make_url(url).database or ":memory:")

    def prepare_to_read(self, connection: Connection) -> Connection:
        """Begin without a lock; it is taken only where one is needed."""
        return connection.execution_options(sqlite_begin="DEFERRED")

    def prepare_to_write(self, connection: Connection) -> None:
        """Switch to write-ahead logging; a reader does not change the file.

        Raises OSError for a file that another user keeps.
        """
        if not connection.info.get("writes_ahead"):
            if reason := _kept_by_another(connection.engine.url):
                raise OSError(reason)
            with driver_cursor(connection, begins=False) as cursor:
                _write_ahead(cursor)
            connection.info["writes_ahead"] = True

    def tell(self, error: BaseException) -> str:
        """Without what its functions for JSON, or the driver that cannot decode a text, quote."""
        message, is_cut, _ = super().tell(error).partition(" with text '")
        return message if is_cut else re.sub("'.*'", "***", message, flags=re.DOTALL)

    def brief(self, error: BaseException) -> str:
        message = super().brief(error)
        return _IN_OUR_WORDS.get(message, message)

    def hint(self, error: BaseException, message: str) -> str:  # noqa: ARG002
        return next(hint for pattern, hint in _HINTS if re.search(pattern, message))

    def hint_on_failure(self, message: str) -> str:
        if "cut short" in message:
            return _SAVE
        return LET_WRITE if "readonly database" in message else ""

    def hint_on_limit(self, error: BaseException, engine: Engine) -> str:
        """By SQLite's code. A quota, and a log that cannot grow, are errors of the disk to it."""
        code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF
        file = self.file(engine.url)
        kinds = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
        if code not in kinds or file is None or not file.parent.is_dir():
            return ""
        room, has_room = room_left(file), free_bytes(file.parent) >= _ENOUGH_BYTES
        if not has_room:
            return f"{room}: {MAKE_ROOM}"
        if code == sqlite3.SQLITE_FULL:
            return f"{room}, so it is the folder for temporary files (SQLITE_TMPDIR): {MAKE_ROOM}"
        if code == sqlite3.SQLITE_IOERR:
            return f"{room}: look for a quota that is used up, and for a disk that fails"
        return ""

    def is_repeatable(self, error: DBAPIError) -> bool:
        return "database is locked" in str(error.orig)

    def is_missing_table(self, error: DBAPIError) -> bool:
        return "no such table" in str(error.orig)

    def clock(self, connection: Connection) -> datetime:  # noqa: ARG002
        """The host's: SQLite has none of its own."""
        return datetime.now(UTC)

    def as_stored(self, name: str) -> str:
        """In lower case: SQLite takes Sources and sources for one table."""
        return name.lower()

    def compact(self, connection: Connection) -> bool:
        """Remove free pages, and the log, which a reader may keep in use."""
        with driver_cursor(connection, begins=False) as cursor:
            cursor.execute("VACUUM")
            is_busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            return not is_busy

    def read_live(
        self, cursor: Any, view_key: str, source: str
    ) -> tuple[dict[str, str], Sequence[Row]]:
        return lookup.live_as_json(
            cursor, view_key, source, mark="?", to_object="json_group_object"
        )

    def read_ids(self, cursor: Any, ids: Sequence[str]) -> Sequence[Row]:
        of_ids = lookup.OF_IDS.format(ids="SELECT value FROM json_each(?)")
        query = f"SELECT json_group_array(json_array({lookup.BY_ID})) {of_ids}"
        ((text,),) = lookup.fetched(cursor, query, (lookup.as_json(ids),))
        rows: Sequence[Row] = msgspec.json.decode(text)
        return rows

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        names = [column.name for column in table.columns]
        key = table.primary_key.columns.keys()
        assign = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
        with driver_cursor(connection) as cursor:
            cursor.executemany(
                f"INSERT INTO {table.name} ({', '.join(names)})"  # noqa: S608
                f" VALUES ({', '.join('?' * len(names))})"
                f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {assign}",
                _with_instants_as_text(table, rows),
            )

    def wait_briefly(self, connection: Connection, seconds: int) -> None:
        connection.detach()  # closed when it is given back: nobody else waits as briefly
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {seconds * 1000}")


def _has_temporary_folder(file: Path) -> bool:
    """Whether SQLite can sort on disk what does not fit into its cache; else it would give up."""
    named = os.environ.get(TMPDIR)
    if named and "SQLITE_TMPDIR" not in os.environ:
        os.environ["SQLITE_TMPDIR"] = str(file.parent / named)
    folders = [os.environ.get(name) for name in ("SQLITE_TMPDIR", "TMPDIR")]
    return any(f and os.access(f, os.W_OK | os.X_OK) for f in (*folders, *_TEMPORARY_FOLDERS))


def _make_missing(file: Path, mode: int) -> None:
    """Make a database that is not there yet, before SQLite would make it. Raises OSError."""
    if file.exists():
        return
    if reason := planted(file):
        raise OSError(reason)
    with contextlib.suppress(OSError):  # SQLite says why it cannot be made
        make_empty(file, mode)


def _kept_by_another(url: URL) -> str:
    """Why another user would get to read what is written; "" where not.

    In a folder such as /tmp he may have put there the database, or what SQLite writes next to it.
    Without its bit anybody may replace any file of a shared folder: an owner says nothing there.
    """
    file = Path(url.database or "")
    beside = files_of_sqlite(Path(os.path.realpath(file)))
    return next(filter(None, (planted(f, stat.S_ISVTX) for f in (file, *beside))), "")


def _why_unusable(file: Path) -> str:
    """What SQLite would not notice, or say in other words; "" where it may be opened, or made.

    It takes a device for an empty database, next to which it makes files, and fills up a last page.
    """
    try:
        found = file.stat()
    except OSError as error:
        return "it is a link that leads to itself" if error.errno == errno.ELOOP else ""
    if not stat.S_ISREG(found.st_mode):
        is_folder = stat.S_ISDIR(found.st_mode)
        return "it is a folder" if is_folder else "it is no file, but a device, pipe or socket"
    if Path(f"{file}-wal").exists() or Path(f"{file}-journal").exists():
        return ""  # another process may write the last page now, or SQLite will put it right
    try:
        with file.open("rb") as opened:
            head = opened.read(18)
    except OSError:
        return ""
    page = int.from_bytes(head[16:18], "big")
    is_cut = head.startswith(_MAGIC) and page >= 512 and found.st_size % page
    return "it is cut short" if is_cut else ""


def must_open_immutable(file: Path) -> bool:
    """Whether we may only read the file, it is in write-ahead mode, and no process has it open.

    SQLite would create two files next to it even to read. Where it may not, it refuses; where it
    may, they would belong to us, and shut out the user who writes.
    """
    if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
        return False
    try:
        with file.open("rb") as opened:
            versions = opened.read(20)[18:]
        return versions == b"\2\2" and not Path(f"{file}-wal").exists()
    except OSError:
        return False


def network_file_system(path: Path) -> str | None:
    """The network file system of `path`, by /proc/mounts; SQLite's locks fail there."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return None
    folders = {str(folder) for folder in (path, *path.parents)}
    above = [(len(m[1]), m[2]) for m in mounts if m[1] in folders]
    kind = max(above, default=(0, ""))[1]
    return kind if kind.startswith(_NETWORK_FILE_SYSTEMS) else None


def _write_ahead(cursor: Any) -> None:
    """Retry until it works: for this switch SQLite ignores busy_timeout."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _with_instants_as_text(table: Table, rows: Sequence[Row]) -> list[list[Any]]:
    """As SQLAlchemy writes instants on SQLite; the driver's own adapter is deprecated."""
    instants = [n for n, c in enumerate(table.columns) if isinstance(c.type, UtcDateTime)]
    texts = [list(row) for row in rows]
    last: datetime | None = None
    text = ""
    for values in texts:
        for index in instants:
            instant: datetime | None = values[index]
            if instant is None:
                continue
            if instant is not last:  # that of the reading is in every row, twice
                last, text = instant, _instant_text(instant)
            values[index] = text
    return texts


def _instant_text(instant: datetime) -> str:
    # isoformat takes ten times as long; msgspec leaves a fraction of zero out.
    text: str = msgspec.to_builtins(instant)
    fraction = text[19:-1] or ".000000"
    return f"{text[:10]} {text[11:19]}{fraction}"
