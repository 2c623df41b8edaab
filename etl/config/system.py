"""The configuration of a machine, in /etc, which a command that only looks finds by itself.

Cron's line and systemd's units name the same path, see `crontab.example` and `deploy/systemd`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from etl.config.files import SYSTEM_FILE, dotenv_files, read_dotenv
from etl.config.settings import DATABASE_URL, Findings
from etl.config.trust import NOBODY, distrust
from etl.config.validators import plain
from etl.errors import ConfigError

STATE = "var/lib/heatmap-etl"
"""The folder of the database, below the root."""
_NAMES_A_DATABASE = (DATABASE_URL, f"{DATABASE_URL}_FILE", "HEATMAP_ETL_VIEWS")


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
    _require_trusted(file.parent)
    _require_trusted(file)
    for dotenv in dotenv_files(file, file.parent):
        if os.path.lexists(dotenv):
            _require_trusted(dotenv)
            _require_trusted_secrets(dotenv, file.parents[2] / STATE)
    return file


def _require_trusted_secrets(dotenv: Path, state: Path) -> None:
    """The files that a `.env` names say where to connect and with which key, as it does itself.

    They may also belong to the user it is for, as the folder of the database does.
    """
    owners = set()
    with contextlib.suppress(OSError):
        owners.add(state.stat().st_uid)
    for name, value in read_dotenv(dotenv, Findings()).items():
        with contextlib.suppress(OSError):  # what this user may not see is not used either
            path = dotenv.parent / value
            if name.endswith("_FILE") and path.exists():
                _require_trusted(path, owners)


def _require_trusted(path: Path, owners: AbstractSet[int] = NOBODY) -> None:
    if found := distrust(path, owners):
        advice = "make it root's and writable by nobody else, or name the file with --config"
        raise ConfigError([f"{plain(path)}: is not used: {found.reason}; {advice}"])
