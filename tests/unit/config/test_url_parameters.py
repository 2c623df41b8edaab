"""What may stand after the `?` of a database URL, and what the driver gets of it."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pymysql.connections
import pytest
from psycopg import pq
from sqlalchemy.engine import make_url

from etl.config.database_url import parse_database
from etl.config.url_parameters import check_parameters
from etl.config.validators import BadValue
from etl.database.dialects import dialect_named

HOME = Path("/home")
ABSENT = object()


def given_to_driver(url: str) -> dict[str, Any]:
    """What the driver is called with for a URL as people write it."""
    parsed = parse_database(url, HOME)
    dialect = dialect_named(make_url(parsed.url).get_backend_name())
    engine = dialect.make_engine(parsed.url, None)
    driver = (
        psycopg.Connection if dialect.family == "postgresql" else pymysql.connections.Connection
    )
    opened_by = "connect" if dialect.family == "postgresql" else "__init__"
    with (
        patch.object(driver, opened_by, side_effect=OSError("nobody")) as connect,
        pytest.raises(OSError, match="nobody"),
    ):
        engine.connect()
    return dict(connect.call_args.kwargs)


@pytest.mark.parametrize(
    ("parameters", "name", "value"),
    [
        ("", "connect_timeout", 10),
        ("connect_timeout=3", "connect_timeout", 3),
        ("application_name=x", "application_name", "x"),
        ("keepalives_idle=7", "keepalives_idle", "7"),
        ("sslmode=verify-full", "sslmode", "verify-full"),
        ("options=-c%20a%3Db", "options", "-c a=b"),
        ("prepare_threshold=0", "prepare_threshold", None),
        ("prepare_threshold=None", "prepare_threshold", None),
        ("autocommit=false", "autocommit", False),
        ("client_encoding=UTF8", "client_encoding", "utf8"),
        ("host=/run/pg", "host", "/run/pg"),
        ("host=a:1&host=b:2", "host", "a,b"),
        ("host=a:1&host=b:2", "port", "1,2"),
        ("host=a,b&port=1,2", "host", "a,b"),
    ],
)
def test_postgresql_gets_what_the_url_says_before_what_is_usual(
    parameters: str, name: str, value: object
) -> None:
    assert given_to_driver(f"postgresql://u:p@/d?{parameters}")[name] == value


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("h1:5432,h2:5433", "h1,h2", "5432,5433"),
        ("u:p,w@h1:5432,h2", "h1,h2", "5432,"),
        ("u:p@h1,h2", "h1,h2", None),
        ("[::1]:5,[fe80::2]:6", "::1,fe80::2", "5,6"),
        ("u:a,b/c?@h", "h", None),
        ("u@h,", "h,", None),
    ],
)
def test_several_hosts_are_written_as_for_psql(hosts: str, host: str, port: str | None) -> None:
    given = given_to_driver(f"postgresql://{hosts}/d?target_session_attrs=read-write")
    assert given["host"] == host
    assert given.get("port", "").strip(",") == (port or "").strip(",")
    assert (given["dbname"], given["target_session_attrs"]) == ("d", "read-write")
    if hosts.startswith("u:p"):
        assert given["user"] == "u"
        assert given["password"] in ("p", "p,w")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:hush@h1:x,h2/d", "cannot be read as a URL"),
        ("postgresql://u:hu,sh@a@h1,h2/d", "an @ in an unexpected place"),
        ("postgresql://u:hush@h1,h2:1:2/d", "cannot be read as a URL"),
        ("postgresql://u:hush@h1,h2", "names no database"),
        ("mysql://u:hush@h1,h2/d", "names several hosts"),
        ("mariadb://u:hush@h1:1,h2:2/d", "names several hosts"),
    ],
)
def test_hosts_that_make_no_list_are_refused(url: str, said: str) -> None:
    with pytest.raises(BadValue, match=said) as caught:
        parse_database(url, HOME)
    assert "hush" not in str(caught.value)


VERIFIED = {"ca": "f"}


@pytest.mark.parametrize(
    ("parameters", "name", "value"),
    [
        ("", "connect_timeout", 10),
        ("", "ssl", ABSENT),
        ("connect_timeout=3", "connect_timeout", 3),
        ("read_timeout=4", "read_timeout", 4),
        ("read_timeout=4", "write_timeout", 4),
        ("write_timeout=5&read_timeout=4", "write_timeout", 5),
        ("max_allowed_packet=2048", "max_allowed_packet", 2048),
        ("port=3307", "port", 3307),
        ("password=%E2%82%AC", "password", "€".encode()),
        ("unix_socket=/s", "unix_socket", "/s"),
        ("program_name=x", "program_name", "x"),
        ("charset=utf8", "charset", "utf8mb4"),
        ("local_infile=0", "local_infile", False),
        ("autocommit=False", "autocommit", False),
        ("use_unicode=1", "use_unicode", True),
        ("ssl_disabled=true", "ssl_disabled", True),
        ("ssl_disabled=false", "ssl", ABSENT),
        ("ssl_mode=disabled&ssl_ca=f", "ssl_disabled", True),
        ("ssl_mode=PREFERRED", "ssl", ABSENT),
        ("ssl_mode=REQUIRED", "ssl", {"verify_mode": False}),
        ("ssl_ca=f", "ssl", VERIFIED),
        ("ssl_ca=f&ssl_mode=REQUIRED", "ssl", VERIFIED),
        ("ssl_ca=f&ssl_cert=c&ssl_key=k", "ssl", {**VERIFIED, "cert": "c", "key": "k"}),
        ("ssl_ca=f&ssl_key_password=p", "ssl", {**VERIFIED, "password": "p"}),
        ("ssl_ca=f&ssl_verify_cert=true", "ssl", {**VERIFIED, "verify_mode": True}),
        (
            "ssl_ca=f&ssl_mode=VERIFY_CA",
            "ssl",
            {**VERIFIED, "verify_mode": True, "check_hostname": False},
        ),
        (
            "ssl_ca=f&ssl_verify_identity=1",
            "ssl",
            {**VERIFIED, "verify_mode": True, "check_hostname": True},
        ),
        (
            "ssl_capath=f&ssl_mode=verify_identity",
            "ssl",
            {"capath": "f", "verify_mode": True, "check_hostname": True},
        ),
        ("ssl_ca=f&ssl_check_hostname=no", "ssl", {**VERIFIED, "check_hostname": False}),
        (
            "ssl_ca=f&ssl_verify_cert=0",
            "ssl",
            {**VERIFIED, "verify_mode": False, "check_hostname": False},
        ),
    ],
)
@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_mariadb_gets_what_the_url_says_in_its_types(
    scheme: str, parameters: str, name: str, value: object
) -> None:
    given = given_to_driver(f"{scheme}://u@h/d?{parameters}")
    assert given.get(name, ABSENT) == value
    assert type(given.get(name, ABSENT)) is type(value)
    assert {n for n in given if n.startswith("ssl_")} <= {"ssl_disabled"}  # the rest is in `ssl`


@pytest.mark.parametrize(
    ("scheme", "parameters", "said"),
    [
        ("postgresql", "conect_timeout=3", "not known: conect_timeout; is connect_timeout meant"),
        ("postgresql", "plugin=x", "not known: plugin; leave it out"),
        ("postgresql", "ssl=true", "write sslmode=require"),
        ("postgresql", "prepare_threshold=5", "its parameter prepare_threshold: this program sets"),
        ("postgresql", "autocommit=true", "autocommit: this program sets it itself"),
        ("postgresql", "row_factory=dict_row", "row_factory: this program sets it itself"),
        ("postgresql", "client_encoding=latin1", "client_encoding: this program sets it itself"),
        ("postgresql", "sslmode=a&sslmode=b", "has the parameter sslmode twice"),
        ("postgresql", "%00=1", "not known: one; leave it out"),
        ("mysql", "ssl=true", "write ssl_mode=REQUIRED, or ssl_ca=FILE"),
        ("mysql", "ssl=1", "write ssl_mode=REQUIRED"),
        ("mariadb", "sslmode=require", "write ssl_mode=REQUIRED"),
        ("mysql", "ssl_mode=REQUIRE", "expected DISABLED, PREFERRED, REQUIRED, VERIFY_CA"),
        ("mysql", "ssl_verify_cert=true", "add ssl_ca=FILE"),
        ("mysql", "ssl_mode=VERIFY_IDENTITY", "add ssl_ca=FILE"),
        ("mysql", "ssl_check_hostname=true", "add ssl_ca=FILE"),
        ("mysql", "ssl_verify_cert=maybe", "ssl_verify_cert: expected true or false"),
        ("mysql", "read_timeout=0", "read_timeout: expected a whole number from 1 to"),
        ("mysql", "connect_timeout=soon", "connect_timeout: expected a whole number"),
        ("mysql", "port=70000", "port: expected a whole number from 1 to 65535"),
        ("mysql", "charset=latin1", "charset: this program sets it itself"),
        ("mysql", "init_command=SELECT%201", "init_command: this program sets it itself"),
        ("mysql", "local_infile=1", "local_infile: this program sets it itself"),
        ("mysql", "cursorclass=x", "cursorclass: this program sets it itself"),
        ("mysql", "compress=1", "not known: compress"),
        ("mysql", "ssl_ca=a&ssl_ca=b", "has the parameter ssl_ca twice"),
    ],
)
def test_what_a_url_cannot_say_is_refused(scheme: str, parameters: str, said: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse_database(f"{scheme}://u:hush@h/d?{parameters}&password=hush", HOME)
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("parameter", ["mode=ro", "uri=true", "timeout=9", "plugin=x", "cache=x"])
def test_a_sqlite_file_has_no_parameters(parameter: str) -> None:
    with pytest.raises(BadValue, match="takes no parameters; leave ") as caught:
        parse_database(f"sqlite:///x.db?{parameter}", HOME)
    assert ("opened only to read" in str(caught.value)) == (parameter == "mode=ro")
    assert parse_database("sqlite:///x%3Fy", HOME).url == "sqlite:////home/x%3Fy"


def test_each_parameter_of_the_libpq_in_use_is_known() -> None:
    names = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    values = {"client_encoding": "utf8", "connect_timeout": "3"}
    for name in names - {"replication"}:  # turns a connection into one that sends its log
        check_parameters("postgresql", {name: values.get(name, "x")})
    assert "sslmode" in names
