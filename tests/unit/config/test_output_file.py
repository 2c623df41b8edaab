"""Which files an option may write, and which it leaves alone, by whatever name they are called."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from etl.config.model import Sources
from etl.config.output_file import Kind, output_beside, output_file, protected_files
from etl.errors import ConfigError
from tests.support.project import make_config

NUMBERS = Kind("a list of numbers", lambda file: file.read().isdigit())


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Two sources with a SQLite file and a key each; every file of theirs holds its own name."""
    config = make_config(f"sqlite:///{tmp_path}/etl.db", "http://127.0.0.1:9")
    configs = tuple(replace(config, path=tmp_path / f"{name}.toml") for name in ("a", "b"))
    monkeypatch.setenv("DD_API_KEY_FILE", "api_key")
    for name in ("a.toml", "b.toml", "a.env", ".env", "etl.db", "etl.db-wal", "api_key", "app_key"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "b.env").write_text(f"DD_APP_KEY_FILE={tmp_path}/app_key\n", encoding="utf-8")
    return Sources(configs, is_folder=True)


def refused(sources: Sources, file: str | Path, kind: Kind | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        output_beside("--x", Path(file), sources, kind)
    (line,) = caught.value.problems
    assert line.startswith("--x: ")
    return line


OF_OURS = (
    *("a.toml", "b.toml", "a.env", "b.env", ".env", "api_key", "app_key"),
    *("etl.db", "etl.db-wal", "etl.db-shm", "etl.db-journal"),
)


@pytest.mark.parametrize("name", OF_OURS)
def test_no_output_replaces_what_we_live_on(sources: Sources, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").symlink_to(tmp_path)
    ways: list[str | Path] = [name, tmp_path / name, f"folder/./{name}"]
    if (tmp_path / name).exists():
        (tmp_path / "hard").hardlink_to(tmp_path / name)
        (tmp_path / "soft").symlink_to(name)
        ways += ["hard", "soft"]
    for way in ways:
        assert "holds the configuration or the database" in refused(sources, way), way


def test_the_test_names_all_that_is_protected(sources: Sources, tmp_path: Path) -> None:
    found = {
        path.relative_to(tmp_path)
        for path in protected_files(sources, {"DD_API_KEY_FILE": "api_key"})
    }
    assert {Path(name) for name in OF_OURS} == found


@pytest.fixture
def no_files(tmp_path: Path) -> Iterator[Path]:
    """A folder with one of each thing that is no file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        yield tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", "is a folder; name a file in it"),
        *((n, "is not a regular file") for n in ("pipe", "device", "socket", "/dev/null")),
        ("loop", "cannot be written: Too many levels"),
        ("none/x", "its folder does not exist; make it"),
        ("a" * 300, "cannot be written: File name too long"),
        ("a\0b", "not a usable file name"),
    ],
)
def test_what_is_no_file_is_refused(no_files: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        output_file("--x", no_files / name)


def test_a_file_of_another_kind_stays(tmp_path: Path) -> None:
    for name, text in (("other", "one"), ("same", "1"), ("empty", "")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="is not a list of numbers, and stays as it is"):
        output_file("--x", tmp_path / "other", kind=NUMBERS)
    for name in ("same", "empty", "new"):
        assert output_file("--x", tmp_path / name, kind=NUMBERS) == tmp_path / name
    assert output_file("--x", tmp_path / "other") == tmp_path / "other"


def test_a_link_is_followed_also_to_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("y")
    assert output_file("--x", tmp_path / "x") == tmp_path / "y"


@pytest.mark.parametrize("name", ["new.toml", "new.env"])
def test_no_output_becomes_a_source_or_its_keys(sources: Sources, name: str) -> None:
    assert "has a name that is read as a configuration or as keys" in refused(sources, name)


def test_a_file_that_is_stdout_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("wb") as out:
        monkeypatch.setattr("etl.config.output_file._STREAMS", (out.fileno(), 999_999))
        with pytest.raises(ConfigError, match="is not a regular file"):
            output_file("--x", tmp_path / "out")


def test_a_folder_that_is_closed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(ConfigError, match="this user may not write to its folder"):
        output_file("--x", tmp_path / "x")


def test_what_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1")

    def refuses(_file: BinaryIO) -> bool:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
        output_file("--x", tmp_path / "x", kind=Kind("x", refuses))
