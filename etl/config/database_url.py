"""A database URL as people write it -> the URL for SQLAlchemy, and a label for people.

No message holds any part of the URL but its scheme and the names of parameters: with an unescaped
`@` or `/` in the password, parts of it end up in host or database name.
"""

from __future__ import annotations

import importlib.util
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from etl.config.url_parameters import check_parameters, typed_parameters
from etl.config.validators import BadValue, plain, type_name

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mysql+pymysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "mariadb+pymysql": "mariadb+pymysql",
}
_EXTRAS = {"psycopg": "postgres", "pymysql": "mysql"}
# What may be shown, not what may not: drivers know many names for a password.
_READABLE = {"%2C": ",", "%2F": "/", "%3A": ":"}  # in hosts, ports and folders of a label
_SHOWN_PARAMETERS = {
    "host",
    "port",
    "sslmode",
    "charset",
    "unix_socket",
    "service",
    "target_session_attrs",
}
_SEVERAL_HOSTS = re.compile(r"((?:[^@]*@)?+)([^/?@]*,[^/?@]*)([^?]*)(?:\?(.*))?", re.DOTALL)

EXPECTED = (
    "sqlite:///heatmap-etl.db, postgresql://user:password@host/database, "
    "mysql://... or mariadb://..."
)


@dataclass(frozen=True, slots=True)
class Database:
    """A database URL with its driver, and `label`: the same without a password, for people."""

    url: str = field(repr=False)
    label: str

    @property
    def is_postgresql(self) -> bool:
        """Whether it is PostgreSQL, the only one of the databases that has schemas."""
        return self.url.startswith("postgresql")


def parse_database(value: object, folder: Path) -> Database:
    """The database that `value` names; a relative SQLite path is one in `folder`.

    Raises BadValue when it is no URL, not supported, or its driver is not installed.
    """
    if not isinstance(value, str):
        raise BadValue(f"expected a URL in quotes, found {type_name(value)}")
    scheme, separator, rest = value.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][\w+.-]{0,30}", scheme, flags=re.ASCII):
        raise BadValue(f"is not a database URL; expected {EXPECTED}")
    drivername = _drivername(scheme.lower())
    if several := _SEVERAL_HOSTS.fullmatch(rest):
        rest = _with_hosts_as_parameters(drivername, several)
    url = _parse(drivername, rest)
    if drivername.startswith("sqlite"):
        return _sqlite(url, folder)
    _require_server_parts(url, rest)
    check_parameters(url.get_backend_name(), url.query)
    return Database(f"{drivername}://{rest}", _label(url))


def parse_named(value: str, folder: Path, *, may_be_new: bool = False) -> Database:
    """As `parse_database`, for a command line: `value` may be the path of a SQLite file as well.

    Such a file must be there, unless it `may_be_new`. Raises BadValue.
    """
    if "://" in value:
        return parse_database(value, folder)
    path = folder / value
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if re.search(r"[@=;:]|//", value):  # a misspelt URL, which may hold a password
            raise BadValue(f"is neither a file nor a database URL; expected {EXPECTED}") from None
        if may_be_new:
            return _file(path, folder)
        raise BadValue(f"there is no file {plain(path)}; name the one that `sync` uses") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no usable name"
        raise BadValue(f"that file cannot be opened: {reason}") from None
    if not stat.S_ISREG(mode):
        raise BadValue(f"{plain(path)} is not a file; expected one of SQLite, or a URL")
    return _file(path, folder)


def _file(path: Path, folder: Path) -> Database:
    from sqlalchemy.engine import URL

    return _sqlite(URL.create("sqlite", database=str(path)), folder)


def sqlite_file(url: str) -> Path | None:
    """The database file of a URL that `parse_database` made; None: it is on a server."""
    if not url.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    return Path(make_url(url).database or "")


def to_install(extra: str) -> str:
    """The command that brings what an extra of ours needs."""
    return f"pip install 'heatmap-etl[{extra}]'"


def driver_parameters(url: str) -> dict[str, Any]:
    """The parameters of the URL of a server in the types of its driver; they go before defaults."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    return typed_parameters(parsed.get_backend_name(), parsed.query)


def without_tls(url: str) -> URL:
    """The URL of a MariaDB or MySQL without the ssl_ parameters: SQLAlchemy would pass on some.

    `driver_parameters` has them all.
    """
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    return parsed.difference_update_query([n for n in parsed.query if n.startswith("ssl_")])


def _drivername(scheme: str) -> str:
    if scheme not in _DRIVERS:
        dialect = scheme.partition("+")[0]
        if dialect in _DRIVERS:
            raise BadValue(
                f"the driver of {scheme}:// is not supported; write {dialect}:// "
                "for the shipped one"
            )
        raise BadValue(f"{scheme}:// is not supported; expected {EXPECTED}")
    drivername = _DRIVERS[scheme]
    module = drivername.partition("+")[2]
    if module in _EXTRAS and importlib.util.find_spec(module) is None:
        raise BadValue(
            f"the driver for {scheme}:// is not installed; run: {to_install(_EXTRAS[module])}"
        )
    return drivername


def _with_hosts_as_parameters(drivername: str, several: re.Match[str]) -> str:
    """As libpq has it, `h1:5432,h2:5433/db`, in the form that SQLAlchemy knows."""
    login, hosts, path, parameters = several.groups()
    if drivername.startswith("sqlite"):
        return several[0]
    if not drivername.startswith("postgresql"):
        raise BadValue(
            "names several hosts, of which the driver of MariaDB and MySQL can try only one; "
            "name one, or a proxy that knows them all"
        )
    found = [re.fullmatch(r"(\[[^\[\]]+\]|[^\[\]:]*)(?::(\d*))?", h) for h in hosts.split(",")]
    if not all(found):
        return several[0]
    names = ",".join(quote(match[1].strip("[]"), safe="") for match in found if match)
    ports = ",".join(match[2] or "" for match in found if match)
    query = f"host={names}" + f"&port={ports}" * bool(ports.strip(","))
    return f"{login}{path or '/'}?{query}" + f"&{parameters}" * bool(parameters)


def _parse(drivername: str, rest: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if not rest.isprintable():
        raise BadValue("holds a line break or another character that cannot be in a URL")
    try:
        url = make_url(f"{drivername}://{rest}")
    except (ArgumentError, ValueError):
        # A chained error would show the URL.
        raise BadValue(
            "cannot be read as a URL; write special characters of user name and password "
            "as %40 for @, %2F for /, %3A for :"
        ) from None
    if "\0" in f"{url.username}{url.password}{url.host}{url.database}":
        raise BadValue("holds a NUL character (%00)")
    return url


def _require_server_parts(url: URL, rest: str) -> None:
    if rest.count("@") > 1 or ("@" in rest and url.username is None):
        raise BadValue(
            "has an @ in an unexpected place; inside user name, password and parameters "
            "write %40 for @ and %2F for /"
        )
    if url.port is not None and not 0 < url.port <= 65535:
        raise BadValue("has a port that is not between 1 and 65535")
    if not url.database and not {"dbname", "service"} & set(url.query):
        raise BadValue("names no database; expected it after the host: ...@host/database")


def _sqlite(url: URL, folder: Path) -> Database:
    if url.host or url.username is not None or url.port is not None:
        raise BadValue(
            "a SQLite file comes after three slashes: sqlite:///heatmap-etl.db "
            "(four for an absolute path)"
        )
    name = url.database or ":memory:"
    if name == ":memory:":
        raise BadValue(
            "a database in memory keeps nothing from one run to the next; "
            "write sqlite:///heatmap-etl.db"
        )
    if name.startswith("file:"):
        raise BadValue("file: names are not supported; write sqlite:///heatmap-etl.db")
    check_parameters("sqlite", url.query)
    url = url.set(database=str(folder / name))
    try:
        return Database(url.render_as_string(hide_password=False), _label(url))
    except ValueError:
        raise BadValue("the folder of the SQLite file has a name that is not UTF-8") from None


def _label(url: URL) -> str:
    parameters = {k: v for k, v in url.query.items() if k in _SHOWN_PARAMETERS}
    place, mark, query = _without_password(url, parameters).render_as_string().partition("?")
    for written, meant in _READABLE.items():
        query = query.replace(written, meant)
    return place + mark + query


def _without_password(url: URL, query: Mapping[str, str | tuple[str, ...]]) -> URL:
    # Not URL.set(): there None means "as it was".
    return type(url).create(
        url.drivername,
        username=url.username,
        host=url.host,
        port=url.port,
        database=url.database,
        query=query,
    )
