"""The configuration of a machine, in /etc: `init --system` writes it, and who only looks finds it.

Cron's line and systemd's units name these paths, see `crontab.example` and `deploy/systemd`.
"""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from etl.config.credentials import PERMISSIONS
from etl.config.files import DEFAULT_FILE, SYSTEM_FILE, read_dotenv
from etl.config.settings import DATABASE_URL, Findings
from etl.config.template import config_template, require_options
from etl.errors import ConfigError
from etl.files import whole_file

FOLDER = "etc/heatmap-etl"
STATE = "var/lib/heatmap-etl"
USER = "heatmap-etl"
KEY_FILES = ("dd_api_key", "dd_app_key")
_NAMES_A_DATABASE = (DATABASE_URL, f"{DATABASE_URL}_FILE", "HEATMAP_ETL_VIEWS")

# In files of their own, because systemd's units hand those over; so there is one place for both.
_DOTENV = """\
# The keys: each alone in a file beside this one, which only {user} can read.
DD_API_KEY_FILE=dd_api_key
DD_APP_KEY_FILE=dd_app_key
"""


# --- finding it ---------------------------------------------------------------------------


def find_system_file(
    environ: Mapping[str, str], cwd: Path, file: Path = SYSTEM_FILE
) -> Path | None:
    """The configuration of this machine, where nothing else names a database or views; else None.

    Raises ConfigError where there is one that somebody else could have written.
    """
    if not os.path.lexists(file):
        return None
    named = {**read_dotenv(cwd / ".env", Findings()), **environ}
    if any(named.get(name) for name in _NAMES_A_DATABASE):
        return None
    for path in (file.parent, file):
        if problem := _distrust(path):
            advice = "make it root's and writable by nobody else, or name the file with --config"
            raise ConfigError([f"{path}: is not used: {problem}; {advice}"])
    return file


def _distrust(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if status.st_uid not in (0, os.geteuid()):
        return "it belongs to another user"
    if stat.S_IMODE(status.st_mode) & 0o022:
        return f"others can write it (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


# --- writing it ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Owner:
    name: str
    uid: int
    gid: int


def install_system(
    *,
    database_url: str = "",
    views: Sequence[str] = (),
    site: str = "",
    user: str = "",
    root: Path = Path("/"),
) -> list[str]:
    """Make what is missing of the configuration of a machine; returns lines that say what was done.

    What is there already stays as it is. `root`: what stands for `/`, in tests and images.
    Raises ConfigError.
    """
    database_url = database_url or f"sqlite:////{STATE}/heatmap-etl.db"
    require_options(database_url, views, root / FOLDER)
    owner = _owner_named(user) if user else _usual_owner()
    config = config_template(database_url, views or ("/",), site)
    lines = [f"For the user {owner.name}:"]
    try:
        for path, was_there, what in _made(root, owner, config):
            word = "is there already, left as it is:" if was_there else "made"
            lines.append(f"  {word} {path}  ({what})")
    except OSError as error:
        raise ConfigError([_refusal(error, root)]) from None
    return [*lines, *_next_steps(root, owner, has_views=bool(views))]


def _owner_named(name: str) -> _Owner:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(
            [f"--user: there is no user {name} here; create it first, or leave --user out"]
        ) from None
    if os.geteuid() not in (0, found.pw_uid):
        raise ConfigError([f"--user: only root can make files of {name}; run it with sudo"])
    return _Owner(name, found.pw_uid, found.pw_gid)


def _usual_owner() -> _Owner:
    """The user of systemd's units, where root asks and there is one; else who asks."""
    if os.geteuid() == 0:
        try:
            return _owner_named(USER)
        except ConfigError:
            return _Owner("root", 0, 0)
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container
        name = str(os.geteuid())
    return _Owner(name, os.geteuid(), os.getegid())


def _made(root: Path, owner: _Owner, config: str) -> Iterator[tuple[Path, bool, str]]:
    """Make what is missing: each path, whether it was there, and what it is."""
    folder, state = root / FOLDER, root / STATE
    everybody = _Owner("root", os.geteuid(), os.getegid())
    # All folders first: where one is refused, there is no half of an installation.
    yield folder, _is_there(partial(_make_folder, folder, 0o755, everybody)), "folder"
    yield state, _is_there(partial(_make_folder, state, 0o750, owner)), "the database, of SQLite"
    for name in KEY_FILES:
        path = folder / name
        yield path, _is_there(partial(_write, path, "", 0o600, owner)), "a key, still empty"
    texts = {".env": _DOTENV.format(user=owner.name), DEFAULT_FILE: config}
    for (name, text), what in zip(
        texts.items(), ("names the keys' files", "settings"), strict=True
    ):
        path = folder / name
        yield path, _is_there(partial(_write, path, text, 0o644, everybody)), what


def _is_there(make: partial[None]) -> bool:
    try:
        make()
    except FileExistsError:
        return True
    return False


def _make_folder(path: Path, mode: int, owner: _Owner) -> None:
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
    path.mkdir(mode=0o700)
    os.chown(path, owner.uid, owner.gid)
    path.chmod(mode)


def _write(path: Path, text: str, mode: int, owner: _Owner) -> None:
    if os.path.lexists(path):
        raise FileExistsError
    with whole_file(path, mode=mode, owner=(owner.uid, owner.gid), replaces=False) as file:
        file.write(text.encode())


def _refusal(error: OSError, root: Path) -> str:
    # What is named may be a file with a temporary name.
    where = next(
        (f for f in (root / STATE, root / FOLDER) if str(f) == error.filename), root / FOLDER
    )
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid():
        return f"{where}: only root can make it; run: sudo heatmap-etl init --system"
    return f"{where}: cannot be made: {error.strerror}"


def _next_steps(root: Path, owner: _Owner, *, has_views: bool) -> list[str]:
    folder = root / FOLDER
    sudo = "" if owner.uid == os.geteuid() else f"sudo -u {shlex.quote(owner.name)} "
    steps = [
        f"Write the API key into {folder / KEY_FILES[0]}\n"
        f"     and the application key into {folder / KEY_FILES[1]}.\n     "
        + "\n     ".join(PERMISSIONS),
        f"{sudo}heatmap-etl check",
        "Let cron run it (crontab.example), or systemd (deploy/systemd).",
    ]
    if not has_views:
        steps.insert(0, f"List your views in {folder / DEFAULT_FILE}, exactly as RUM shows them.")
    text = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, start=1))
    return ["", "Next:", *text.split("\n")]
