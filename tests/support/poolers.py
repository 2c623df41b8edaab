"""Real connection poolers before a throw-away PostgreSQL server: PgBouncer and pgpool-II.

Each is a program of its own on a free port, and answers there as the server behind it does.
"""

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tests.support.servers import (
    ADMIN,
    PASSWORD,
    USER,
    PostgreSQL,
    Server,
    account_of,
    find_program,
    make_folder,
)

PoolMode = Literal["session", "transaction", "statement"]


@dataclass
class Behind(PostgreSQL):
    """What is made from a PostgreSQL server that runs already; `stop` leaves that one alone."""

    origin: PostgreSQL = field(kw_only=True)

    @classmethod
    def make(cls, origin: PostgreSQL, **parts: Any) -> Self:
        """One that answers, in a folder of its own."""
        cls.binaries()
        account = account_of(cls.accounts)
        made = cls(make_folder(cls.__name__.lower(), account), origin=origin, **parts)
        try:
            made._initialize(account)
            Server._start(made, account)  # no new roles: those of the other one
        except BaseException:
            made.stop()
            raise
        return made


@dataclass
class PgBouncer(Behind):
    stop_signal = signal.SIGTERM  # by SIGINT it waits for its clients

    pool_mode: PoolMode = "transaction"
    pool_size: int = 5

    @classmethod
    def before(
        cls, origin: PostgreSQL, pool_mode: PoolMode = "transaction", pool_size: int = 5
    ) -> "PgBouncer":
        """`pool_size`: connections to each database for all clients of one user."""
        return cls.make(origin, pool_mode=pool_mode, pool_size=pool_size)

    @classmethod
    def binaries(cls) -> tuple[Path, Path]:
        program = find_program("pgbouncer", [])
        return program, program

    def _initialize(self, account: str | None) -> None:
        users = "".join(f'"{user}" "{PASSWORD}"\n' for user in (USER, ADMIN))
        self._write_secret("users", users, account)

    def _launch(self, account: str | None) -> None:
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": self.folder / "users",
            "pool_mode": self.pool_mode,
            "default_pool_size": self.pool_size,
            "query_wait_timeout": 30,
        }
        lines = [f"{key} = {value}" for key, value in settings.items()]
        any_database = f"* = host=127.0.0.1 port={self.origin.port}"
        text = "\n".join(["[databases]", any_database, "[pgbouncer]", *lines, ""])
        self._write_secret("pgbouncer.ini", text, account)
        super()._launch(account)

    def _command(self) -> list[str]:
        return [str(self.binaries()[1]), "--quiet", str(self.folder / "pgbouncer.ini")]


@dataclass
class HotStandby(Behind):
    """Follows its primary until `pause` or `promote`. `at_port`: where it listens; 0: anywhere."""

    at_port: int = 0

    def promote(self) -> None:
        """From now on it is a primary itself."""
        self.execute("select pg_promote()")

    def pause(self) -> None:
        """From now on it stays as it is."""
        self.execute("select pg_wal_replay_pause()")

    def resume(self) -> None:
        self.execute("select pg_wal_replay_resume()")

    def _initialize(self, account: str | None) -> None:
        program = find_program("pg_basebackup", [self.binaries()[0].parent])
        origin = f"host=127.0.0.1 port={self.origin.port} user={ADMIN} password={PASSWORD}"
        copy = [str(program), "-d", origin, "-D", str(self._data), "-R", "-c", "fast", "-N"]
        self._run_once(copy, account)

    def _new_port(self) -> int:
        return self.at_port or super()._new_port()


@dataclass
class Pgpool(Behind):
    """pgpool-II, which sends what only reads to the standby, and the rest to the primary."""

    standby: HotStandby = field(kw_only=True)
    settings: tuple[str, ...] = ()

    @classmethod
    def before(cls, primary: PostgreSQL, standby: HotStandby, *settings: str) -> "Pgpool":
        """`settings`: more lines of its configuration."""
        return cls.make(primary, standby=standby, settings=settings)

    @classmethod
    def binaries(cls) -> tuple[Path, Path]:
        program = find_program("pgpool", [])
        return program, program

    def _initialize(self, account: str | None) -> None:
        users = "".join(f"{user}:TEXT{PASSWORD}\n" for user in (USER, ADMIN))
        self._write_secret("pool_passwd", users, account)
        self._write_secret("hba", "host all all 127.0.0.1/32 scram-sha-256\n", account)
        self._write_secret("pcp", "", account)

    def _launch(self, account: str | None) -> None:
        lines = [
            "backend_clustering_mode = 'streaming_replication'",
            "listen_addresses = '127.0.0.1'",
            f"port = {self.port}",
            *(f"{name} = '{self.folder}'" for name in ("socket_dir", "pcp_socket_dir")),
            *(f"{name} = '{self.folder}'" for name in ("logdir", "work_dir")),
            f"unix_socket_directories = '{self.folder}'",
            "pcp_listen_addresses = ''",
            f"pid_file_name = '{self.folder}/pid'",
            "num_init_children = 8",
            "enable_pool_hba = on",
            "sr_check_period = 0",
            "health_check_period = 0",
        ]
        for number, server in enumerate((self.origin, self.standby)):
            is_standby = server is self.standby
            flag = "DISALLOW_TO_FAILOVER" + "|ALWAYS_PRIMARY" * (not is_standby)
            lines += [
                f"backend_hostname{number} = '127.0.0.1'",
                f"backend_port{number} = {server.port}",
                f"backend_weight{number} = {int(is_standby)}",
                f"backend_flag{number} = '{flag}'",
            ]
        self._write_secret("pgpool.conf", "\n".join([*lines, *self.settings, ""]), account)
        super()._launch(account)

    def _command(self) -> list[str]:
        files = {"-f": "pgpool.conf", "-F": "pcp", "-a": "hba"}
        named = [part for key, name in files.items() for part in (key, str(self.folder / name))]
        return [str(self.binaries()[1]), "-n", *named]
