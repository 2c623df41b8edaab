"""A file is there as a whole or not at all, with the permissions it should have."""

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from etl.files import whole_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param(None, 0o640, id="what the umask leaves"),
        pytest.param(0o600, 0o600, id="for its owner"),
        pytest.param(0o664, 0o664, id="whatever the umask"),
    ],
)
def test_a_file_has_the_permissions_asked_for(tmp_path: Path, mode: int | None, expected: int):
    path, before = tmp_path / "x", os.umask(0o027)
    try:
        with whole_file(path, mode=mode) as file:
            file.write(b"new")
            (temporary,) = tmp_path.iterdir()
            assert mode_of(temporary) & ~expected == 0  # never more than in the end
    finally:
        os.umask(before)
    assert (path.read_bytes(), mode_of(path)) == (b"new", expected)
    assert names(tmp_path) == ["x"]


def test_what_goes_wrong_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "x.prom"
    path.write_bytes(b"old")
    with suppress(ZeroDivisionError), whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.glob("*.prom"))) == 1  # what a collector reads
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.prom"]


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path):
    (tmp_path / "there").write_bytes(b"old")
    path = tmp_path / "x"
    path.symlink_to("there")
    with whole_file(path) as file:
        file.write(b"new")
    assert not path.is_symlink()
    assert (path.read_bytes(), (tmp_path / "there").read_bytes()) == (b"new", b"old")


@pytest.mark.parametrize("is_link", [False, True])
def test_what_must_not_be_replaced_stays(tmp_path: Path, is_link: bool):
    path = tmp_path / "x"
    if is_link:
        path.symlink_to("nowhere")
    else:
        path.write_bytes(b"old")
    with pytest.raises(FileExistsError), whole_file(path, replaces=False) as file:
        file.write(b"new")
    assert names(tmp_path) == ["x"]
    assert path.is_symlink() if is_link else path.read_bytes() == b"old"


def test_without_a_folder_there_is_no_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "x"):
        raise AssertionError
