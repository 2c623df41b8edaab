"""Which file an option may write: a new one, or one of the same kind; nothing else is replaced.

A link is followed and stays. What is refused is refused before any work is done.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from etl.config.database_url import sqlite_file
from etl.config.files import CERTIFICATES, dotenv_files, read_dotenv
from etl.config.model import Sources
from etl.config.settings import Findings
from etl.config.trust import planted
from etl.config.validators import plain
from etl.errors import ConfigError

_STREAMS = (0, 1, 2)
_SQLITE_SUFFIXES = ("", "-wal", "-shm", "-journal")


class Kind(NamedTuple):
    """What a file must be to be replaced: `name` for people, `holds` looks into it."""

    name: str
    holds: Callable[[BinaryIO], bool]


def output_beside(option: str, file: Path, sources: Sources, kind: Kind | None = None) -> Path:
    """`output_file` for a file that is relative to the configuration, which it does not replace."""
    path = beside(sources, file)
    real = output_file(option, path, protected=protected_files(sources, os.environ), kind=kind)
    if real.suffix in (".toml", ".env") or real.name == ".env":
        problem = "has a name that is read as a configuration or as keys; name another file"
        raise ConfigError([f"{option}: {plain(path)}: {problem}"])
    return real


def beside(sources: Sources, file: Path) -> Path:
    """A path relative to the configuration, or to the current folder where there is none."""
    path = sources.configs[0].path
    return (path.parent if path else Path.cwd()) / file


def output_file(
    option: str, path: Path, *, protected: Iterable[Path] = (), kind: Kind | None = None
) -> Path:
    """The file to write, behind every link; raises ConfigError, with `option`, if it is unusable.

    `protected`: files that are never replaced, by whatever name or link. `kind`: None for a file
    that may be replaced whatever it holds.
    """
    try:
        problem = _problem(path, protected, kind)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or 'an error'}"
    except ValueError:  # NUL or a lone surrogate
        problem = "is not a usable file name"
    if problem:
        raise ConfigError([f"{option}: {plain(path)}: {problem}"])
    return Path(os.path.realpath(path))


def _problem(path: Path, protected: Iterable[Path], kind: Kind | None) -> str:
    """Why the file is not written; "" for no reason. Raises OSError and ValueError."""
    if problem := planted(path):
        return f"{problem}; remove it, or name a file in another folder"
    found = _status(path)
    real = Path(os.path.realpath(path))
    if _is_among(real, found, protected):
        return "holds the configuration or the database, or a key; name another file"
    problem = _problem_of_type(found) if found else ""
    problem = problem or _problem_of_folder(real.parent)
    if not problem and found and found.st_size and kind:
        with real.open("rb") as file:
            if not kind.holds(file):
                problem = f"is not {kind.name}, and stays as it is; name another file"
    return problem


def _problem_of_type(found: os.stat_result) -> str:
    if stat.S_ISDIR(found.st_mode):
        return "is a folder; name a file in it"
    if not stat.S_ISREG(found.st_mode) or _is_stream(found):
        return "is not a regular file; do not name a device, a pipe or a socket"
    return ""


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_among(real: Path, found: os.stat_result | None, protected: Iterable[Path]) -> bool:
    for file in protected:
        if os.path.realpath(file) == str(real):
            return True
        if found is not None:
            try:
                if os.path.samestat(found, file.stat()):  # a hard link, or another mount
                    return True
            except (OSError, ValueError):  # there is no such file
                continue
    return False


def _is_stream(found: os.stat_result) -> bool:
    """Whether stdin, stdout or stderr is this file, as behind /dev/stdout."""
    for descriptor in _STREAMS:
        try:
            if os.path.samestat(found, os.fstat(descriptor)):
                return True
        except OSError:
            continue
    return False


def _problem_of_folder(folder: Path) -> str:
    if not folder.is_dir():
        return "cannot be written: its folder does not exist; make it"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "cannot be written: this user may not write to its folder; name another folder"
    return ""


def protected_files(sources: Sources, environ: Mapping[str, str]) -> list[Path]:
    """Configuration, `.env`, files of keys and databases: what no output may replace."""
    files: list[Path] = []
    for config in sources.configs:
        folder = config.path.parent if config.path else Path.cwd()
        dotenvs = dotenv_files(config.path, folder)
        files += [config.path] if config.path else []
        files += [folder / ".env", *dotenvs]
        for variables in (environ, *(read_dotenv(file, Findings()) for file in dotenvs)):
            files += [folder / variables[name] for name in variables if _names_a_file(name)]
        if database := sqlite_file(config.database_url):
            files += files_of_sqlite(database)
    return list(dict.fromkeys(files))


def files_of_sqlite(database: Path) -> list[Path]:
    """The file of a database, and those that SQLite makes, and deletes, beside it."""
    return [Path(f"{database}{suffix}") for suffix in _SQLITE_SUFFIXES]


def _names_a_file(variable: str) -> bool:
    return variable in CERTIFICATES or re.fullmatch(r"\w+_FILE", variable) is not None
