"""Who may read what the program makes: its owner, or whom `files.mode` lets."""

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from etl.database.connection import opened
from etl.database.migrations import upgrade
from etl.diagnose.check import WARNING, find_points
from etl.diagnose.probe import report
from etl.errors import DatabaseUnreachable
from etl.serve.export import Export, write_file
from tests.support.project import make_config

STRANGER = 20003
BESIDE = ("", "-wal", "-shm")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "etl.db"


def modes_in_use(file: Path, files_mode: int = 0o600, mask: int = 0) -> dict[str, int]:
    """The modes of a database and of what SQLite makes next to it, while it is written."""
    config = replace(make_config(f"sqlite:///{file}", "http://127.0.0.1:9"), files_mode=files_mode)
    with umask(mask), opened(config) as database, database.connect() as connection:
        with connection.begin():
            connection.execute(text("CREATE TABLE x (a INTEGER)"))
        return {end: mode_of(Path(f"{file.resolve()}{end}")) for end in BESIDE}


@pytest.mark.parametrize("files_mode", [0o600, 0o640, 0o644, 0o660])
@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_a_new_database_has_the_mode_that_is_set(file: Path, files_mode: int, mask: int) -> None:
    assert modes_in_use(file, files_mode, mask) == dict.fromkeys(BESIDE, files_mode)


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_an_old_database_keeps_its_mode(file: Path, mode: int) -> None:
    file.touch()
    file.chmod(mode)
    assert modes_in_use(file, 0o640) == dict.fromkeys(BESIDE, mode)


def test_a_link_of_our_own_leads_to_a_new_database(file: Path, tmp_path: Path) -> None:
    file.symlink_to(tmp_path / "there.db")
    modes_in_use(file)
    assert mode_of(tmp_path / "there.db") == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="LOUD: only root can give a link away")
def test_no_database_is_made_behind_a_link_of_another_user(file: Path, tmp_path: Path) -> None:
    file.symlink_to(tmp_path / "there.db")
    os.chown(file, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(
        DatabaseUnreachable, match=r"is a link of another user .* remove it, or name"
    ):
        modes_in_use(file)
    assert not (tmp_path / "there.db").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="LOUD: only root can give a file away")
@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
def test_nothing_is_written_to_what_another_user_keeps_in_a_shared_folder(
    file: Path, tmp_path: Path, end: str
) -> None:
    beside = Path(f"{file}{end}")
    beside.touch(mode=0o666)
    os.chown(beside, STRANGER, STRANGER)
    tmp_path.chmod(0o1777)
    refused = rf"{beside} belongs to another user \(uid 20003\); run this as that user, or name"
    with pytest.raises(DatabaseUnreachable, match=refused):
        modes_in_use(file)
    assert beside.stat().st_size == 0
    tmp_path.chmod(0o755)  # a folder of ours: the owner of the job, whom root helps
    modes_in_use(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="LOUD: only root can give a link away")
def test_nothing_is_written_to_a_database_behind_a_link_of_another_user(
    file: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there.db"
    there.touch()
    file.symlink_to(there)
    os.chown(file, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(DatabaseUnreachable, match="is a link of another user"):
        modes_in_use(file)
    assert there.stat().st_size == 0


def test_exports_have_it_too_and_an_old_one_keeps_its_own(file: Path, tmp_path: Path) -> None:
    config = make_config(f"sqlite:///{file}", "http://127.0.0.1:9")
    path = tmp_path / "x.csv"

    def exported(new_mode: int) -> int:
        wanted = Export("current_snapshots")
        write_file(database, wanted, path, lambda: None, new_mode=new_mode)
        return mode_of(path)

    with umask(0), opened(config) as database:
        upgrade(database)
        assert exported(0o600) == 0o600
        path.unlink()
        assert exported(0o640) == 0o640
        path.chmod(0o604)
        assert exported(0o600) == 0o604


def test_a_report_has_it(tmp_path: Path) -> None:
    for mode in (0o600, 0o640):
        with umask(0):
            report._write(tmp_path / f"{mode}.md", "text", mode)
        assert mode_of(tmp_path / f"{mode}.md") == mode


@pytest.mark.parametrize(
    ("mode", "files_mode", "is_warned"),
    [(0o644, 0o600, True), (0o644, 0o644, False), (0o640, 0o600, False), (0o600, 0o600, False)],
)
def test_check_warns_of_an_old_database_that_others_may_read(
    file: Path, mode: int, files_mode: int, *, is_warned: bool
) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 1")
    file.chmod(mode)
    config = make_config(f"sqlite:///{file}", "http://127.0.0.1:9")
    config = replace(config, keys=None, files_mode=files_mode)
    points = find_points(config, stop=threading.Event())
    warned = [p.text for p in points if (p.about, p.verdict) == ("database", WARNING)]
    advice = f"run: chmod o-rwx {file}"
    line = f"{file} can be read by others (mode 0644), and so can persons in it; {advice}"
    assert warned == ([line] if is_warned else [])
