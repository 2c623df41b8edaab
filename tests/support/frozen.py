"""A server that stands still: it is there, and takes connections, but gives no answer."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.servers import Server


def processes(server: Server) -> list[int]:
    """The server's own, and that of each session where it has them."""
    assert server.process is not None
    pid = server.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def freeze(server: Server) -> None:
    for pid in processes(server):
        os.kill(pid, signal.SIGSTOP)


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
