"""Other users of the machine: who runs the job, and who only looks."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PYTHON = [sys.executable, "-W", "error"]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Person:
    """A user by number, who needs no entry in /etc/passwd. `groups`: besides the own one."""

    uid: int
    groups: tuple[int, ...] = ()

    def _switch(self) -> list[str]:
        if self.uid == 0:
            return []
        groups = ",".join(map(str, self.groups))
        setpriv = shutil.which("setpriv") or "setpriv"
        member = f"--groups={groups}" if groups else "--clear-groups"
        return [setpriv, f"--reuid={self.uid}", f"--regid={self.uid}", member]

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        umask: int = 0o022,
    ) -> Done:
        """Run `heatmap-etl` with these arguments and this environment alone."""
        return self.python(["-m", "etl", *arguments], cwd=cwd, env=env, umask=umask)

    def python(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        umask: int = 0o022,
    ) -> Done:
        done = subprocess.run(
            [*self._switch(), *PYTHON, *arguments],
            cwd=cwd,
            env={
                "PATH": os.defpath,
                "LC_ALL": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1",
                **(env or {}),
                "PYTHONPATH": str(ROOT),
            },
            umask=umask,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)


ROOT_USER = Person(0)
OPERATOR = Person(20001)  # runs the job
MEMBER = Person(20002, (20001,))  # is in the group of the operator
STRANGER = Person(20003)


def require_people() -> None:
    """A loud skip where this process cannot start a program as another user."""
    reason = ""
    if os.name != "posix" or os.geteuid() != 0:
        reason = "the tests do not run as root"
    elif shutil.which("setpriv") is None:
        reason = "there is no setpriv (Debian: util-linux)"
    elif (done := STRANGER.python(["-c", "import etl, sqlalchemy"], cwd=Path("/"))).code != 0:
        reason = f"another user cannot start Python: {done.err.strip()[-200:]}"
    if reason:
        pytest.skip(f"LOUD: what other users see is not tested: {reason}")


@contextmanager
def open_place() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are closed to others."""
    require_people()
    with tempfile.TemporaryDirectory(prefix="heatmap-etl-people-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def give(path: Path, person: Person, mode: int, text: str | None = None, group: int = -1) -> Path:
    """Make the file, or the folder without `text`, and give it to the person."""
    if text is None:
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    os.chown(path, person.uid, person.uid if group == -1 else group)
    path.chmod(mode)
    return path
