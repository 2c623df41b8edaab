"""Records go to the first folder with room; one that is missing, full or closed is passed over."""

import errno
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etl.errors import SpillFailed
from etl.extract.spill_file import SpillFile, spill_folders
from etl.transform.snapshot import Decoded
from tests.support.project import make_config
from tests.support.strategies import snapshot

DECODED = Decoded([snapshot("a")])
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that takes 10 more bytes, and no more."""
    folder = tmp_path / "full"
    folder.mkdir()
    temporary = tempfile.TemporaryFile

    class Full:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def write(self, data):
            if self._file.tell() >= 10:
                raise FULL
            return self._file.write(data[:10])

    def made(**options):
        file = temporary(**options)
        return Full(file) if options["dir"] == folder else file

    monkeypatch.setattr(tempfile, "TemporaryFile", made)
    return folder


def test_the_next_folder_takes_what_one_has_no_room_for(full: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = SpillFile([tmp_path / "none", tmp_path / "file", full, tmp_path])
    try:
        first, second = file.write(DECODED), file.write(DECODED)
        assert [file.read(second), file.read(first)] == [DECODED, DECODED]
        assert second.offset == first.length  # in the last folder, one after the other
        assert {path.name for path in tmp_path.iterdir()} == {"file", "full"}  # no file has a name
        assert [f.seek(0, os.SEEK_END) for f in file._files.values()] == [0, 2 * first.length]
    finally:
        file.close()
    with pytest.raises(AssertionError, match="closed"):
        file.read(first)


def test_where_no_folder_has_room_the_message_says_which_were_tried(
    full: Path, tmp_path: Path
) -> None:
    file = SpillFile([tmp_path / "none", full])
    with pytest.raises(SpillFailed) as caught:
        file.write(DECODED)
    text = str(caught.value)
    assert f"({tmp_path}/none: No such file or directory; {full}: No space left on device, " in text
    assert text.endswith(" MB left); set HEATMAP_ETL_TMPDIR to a folder with room")
    assert (caught.value.exit_code, "\n" in text) == (1, False)
    file.close()


def test_records_that_cannot_be_read_again_are_one_line(tmp_path: Path) -> None:
    file = SpillFile([tmp_path])
    spilled = file.write(DECODED)

    class Broken:
        closed = False

        def seek(self, _offset):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    broken: Any = Broken()
    with pytest.raises(SpillFailed, match="cannot be read from disk again: Input/output error"):
        file.read(spilled._replace(file=broken))
    file.close()


def test_the_order_of_the_folders(tmp_path: Path) -> None:
    config = replace(
        make_config(f"sqlite:///{tmp_path}/data/x.db", "http://127.0.0.1:9"),
        path=tmp_path / "etc" / "x.toml",
    )
    environ = {"HEATMAP_ETL_TMPDIR": "spill", "TMPDIR": "/elsewhere"}
    assert spill_folders(config, environ) == [
        *(tmp_path / "etc" / "spill", Path("/elsewhere"), Path("/tmp"), Path("/var/tmp")),
        *(tmp_path / "etc", tmp_path / "data"),
    ]
    assert spill_folders(None, {}) == [Path("/tmp"), Path("/var/tmp")]
