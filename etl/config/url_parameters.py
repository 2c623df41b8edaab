"""The parameters of a database URL, after its `?`: which there are, and their types.

A URL holds text; the drivers take numbers, truth values and dictionaries. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from etl.config.validators import BadValue

Values = Mapping[str, str | tuple[str, ...]]

_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}
_OFF = {*_FALSE, "none", "null"}
_LONGEST_WAIT_S = 31_536_000  # the limit of PyMySQL


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise BadValue("expected true or false")
    return text.lower() in _TRUE


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text[:20]) <= high):
            raise BadValue(f"expected a whole number from {low} to {high}")
        return int(text)

    return read


def _fixed(value: object, *accepted: str) -> Callable[[str], object]:
    """For what the program decides itself: it may be written, not changed."""

    def read(text: str) -> object:
        if text.lower() not in accepted:
            raise BadValue("this program sets it itself; leave it out")
        return value

    return read


def _ssl_mode(text: str) -> str:
    if (mode := text.upper()) not in _SSL_MODES:
        raise BadValue(f"expected {', '.join(_SSL_MODES)}")
    return mode


_SSL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
_HOW_TO_ENCRYPT = (
    "write ssl_mode=REQUIRED, or ssl_ca=FILE to verify the certificate of the server as well"
)
# Those of libpq 18, which takes each as text, but for `replication`.
_LIBPQ = """
    application_name channel_binding connect_timeout dbname fallback_application_name
    gssdelegation gssencmode gsslib host hostaddr keepalives keepalives_count
    keepalives_idle keepalives_interval krbsrvname load_balance_hosts
    max_protocol_version min_protocol_version oauth_client_id oauth_client_secret
    oauth_issuer oauth_scope options passfile password port require_auth requirepeer
    scram_client_key scram_server_key service servicefile ssl_max_protocol_version
    ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey
    sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert sslsni
    target_session_attrs tcp_user_timeout user
"""
_PYMYSQL_TEXTS = """
    bind_address host program_name read_default_file read_default_group unix_socket user
    ssl_ca ssl_capath ssl_cert ssl_cipher ssl_key ssl_key_password
"""
_POSTGRESQL: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(_LIBPQ.split(), str),
    "client_encoding": _fixed("utf8", "utf8", "utf-8"),
    # psycopg has no read_timeout: `bounded` applies it. 0 would mean no end.
    **dict.fromkeys(("connect_timeout", "read_timeout"), _whole(1, _LONGEST_WAIT_S)),
    "prepare_threshold": _fixed(None, *_OFF),
    "autocommit": _fixed(False, *_FALSE),
    **dict.fromkeys(("context", "cursor_factory", "replication", "row_factory"), _fixed(None)),
}
_MYSQL: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(_PYMYSQL_TEXTS.split(), str),
    # Given as text, the driver would send it as Latin-1: a password set as UTF-8 would fail.
    "password": str.encode,
    "port": _whole(1, 65_535),
    **dict.fromkeys(
        ("connect_timeout", "read_timeout", "write_timeout"), _whole(1, _LONGEST_WAIT_S)
    ),
    "max_allowed_packet": _whole(1024, 2**30),
    **dict.fromkeys(
        ("ssl_check_hostname", "ssl_disabled", "ssl_verify_cert", "ssl_verify_identity"), _truth
    ),
    "ssl_mode": _ssl_mode,
    "charset": _fixed("utf8mb4", "utf8mb4", "utf8"),
    "use_unicode": _fixed(True, *_TRUE),
    **dict.fromkeys(("autocommit", "local_infile"), _fixed(False, *_FALSE)),
    **dict.fromkeys(
        ("client_flag", "collation", "conv", "cursorclass", "init_command", "sql_mode"),
        _fixed(None),
    ),
}
_TABLES = {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL}
_ADVICE = {
    ("mysql", "ssl"): _HOW_TO_ENCRYPT,
    ("mysql", "sslmode"): _HOW_TO_ENCRYPT,
    ("postgresql", "ssl"): "write sslmode=require, or sslmode=verify-full to verify the server too",
    ("postgresql", "ssl_mode"): "write sslmode=require, or sslmode=verify-full",
}
_ADVICE |= {("mariadb", name): text for (kind, name), text in _ADVICE.items() if kind == "mysql"}


def check_parameters(kind: str, query: Values) -> None:
    """Raises BadValue for a parameter that is unknown, of a wrong type, or set by the program.

    `kind`: sqlite, postgresql, mysql or mariadb. The message holds names, and no value.
    """
    if kind == "sqlite":
        _refuse_all(query)
    else:
        typed_parameters(kind, query)


def _refuse_all(query: Values) -> None:
    """What SQLAlchemy would ignore, as `mode=ro`, and what would change what the program needs."""
    if not query:
        return
    advice = "leave them out; in the name of a file write %3F for ?"
    if "mode" in query:
        advice = (
            "leave out mode: a file that this user may not write is opened only to read, and"
            " commands that only show something do not change the data"
        )
    raise BadValue(f"the URL of a SQLite file takes no parameters; {advice}")


def typed_parameters(kind: str, query: Values) -> dict[str, Any]:
    """The parameters in the types of the driver; those of TLS on MariaDB as its `ssl`.

    Those that name several hosts are left out: SQLAlchemy has to join them. Raises BadValue as
    `check_parameters` does.
    """
    table, typed = _TABLES[kind], {}
    for name, value in query.items():
        if name not in table:
            raise BadValue(_unknown(kind, name))
        if kind == "postgresql" and name in ("host", "port"):
            continue  # there may be several: SQLAlchemy joins them
        if isinstance(value, tuple):
            raise BadValue(f"has the parameter {name} twice")
        try:
            typed[name] = table[name](value)
        except BadValue as error:
            raise BadValue(f"its parameter {name}: {error}") from None
    return typed if kind == "postgresql" else _with_tls(typed)


def _unknown(kind: str, name: str) -> str:
    from difflib import get_close_matches

    advice = _ADVICE.get((kind, name))
    near = get_close_matches(name.lower(), _TABLES[kind], n=1)
    if advice is None and near:
        advice = f"is {near[0]} meant?"
    shown = name if name.isidentifier() and name.isascii() and len(name) <= 40 else "one"
    return f"has a parameter that is not known: {shown}; {advice or 'leave it out'}"


def _with_tls(typed: dict[str, Any]) -> dict[str, Any]:
    """SQLAlchemy leaves some of these to the driver, which then forgets the others."""
    given = {name[4:]: value for name, value in typed.items() if name[:4] == "ssl_"}
    others = {name: value for name, value in typed.items() if name[:4] != "ssl_"}
    if given.get("disabled") or given.get("mode") == "DISABLED":
        return {**others, "ssl_disabled": True}
    names = {"key_password": "password"} | {n: n for n in ("ca", "capath", "cert", "cipher", "key")}
    tls: dict[str, Any] = {names[name]: given[name] for name in names if name in given}
    verify, check_name = _wanted_trust(given)
    if verify and not given.keys() & {"ca", "capath"}:
        raise BadValue("to verify the certificate of the server, add ssl_ca=FILE")
    if verify is not None:
        tls["verify_mode"] = verify
    if check_name is not None:
        tls["check_hostname"] = check_name
    if given.get("mode") == "REQUIRED" and not tls:
        tls["verify_mode"] = False  # an empty one would ask for nothing
    return {**others, "ssl": tls} if tls else others


def _wanted_trust(given: Mapping[str, Any]) -> tuple[bool | None, bool | None]:
    """Whether to verify the certificate, and the name in it; None: as is usual with what is given.

    With a file of authorities, both are verified.
    """
    if given.get("mode") in ("VERIFY_CA", "VERIFY_IDENTITY"):
        return True, given["mode"] == "VERIFY_IDENTITY"
    check_name = given.get("verify_identity", given.get("check_hostname"))
    verify = True if check_name else given.get("verify_cert")
    return verify, False if verify is False else check_name
