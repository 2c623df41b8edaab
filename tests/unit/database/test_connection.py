"""From a URL as people write it to a connection, or to a message that keeps the password."""

import os
import re
import secrets
import socket
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from etl.database import schema
from etl.database.connection import Database, unreachable
from etl.database.dialects import dialect_named
from etl.database.dialects.bounded_pymysql import BoundedConnection
from etl.database.migrations import schema_state, upgrade
from etl.errors import DatabaseUnreachable, StoreError
from etl.formatting import to_install
from etl.load.lookup import Tables
from etl.load.versions import Owner
from tests.support.api import Api, record
from tests.support.odd_databases import (
    PUBLIC_KEY,
    REFUSED,
    mysql_hello,
    mysql_packet,
    talking,
)
from tests.support.project import make_config, open_project
from tests.support.servers import PASSWORD, USER, Servers

SPECIAL = "p@ss:w/rd?#[]% &=+'\"\\ü€\U0001f600"
SERVER_DIALECTS = ["postgresql", "mariadb"]
RESTORE = "put it back from a backup, or save what can be read of it by: sqlite3 FILE .recover"
NO_PLUGIN = mysql_packet(b"\xfeparsec\0" + b"x" * 20 + b"\0", 2)
NONSENSE = [
    pytest.param("mysql", [b"hello there\r\n"], "Packet sequence number wrong", id="mysql-text"),
    pytest.param(
        "mysql",
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        "Packet sequence number wrong",
        id="mysql-http",
    ),
    # An alert, with which a server of TLS ends what is no TLS.
    pytest.param(
        "mysql", [b"\x15\x03\x01\x00\x02\x02\x28"], "Lost connection", id="mysql-alert of TLS"
    ),
    pytest.param("mysql", [b"\0" * 100], "the driver raised IndexError", id="mysql-zeros"),
    pytest.param(
        "mysql", [mysql_packet(b"\n")], "the driver raised struct.error", id="mysql-one byte"
    ),
    pytest.param("mysql", [mysql_hello()[:20]], "Lost connection", id="mysql-half a hello"),
    pytest.param(
        "mysql",
        [mysql_hello(b"none.of")],
        "the driver raised ValueError",
        id="mysql-a version in words",
    ),
    pytest.param(
        "mysql",
        [mysql_hello(plugin=b"\xff\xfe")],
        "the driver raised UnicodeDecodeError",
        id="mysql-a login method in bytes",
    ),
    pytest.param(
        "mysql", [mysql_packet(b"\xff\x10\x04#08004Zu viele")], "Zu viele", id="mysql-an error"
    ),
    pytest.param(
        "mysql", [mysql_packet(b"\xff")], "the driver raised struct.error", id="mysql-half an error"
    ),
    pytest.param(
        "mysql",
        [mysql_hello(), mysql_packet(b"ww", 2)],
        "unexpected packet",
        id="mysql-nonsense after the hello",
    ),
    pytest.param("mysql", [mysql_hello(), NO_PLUGIN], "parsec", id="mysql-an unknown login method"),
    pytest.param(
        "postgresql", [b""], "server closed the connection unexpectedly", id="postgresql-nothing"
    ),
    pytest.param(
        "postgresql",
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        "SSL negotiation: H",
        id="postgresql-http",
    ),
    pytest.param("postgresql", [mysql_hello()], "SSL negotiation", id="postgresql-mysql"),
    pytest.param(
        "postgresql",
        [b"N", b"HTTP/1.1 400"],
        "expected authentication request",
        id="postgresql-http after the hello",
    ),
    pytest.param(
        "postgresql",
        [b"N", b"R\0\0\0\x08\0\0\0\x63"],
        "authentication method 99",
        id="postgresql-an unknown login method",
    ),
    pytest.param(
        "postgresql",
        [b"N", b"R\0\0\0\x08\0\0\0\0" + b"\xff" * 9],
        "lost synchronization",
        id="postgresql-nonsense after the login",
    ),
]


def refusal(url: str, opened: Callable[[str], Database]) -> str:
    with pytest.raises(DatabaseUnreachable) as caught:
        schema_state(opened(url))
    chained = caught.value.__cause__
    # A traceback, should one ever be logged, holds no more than the message.
    assert chained is None
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("cannot open the database ")
    return message


def with_parts(url: str, **parts: Any) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)


@pytest.mark.parametrize("scheme", ["", "mysql"])
@pytest.mark.parametrize("dialect", SERVER_DIALECTS)
def test_a_wrong_password_is_not_told(
    dialect: str, scheme: str, empty_database_url: str, opened: Callable[[str], Database]
):
    if dialect == "postgresql" and scheme:
        scheme = "postgres"
    url = make_url(empty_database_url)
    wrong = with_parts(empty_database_url, password="wr0ng-p@ss")
    wrong = scheme + wrong.removeprefix(url.drivername) if scheme else wrong
    message = refusal(wrong, opened)
    assert "wr0ng" not in message
    assert "ss@" not in message
    assert f"etl@127.0.0.1:{url.port}/{url.database}" in message
    assert message.endswith("; check user and password in database_url")
    assert "password" in message  # in the driver's words, that this was the reason


@pytest.mark.parametrize("dialect", SERVER_DIALECTS)
def test_an_unknown_database_is_named(
    dialect: str, empty_database_url: str, opened: Callable[[str], Database]
):
    message = refusal(with_parts(empty_database_url, database="nowhere"), opened)
    assert "/nowhere: " in message
    assert PASSWORD not in message
    # MariaDB does not tell a user without rights that it is not there.
    hint = "create the database" if dialect == "postgresql" else "let this user use the database"
    assert message.endswith(f"; {hint}, or name another one")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Unknown database 'nowhere'", "create the database"),
        ('FATAL:  database "nowhere" does not exist', "create the database"),
        ('FATAL:  role "nobody" does not exist', "user and password"),
        ('FATAL:  Peer authentication failed for user "etl"', "user and password"),
        ("fe_sendauth: no password supplied", "user and password"),
        ("Access denied for user 'etl'@'h' (using password: NO)", "user and password"),
        ("Access denied for user 'etl'@'%' to database 'd'", "let this user use"),
        ("connection timeout expired", "host and port"),
        ("Can't connect to MySQL server on 'h' (timed out)", "host and port"),
        ("FATAL:  sorry, too many clients already", "wait until others have ended"),
        ("FATAL:  remaining connection slots are reserved for roles with", "wait until others"),
        ("FATAL:  the database system is starting up", "wait until the server has started"),
        ("FATAL:  the database system is shutting down", "wait until the server has started"),
        ('FATAL:  no pg_hba.conf entry for host "h", user "u", no encryption', "requires TLS"),
        ('FATAL:  no pg_hba.conf entry for host "h", user "u", SSL encryption', "let pg_hba.conf"),
        ("password authentication failed failed: no pg_hba.conf, no encryption", "user and pass"),
        ("server does not support SSL, but SSL was required", "turn TLS on"),
        ("SSL is required but the server doesn't support it", "turn TLS on"),
        ("SSL error: certificate verify failed", "check the CA file"),
        ('server certificate for "a" does not match host name "h"', "check the CA file"),
        ('root certificate file "/x" does not exist', "check the CA file"),
        ("none of the server's SASL authentication mechanisms are supported", "a login method"),
        ('on socket "/x/.s.PGSQL.5432" failed: No such file or directory', "folder of the socket"),
        ("[Errno 2] No such file or directory", "files that the parameters"),
        ("received invalid response to SSL negotiation: H", "another kind of server"),
        ("server closed the connection unexpectedly", "host and port"),
        ("FATAL:  etwas ganz anderes", "check database_url and that the server runs"),
    ],
)
def test_what_a_server_says_leads_to_what_to_do(said: str, hint: str):
    assert (
        hint
        in str(unreachable(dialect_named("postgresql"), "x", OSError(said))).rpartition("; ")[2]
    )


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (1040, "wait until others have ended"),
        (1203, "wait until others have ended"),
        (1226, "wait until others have ended"),
        (1044, "let this user use the database"),
        (1045, "check user and password"),
        (1698, "check user and password"),
        (1049, "create the database"),
        (1053, "wait until the server has started"),
        (1129, "FLUSH HOSTS"),
        (1130, "let this user log in from this host"),
        (1524, "a login method that the driver knows"),
        (2059, "a login method that the driver knows"),
        (1820, "a new password"),
        (1862, "a new password"),
        (3118, "unlock this user"),
        (4151, "unlock this user"),
        (3159, "requires TLS"),
        (2013, "host and port"),
        ("53300", "wait until others have ended"),
        ("57P03", "wait until the server has started"),
        ("57P01", "wait until the server has started"),
        ("28000", "let pg_hba.conf of the server"),
        ("28P01", "check user and password"),
        ("3D000", "create the database"),
    ],
)
def test_its_code_leads_there_in_any_language(code: int | str, hint: str):
    name, error = "mysql", Exception(code, "etwas")
    if isinstance(code, str):
        name, error = "postgresql", psycopg.errors.lookup(code)("etwas")
    message = str(unreachable(dialect_named(name), "x", error))
    assert hint in message.rpartition("; ")[2]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "mariadb", "mysql"])
def test_a_server_that_does_not_run_is_named(scheme: str, opened: Callable[[str], Database]):
    with socket.socket() as taken:
        # Bound but not listening: nobody else can answer there.
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        message = refusal(f"{scheme}://etl:s3cret@127.0.0.1:{port}/x", opened)
    assert f"127.0.0.1:{port}/x" in message
    assert "refused" in message
    assert message.endswith("; check host and port in database_url, and that the server runs")
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://etl:s3cret@nobody.invalid/x",
        "mariadb://etl:s3cret@nobody.invalid/x",
        "mysql://etl:s3cret@nobody.invalid/x",
        "postgresql://etl:s3cret@two..dots/x",
        "mariadb://etl:s3cret@two..dots/x",
        "postgresql://etl@127.0.0.1:1/x?password=s3cret",
        "postgresql://etl:s3cret@127.0.0.1:1,127.0.0.1:2/x",
        "mariadb://etl:s3cret@127.0.0.1:1/x?ssl_ca=not-there.pem",
        "mysql://etl:s3cret€@127.0.0.1:1/x",
    ],
)
def test_a_url_that_the_driver_cannot_use_is_one_line_without_password(
    url: str, opened: Callable[[str], Database]
):
    message = refusal(url, opened)
    assert "s3cret" not in message
    assert "database_url" in message
    if ".invalid" in url or "@127.0.0.1:1/x?password" in url:
        assert "check host and port" in message


def test_a_sqlite_file_without_its_folder_is_named(
    tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "no" / "x.db"
    message = refusal(f"sqlite:///{path}", opened)
    assert str(path) in message
    assert "check that the folder exists and can be written" in message


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Path.mkdir, "it is a folder"),
        (os.mkfifo, "it is no file, but a device, pipe or socket"),
        (lambda path: path.symlink_to("/dev/null"), "it is no file, but a device, pipe or socket"),
        (lambda path: path.symlink_to(path), "it is a link that leads to itself"),
    ],
)
def test_what_is_no_file_is_no_sqlite_file(
    make: Callable[[Path], object], said: str, tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "x.db"
    make(path)
    assert refusal(f"sqlite:///{path}", opened).endswith(f"x.db: {said}; name another file")
    assert list(tmp_path.iterdir()) == [path]


def test_a_sqlite_file_that_holds_something_else_is_left_as_it_is(
    tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "letter.db"
    path.write_text("Dear reader, this is no database.\n" * 100, encoding="utf-8")
    before = path.read_bytes()
    message = refusal(f"sqlite:///{path}", opened)
    assert message.endswith("it is not a SQLite database; name another file")
    assert path.read_bytes() == before


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "x.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE heatmap_etl_version (version_num TEXT)")
        connection.execute("CREATE TABLE other (content TEXT)")
        connection.executemany("INSERT INTO other VALUES (?)", [("x" * 3000,)] * 9)
    return path.read_bytes()


@pytest.mark.parametrize("write_ahead_log", [None, b"", b"stale" * 999])
def test_a_sqlite_file_that_is_cut_short_is_called_that(
    whole_file: bytes,
    write_ahead_log: bytes | None,
    tmp_path: Path,
    opened: Callable[[str], Database],
):
    for length in (50, 99, 100, 511, 512, 4095, 4096, 4097, len(whole_file) // 2, -4096, -4097, -1):
        if length == -1 and write_ahead_log is not None:
            continue  # SQLite puts the last page right from the log, where it is in there
        path = tmp_path / f"{length}.db"
        path.write_bytes(whole_file[:length])
        if write_ahead_log is not None:
            Path(f"{path}-wal").write_bytes(write_ahead_log)
        message = refusal(f"sqlite:///{path}", opened)
        assert "it is cut short" in message, length
        assert message.endswith(RESTORE), length
        assert path.read_bytes() == whole_file[:length], length


@pytest.mark.parametrize("content", [b"\0" * 4096, b"junk" * 1024], ids=["zeros", "junk"])
def test_a_damaged_sqlite_file_is_called_that(
    content: bytes, whole_file: bytes, tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "x.db"
    path.write_bytes(whole_file[:4096] + content + whole_file[8192:])
    with pytest.raises(StoreError) as caught:
        schema_state(opened(f"sqlite:///{path}"))
    assert str(caught.value).endswith(f"x.db: it is cut short or damaged; {RESTORE}")


@pytest.mark.parametrize(
    "content",
    [b"hello", b"\x89PNG\r\n\x1a\n" * 999, b"PK\3\4" * 9999, bytes(range(1, 256)) * 32],
    ids=["text", "picture", "archive", "encrypted"],
)
def test_what_is_no_sqlite_database_is_called_that(
    content: bytes, tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "x.db"
    path.write_bytes(content)
    message = refusal(f"sqlite:///{path}", opened)
    assert message.endswith("it is not a SQLite database; name another file")
    assert path.read_bytes() == content


def test_an_empty_file_is_a_new_database(tmp_path: Path, opened: Callable[[str], Database]):
    path = tmp_path / "x.db"
    path.touch()
    upgrade(opened(f"sqlite:///{path}"))
    assert schema_state(opened(f"sqlite:///{path}")).state == "current"


@pytest.mark.parametrize(("scheme", "parts", "said"), NONSENSE)
def test_a_server_that_talks_nonsense_is_told_in_one_line(
    scheme: str, parts: Sequence[bytes], said: str, opened: Callable[[str], Database]
):
    with talking(parts) as port:
        url = f"{scheme}://etl:s3cret@127.0.0.1:{port}/x?connect_timeout=2"
        message = refusal(url, opened)
    assert said in message
    assert "s3cret" not in message
    assert re.search("host and port in database_url|a login method|others have ended", message)


@pytest.mark.parametrize("password", ["s3cret!", "Lo9+ng/Passw0rd=Of-the~House", "etl-etl"])
def test_a_server_that_repeats_the_password_does_not_get_it_into_a_message(
    password: str, opened: Callable[[str], Database]
):
    said = f"no entry for {password.upper()}, {password[2:14]} or {quote(password)} of etl".encode()
    refused = b"SFATAL\0C28P01\0M" + said + b"\0\0"
    answer = b"E" + (len(refused) + 4).to_bytes(4, "big") + refused
    with talking([answer] * 3) as port:
        url = f"postgresql://etl:{quote(password, safe='')}@127.0.0.1:{port}/x?sslmode=disable"
        message = refusal(url, opened)
    assert "no entry for ***" in message
    assert password.lower() not in message.lower()
    assert len(password) < 16 or password[2:10] not in message
    assert " of etl;" in message


def test_without_the_library_for_a_login_method_it_is_named(opened: Callable[[str], Database]):
    """The server asks for the password under a public key, as MySQL 8 does without TLS."""
    asks = [mysql_hello(plugin=b"caching_sha2_password"), mysql_packet(b"\1\4", 2)]
    asks += [mysql_packet(b"\1" + PUBLIC_KEY, 4), REFUSED]
    with talking(asks) as port:
        url = f"mysql://etl:s3cret@127.0.0.1:{port}/x"
        assert "Access denied" in refusal(url, opened)
        with patch("pymysql._auth._have_cryptography", new=False):
            message = refusal(url, opened)
    assert "'cryptography' package is required" in message
    assert message.endswith(f"; run: {to_install('mysql')}")


def test_the_other_driver_is_missed_as_well(opened: Callable[[str], Database]):
    missing = ImportError("no pq wrapper available.\nAttempts made:\n- couldn't import psycopg 'c'")
    with (
        patch("etl.database.dialects.postgresql.create_engine", side_effect=missing),
        pytest.raises(DatabaseUnreachable) as caught,
    ):
        opened("postgresql://etl@127.0.0.1:1/x")
    assert str(caught.value).endswith(f"; run: {to_install('postgres')}")


def test_a_fault_of_ours_is_not_taken_for_one_of_the_driver(
    tmp_path: Path, opened: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("etl.database.dialects.sqlite._TEMPORARY_FOLDERS", 5)
    monkeypatch.delenv("SQLITE_TMPDIR", raising=False)
    with pytest.raises(TypeError, match="iterable"):
        schema_state(opened(f"sqlite:///{tmp_path}/x.db"))


@pytest.mark.parametrize("dialect", SERVER_DIALECTS)
def test_a_password_of_special_characters_works_when_it_is_percent_encoded(
    dialect: str, empty_database_url: str, opened: Callable[[str], Database], servers: Servers
):
    server, url = servers.get(dialect), make_url(empty_database_url)
    user = f"etl_{secrets.token_hex(4)}"
    literal = SPECIAL.replace("'", "''")
    if dialect == "postgresql":
        server.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{literal}'")
        server.execute(f"GRANT etl TO {user}")
    else:
        account = f"{user}@'127.0.0.1'"
        literal = literal.replace("\\", "\\\\")
        # The servers' helper speaks Latin-1 no more than we do: utf8mb4 is the driver's default.
        server.execute(f"CREATE USER {account} IDENTIFIED BY '{literal}'")
        server.execute(f"GRANT ALL ON `{url.database}`.* TO {account}")
    place = f"127.0.0.1:{url.port}/{url.database}"
    try:
        database = opened(f"{dialect}://{user}:{quote(SPECIAL, safe='')}@{place}")
        with database.connect(write=False) as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
        message = refusal(f"{dialect}://{user}:{quote(SPECIAL + 'x', safe='')}@{place}", opened)
        assert SPECIAL not in message
        assert quote(SPECIAL, safe="") not in message
        database.close()
    finally:
        server.execute(f"DROP USER {user}" + ("" if dialect == "postgresql" else "@'127.0.0.1'"))


def test_on_mariadb_the_tables_are_exact_whatever_the_servers_character_set_is(
    new_database: Callable[..., str], opened: Callable[[str], Database], servers: Servers
):
    url = new_database("mariadb", migrated=False)
    name = url.rpartition("/")[2]
    server = servers.get("mariadb")
    server.execute(f"ALTER DATABASE `{name}` CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    database = opened(url)
    upgrade(database)
    found = server.execute(
        "SELECT DISTINCT collation_name, engine FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        f" WHERE table_schema = '{name}' AND table_name <> '{schema.VERSION_TABLE}'"
        " AND collation_name IS NOT NULL AND table_type = 'BASE TABLE'"
    )
    assert found == [("utf8mb4_nopad_bin", "InnoDB")]
    assert schema.TABLE_OPTIONS["mariadb_collate"] == "utf8mb4_nopad_bin"


def test_a_transaction_that_nobody_goes_on_with_is_ended_by_the_server(
    new_database: Callable[..., str], opened: Callable[[str], Database]
):
    for dialect, asked in (
        ("postgresql", "SELECT current_setting('idle_in_transaction_session_timeout')"),
        ("mariadb", "SELECT @@idle_transaction_timeout"),
    ):
        with opened(new_database(dialect, migrated=False)).connect(write=False) as connection:
            assert str(connection.execute(text(asked)).scalar()) in ("30", "30s")


def test_mysql_8_is_not_asked_for_what_only_mariadb_has():
    engine = dialect_named("mysql").make_engine("mysql+pymysql://etl@127.0.0.1/x", None)
    with (
        patch.object(BoundedConnection, "__init__", side_effect=OSError("nobody")) as connect,
        pytest.raises(OSError, match="nobody"),
    ):
        engine.connect()
    statement = connect.call_args.kwargs["init_command"]
    plain = re.sub(r"/\*M!.*?\*/", "", statement)
    assert "idle" in statement
    assert "idle" not in plain
    assert plain.rstrip().endswith("innodb_lock_wait_timeout = 10")


def test_mysql_urls_of_a_mariadb_server_get_what_mariadb_needs(
    new_database: Callable[..., str], opened: Callable[[str], Database]
):
    url = new_database("mariadb", migrated=False)
    upgrade(opened(url.replace("mariadb:", "mysql:", 1)))
    with opened(url).connect() as connection:
        created = connection.execute(text("SHOW CREATE TABLE snapshots")).one()[1]
    assert "utf8mb4_nopad_bin" in created


def test_a_sqlite_file_that_another_program_writes_to_is_waited_for(
    tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (c)")
        other.execute("BEGIN IMMEDIATE")
        database = opened(f"sqlite:///{path}")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(database.transaction, lambda connection: connection.closed)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
            other.execute("COMMIT")
            assert waiting.result(20) is False


def test_only_a_connection_that_writes_makes_a_sqlite_file_write_ahead(
    tmp_path: Path, opened: Callable[[str], Database]
):
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (c)")
    before = path.read_bytes()
    database = opened(f"sqlite:///{path}")
    assert schema_state(database).state == "absent"
    database.close()
    assert path.read_bytes() == before
    with database.connect():
        assert path.read_bytes() != before


def test_a_sqlite_file_writes_ahead(tmp_path: Path, opened: Callable[[str], Database]):
    with opened(f"sqlite:///{tmp_path}/x.db").connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 30_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "failed"), [("LATIN1", ["/odd", "/odder"]), ("SQL_ASCII", [])]
)
def test_of_another_encoding_only_the_views_it_cannot_hold_fail(
    servers: Servers, api: Api, encoding: str, failed: list[str]
):
    server = servers.get("postgresql")
    name = f"of_{encoding.lower()}"
    options = f"owner {USER} encoding '{encoding}' locale 'C' template template0"
    server.execute(f"create database {name} {options}")
    api.views = {
        "/home": [record(f"{n}", snapshot_name="é") for n in range(9)],
        "/odd": [record("an id", view_name="/odd", snapshot_name="\U0001f600")],
        "/odder": [record(i, view_name="/odder") for i in ("of \U0001f600", "another id")],
    }
    project = open_project(make_config(server.url(name), api.url, list(api.views)))
    try:
        run = project.run()
        assert [v.view.name for v in run.views if v.verdict == "failed"] == failed
        assert len(project.rows("SELECT * FROM snapshots WHERE snapshot_name = 'é'")) == 9
        assert len(project.live()) == (9 if failed else 12)
        assert project.run().total("unchanged") == len(project.live())
    finally:
        project.database.close()
        server.drop_database(name)


def test_postgresql_plans_a_statement_each_time_and_keeps_none_prepared(
    new_database: Callable[..., str], opened: Callable[[str], Database]
):
    """A plan from when a table was small reads all of it for each id, however large it has grown;
    and a prepared statement would meet another client behind a pooler."""

    def plan(connection: Connection) -> tuple[int, str]:
        for _ in range(14):
            Tables(connection).ids(Owner("a source", "a view", "/a"), ["an id"])
        left = connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
        ask = text("EXPLAIN SELECT * FROM snapshots WHERE id = :id")
        return left, str(connection.execute(ask, {"id": "an id"}).all())

    left, told = opened(new_database("postgresql")).transaction(plan)
    assert left == 0
    assert "an id" in told  # the value itself, where a plan for any value has $1
