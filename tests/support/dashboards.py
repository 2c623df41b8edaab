"""The dashboard as a process of its own, on a file, asked over HTTP."""

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from etl.serve.dashboard.server import NAME
from tests.support.paths import ROOT

TLS = httpx.create_ssl_context()
"""Of no use to http, but httpx makes one for each request else, which takes longer than to ask."""


@dataclass(frozen=True)
class Shown:
    """A file, and the dashboard on it."""

    file: Path
    url: str
    pid: int = 0

    def get(self, path: str, **query: str) -> httpx.Response:
        params = query or None  # {} drops path's
        return httpx.get(f"{self.url}{path}", params=params, timeout=60, verify=TLS)

    def rows(self, sql: str, **filters: str) -> list[dict]:
        answer = self.get(f"/{NAME}.json", sql=sql, _shape="objects", **filters)
        assert answer.status_code == 200, answer.text
        assert not answer.json()["truncated"]
        rows: list[dict] = answer.json()["rows"]
        return rows

    def ask(self, sql: str, **values: str) -> list[dict]:
        """The same of SQLite itself."""
        with closing(sqlite3.connect(self.file)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]


@contextmanager
def dashboard(file: Path, *more: str) -> Iterator[Shown]:
    command = [sys.executable, "-m", "etl", "dashboard", "--port", "0", *more]
    command += ["--database", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, line
            yield Shown(file, found.group(), process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
