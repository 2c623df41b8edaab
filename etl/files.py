"""Writes a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def rights_of(path: Path) -> tuple[int | None, tuple[int, int] | None]:
    """`mode` and `owner` for a file that takes the place of the one at `path`; None: there is none.

    Raises OSError.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None, None
    return status.st_mode & 0o7777, (status.st_uid, status.st_gid)


@contextlib.contextmanager
def whole_file(
    path: Path,
    *,
    mode: int | None = None,
    owner: tuple[int, int] | None = None,
    replaces: bool = True,
    is_synced: bool = True,
) -> Iterator[BinaryIO]:
    """A new file to write to. It replaces `path` in one step when the `with` ends without an error.

    A reader finds the old file or the new one, never a part. A link at `path` is itself replaced.
    `mode`: permissions; None: as the umask says. `owner`: user and group, set where the system
    permits it. `replaces`: False keeps a file that exists, and raises FileExistsError.
    `is_synced`: the content is on disk before the file replaces the old one. Raises OSError.
    """
    # The name cannot be guessed, and O_EXCL follows no link. Nor does it have the ending by which
    # a folder is searched.
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
