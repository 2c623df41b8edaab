"""The lease of a source: one process at a time may write its rows, on one machine or many.

A process takes the lease before its first request and renews it while it runs. Each of its
committing transactions locks the `sources` row and compares the random token: a process that lost
the lease cannot write. The expiry, by the database's clock, only decides when another process may
take a lease that is not renewed; a holder on this machine whose process is gone loses it at once.

A transaction that waits for a lock keeps the row of its own source locked, and so the renewal
waiting. Who has the row locked is alive, whatever the expiry says, and such a transaction renews
the lease itself before it commits. It cannot last for ever: each of its waits ends.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Update, insert, select, update
from sqlalchemy.exc import DBAPIError

from etl.config.model import Config
from etl.database.connection import Database
from etl.database.dialects import dialect_of
from etl.database.schema import sources
from etl.errors import EtlError, LeaseHeld, LeaseLost, SourceMismatch
from etl.runtime.run_context import with_log_fields
from etl.transform.snapshot import NORMALIZER_VERSION

log = logging.getLogger(__name__)

_SHORT_WAIT_S = 0.5
"""To renew or take a lease locks its row for less."""


class Process(msgspec.Struct, frozen=True):
    """This process, so that another one can tell whether it still lives."""

    holder: str  # pid and start time: a pid is used again, the pair is not
    host: str  # machine, boot and pid namespace: where that pid means something


def this_process() -> Process:
    """The process that asks."""
    pid = os.getpid()
    return Process(f"{pid}@{_started(pid)}", f"{socket.gethostname()} {_kernel()}".strip()[:255])


def _started(pid: int) -> str:
    """Start time in clock ticks since boot, field 22 of /proc/PID/stat; empty without /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _kernel() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def is_gone(holder: str, host: str) -> bool:
    """Whether that process has certainly ended; False when it cannot be known from here."""
    if host != this_process().host:
        return False
    pid, _, started = holder.partition("@")
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    except ValueError:
        return False
    # Where /proc hides the processes of other users (hidepid, ProtectProc), no start is shown.
    started_now = _started(int(pid))
    return bool(started and started_now) and started_now != started


def clock(connection: Connection) -> datetime:
    """The database's clock, which all machines share."""
    return dialect_of(connection).clock(connection)


class Lease:
    """The right to write a source's rows, from `take` to `release`."""

    def __init__(self, source: str, seconds: float) -> None:
        self.source = source
        self.seconds = seconds
        self.token = secrets.token_hex(16)
        self.is_lost = False
        self._done = threading.Event()

    def take(self, connection: Connection, config: Config) -> None:
        """Take it, or raise `LeaseHeld` with holder and expiry."""
        _ensure_source(connection, config)
        where = {"site": config.site, "api_url": config.api_url, "app_url": config.app_url}
        self.take_stored(connection, where)

    def take_stored(self, connection: Connection, values: Mapping[str, str] | None = None) -> None:
        """As `take`, of a source that has its row: changes nothing in it but lease and `values`."""
        of_source = sources.c.source == self.source
        row, was_locked = _lock(connection, self.source)
        if row is None:
            raise LeaseHeld(f"source {self.source} was renamed at this moment; try again later")
        now = clock(connection)
        if row.lease_token != self.token:
            _require_idle(row, was_locked=was_locked)
            require_free(row, now)
        process = this_process()
        connection.execute(
            update(sources)
            .where(of_source)
            .values(
                lease_holder=process.holder,
                lease_host=process.host,
                lease_token=self.token,
                lease_expires_at=now + timedelta(seconds=self.seconds),
                **(values or {}),
            )
        )

    def guard(self, connection: Connection) -> None:
        """First statement of every committing transaction; raises `LeaseLost`."""
        self._require_held(connection)
        if dialect_of(connection).is_cluster(connection):
            # The lock is this server's own; only what both have written is compared at COMMIT.
            self._push_expiry(connection)

    @contextmanager
    def guarded(self, connection: Connection) -> Iterator[None]:
        """As `guard`, for a transaction that may last: it renews the lease at its end."""
        self.guard(connection)
        began = time.monotonic()
        yield
        if time.monotonic() - began > self.seconds / 3:
            self._push_expiry(connection)

    def is_held(self, connection: Connection) -> bool:
        """Whether the source still has the token of this lease; locks its row."""
        token = select(sources.c.lease_token).where(sources.c.source == self.source)
        return connection.execute(token.with_for_update()).scalar() == self.token

    def renew(self, connection: Connection) -> None:
        """Push the expiry on; raises `LeaseLost`."""
        self._require_held(connection)
        self._push_expiry(connection)

    def release(self, connection: Connection) -> None:
        """Give the lease back, in the transaction that ends the run."""
        self._done.set()
        self._require_held(connection)
        connection.execute(
            self._if_held().values(
                lease_holder=None, lease_host=None, lease_token=None, lease_expires_at=None
            )
        )

    def keep(self, database: Database, on_loss: Callable[[], None]) -> threading.Thread:
        """Renew in the background, three times in each span, until released or lost."""
        thread = threading.Thread(
            target=with_log_fields(lambda: self._keep(database, on_loss)), name="lease", daemon=True
        )
        thread.start()
        return thread

    def stop_keeping(self) -> None:
        """End the background renewal."""
        self._done.set()

    def _keep(self, database: Database, on_loss: Callable[[], None]) -> None:
        while not self._done.wait(self.seconds / 3):
            try:
                database.transaction(self.renew)
            except LeaseLost:
                if not self._done.is_set():
                    on_loss()
                return
            except EtlError as error:
                log.warning("lease not renewed, trying again: %s", error)

    def _require_held(self, connection: Connection) -> None:
        if not self.is_held(connection):
            self.is_lost = True
            raise LeaseLost(f"another process took the lease of {self.source}; nothing was written")

    def _push_expiry(self, connection: Connection) -> None:
        expires_at = clock(connection) + timedelta(seconds=self.seconds)
        connection.execute(self._if_held().values(lease_expires_at=expires_at))

    def _if_held(self) -> Update:
        return update(sources).where(
            sources.c.source == self.source, sources.c.lease_token == self.token
        )


def holder(connection: Connection, source: str) -> str:
    """The process that holds the lease now, for people; empty: none."""
    of_source = select(sources).where(sources.c.source == source)
    row = connection.execute(of_source).one_or_none()
    if row is None or row.lease_token is None or is_gone(row.lease_holder, row.lease_host):
        return ""
    is_expired = row.lease_expires_at <= clock(connection)
    if is_expired and not dialect_of(connection).is_locked(connection, of_source):
        return ""
    return _process_of(row).removesuffix(f" on {socket.gethostname()}")


def require_free(row: Row[Any], now: datetime) -> None:
    """Raises `LeaseHeld` when another process holds the lease in this row of `sources`."""
    is_free = row.lease_token is None or row.lease_expires_at <= now
    if not is_free and not is_gone(row.lease_holder, row.lease_host):
        raise LeaseHeld(_holder_text(row))


def lock_free(connection: Connection, source: str) -> None:
    """Keep every process from taking the lease before this transaction ends.

    Raises `LeaseHeld` when one has it, `SourceMismatch` when there is no such source.
    """
    row, was_locked = _lock(connection, source)
    if row is None:
        known = ", ".join(sorted(connection.execute(select(sources.c.source)).scalars()))
        raise SourceMismatch(f"there is no source {source}; the database holds: {known or 'none'}")
    _require_idle(row, was_locked=was_locked)
    require_free(row, clock(connection))


def _lock(connection: Connection, source: str) -> tuple[Row[Any] | None, bool]:
    """Lock the row of the source; returns it, and whether it was locked for a while.

    What each answer of that server takes is told by one that needs no lock.
    Raises `LeaseHeld` where another transaction keeps it locked: who has that works on the source.
    """
    of_source = select(sources).where(sources.c.source == source)
    began = time.monotonic()
    seen = connection.execute(of_source).one_or_none()
    was_seen = time.monotonic()
    try:
        row = connection.execute(of_source.with_for_update()).one_or_none()
    except DBAPIError as error:
        if seen is None or not dialect_of(connection).is_lock_timeout(error):
            raise
        raise LeaseHeld(_busy_text(seen)) from error
    seen_s, locked_s = was_seen - began, time.monotonic() - was_seen
    return row, locked_s - seen_s > _SHORT_WAIT_S


def _require_idle(row: Row[Any], *, was_locked: bool) -> None:
    """Raises `LeaseHeld` where a living holder had the row locked, whatever the expiry says."""
    is_held = row.lease_token is not None and not is_gone(row.lease_holder, row.lease_host)
    if was_locked and is_held:
        raise LeaseHeld(_busy_text(row))


def _process_of(row: Row[Any]) -> str:
    pid, host = row.lease_holder.partition("@")[0], row.lease_host.partition(" ")[0]
    return f"process {pid} on {host}"


def _busy_text(row: Row[Any]) -> str:
    who = "another process" if row.lease_token is None else _process_of(row)
    return f"{who} works on source {row.source}, and waits or writes just now; try again later"


def _holder_text(row: Row[Any]) -> str:
    return (
        f"{_process_of(row)} works on source {row.source}, its lease lasts until"
        f" {row.lease_expires_at:%Y-%m-%d %H:%M:%S} UTC; try again later"
    )


def _ensure_source(connection: Connection, config: Config) -> None:
    query = select(sources.c.source).where(sources.c.source == config.source)
    if connection.execute(query).first() is not None:
        return
    row = {
        "source": config.source,
        "site": config.site,
        "api_url": config.api_url,
        "app_url": config.app_url,
        "normalizer_version": NORMALIZER_VERSION,
        "first_seen_at": datetime.now(UTC),
    }
    # Where another process was quicker, the transaction is repeated. By a savepoint pgpool-II
    # loses where it has to read.
    connection.execute(insert(sources).values(row))
