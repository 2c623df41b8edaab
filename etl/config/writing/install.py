"""The configuration of a machine, in /etc, as `init --system` makes it.

Cron's line and systemd's units name these paths, see `crontab.example` and `deploy/systemd`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etl.config.credentials import PERMISSIONS
from etl.config.files import DEFAULT_FILE, SYSTEM_FILE, read_toml
from etl.config.system import STATE
from etl.config.validators import plain
from etl.config.writing.template import config_template, require_options
from etl.errors import ConfigError
from etl.files import whole_file

FOLDER = SYSTEM_FILE.parent.relative_to("/")
USER = "heatmap-etl"
GROUP_MAY_LOOK = "0640"
KEY_FILES = ("dd_api_key", "dd_app_key")

# In files of their own, because systemd's units hand those over; so there is one place for both.
_DOTENV = """\
# The keys: each alone in a file beside this one, which only {user} can read.
DD_API_KEY_FILE=dd_api_key
DD_APP_KEY_FILE=dd_app_key
"""


@dataclass(frozen=True, slots=True)
class _Owner:
    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A file or, without a text, a folder. `was_there`: it is left as it is."""

    path: Path
    what: str
    mode: int
    owner: _Owner
    text: str | None
    was_there: bool


def install_system(
    *,
    database_url: str = "",
    views: Sequence[str] = (),
    site: str = "",
    user: str = "",
    root: Path = Path("/"),
    program: str = USER,
) -> list[str]:
    """Make what is missing of the configuration of a machine; returns lines that say what was done.

    What is there already stays as it is. `root`: what stands for `/`, in tests and images.
    `program`: the words that start this program from any folder. Raises ConfigError.
    """
    given = {"--site": [site], "--view": views, "--database-url": [database_url]}
    database_url = database_url or f"sqlite:////{STATE}/heatmap-etl.db"
    require_options(database_url, views, root / FOLDER)
    asked = _owner_named(user) if user else _usual_owner()
    owner = _present_owner(root) or asked
    # The group of the folder may look: into a database elsewhere, its server lets people.
    mode = GROUP_MAY_LOOK if database_url.startswith("sqlite:") else ""
    parts = _parts(root, owner, config_template(database_url, views or ("/",), site, mode))
    try:
        for part in parts:
            if not part.was_there:
                _make(part)
    except OSError as error:
        raise ConfigError([_refusal(error, root)]) from None
    *_, config = parts
    ignored = _in_words(given) if config.was_there else []
    lines = [_for_whom(owner, user), *map(_done, parts)]
    if ignored:
        lines.append(f"  not applied: {', '.join(ignored)} ({config.path} stays as it is)")
    if user and owner.uid != asked.uid:
        lines.append(
            f"  not applied: --user {user} (what is there belongs to {owner.name}, and stays so)"
        )
    return [*lines, *_next_steps(parts, owner, program)]


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
    """The user of systemd's units, where root asks and there is one; else who asks.

    Not the one who ran sudo: the same command should do the same for every administrator.
    """
    if os.geteuid() == 0:
        try:
            return _owner_named(USER)
        except ConfigError:
            return _Owner("root", 0, 0)
    return _Owner(_name(os.geteuid()), os.geteuid(), os.getegid())


def _present_owner(root: Path) -> _Owner | None:
    """The user of an earlier installation: the owner of the database's folder, else of a key."""
    for path in (root / STATE, *(root / FOLDER / name for name in KEY_FILES)):
        with contextlib.suppress(OSError):
            status = path.stat()
            return _Owner(_name(status.st_uid), status.st_uid, status.st_gid)
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # in a container
        return str(uid)


def _parts(root: Path, owner: _Owner, config: str) -> list[_Part]:
    """What belongs to an installation, the configuration last. Raises ConfigError.

    All folders first: where one is refused, there is no half of an installation.
    """
    folder, everybody = root / FOLDER, _Owner("root", os.geteuid(), os.getegid())
    rows: list[tuple[Path, str, int, _Owner, str | None]] = [
        (folder, "folder", 0o755, everybody, None),
        (root / STATE, "the database, of SQLite", 0o750, owner, None),
        *((folder / name, "a key", 0o600, owner, "") for name in KEY_FILES),
        (
            folder / ".env",
            "names the keys' files",
            0o644,
            everybody,
            _DOTENV.format(user=owner.name),
        ),
        (folder / DEFAULT_FILE, "settings", 0o644, everybody, config),
    ]
    return [_Part(*row, was_there=_is_there(row[0], is_folder=row[-1] is None)) for row in rows]


def _is_there(path: Path, *, is_folder: bool) -> bool:
    """Whether it is there. Raises ConfigError for another kind in its place."""
    if not os.path.lexists(path):
        return False
    advice = "move it away, then run this again"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ConfigError([f"{plain(path)}: is a link that leads nowhere; {advice}"]) from None
    except OSError as error:
        raise ConfigError([f"{plain(path)}: cannot be read: {error.strerror}"]) from None
    kind, is_one = ("folder", stat.S_ISDIR) if is_folder else ("file", stat.S_ISREG)
    if not is_one(mode):
        raise ConfigError([f"{plain(path)}: is not a {kind}; {advice}"])
    return True


def _make(part: _Part) -> None:
    path, owner = part.path, (part.owner.uid, part.owner.gid)
    if part.text is not None:
        with whole_file(path, mode=part.mode, owner=owner, replaces=False) as file:
            file.write(part.text.encode())
        return
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
    path.mkdir(mode=0o700)
    os.chown(path, *owner)
    path.chmod(part.mode)


def _refusal(error: OSError, root: Path) -> str:
    # What is named may be a file with a temporary name.
    where = next(
        (f for f in (root / STATE, root / FOLDER) if str(f) == error.filename), root / FOLDER
    )
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid():
        return f"{where}: only root can make it; run: sudo heatmap-etl init --system"
    return f"{where}: cannot be made: {error.strerror}"


# --- what is said about it ----------------------------------------------------------------


def _for_whom(owner: _Owner, user: str) -> str:
    is_by_default = owner.uid == 0 and not user
    return f"For the user {owner.name}{'; name another with --user' * is_by_default}:"


def _in_words(options: Mapping[str, Sequence[str]]) -> list[str]:
    """The options as they were given."""
    pairs = [(name, value) for name, values in options.items() for value in values if value]
    return [f"{name} {shlex.quote(value)}" for name, value in pairs]


def _done(part: _Part) -> str:
    what = part.what
    if part.text == "":
        what += ", still empty" if _is_empty(part.path) else ", filled in"
    if not part.was_there:
        return f"  made {part.path}  ({what})"
    owner = _name(part.path.stat().st_uid)
    return f"  is there already, left as it is: {part.path}  ({what}; belongs to {owner})"


def _is_empty(key: Path) -> bool:
    try:
        return not key.read_bytes().strip()
    except OSError:
        return not key.stat().st_size


def _next_steps(parts: Sequence[_Part], owner: _Owner, program: str) -> list[str]:
    config = parts[-1].path
    steps = []
    if not _has_views(config):
        steps.append(f"List your views in {config}, exactly as RUM shows them.")
    names = dict(zip(KEY_FILES, ("API key", "application key"), strict=True))
    missing = [
        f"the {names[part.path.name]} into {part.path}"
        for part in parts
        if part.text == "" and _is_empty(part.path)
    ]
    if missing:
        steps.append(
            "Write " + "\n     and ".join(missing) + ".\n     " + "\n     ".join(PERMISSIONS)
        )
    steps.append(f"{_sudo(owner)}{program} check --config {shlex.quote(str(config))}")
    steps.append("Let cron run it (crontab.example), or systemd (deploy/systemd).")
    text = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, start=1))
    return ["", "Next:", *text.split("\n")]


def _has_views(config: Path) -> bool:
    """Whether somebody chose the views; a file that cannot be read is for `check` to report."""
    try:
        return read_toml(config).get("views", ["/"]) != ["/"]
    except ConfigError:
        return True


def _sudo(owner: _Owner) -> str:
    if owner.uid != os.geteuid():
        return f"sudo -u {shlex.quote(owner.name)} "
    # Who ran this with sudo has a shell of another user.
    return "sudo " if owner.uid == 0 and os.environ.get("SUDO_USER") else ""
