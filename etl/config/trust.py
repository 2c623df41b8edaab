"""Whose a file is, and who else may read it, change it or put another in its place."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from etl.config.validators import plain

NOBODY: frozenset[int] = frozenset()
_MOST_LINKS = 40  # as many as Linux follows
_NUMBERS, _NO_NUMBER = Path("/proc/self/uid_map"), Path("/proc/sys/kernel/overflowuid")


class Distrust(NamedTuple):
    """Why a file may hold what somebody else wrote, and what to do about it."""

    reason: str  # about "it", the file
    advice: str


def distrust(path: Path, owners: AbstractSet[int] = NOBODY) -> Distrust | None:
    """Why somebody else could have written what is at `path`; None where nobody could.

    Root, this user and `owners` are trusted. A folder or link on the way that another user may
    change counts like the file: he could put another file there.
    """
    if os.name != "posix":
        return None
    trusted = _trusted() | owners
    try:
        status = path.stat()
        if status.st_uid not in trusted:
            return Distrust(f"it belongs to another user ({_name(status.st_uid)})", _chown(path))
        if _others_may_write(status):
            return Distrust(f"others can write it {_mode(status)}", _chmod("go-w", path, status))
        for folder, entry in _way(path):
            if found := _distrust_step(folder, entry, trusted):
                return found
    except OSError as error:
        return Distrust(f"it cannot be read ({error.strerror})", "make it readable")
    return None


def _distrust_step(folder: Path, entry: Path, trusted: AbstractSet[int]) -> Distrust | None:
    """Why somebody else can put another entry into the folder."""
    status = folder.stat()
    where = f"its folder {plain(folder)}"
    if status.st_uid not in trusted | _without_number():
        return Distrust(f"{where} belongs to another user ({_name(status.st_uid)})", _chown(folder))
    if not _others_may_write(status):
        return None
    if not status.st_mode & stat.S_ISVTX and not is_read_only(folder):
        why = f"others can write {where} {_mode(status)} and replace it"
        return Distrust(why, _chmod("go-w", folder, status))
    # In a folder such as /tmp each user may replace what is his own. On a read-only file system
    # nobody may: the folder of a ConfigMap of Kubernetes is 0777.
    owner = entry.lstat().st_uid
    if owner in trusted:
        return None
    return Distrust(f"{plain(entry)} belongs to another user ({_name(owner)})", _chown(entry))


def exposure(path: Path, secret: str = "") -> list[str]:
    """What to warn of: that others may write a file, or read the `secret` in it.

    A file may belong to another user, such as the one who runs the job. But in a folder such as
    /tmp anybody may have put it there.
    Nothing is said of what is no regular file, nor of one on a read-only file system, such as a
    secret of a container: nobody can change its mode there.
    """
    if os.name != "posix":
        return []
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or is_read_only(path):
            return []
        is_common = path.parent.stat().st_mode & stat.S_ISVTX
    except (OSError, ValueError):  # reading it says why
        return []
    name, mode, found = plain(path), _mode(status), list[str]()
    if is_common and planted(path):
        owner = f"belongs to another user ({_name(status.st_uid)})"
        found.append(f"{name}: {owner}, who can change it; {_chown(path)}")
    if _others_may_write(status):
        advice = _chmod("go-w", path, status)
        found.append(f"{name}: can be written by others {mode}; {advice}")
    if secret and status.st_mode & stat.S_IROTH:
        advice = _chmod("o-r", path, status)
        found.append(f"{name}: holds {secret} and can be read by others {mode}; {advice}")
    return found


def open_folder(folder: Path) -> str:
    """What to warn of where others may replace what is in a folder; "" for nothing."""
    if os.name != "posix":
        return ""
    try:
        status = folder.stat()
        is_closed = bool(status.st_mode & stat.S_ISVTX) or is_read_only(folder)
    except OSError:
        return ""
    if is_closed or not _others_may_write(status):
        return ""
    return (
        f"{plain(folder)}: can be written by others {_mode(status)}, who could replace "
        f"what is in it; {_chmod('go-w', folder, status)}"
    )


def planted(path: Path, shared: int = stat.S_IWOTH) -> str:
    """Why a file written to `path` would go where another user wants it; "" where not.

    He may have put a link in its way, or a file that stays his own into a folder that has a bit of
    `shared`: where everybody may write.
    """
    if os.name != "posix":
        return ""
    trusted = _trusted()
    for folder, entry in _way(path):
        try:
            status = entry.lstat()
            if status.st_uid in trusted or stat.S_ISDIR(status.st_mode):
                continue
            is_open = bool(folder.stat().st_mode & (stat.S_IWOTH | stat.S_IWGRP))
            if not is_open and status.st_uid in _without_number():
                continue
            if stat.S_ISLNK(status.st_mode):
                return f"{plain(entry)} is a link of another user ({_name(status.st_uid)})"
            if folder.stat().st_mode & shared:
                return f"{plain(entry)} belongs to another user ({_name(status.st_uid)})"
        except OSError:
            break
    return ""


def is_read_only(path: Path) -> bool:
    """Whether nobody can change anything there. Raises OSError."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _way(path: Path) -> Iterator[tuple[Path, Path]]:
    """Each folder in which the system looks a name up on the way to `path`, and what it finds."""
    at, waiting, links = Path("/"), deque(path.absolute().parts[1:]), 0
    while waiting:
        name = waiting.popleft()
        if name == "..":
            at = at.parent
            continue
        entry = at / name
        yield at, entry
        if not entry.is_symlink():
            at = entry
            continue
        links += 1
        if links > _MOST_LINKS:
            return
        target = entry.readlink()
        if target.is_absolute():
            at = Path("/")
        waiting.extendleft(reversed(target.parts[target.is_absolute() :]))


def _trusted() -> set[int]:
    """Root, and this user. With sudo also who called it: that user is root anyway."""
    user = os.geteuid()
    called_by = os.environ.get("SUDO_UID", "") if user == 0 else ""
    return {0, user, *([int(called_by)] if called_by.isdecimal() else [])}


def _without_number() -> set[int]:
    """The owner of what belongs to the machine's root where he has no number of his own.

    So it is in a sandbox such as those of bubblewrap and Apptainer. Everybody else without a number
    looks the same, so this is no reason to trust a file: only `/` and the folders on the way.
    """
    try:
        if "0" in _NUMBERS.read_text().split()[1::3]:
            return set()
        return {int(_NO_NUMBER.read_text())}
    except (OSError, ValueError):  # no Linux
        return set()


def _others_may_write(status: os.stat_result) -> bool:
    is_for_group = status.st_mode & stat.S_IWGRP and not _is_private(status.st_uid, status.st_gid)
    return bool(status.st_mode & stat.S_IWOTH or is_for_group)


def _is_private(user: int, group: int) -> bool:
    """Whether a group is of that one user, as where the umask is 002.

    Never that of root: OpenShift, for one, puts every user of a container into it.
    """
    if user == 0:
        return False
    import grp  # rarely needed
    import pwd

    try:
        owner, found = pwd.getpwuid(user), grp.getgrgid(group)
    except KeyError:
        return False
    return found.gr_name == owner.pw_name and {*found.gr_mem} <= {owner.pw_name}


def _mode(status: os.stat_result) -> str:
    return f"(mode {stat.S_IMODE(status.st_mode):04o})"


def _name(user: int) -> str:
    import pwd  # only for a message

    try:
        return plain(pwd.getpwuid(user).pw_name)
    except KeyError:  # in a container
        return f"uid {user}"


def _chown(path: Path) -> str:
    user = os.geteuid()
    command = f"chown root {plain(path)}" if user == 0 else f"sudo chown {user} {plain(path)}"
    return f"run this as that user, or look into it and run: {command}"


def _chmod(change: str, path: Path, status: os.stat_result) -> str:
    needs_sudo = os.geteuid() not in (0, status.st_uid)
    return f"run: {'sudo ' * needs_sudo}chmod {change} {plain(path)}"
