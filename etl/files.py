"""The one way in which a file is written: as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, which takes the place of `path` in one step when the block ends well.

    It keeps the mode of the file that was there. Raises OSError.
    """
    with _beside(path, 0o666) as (new, file):
        yield file
        _flush(file)
        if path.exists():
            new.chmod(path.stat().st_mode & 0o7777)
        new.replace(path)


@contextmanager
def creating(path: Path) -> Iterator[BinaryIO]:
    """A new file for its owner's eyes, which is there as a whole when the block ends well.

    Raises OSError: FileExistsError where there is something already, and then it stays.
    """
    with _beside(path, 0o600) as (new, file):
        yield file
        _flush(file)
        os.link(new, path)  # unlike a rename, it replaces nothing


@contextmanager
def _beside(path: Path, mode: int) -> Iterator[tuple[Path, BinaryIO]]:
    """A file in the same folder, gone at the end. `mode` is less what the umask takes away."""
    # Whoever reads *.prom, say, must not find what is not whole yet: the name ends otherwise.
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield new, file
    finally:
        new.unlink(missing_ok=True)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
