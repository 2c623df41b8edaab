"""Makes and writes files: as a whole or not at all, and where no link leads elsewhere.

Nothing else in the program makes a file with a name. It also says how much room there is for one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600
"""The permissions of a file that its owner alone may read."""
_SHARED = 0o644
# O_EXCL follows no link in the last place, and takes no file that is there.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


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
    `mode`: permissions; None: 0644, or what the umask leaves of it. `owner`: user and group, set
    where the system permits it. `replaces`: False keeps a file that exists, and raises
    FileExistsError. `is_synced`: the content is on disk before the file replaces the old one.
    Raises OSError, whose `strerror` says what to do about a full disk.
    """
    # The name cannot be guessed. It does not have the ending by which a folder is searched.
    temporary = path.with_name(f".{path.name}.{secrets.token_urlsafe(6)}")
    try:
        descriptor = os.open(temporary, _NEW, _SHARED if mode is None else PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            _give(descriptor, mode, owner)
            if is_synced:
                os.fsync(descriptor)
        if replaces:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike a rename, it replaces nothing
    except OSError as error:
        temporary.unlink(missing_ok=True)  # else its own part would count as taken
        if problem := full_disk(error, path):
            raise OSError(error.errno, problem, str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _give(descriptor: int, mode: int | None, owner: tuple[int, int] | None) -> None:
    """Set owner and permissions of the open file, whatever has its name by now."""
    if owner is not None:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, *owner)
    if mode is not None and mode != PRIVATE:  # a stricter umask stays
        os.fchmod(descriptor, mode)


def make_empty(path: Path, mode: int = PRIVATE, owner: tuple[int, int] | None = None) -> None:
    """Make an empty file, for SQLite to fill, which would let everybody read what it makes.

    A file that is there stays as it is. The files next to it get the same rights from SQLite.
    Raises OSError where it cannot be made.
    """
    try:
        made = os.open(os.path.realpath(path), _NEW, PRIVATE)
    except FileExistsError:
        return
    try:
        _give(made, mode, owner)
    finally:
        os.close(made)


def room_left(path: Path) -> str:
    """How much room there is for this user where `path` is or would be: `12 MB free in /data`."""
    folder = nearest_folder(path)
    return f"{free_bytes(folder) // 10**6:,} MB free in {folder}"


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write there; 0 where no further file can be made, or where
    the disk does not even say."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    has_inode = found.f_favail > 0 or not found.f_files
    return found.f_bavail * found.f_frsize * has_inode


def nearest_folder(path: Path) -> Path:
    """The folder that `path` is in, or the first one above it that exists."""
    return next((f for f in path.absolute().parents if f.is_dir()), Path("/"))


def full_disk(error: OSError, path: Path) -> str:
    """The text for a full disk or a used-up quota at `path`, with what to do; "" for any other
    error."""
    if error.errno == errno.EDQUOT:
        advice = "but this user's quota is used up: raise it, or make room there"
    elif error.errno == errno.ENOSPC:
        advice = "which is too little: make room there"
    else:
        return ""
    return f"{os.strerror(error.errno)}; {room_left(path)}, {advice}"
