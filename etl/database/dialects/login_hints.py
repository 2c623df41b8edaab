"""What to do about a database server that cannot be opened, by what it or the driver says."""

from __future__ import annotations

import re

from etl.database.dialects import CHECK_ADDRESS
from etl.formatting import to_install

Code = str | int
"""A SQLSTATE of PostgreSQL; a number of MariaDB or MySQL."""

NOT_IN_CLUSTER = (
    "this node is not part of its Galera cluster: name another node, or wait until"
    " wsrep_cluster_status is Primary and wsrep_ready is ON"
)
STATEMENT_MODE = "set pool_mode of PgBouncer to transaction or session"
_CREDENTIALS = "check user and password in database_url"
_OTHER_SERVER = "check host and port in database_url: what answers there is another kind of server"
_NONSENSE = (
    "the driver raised|SSL negotiation|SSL exchange|SSL error|authentication request"
    "|lost synchronization|results from command|[Pp]acket sequence|unexpected packet|auth switch"
)
_CERTIFICATE = (
    "check the CA file that database_url names (sslrootcert, or ssl_ca), and that its host is the"
    " name in the certificate of the server"
)
# The code of the error, where the driver tells one, or words of its message: PostgreSQL tells no
# code before the login. In other languages than English the last hint applies. Where it wants TLS,
# libpq tries again without it after a wrong password: what it says of that comes further down.
_HINTS: tuple[tuple[set[Code], str, str], ...] = (
    (set(), "'cryptography' package", f"run: {to_install('mysql')}"),
    (set(), "'pynacl' package", "run: pip install 'PyMySQL[ed25519]'"),
    (set(), "no pq wrapper available|raised ImportError", f"run: {to_install('postgres')}"),
    (set(), "WSREP has not yet prepared", NOT_IN_CLUSTER),
    ({1044}, "Access denied .*to database", "let this user use the database, or name another one"),
    (
        {"3D000", 1049},
        "database .* does not exist|Unknown database",
        "create the database, or name another one",
    ),
    (
        {"28P01", 1045, 1698},
        "authentication failed|role .* not exist|no password supplied|Access denied .*password",
        _CREDENTIALS,
    ),
    (
        {"53300", 1040, 1203, 1226},
        "too many clients|too many connections|connection slots|no more connections",
        "wait until others have ended, or allow more connections to the server",
    ),
    (
        {"57P01", "57P03", 1053},
        "(starting|shutting) (up|down)|not yet accepting|recovery mode",
        "wait until the server has started, and try again",
    ),
    (
        {3159},
        "no pg_hba.conf entry.*(no encryption|SSL off)",
        "the server requires TLS: remove from database_url what turns it off",
    ),
    (
        set(),
        "unsupported startup parameter",
        "remove it from database_url: PgBouncer refuses it (for a schema there is database_schema)",
    ),
    (set(), "statement pooling mode", STATEMENT_MODE),
    (
        {"28000"},
        "no pg_hba.conf entry|pg_hba.conf rejects",
        "let pg_hba.conf of the server accept this user, database and host",
    ),
    (
        set(),
        "not support SSL|SSL is required",
        "turn TLS on at the server, or remove it from the parameters of database_url",
    ),
    (
        set(),
        "(?i)certificate verify failed|certificate .*(not match|not valid for)|root certificate",
        _CERTIFICATE,
    ),
    ({1820, 1862}, "password .*expired", "give this user a new password, at the server"),
    ({3118, 4151}, "account is locked", "let an administrator of the server unlock this user"),
    ({1129}, "blocked because of many", "let an administrator of the server run: FLUSH HOSTS"),
    ({1130}, "not allowed to connect", "let this user log in from this host, at the server"),
    (
        {1251, 1524, 2059},
        "[Aa]uthentication (plugin|method)|SASL",
        "give this user a login method that the driver knows, such as a password",
    ),
    (
        set(),
        "socket .*No such file|Can't connect .*No such file",
        "check the folder of the socket in database_url, and that the server runs",
    ),
    (
        set(),
        "^(?!.*Can't connect).*No such file",
        "check the files that the parameters of database_url name",
    ),
    (set(), "raised configparser", "check the file that read_default_file in database_url names"),
    ({1156}, _NONSENSE, _OTHER_SERVER),
    (
        {2013},
        "[Rr]efused|timed out|timeout expired|No route|resolve|Name or service|server closed",
        CHECK_ADDRESS,
    ),
    (set(), "", "check database_url and that the server runs"),
)


def login_hint(code: Code | None, message: str) -> str:
    """The first hint with this code, or with a pattern that the message has."""
    return next(
        hint for codes, pattern, hint in _HINTS if code in codes or re.search(pattern, message)
    )
