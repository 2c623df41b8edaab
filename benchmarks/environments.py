"""Where each peer is installed: an environment of its own for each lock file.

Everything is under `.bench/` at the top of the checkout; removing it makes it all anew.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".bench"
PEERS = ROOT / "benchmarks" / "peers"
OURS = "heatmap-etl"


@dataclass(frozen=True, slots=True)
class Environments:
    """Makes them when they are asked for. `is_here`: all is run by this interpreter instead."""

    is_here: bool = False

    def programs(self, name: str, lock_name: str = "") -> Path:
        """Folder with `python` and others, and with what the lock file names installed."""
        if self.is_here:
            return Path(sys.executable).parent
        lock = PEERS / f"{lock_name or name}.lock"
        folder = FOLDER / "environments" / name
        stamp = folder / "lock.sha256"
        wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
        if not stamp.exists() or stamp.read_text() != wanted:
            print(f"==> environment {name}", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            # The lock names every package: nothing is left to resolve.
            _pip(folder, "install", "--no-deps", "--require-hashes", "-r", str(lock))
            stamp.write_text(wanted)
        return folder / "bin"

    def ours(self, name: str = OURS, revision: str = "") -> Path:
        """The program `heatmap-etl`, installed from a wheel of this checkout, or of a revision."""
        programs = self.programs(name, OURS)
        if self.is_here:
            return programs / OURS
        source = _checkout(revision) if revision else ROOT
        wheels = FOLDER / "wheels" / name
        shutil.rmtree(wheels, ignore_errors=True)
        _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)], source)
        (wheel,) = wheels.glob("*.whl")
        _pip(programs.parent, "install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
        return programs / OURS


def _checkout(revision: str) -> Path:
    folder = FOLDER / "checkout"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    git = subprocess.Popen(["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", str(folder)], stdin=git.stdout, check=True)
    if git.wait() != 0:
        sys.exit(f"no revision {revision}")
    return folder


def _pip(environment: Path, *arguments: str) -> None:
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "--no-input", "-qq", *arguments])


def _run(command: list[str], folder: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def bare_environment() -> dict[str, str]:
    """For the measured processes: no proxy, no keys, no settings of this machine's user."""
    home = FOLDER / "home"
    home.mkdir(parents=True, exist_ok=True)
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LC_ALL": "C.UTF-8"}
