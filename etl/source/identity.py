"""Refuses a source whose label was changed in the configuration alone (rule 8).

A view's key is a hash of the label too: under another label the rows that are
there would look like those of another organization that lists the same ids.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from etl.config.model import Config
from etl.database.schema import snapshots, sources
from etl.errors import SourceMismatch


def require_label(connection: Connection, config: Config) -> None:
    """Raises `SourceMismatch` when the label looks like a new name of rows that are there.

    That is: no run was ever made under it, and of the sources that are not configured beside it
    exactly one holds rows, from the same API.
    """
    s = sources.c
    known = {row.source: row.api_url for row in connection.execute(select(s.source, s.api_url))}
    if config.source in known:
        return
    strangers = sorted(known.keys() - set(config.neighbours))
    holding = [name for name in strangers if _has_rows(connection, name)]
    if len(holding) == 1 and known[holding[0]] == config.api_url:
        raise SourceMismatch(_advice(holding[0], config.source))


def _has_rows(connection: Connection, source: str) -> bool:
    row = select(snapshots.c.id).where(snapshots.c.source == source).limit(1)
    return connection.execute(row).first() is not None


def _advice(old: str, new: str) -> str:
    return (
        f"the database holds the rows of source {old}, and none of {new}, which is configured; "
        f"if it is the same organization run: heatmap-etl db rename-source {old} {new}; if it is "
        "another one, put the files of both into one folder and run with --config FOLDER"
    )
