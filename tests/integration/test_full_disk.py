"""A full disk: what is stored stays, one line says where there is no room, and how much, and the
next run with room goes on."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from etl.cli.output.run import quiet_lines
from etl.database.connection import open_database
from etl.database.dialects import dialect_named
from etl.errors import EtlError, StoreError
from etl.files import full_disk, room_left, whole_file
from etl.ledger.results import RunResult
from tests.support.api import Api, record
from tests.support.project import Project, make_config, open_project
from tests.support.servers import Servers, account_of
from tests.support.small_disk import SmallDisk, small_disk

MANY = 6000
ADVICE = "make room there; what is stored stays, and the next run goes on"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 1500) as disk:
        yield disk


@pytest.fixture
def on_disk(disk: SmallDisk, api: Api) -> Iterator[Project]:
    """A project with a database on the small disk, after a run that found room."""
    api.views |= {"/home": [record("1")], "/small": [record("2", view_name="/small")]}
    url = f"sqlite:///{disk.folder}/x.db"
    project = open_project(make_config(url, api.url, ["/home", "/small"]))
    project.configure(page_limit=10 * MANY)
    assert project.run().status == "ok"
    yield project
    project.database.close()


def outgrow(api: Api) -> None:
    api.views["/home"] = [record(f"new {n}", snapshot_name="x" * 300) for n in range(MANY)]
    api.views["/home"].append(record("1", snapshot_name="renamed"))


def said_by(run: Callable[[], RunResult]) -> str:
    """What a run that finds no room says, in its result or as it ends."""
    try:
        result = run()
    except EtlError as error:
        return str(error)
    (line,) = quiet_lines(result)
    return line


def assert_goes_on_with_room(project: Project) -> None:
    assert project.run().status == "ok"
    assert len(project.live()) == MANY + 2
    (version,) = project.history()
    assert (version["snapshot_id"], version["ended"]) == ("1", "changed")


# --- SQLite -------------------------------------------------------------------------------


def test_sqlite_on_a_full_disk(on_disk: Project, disk: SmallDisk, api: Api) -> None:
    before = on_disk.snapshots()
    outgrow(api)
    line = said_by(on_disk.run)
    assert f"MB free in {disk.folder}: {ADVICE}" in line
    assert "database or disk is full; 0 MB" in line or "disk I/O error; 0 MB" in line
    disk.resize(64_000)
    assert on_disk.snapshots() == before
    assert on_disk.history() == []
    assert_goes_on_with_room(on_disk)


def test_sqlite_that_cannot_even_be_opened(on_disk: Project, disk: SmallDisk) -> None:
    on_disk.database.close()
    filler = disk.fill()
    with pytest.raises(StoreError, match=rf"; 0 MB free in {disk.folder}: {ADVICE}$"):
        on_disk.run()
    filler.unlink()
    assert on_disk.run().status == "ok"


def test_sqlite_that_cannot_be_made(disk: SmallDisk, api: Api) -> None:
    disk.fill()
    project = open_project(make_config(f"sqlite:///{disk.folder}/new.db", api.url))
    with closing(project.database), pytest.raises(StoreError, match=rf"; 0 MB free in .*{ADVICE}"):
        project.run()


def test_an_error_of_the_disk_with_room_is_a_quota_or_a_fault(tmp_path: Path) -> None:
    dialect = dialect_named("sqlite")
    database = open_database(f"sqlite:///{tmp_path}/x.db", label="x")
    for code, said in ((10, "look for a quota"), (13, "the folder for temporary files"), (14, "")):
        cause = OSError("oops")
        cause.sqlite_errorcode = code | 3 << 8  # type: ignore[attr-defined]
        error = OperationalError("", {}, cause)
        hint = dialect.hint_on_limit(error, database.engine)
        assert said in hint
        assert bool(said) == hint.startswith(room_left(tmp_path / "x.db")[:3])


# --- servers ------------------------------------------------------------------------------


@pytest.fixture
def open_at(new_database: Callable[..., str], api: Api) -> Iterator[Callable[[str], Project]]:
    made: list[Project] = []

    def make(dialect: str) -> Project:
        api.views |= {"/home": [record("1")], "/small": [record("2", view_name="/small")]}
        url = new_database(dialect)
        made.append(open_project(make_config(url, api.url, ["/home", "/small"])))
        made[-1].configure(page_limit=10 * MANY)
        return made[-1]

    yield make
    for project in made:
        project.database.close()


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_a_full_tablespace_is_named(
    dialect: str, open_at: Callable[[str], Project], servers: Servers, api: Api
) -> None:
    project = open_at(dialect)
    server = servers.get(dialect)
    project.run()
    before = project.snapshots()
    name = project.database.engine.url.database
    with small_disk(server.folder / "small", 2500, account_of(server.accounts)) as disk:
        server.execute(f"create tablespace small location '{disk.folder}'")
        try:
            server.execute("grant create on tablespace small to public")
            project.execute("ALTER TABLE snapshots SET TABLESPACE small")
            outgrow(api)
            line = said_by(project.run)
            assert "could not extend file" in line
            assert f"the tablespace small of the database server ({disk.folder}, " in line
            assert "MB in use) is full" in line
            assert line.endswith(ADVICE)
            assert project.snapshots() == before
            disk.resize(64_000)
            assert_goes_on_with_room(project)
        finally:
            project.database.close()
            server.drop_database(str(name))
            server.execute("drop tablespace small")


@pytest.mark.parametrize("dialect", ["mariadb"])
def test_a_full_table_of_mariadb(
    dialect: str, open_at: Callable[[str], Project], api: Api, servers: Servers
) -> None:
    """By a trigger, with InnoDB's error: where a tmpfs is really full, that server ends itself."""
    project = open_at(dialect)
    project.run()
    before = project.snapshots()
    name = project.database.engine.url.database
    servers.get(dialect).execute(
        f"CREATE TRIGGER `{name}`.no_room BEFORE INSERT ON `{name}`.snapshots FOR EACH ROW SIGNAL "
        "SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'"
    )
    outgrow(api)
    line = said_by(project.run)
    assert "The table is full; the disk of the database server (data in " in line
    assert line.endswith(ADVICE)
    assert project.snapshots() == before
    servers.get(dialect).execute(f"DROP TRIGGER `{name}`.no_room")
    assert_goes_on_with_room(project)


@pytest.mark.parametrize(
    ("dialect", "number", "text"),
    [
        ("mariadb", 1021, 'Disk full (/tmp/x); waiting (errno: 28 "No space left on device")'),
        ("mariadb", 1030, 'Got error 28 "No space left on device" from storage engine InnoDB'),
        ("mariadb", 3, "Error writing file '/tmp/ML' (Errcode: 122 \"Disk quota exceeded\")"),
        ("mariadb", 1026, "Error writing file 'x' (OS errno 28 - No space left on device)"),
    ],
)
def test_other_errors_of_a_full_mariadb(
    dialect: str, number: int, text: str, open_at: Callable[[str], Project]
) -> None:
    """The server's own error, as it comes over the wire."""
    project = open_at(dialect)
    signal = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = '"
    signal += text.replace("'", "''").replace(":", "\\:") + "'"
    with pytest.raises(StoreError, match=r"the disk of the database server \(data in /.*, temp"):
        project.database.transaction(lambda connection: connection.exec_driver_sql(signal))


@pytest.mark.parametrize("dialect", ["postgresql"])
@pytest.mark.parametrize(
    ("state", "text", "said"),
    [
        ("53100", "could not write to file pg_wal/x", "the disk of the database server that holds"),
        ("53100", "could not extend file pg_tblspc/1/x", "the disk of the database server is full"),
        ("XX000", "could not write block: Disk quota exceeded", "or its quota is used up"),
        ("53400", "temporary file size exceeds temp_file_limit (1kB)", "raise that limit"),
        ("53200", "out of memory", "has no memory left"),
    ],
)
def test_other_errors_of_a_full_postgresql(
    dialect: str, state: str, text: str, said: str, open_at: Callable[[str], Project]
) -> None:
    project = open_at(dialect)
    raising = f"DO $$ BEGIN RAISE EXCEPTION '{text}' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(StoreError, match=said):
        project.database.transaction(lambda connection: connection.exec_driver_sql(raising))


# --- files --------------------------------------------------------------------------------


def test_a_file_on_a_full_disk_says_so_and_leaves_the_old_one(disk: SmallDisk) -> None:
    path = disk.folder / "x.csv"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="No space") as caught, whole_file(path) as file:
        file.write(bytes(4_000_000))
    advice = "which is too little: make room there"
    assert caught.value.strerror == f"No space left on device; 1 MB free in {disk.folder}, {advice}"
    assert path.read_bytes() == b"old"
    assert [one.name for one in disk.folder.iterdir()] == ["x.csv"]


def test_a_quota_that_is_used_up_is_told_from_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(OSError, match="quota") as caught, whole_file(path):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert f"MB free in {tmp_path}, but this user's quota is used up: raise it" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert full_disk(PermissionError(errno.EACCES, "no"), path) == ""


def test_the_room_of_a_folder_that_is_not_there_is_that_above_it(tmp_path: Path) -> None:
    assert room_left(tmp_path / "no" / "such" / "x").endswith(f" MB free in {tmp_path}")
    assert int(room_left(tmp_path).split(" ")[0].replace(",", "")) == pytest.approx(
        shutil.disk_usage(tmp_path).free / 1e6, rel=0.5, abs=100
    )


def test_a_disk_without_inodes_has_no_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 9000, inodes=2) as disk:
        (disk.folder / "last").touch()
        assert room_left(disk.folder / "x") == f"0 MB free in {disk.folder}"
        with pytest.raises(OSError, match="0 MB free"), whole_file(disk.folder / "x"):
            pass
