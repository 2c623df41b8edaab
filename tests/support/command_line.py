"""The program as a person or cron starts it: a process of its own, in a folder of its own.

Whatever it prints is searched for planted secrets and tracebacks.
"""

import json
import os
import pty
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

SECRETS = {
    "DD_API_KEY": "planted-api-key-8f21",
    "DD_APP_KEY": "planted-app-key-93c7",
}
PASSWORD = "planted-password-51aa"
TABLES = ("snapshots", "snapshot_history")


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    def is_one_line(self) -> bool:
        return self.err.startswith("heatmap-etl: ") and self.err.count("\n") == 1


@dataclass
class Cli:
    """`cli("sync")` runs it in `folder` and waits for the end."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "etl", *arguments]

    def environment(self, changes: dict[str, str | None]) -> dict[str, str]:
        base = {**os.environ, "PYTHONPATH": str(ROOT), **SECRETS, **self.environ, **changes}
        return {name: value for name, value in base.items() if value is not None}

    def start(self, *arguments: str, **changes: str | None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, **changes: str | None) -> Result:
        return finish(self.start(*arguments, **changes))

    def configure(self, text: str) -> None:
        (self.folder / "heatmap-etl.toml").write_text(text, encoding="utf-8")

    @property
    def database(self) -> Path:
        return self.folder / "heatmap-etl.db"

    def sql(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            return connection.execute(query).fetchall()

    def stored(self) -> list[Any]:
        if not self.database.exists():
            return []
        names = {name for (name,) in self.sql("SELECT name FROM sqlite_master")}
        return [self.sql(f"SELECT * FROM {t} ORDER BY 1, 3") for t in TABLES if t in names]

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


def finish(process: subprocess.Popen[str], timeout: float = 40) -> Result:
    with process:
        out, err = process.communicate(timeout=timeout)
    for secret in (*SECRETS.values(), PASSWORD):
        assert secret not in out + err
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    return Result(process.returncode, out, err)


def on_terminal(cli: Cli, *arguments: str, **changes: str) -> str:
    ours, theirs = pty.openpty()
    environ = cli.environment({"TERM": "xterm", "NO_COLOR": None, **changes})
    process = subprocess.Popen(
        cli.command(*arguments),
        cwd=cli.folder,
        env=environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:  # Linux: everybody else closed it
        pass
    os.close(ours)
    assert process.wait(20) == 0
    return seen.decode()
