"""The sources that a database holds, for somebody who has no configuration of them."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, select

from etl.config.model import Config, Sources
from etl.database.connection import opened
from etl.database.migrations import require_there
from etl.database.schema import sources as sources_table
from etl.errors import StoreError


def spelt_out(sources: Sources) -> Sources:
    """The same, with one configuration for each stored source where one names none.

    Raises `StoreError` where the database cannot be read, or holds no source yet.
    """
    if all(config.has_source for config in sources.configs):
        return sources
    configs = tuple(
        found
        for config in sources.configs
        for found in ([config] if config.has_source else _stored(config))
    )
    return Sources(configs, sources.is_folder or len(configs) > 1)


def _stored(config: Config) -> list[Config]:
    with opened(config) as database:
        require_there(database)
        found = database.read(lambda connection: _read(connection, config))
    if not found:
        raise StoreError(
            f"the database {database.place} holds no source: no run has stored anything yet"
        )
    return found


def _read(connection: Connection, config: Config) -> list[Config]:
    names = connection.execute(select(sources_table.c.source).order_by(sources_table.c.source))
    return [replace(config, source=name, has_source=True) for name in names.scalars()]
