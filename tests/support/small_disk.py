"""A disk that is full after a few kilobytes, and can be made larger: a tmpfs of its own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class SmallDisk:
    folder: Path

    def resize(self, kilobytes: int) -> None:
        options = f"remount,size={kilobytes}k"
        subprocess.run(["mount", "-o", options, str(self.folder)], check=True)

    def fill(self) -> Path:
        """A file that takes all the room that is left."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass
        return filler

    @contextmanager
    def full(self) -> Iterator[None]:
        """No room is left meanwhile."""
        filler = self.fill()
        try:
            yield
        finally:
            filler.unlink()


@contextmanager
def small_disk(
    folder: Path, kilobytes: int, account: str | None = None, *, inodes: int = 10_000
) -> Iterator[SmallDisk]:
    """Mounted at `folder`, which is made; skips the test, loudly, where nothing can be mounted."""
    folder.mkdir()
    options = f"size={kilobytes}k,nr_inodes={inodes},mode=0777"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    can_mount = os.geteuid() == 0 and shutil.which("mount")
    if not can_mount or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("LOUD: a full disk is not tested: nothing can be mounted here")
    try:
        if account:
            shutil.chown(folder, account)
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
