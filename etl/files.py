"""The one way in which a file is written: as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(
    path: Path,
    *,
    mode: int | None = None,
    owner: tuple[int, int] | None = None,
    replaces: bool = True,
    is_synced: bool = True,
) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` in one step, when all went well.

    Whoever reads meanwhile finds the old file or the new one; a link at `path` is itself replaced.
    `mode`: its permissions, None for what the umask leaves. `owner`: user and group, where that is
    permitted. `replaces`: False leaves what is there, and raises FileExistsError. `is_synced`: on
    the disk before it takes the place. Raises OSError.
    """
    # Nobody can guess it, and it never has the ending by which a folder is searched for such files.
    temporary = path.with_name(f".{path.name}.{secrets.token_urlsafe(6)}")
    created_with = 0o666 if mode is None else 0o600
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, created_with)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if is_synced:
                os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(mode)
        if owner is not None:
            with contextlib.suppress(OSError):
                os.chown(temporary, *owner)
        if replaces:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike a rename, it replaces nothing
    finally:
        temporary.unlink(missing_ok=True)
