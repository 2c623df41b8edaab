"""Logins, hosts and parameters of a URL, with real servers."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from etl.config.database_url import parse_database
from etl.database.connection import open_database
from etl.errors import DatabaseUnreachable
from tests.support.certificates import make_certificate
from tests.support.servers import PASSWORD, MariaDB, Server, Servers


def asked(url: str, question: str) -> list[tuple[object, ...]]:
    """The answer over a connection to a URL as people write it."""
    parsed = parse_database(url, Path.cwd())
    database = open_database(parsed.url, label=parsed.label)

    def ask(connection: Connection) -> list[tuple[object, ...]]:
        return [tuple(row) for row in connection.execute(text(question))]

    try:
        return database.read(ask)
    finally:
        database.close()


def refused(url: str) -> str:
    with pytest.raises(DatabaseUnreachable) as caught:
        asked(url, "SELECT 1")
    message = str(caught.value)
    assert "\n" not in message
    assert PASSWORD not in message
    return message


class WithTls(MariaDB):
    def _initialize(self, account: str | None) -> None:
        super()._initialize(account)
        make_certificate(self.folder, "IP:127.0.0.1")
        for name in ("both.pem", "key.pem"):
            (self.folder / name).chmod(0o644)
            if account is not None:
                shutil.chown(self.folder / name, account)

    def _command(self) -> list[str]:
        files = [f"--ssl-cert={self.folder}/both.pem", f"--ssl-key={self.folder}/key.pem"]
        return [*super()._command(), *files]


@pytest.fixture(scope="module")
def mariadb(require_server: Callable[[str], None]) -> Iterator[Server]:
    """With TLS, and users with several ways to log in; the password of each is `x`."""
    require_server("mariadb")
    server = WithTls.launch()
    try:
        server.execute("INSTALL SONAME 'auth_ed25519'")
        for user, how in (
            ("ed", "IDENTIFIED VIA ed25519 USING PASSWORD('x')"),
            ("plain", "IDENTIFIED BY 'x'"),
            ("expired", "IDENTIFIED BY 'x' PASSWORD EXPIRE"),
            ("locked", "IDENTIFIED BY 'x' ACCOUNT LOCK"),
            ("busy", "IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 1"),
        ):
            server.execute(f"CREATE USER {user}@'127.0.0.1' {how}")
            server.execute(f"GRANT ALL ON test.* TO {user}@'127.0.0.1'")
        server.execute("CREATE DATABASE test")
        yield server
    finally:
        server.stop()


@pytest.mark.slow
def test_tls_on_mariadb_is_as_the_url_says(mariadb: Server, tmp_path: Path) -> None:
    good, other = mariadb.folder / "both.pem", make_certificate(tmp_path, "IP:127.0.0.1")
    base = f"mariadb://plain:x@127.0.0.1:{mariadb.port}/test"
    for parameters, is_encrypted in (
        ("", True),
        ("?ssl_mode=DISABLED", False),
        ("?ssl_mode=REQUIRED", True),
        (f"?ssl_ca={good}", True),
        (f"?ssl_ca={good}&ssl_mode=VERIFY_IDENTITY", True),
        (f"?ssl_ca={good}&ssl_verify_cert=true", True),
        (f"?ssl_ca={other}&ssl_verify_cert=false", True),
    ):
        ((_, cipher),) = asked(base + parameters, "SHOW STATUS LIKE 'Ssl_cipher'")
        assert bool(cipher) == is_encrypted, parameters
    for parameters in ("", "&ssl_verify_cert=true", "&ssl_mode=VERIFY_CA"):
        message = refused(f"{base}?ssl_ca={other}{parameters}")
        assert "certificate verify failed" in message
        assert "check the CA file" in message
    by_name = base.replace("127.0.0.1", "localhost")
    assert "check the CA file" in refused(f"{by_name}?ssl_ca={good}")
    assert asked(f"{by_name}?ssl_ca={good}&ssl_mode=VERIFY_CA", "SELECT 1") == [(1,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("user", "hint"),
    [
        ("ed", "; run: pip install 'PyMySQL[ed25519]'"),
        ("expired", "; give this user a new password, at the server"),
        ("locked", "; let an administrator of the server unlock this user"),
        ("nobody", "; check user and password in database_url"),
    ],
)
def test_why_mariadb_lets_a_user_not_in_is_told(mariadb: Server, user: str, hint: str) -> None:
    assert refused(f"mysql://{user}:x@127.0.0.1:{mariadb.port}/test").endswith(hint)


@pytest.mark.slow
def test_too_many_connections_are_told(mariadb: Server) -> None:
    url = f"mariadb://busy:x@127.0.0.1:{mariadb.port}/test"
    parsed = parse_database(url, Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    with database.connect(write=False):
        assert "wait until others have ended" in refused(url)
    database.close()


def test_parameters_of_a_mariadb_url_reach_the_driver(new_database: Callable[..., str]) -> None:
    url = new_database("mariadb", migrated=False) + "?read_timeout=1&charset=utf8&program_name=x"
    assert asked(url, "SELECT @@character_set_client") == [("utf8mb4",)]
    with pytest.raises(DatabaseUnreachable, match="timed out"):
        asked(url, "SELECT SLEEP(3)")


@pytest.fixture
def postgresql(new_database: Callable[..., str], servers: Servers) -> tuple[str, int, str]:
    """The login, the port and the database."""
    url = new_database("postgresql", migrated=False)
    login = url.partition("://")[2].rpartition("@")[0]
    return login, servers.get("postgresql").port, url.rpartition("/")[2]


def test_the_first_host_that_answers_is_taken(postgresql: tuple[str, int, str]) -> None:
    login, port, name = postgresql
    for url in (
        f"postgresql://{login}@127.0.0.1:1,127.0.0.1:{port}/{name}?target_session_attrs=read-write",
        f"postgres://{login}@[::1]:1,127.0.0.1:{port}/{name}",
        f"postgresql://{login}@/{name}?host=127.0.0.1:1&host=127.0.0.1:{port}",
        f"postgresql://{login}@/{name}?host=127.0.0.1,127.0.0.1&port=1,{port}",
    ):
        assert asked(url, "SELECT inet_server_port()") == [(port,)]
    message = refused(f"postgresql://{login}@127.0.0.1:1,127.0.0.1:2/{name}")
    assert message.endswith("; check host and port in database_url, and that the server runs")


def test_parameters_of_a_postgresql_url_go_before_what_is_usual(
    postgresql: tuple[str, int, str],
) -> None:
    login, port, name = postgresql
    url = f"postgresql://{login}@127.0.0.1:{port}/{name}?prepare_threshold=0"
    question = "SELECT current_setting('application_name')"
    assert asked(url, question) == [("heatmap-etl",)]
    assert asked(f"{url}&application_name=mine&autocommit=false", question) == [("mine",)]


def test_why_postgresql_lets_nobody_in_is_told(
    postgresql: tuple[str, int, str], servers: Servers
) -> None:
    login, port, name = postgresql
    server = servers.get("postgresql")
    url = f"postgresql://{login}@127.0.0.1:{port}/{name}"
    server.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
    assert "wait until others have ended" in refused(url)
    assert "turn TLS on at the server" in refused(f"{url}?sslmode=require")
