"""The records that do not fit in memory, in a file without a name.

No other process can open it, and it is gone when this one ends. A folder that is missing,
read-only or full is left for the next one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import tempfile
import threading
from collections.abc import Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from etl.config.database_url import sqlite_file
from etl.config.files import TMPDIR
from etl.config.model import Config
from etl.config.validators import plain
from etl.errors import SpillFailed
from etl.files import free_bytes
from etl.library_faults import name_of
from etl.transform.snapshot import Decoded

log = logging.getLogger(__name__)

_USUAL = ("/tmp", "/var/tmp")  # noqa: S108 - a file without a name is nobody else's


class Spilled(NamedTuple):
    """Where records are: the file, and in it, in bytes."""

    file: FileIO
    offset: int
    length: int


class SpillFile:
    """Files in the first of `folders` that has room, made when one is needed."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = list(folders)
        self._refusals: dict[Path, str] = {}
        self._files: dict[Path, FileIO] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Delete what is on disk."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()

    def write(self, decoded: Decoded) -> Spilled:
        """Append records to the file. Raises `SpillFailed`."""
        try:
            data = pickle.dumps(decoded, protocol=5)
        except Exception as error:  # noqa: BLE001 - of pickle, such as no room in memory
            raise SpillFailed(f"its records cannot be written to disk: {name_of(error)}") from None
        with self._lock:
            for folder in self._folders:
                try:
                    return self._append(folder, data)
                except Exception as error:  # noqa: BLE001 - the next folder may do
                    self._refuse(folder, error)
            tried = "; ".join(f"{plain(f)}: {why}" for f, why in self._refusals.items())
            raise SpillFailed(
                f"its records fit neither in memory nor on disk ({tried}); "
                f"set {TMPDIR} to a folder with room"
            )

    def read(self, spilled: Spilled) -> Decoded:
        """Read records from the file. Raises `SpillFailed`."""
        with self._lock:
            if spilled.file.closed:
                raise AssertionError("the file of the buffer is closed")
            try:
                spilled.file.seek(spilled.offset)
                data = b"".join(_chunks(spilled.file, spilled.length))
                decoded: Decoded = pickle.loads(data)  # noqa: S301 - our own
            except Exception as error:  # noqa: BLE001 - of pickle, for what a disk gives back
                reason = f"its records cannot be read from disk again: {_reason(error)}"
                raise SpillFailed(reason) from None
        return decoded

    def _append(self, folder: Path, data: bytes) -> Spilled:
        file = self._files.get(folder)
        if file is None:
            # Unbuffered: what a buffer could not write, it would try to write again at the end.
            file = tempfile.TemporaryFile(prefix="heatmap-etl-", dir=folder, buffering=0)  # noqa: SIM115
            self._files[folder] = file
        offset, rest = file.seek(0, os.SEEK_END), memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) or 0 :]
        except Exception:
            with contextlib.suppress(Exception):
                file.truncate(offset)
            raise
        return Spilled(file, offset, len(data))

    def _refuse(self, folder: Path, error: Exception) -> None:
        if folder not in self._refusals:
            log.info("%s: has no room for records: %s", plain(folder), _reason(error))
        reason = _reason(error)
        room = f", {free_bytes(folder) // 10**6:,} MB left" if folder.is_dir() else ""
        self._refusals[folder] = reason + room


def spill_folders(config: Config | None, environ: Mapping[str, str]) -> list[Path]:
    """Where records may go, best first.

    `HEATMAP_ETL_TMPDIR`, the temporary folders of the system, the folders of the configuration and
    of a SQLite file.
    """
    home = config.path.parent if config and config.path else Path.cwd()
    named = [home / environ[TMPDIR]] if environ.get(TMPDIR) else []
    usual = [Path(environ[n]) for n in ("TMPDIR", "TEMP", "TMP") if environ.get(n)]
    own = [config.path.parent] if config and config.path else []
    database = sqlite_file(config.database_url) if config else None
    own += [database.parent] if database else []
    return list(dict.fromkeys([*named, *usual, *map(Path, _USUAL), *own]))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or name_of(error)


def _chunks(file: FileIO, length: int) -> Iterable[bytes]:
    while length and (chunk := file.read(length)):
        length -= len(chunk)
        yield chunk
