"""Scripts of tests in processes of their own, and what it takes to let several begin at once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT

WAIT_FOR_THE_OTHERS = """
import sys
print("ready", flush=True)
sys.stdin.readline()
"""
"""For the script of one that `begin_at_once` starts, behind its slow imports."""

# What ends the process is a signal from outside; it says how it ended.
SYNC = """
import json, sys
from etl.errors import EtlError
from etl.source import lease
from tests.support.project import make_config, open_project
url, api, views, lease_s, host = sys.argv[1:]
if host:
    here, lock = lease.this_process(), lease._lock
    lease.this_process = lambda: lease.Process(here.holder, host)
    lease._lock = lambda *given: print("takes", flush=True) or lock(*given)
project = open_project(make_config(url, api, json.loads(views)))
project.configure(lease_s=float(lease_s), concurrency=2)
try:
    print(project.run().status)
except EtlError as error:
    print(error)
    sys.exit(error.exit_code)
finally:
    project.database.close()
"""


def start(
    script: str,
    *arguments: str,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        cwd=folder,
        env=environment or {**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin_at_once(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code of each and what it wrote on stderr; all of them are `WAIT_FOR_THE_OTHERS`."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


@contextmanager
def syncs(
    url: str, api_url: str, views: Sequence[str]
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start_sync(lease_s=60, host="")`: one sync, which does not outlive the block.

    With a host it is elsewhere, as far as anybody can see: no pid tells that it lives. It then says
    when it takes the lease, too.
    """
    processes: list[subprocess.Popen[str]] = []

    def start_sync(lease_s: float = 60, host: str = "") -> subprocess.Popen[str]:
        arguments = [url, api_url, json.dumps(list(views)), str(lease_s), host]
        processes.append(start(SYNC, *arguments))
        return processes[-1]

    try:
        yield start_sync
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stdout of one that wrote nothing on stderr."""
    out, errors = process.communicate(timeout=60)
    assert errors == "", errors
    return process.returncode, out
