"""Where `db copy` is to copy to: an argument, or a variable, which keeps a password private."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from etl.config.credentials import read_secret
from etl.config.database_url import EXPECTED, Database, parse_named
from etl.config.validators import BadValue, identifier
from etl.errors import ConfigError

COPY_TO_URL = "HEATMAP_ETL_COPY_TO_URL"


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """A database, and which of its schemas; `name`: the argument or variable that has its URL."""

    database: Database
    schema_name: str | None
    name: str


def copy_target(to: str | None, schema_name: str | None, configured: str | None) -> CopyTarget:
    """What the argument `to` names, else the environment. Raises `ConfigError`.

    `configured`: the schema that the configuration names, in which a PostgreSQL database gets its
    tables too, unless `schema_name` says another.
    """
    try:
        found = _parsed("TO", to) if to else _from_environment()
        if schema_name is not None:
            _require_schema_name(found, schema_name)
        elif found.is_postgresql:
            schema_name = configured
    except BadValue as error:
        raise ConfigError([str(error)]) from None
    except OSError:
        problem = "the current folder does not exist any more; change to another"
        raise ConfigError([problem]) from None
    return CopyTarget(found, schema_name, "TO" if to else COPY_TO_URL)


def _from_environment() -> Database:
    value = read_secret(COPY_TO_URL, os.environ, Path.cwd())
    if not value:
        raise BadValue(f"TO is missing; name the empty database, or set {COPY_TO_URL}: {EXPECTED}")
    return _parsed(COPY_TO_URL, value)


def _parsed(name: str, value: str) -> Database:
    try:
        return parse_named(value, Path.cwd(), may_be_new=True)
    except BadValue as error:
        raise BadValue(f"{name}: {error}") from None


def _require_schema_name(database: Database, schema_name: str) -> None:
    try:
        identifier(schema_name)
    except BadValue as error:
        raise BadValue(f"--schema: {error}") from None
    if not database.is_postgresql:
        raise BadValue("--schema: only PostgreSQL has schemas; remove it")
