"""A server that stands still: it is there, and takes connections, but gives no answer."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.servers import Server
from tests.support.waiting import wait_until


def processes(server: Server) -> list[int]:
    """The server's own, and that of each session where it has them."""
    assert server.process is not None
    pid = server.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def freeze(server: Server) -> None:
    """Returns when every thread of it stands still: one that does not yet could give an answer."""
    pids = processes(server)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(state == "T" for pid in pids for state in _states(pid)))


def _states(pid: int) -> list[str]:
    """One letter for each thread, after the name of the program in brackets."""
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]


def thaw(server: Server) -> None:
    for pid in processes(server):
        with suppress(ProcessLookupError):  # a session whose client is gone ends at once
            os.kill(pid, signal.SIGCONT)


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    freeze(server)
    try:
        yield
    finally:
        thaw(server)
