"""What the numbers depend on: the machine and the versions, without names and places."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.environments import PEERS, ROOT

TOLD = ("httpx", "sqlalchemy", "msgspec", "psycopg", "pymysql", "dlt", "datadog-api-client")


def facts() -> list[str]:
    """Lines for the page of results."""
    system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
    return [
        f"{os.cpu_count()} cores, {_processor()}, {_memory_gib():.0f} GiB of memory, {system}",
        f"{platform.python_implementation()} {platform.python_version()}",
        "Settings of PostgreSQL and MariaDB as they come; SQLite as each program sets it.",
        *(f"{lock.stem}: {_versions(lock)}" for lock in sorted(PEERS.glob("*.lock"))),
    ]


def _versions(lock: Path) -> str:
    found = dict(
        re.findall(r"^([\w.-]+)==([\w.]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    )
    return ", ".join(f"{name} {found[name]}" for name in TOLD if name in found)


def _processor() -> str:
    text = _read("/proc/cpuinfo")
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def load() -> str:
    """The load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def revision() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or f"unknown ({sys.platform})"
