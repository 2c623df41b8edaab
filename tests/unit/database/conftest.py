"""Fixtures of the tests of the database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl.config.database_url import parse_database
from etl.database.connection import Database, open_database


@pytest.fixture
def opened() -> Iterator[Callable[[str], Database]]:
    """`opened(url)`: closed after the test."""
    databases: list[Database] = []

    def make(url: str) -> Database:
        parsed = parse_database(url, Path.cwd())
        databases.append(open_database(parsed.url, label=parsed.label))
        return databases[-1]

    yield make
    for database in databases:
        database.close()
