"""Databases of our own that can be spoilt in the middle of a run, and put right again.

A `Place` is one empty database. Its `outages` are context managers: inside, the database is spoilt
in that way; behind, all is well again.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.support.poolers import HotStandby
from tests.support.servers import (
    ADMIN,
    PASSWORD,
    USER,
    MariaDB,
    PostgreSQL,
    Server,
    account_of,
    free_port,
)
from tests.support.small_disk import SmallDisk, small_disk

LOCK_IT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
"""
_CONNECTIONS = 15


@dataclass(frozen=True)
class Outage:
    """`is_away`: nobody can use the database meanwhile. `needs_growth`: only who writes much sees
    it. `comes_first`: it cannot begin in the middle of a run."""

    name: str
    spoil: Callable[[random.Random], AbstractContextManager[None]]
    is_away: bool = False
    needs_growth: bool = False
    comes_first: bool = False


class Place(ABC):
    """A context manager; it starts what it needs, and leaves nothing behind."""

    kind: ClassVar[str]
    rounds: ClassVar[int] = 3
    """How often each of its outages is tried in a whole proof."""
    url: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def outages(self) -> list[Outage]: ...

    @abstractmethod
    def version(self) -> str:
        """Of the server or library."""


# --- a file -------------------------------------------------------------------------------


class File(Place):
    """SQLite, on a small disk of its own."""

    kind = "sqlite"
    rounds = 8
    disk: SmallDisk

    def start(self) -> None:
        self.disk = self.stack.enter_context(small_disk(self.folder / "disk", 24_000))
        self._data.mkdir()
        self.url = f"sqlite:///{self._file}"

    @property
    def _data(self) -> Path:
        return self.disk.folder / "data"

    @property
    def _file(self) -> Path:
        return self._data / "etl.db"

    def outages(self) -> list[Outage]:
        return [
            Outage("disk full", self._full),
            Outage("locked by another process", self._locked),
            Outage("made read-only", self._read_only),
            Outage("moved away", self._moved, is_away=True),
        ]

    def version(self) -> str:
        return sqlite3.sqlite_version

    def _full(self, _: random.Random) -> AbstractContextManager[None]:
        return self.disk.full()

    @contextmanager
    def _locked(self, _: random.Random) -> Iterator[None]:
        command = [sys.executable, "-c", LOCK_IT, str(self._file)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout
            assert other.stdout.readline() == "locked\n"
            yield
            other.communicate("\n", timeout=30)

    @contextmanager
    def _read_only(self, _: random.Random) -> Iterator[None]:
        """For all who open it from now on; who has it open may go on."""
        folder = str(self._data)
        mount("--bind", folder, folder)
        try:
            mount("-o", "remount,bind,ro", folder)
            yield
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)

    @contextmanager
    def _moved(self, _: random.Random) -> Iterator[None]:
        """With its folder, as when a disk is unmounted: else a run would make a new one."""
        away = self.disk.folder / "away"
        self._data.rename(away)
        try:
            yield
        finally:
            away.rename(self._data)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


# --- servers ------------------------------------------------------------------------------


class Served(Place):
    """On a server that is only for this."""

    server: Server
    name: str

    def version(self) -> str:
        return str(self.server.execute("select version()")[0][0]).split(" (")[0]

    def outages(self) -> list[Outage]:
        return [
            Outage("restarted", self._restarted, is_away=True),
            Outage("killed and started again", self._killed, is_away=True),
            Outage("stopped for a while", self._frozen),
            Outage("made read-only", self._read_only),
            Outage("out of disk", self._full, needs_growth=True),
            Outage("out of connections", self._crowded, is_away=True),
            Outage("sessions ended again and again", self._sessions_ended),
            Outage("deadlocked", self._deadlocked, comes_first=True),
            Outage("rows locked by another session", self._rows_locked),
            Outage("table locked by another session", self._table_locked),
        ]

    @contextmanager
    def _restarted(self, _: random.Random) -> Iterator[None]:
        self.server.go_down()
        yield
        self.server.come_back()

    @contextmanager
    def _killed(self, _: random.Random) -> Iterator[None]:
        self.kill_server()
        yield
        self.server.come_back()

    def kill_server(self) -> None:
        process = self.server.process
        assert process is not None
        children = descendants(process.pid)
        process.kill()
        process.wait()
        # PostgreSQL starts only when the last of its processes has noticed.
        end = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in children):
            assert time.monotonic() < end
            time.sleep(0.02)

    @contextmanager
    def _frozen(self, _: random.Random) -> Iterator[None]:
        process = self.server.process
        assert process is not None
        pids = [process.pid, *descendants(process.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @abstractmethod
    def _read_only(self, dice: random.Random) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _full(self, dice: random.Random) -> AbstractContextManager[None]: ...

    @contextmanager
    def _crowded(self, _: random.Random) -> Iterator[None]:
        """Others have all connections that a user may have."""
        others: list[Any] = []
        try:
            end = time.monotonic() + 1
            while time.monotonic() < end:
                try:
                    others.append(self.connect(USER))
                except Exception:  # noqa: BLE001 - whatever the driver says: there are no more
                    self.end_sessions(but=others)
                    time.sleep(0.05)
            assert others, "no connection could be taken"
            yield
        finally:
            for other in others:
                other.close()

    @contextmanager
    def _sessions_ended(self, dice: random.Random) -> Iterator[None]:
        with repeated(lambda: self.end_sessions(but=()), dice):
            yield

    @contextmanager
    def _deadlocked(self, dice: random.Random) -> Iterator[None]:
        """Another session locks rows in the other order: those of snapshots, then the source."""

        def lock_both() -> None:
            with (
                contextlib.suppress(Exception),  # it is the one that is rolled back
                contextlib.closing(self.connect(ADMIN)) as other,
                contextlib.closing(self.connect(ADMIN)) as probe,
            ):
                for statement in self.begin_to_deadlock():
                    run_statement(other, statement)
                run_statement(other, "SELECT id FROM snapshots ORDER BY id FOR UPDATE")
                end = time.monotonic() + 2
                while time.monotonic() < end and is_source_free(probe):
                    time.sleep(0.02)
                run_statement(other, "SELECT source FROM sources FOR UPDATE")

        with repeated(lock_both, dice):
            yield

    @contextmanager
    def _rows_locked(self, dice: random.Random) -> Iterator[None]:
        table = dice.choice(("sources", "snapshots", "view_state"))
        with contextlib.closing(self.connect(ADMIN)) as other:
            run_statement(other, "BEGIN")
            run_statement(other, f"SELECT * FROM {table} FOR UPDATE")
            yield

    @contextmanager
    def _table_locked(self, dice: random.Random) -> Iterator[None]:
        table = dice.choice(("sources", "snapshots", "sync_runs"))
        with contextlib.closing(self.connect(ADMIN)) as other:
            run_statement(other, "BEGIN")
            run_statement(other, self.lock_table.format(table))
            yield

    lock_table: ClassVar[str]

    @abstractmethod
    def connect(self, user: str) -> Any:
        """A connection of the driver to the database, outside transactions."""

    @abstractmethod
    def begin_to_deadlock(self) -> list[str]:
        """The beginning of a transaction that is not the one to be rolled back."""

    @abstractmethod
    def end_sessions(self, but: Any) -> None:
        """End those of `USER`, except for these connections."""

    @abstractmethod
    def deadlocks(self) -> int:
        """How many the server has seen so far."""


def is_source_free(connection: Any) -> bool:
    """Whether nobody has the row of the source locked, as a run has that writes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT source FROM sources FOR UPDATE SKIP LOCKED")
        return bool(cursor.fetchall())


def run_statement(connection: Any, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@contextmanager
def repeated(act: Callable[[], None], dice: random.Random) -> Iterator[None]:
    """Again and again, with small pauses."""
    is_over, pauses = threading.Event(), random.Random(dice.random())

    def repeat() -> None:
        while not is_over.wait(pauses.uniform(0.02, 0.3)):
            act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(60)


def descendants(pid: int) -> list[int]:
    """Of a process, all there are now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found


class OnPostgreSQL(Served):
    """In a tablespace on a small disk of its own."""

    kind = "postgresql"
    lock_table = "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE"
    # A commit that was answered is one, also for who kills the server.
    options: ClassVar[dict[str, str]] = {
        "synchronous_commit": "on",
        "deadlock_timeout": "100ms",
        "max_connections": str(_CONNECTIONS),
    }
    server: PostgreSQL
    disk: SmallDisk

    def start(self) -> None:
        self._launch()
        account = account_of(self.server.accounts)
        small = small_disk(self.server.folder / "small", 40_000, account)
        self.disk = self.stack.enter_context(small)
        self.server.execute(f"create tablespace small location '{self.disk.folder}'")
        self.server.execute(f'alter database "{self.name}" set tablespace small')

    def _launch(self) -> None:
        given = [part for name, value in self.options.items() for part in ("-c", f"{name}={value}")]
        self.server = PostgreSQL.launch(*given)
        self.stack.callback(self.server.stop)
        self.name = self.server.create_database()
        self.url = self.server.url(self.name)

    def connect(self, user: str) -> Any:
        import psycopg

        url = self.server.url(self.name, user=user)
        return psycopg.connect(url, autocommit=True, connect_timeout=10)

    def begin_to_deadlock(self) -> list[str]:
        return ["BEGIN", "SET LOCAL deadlock_timeout = '1min'"]

    def end_sessions(self, but: Any) -> None:
        kept = ", ".join(str(one.info.backend_pid) for one in but) or "0"
        with contextlib.suppress(Exception):
            self.server.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                f" where usename = '{USER}' and pid not in ({kept})"
            )

    def deadlocks(self) -> int:
        return int(self.server.execute("select sum(deadlocks) from pg_stat_database")[0][0])

    @contextmanager
    def _read_only(self, _: random.Random) -> Iterator[None]:
        self._set("default_transaction_read_only = on")
        try:
            yield
        finally:
            self._set("default_transaction_read_only = off")

    def _set(self, setting: str) -> None:
        self.server.execute(f"alter system set {setting}")
        self.server.execute("select pg_reload_conf()")

    def _full(self, _: random.Random) -> AbstractContextManager[None]:
        return self.disk.full()


class OnPair(OnPostgreSQL):
    """A primary and a standby that has each commit; the URL names both."""

    kind = "postgresql, two servers"
    rounds = 20

    def start(self) -> None:
        self._launch()
        self._ports = [self.server.port, free_port()]
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        one = f"127.0.0.1:{self.server.port}"
        self.url = f"{self.url.replace(one, hosts)}?target_session_attrs=read-write"

    def outages(self) -> list[Outage]:
        return [Outage("failed over to a standby", self._failed_over, is_away=True)]

    @contextmanager
    def _failed_over(self, _: random.Random) -> Iterator[None]:
        old = self.server
        (port,) = (port for port in self._ports if port != old.port)
        given = [part for name, value in self.options.items() for part in ("-c", f"{name}={value}")]
        standby = HotStandby.make(old, at_port=port, options=tuple(given))
        self._set("synchronous_standby_names = '*'")
        end = time.monotonic() + 30
        while not old.execute("select 1 from pg_stat_replication where sync_state <> 'async'"):
            assert time.monotonic() < end, "the standby does not follow"
            time.sleep(0.05)
        self.kill_server()
        self.server = standby
        old.stop()
        try:
            yield
        finally:
            standby.promote()
            self._set("synchronous_standby_names = ''")  # else each commit would wait for another


class SmallMariaDB(MariaDB):
    """Its data are on a small disk."""

    disk: SmallDisk
    stack: ExitStack

    def _initialize(self, account: str | None) -> None:
        self.stack = ExitStack()
        self.disk = self.stack.enter_context(small_disk(self._data, 260_000, account))
        super()._initialize(account)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.stack.close()
        super().stop()


class OnMariaDB(Served):
    """On a server with its data on a small disk."""

    kind = "mariadb"
    lock_table = "LOCK TABLES {} WRITE"
    server: SmallMariaDB

    def start(self) -> None:
        self.server = SmallMariaDB.launch(
            # A commit that was answered is one, also for who kills the server.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-log-file-size=8M",
            f"--max-connections={_CONNECTIONS}",
        )
        self.stack.callback(self.server.stop)
        self.name = self.server.create_database()
        self.url = self.server.url(self.name)

    def connect(self, user: str) -> Any:
        import pymysql

        return pymysql.connect(
            host="127.0.0.1",
            port=self.server.port,
            user=user,
            password=PASSWORD,
            database=self.name,
            autocommit=True,
            ssl_disabled=True,
        )

    def begin_to_deadlock(self) -> list[str]:
        return ["BEGIN"]  # who has locked fewer rows is rolled back

    def end_sessions(self, but: Any) -> None:
        kept = {one.thread_id() for one in but}
        query = f"select id from information_schema.processlist where user = '{USER}'"
        with contextlib.suppress(Exception):
            for (session,) in self.server.execute(query):
                if session not in kept:
                    with contextlib.suppress(Exception):
                        self.server.execute(f"kill {session}")

    def deadlocks(self) -> int:
        return int(self.server.execute("show global status like 'Innodb_deadlocks'")[0][1])

    @contextmanager
    def _read_only(self, _: random.Random) -> Iterator[None]:
        self.server.execute("set global read_only = 1")
        try:
            yield
        finally:
            self.server.execute("set global read_only = 0")

    @contextmanager
    def _full(self, _: random.Random) -> Iterator[None]:
        """It ends itself when its data cannot grow; somebody starts it again when there is room."""
        filler = self.server.disk.fill()
        try:
            yield
        finally:
            filler.unlink()
            process = self.server.process
            with contextlib.suppress(Exception):
                self.server.execute("select 1")
            assert process is not None
            if process.poll() is not None:
                self.server.come_back()


PLACES: tuple[type[Place], ...] = (File, OnPostgreSQL, OnPair, OnMariaDB)
