"""Two MariaDB servers that are one Galera cluster, on private ports."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import MariaDB, ServerMissing, free_port

LIBRARIES = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")


class Node(MariaDB):
    """One node of a cluster; its options name the others."""

    def _initialize(self, account: str | None) -> None:
        options, self.options = self.options, ()  # a cluster is for servers with users
        super()._initialize(account)
        self.options = options

    def _command(self) -> list[str]:
        # What the others get are rows as in a binary log.
        return [option for option in super()._command() if option != "--skip-log-bin"]


class Joiner(Node):
    """A node that gets its data from another one when it starts."""

    def _run_once(self, command: list[str], account: str | None) -> None:  # noqa: ARG002
        self._data.mkdir()
        if account is not None:
            shutil.chown(self._data, account)


def galera() -> str:
    """The library; raises `ServerMissing` where it is not on this machine."""
    for path in LIBRARIES:
        if Path(path).exists():
            return path
    raise ServerMissing("libgalera_smm.so was not found (package galera-4)")


@contextlib.contextmanager
def started_cluster() -> Iterator[tuple[Node, Node]]:
    """Two nodes that write; raises `ServerMissing` or `ServerFailed`."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    with contextlib.ExitStack() as stack:
        nodes: list[Node] = []
        for kind, address, others in (
            (Node, addresses[0], ""),
            (Joiner, addresses[1], addresses[0]),
        ):
            node = kind.launch(
                "--wsrep-on=ON",
                f"--wsrep-provider={galera()}",
                f"--wsrep-provider-options=ist.recv_addr=127.0.0.1:{free_port()};gcache.size=8M",
                f"--wsrep-cluster-address=gcomm://{others}",
                f"--wsrep-node-address={address}",
                "--wsrep-sst-method=rsync",
                f"--wsrep-sst-receive-address=127.0.0.1:{free_port()}",
                "--binlog-format=ROW",
                "--innodb-autoinc-lock-mode=2",
            )
            stack.callback(node.stop)
            nodes.append(node)
        yield nodes[0], nodes[1]
