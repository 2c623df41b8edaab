"""Whether this login may create the schema: tried, and rolled back."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from etl.database.connection import Database
from etl.database.migrations import creation_refused


def create_refusal(database: Database) -> str:
    """Why this login may not create the schema, and who may; "": it may."""
    if database.file:
        return ""
    try:
        with database.connect() as connection:
            database.dialect.try_to_create(connection, database.schema_name)
    except DBAPIError as error:
        if database.dialect.is_repeatable(error):
            return ""  # another process creates it at this moment
        return creation_refused(database, error)
    return ""
