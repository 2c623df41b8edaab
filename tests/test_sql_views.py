"""The SQL views on every database: the columns of the catalogue, and the rows of a known history."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, select

from etl import sql_views
from etl.config.database import parse_database
from etl.database import Database, open_database

VIEWS = list(sql_views.metadata.tables.values())


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    parsed = parse_database(database_url, Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    yield database
    database.close()


def rows(database: Database, name: str) -> list[dict[str, Any]]:
    """All rows of a view, as the types of the catalogue read them."""
    with database.connect(write=False) as connection:
        found = connection.execute(select(sql_views.metadata.tables[name]))
        return [dict(row._mapping) for row in found]


def test_the_database_has_the_views_and_columns_of_the_catalogue(database: Database):
    with database.connect(write=False) as connection:
        look = inspect(connection)
        found = {
            name: [column["name"] for column in look.get_columns(name)]
            for name in look.get_view_names()
        }
    assert found == {view.name: list(view.columns.keys()) for view in VIEWS}
    for view in VIEWS:
        assert rows(database, view.name) == []
