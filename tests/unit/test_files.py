"""A file is there as a whole or not at all, with the permissions it should have."""

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from etl.files import make_empty, whole_file


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


def test_nobody_can_guess_the_name_under_which_it_is_written(tmp_path: Path):
    """Else another user of a folder such as /tmp could put a link there first."""
    seen = set()
    for _ in range(20):
        with whole_file(tmp_path / "x.prom"):
            seen |= {name for name in names(tmp_path) if name != "x.prom"}
    assert len(seen) == 20
    assert min(len(name) for name in seen) >= len(".x.prom.") + 8


@pytest.mark.parametrize("owner", [None, (0, 0)])
def test_a_link_put_in_its_place_while_it_is_written_changes_no_other_file(
    tmp_path: Path, owner: tuple[int, int] | None
):
    victim = tmp_path / "victim"
    victim.touch(mode=0o600)
    before = victim.stat()
    folder = tmp_path / "open"
    folder.mkdir()
    with whole_file(folder / "x", mode=0o644, owner=owner):
        (temporary,) = folder.iterdir()
        temporary.unlink()
        temporary.symlink_to(victim)
    after = victim.stat()
    assert (after.st_mode, after.st_uid, after.st_ctime_ns) == (
        before.st_mode,
        before.st_uid,
        before.st_ctime_ns,
    )


def test_an_empty_file_is_made_only_where_there_is_none(tmp_path: Path):
    path, before = tmp_path / "x", os.umask(0)
    try:
        make_empty(path)
        assert mode_of(path) == 0o600
        path.write_bytes(b"old")
        make_empty(path, 0o640)
        assert (path.read_bytes(), mode_of(path)) == (b"old", 0o600)
        (tmp_path / "link").symlink_to("there")
        make_empty(tmp_path / "link", 0o640)
        assert mode_of(tmp_path / "there") == 0o640
    finally:
        os.umask(before)
    with pytest.raises(FileNotFoundError):
        make_empty(tmp_path / "none" / "x")


def test_without_a_folder_there_is_no_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "x"):
        raise AssertionError
