"""InnoDB as others configure it: small pages, older row formats, another default engine."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String

from etl.config.database_url import parse_database
from etl.database.connection import open_database
from etl.database.dialects import FITS_EVERYWHERE
from etl.database.dialects.mysql import _KEY_LENGTHS
from etl.database.dialects.types import LongText
from etl.database.migrations import downgrade, schema_state, upgrade, upgrade_url
from etl.database.schema import HEAD, applications, metadata, schema_drift, snapshots, sources
from etl.errors import StoreError
from etl.source.copy_database import copy_database
from etl.source.table_copy import row_count
from tests.support.api import Api, record
from tests.support.databases import MariaDBDatabases, alembic_check
from tests.support.hostile_rows import rows_of
from tests.support.project import Project, counts, make_config, open_project
from tests.support.servers import MariaDB

CONFIGURED = {
    "4k": (
        "--innodb-page-size=4k",
        "--innodb-default-row-format=compact",
        "--default-storage-engine=MyISAM",
    ),
    "8k": ("--innodb-page-size=8k", "--innodb-default-row-format=redundant"),
}
LONGEST_ID = {"4k": 190, "8k": 255}
TEXTS = (
    *("created_by", "created_by_handle", "device_type", "event_id"),
    *("session_id", "snapshot_name", "view_id"),
)
LENGTHS = (39, 175, 700, 10_000)
"""Of texts that it keeps in the row, of which few fill a small page, or that it keeps apart."""


@pytest.fixture(scope="module", params=CONFIGURED)
def pages(request: pytest.FixtureRequest) -> str:
    size: str = request.param
    return size


@pytest.fixture(scope="module")
def server(pages: str, require_server: Callable[[str], None]) -> Iterator[MariaDB]:
    require_server("mariadb")
    server = MariaDB.launch(*CONFIGURED[pages])
    yield server
    server.stop()


@pytest.fixture(scope="module")
def databases(server: MariaDB) -> MariaDBDatabases:
    return MariaDBDatabases(upgrade_url, server)


@pytest.fixture
def made(databases: MariaDBDatabases, api: Api) -> Iterator[Project]:
    """On a migrated database of that server."""
    url = databases.migrated()
    project = open_project(make_config(url, api.url))
    yield project
    project.database.close()
    databases.free(url)


def test_the_migrations_go_down_and_up(made: Project):
    downgrade(made.database, "base")
    assert schema_state(made.database).state == "absent"
    upgrade(made.database)
    assert schema_state(made.database).revision == HEAD
    alembic_check(made.database)
    tables = made.rows(
        "SELECT table_name, engine, row_format FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"
    )
    of_ours = {
        (row["engine"], row["row_format"]) for row in tables if row["table_name"] in metadata.tables
    }
    assert of_ours == {("InnoDB", "Dynamic")}


def test_what_a_server_with_large_pages_takes_is_stored(made: Project, api: Api):
    texts = {f"{n} {c}": c * n for n in LENGTHS for c in ("a", "é", "\U0001f600")}

    def listed(prefix: str) -> list[dict[str, Any]]:
        return [
            record(
                identifier,
                **dict.fromkeys(TEXTS, prefix + text),
                application_id=text[:255],
                unknown=prefix + text,
            )
            for identifier, text in {**texts, "\U0001f600" * 190: "é" * 700}.items()
        ]

    for prefix, outcome in (("", "new"), ("other ", "changed"), ("", "changed")):
        api.views["/home"] = listed(prefix)
        assert counts(made.run()) == {"listed": 13, outcome: 13}
        stored = made.snapshots()
        for row in api.views["/home"]:
            assert {n: stored[row["id"]][n] for n in TEXTS} == {
                n: row["attributes"][n] for n in TEXTS
            }
    assert counts(made.run(is_full=True)) == {"listed": 13, "unchanged": 13}
    assert len(made.history()) == 26
    assert {len(row["view_id"]) for row in made.history()} >= {700, 10_000, 706, 10_006}


def test_an_id_too_long_for_the_keys_is_rejected_alone(made: Project, api: Api, pages: str):
    longest = LONGEST_ID[pages]
    ids = ["x" * (longest - 1) + "a", "x" * (longest - 1) + "b", "y" * 255, "y" * 254 + "z", "1"]
    api.views["/home"] = [record(identifier) for identifier in ids]
    run = made.run()
    assert run.status == "ok"
    stored = {identifier for identifier in ids if len(identifier) <= longest}
    assert made.live() == stored
    assert run.total("rejected") == len(ids) - len(stored)
    reasons = {row["reason"] for row in made.rows("SELECT reason FROM rejected_records")}
    assert reasons == (
        {"the id is longer than the 190 characters that this database can index"}
        if pages == "4k"
        else set()
    )
    assert made.run(is_full=True).total("unchanged") == len(stored)


def test_a_long_attribute_name_is_shortened(made: Project, api: Api, pages: str):
    names = ["n" * 97, "n" * 225, "n" * 300, "m" * 96]
    api.views["/home"] = [record("1", **dict.fromkeys(names, 1))]
    assert made.run().status == "ok"
    longest = {"4k": 96, "8k": 224}[pages]
    drift = {row["name"]: row["count"] for row in made.rows("SELECT name, count FROM schema_drift")}
    long = [name for name in names if len(name) > longest]
    expected = {name: 1 for name in names if len(name) <= longest}
    assert drift == expected | {"n" * (longest - 1) + "…": len(long)}


def test_a_source_too_long_for_the_keys_is_refused_in_one_line(made: Project, api: Api, pages: str):
    longest = {"4k": 64, "8k": 128}[pages]
    api.views["/home"] = [record("1")]
    made.config = replace(made.config, source="s" * longest)
    assert made.run().status == "ok"
    made.config = replace(made.config, source="s" * (longest + 1), neighbours=("s" * longest,))
    with pytest.raises(StoreError) as refusal:
        made.run()
    assert str(refusal.value).endswith(
        "Data too long for column 'source' at row 1; give datadog.source a shorter name:"
        " the pages of this server (innodb_page_size) are small"
    )
    assert made.rows("SELECT source FROM sources") == [{"source": "s" * longest}]


def test_a_copy_with_keys_too_long_is_refused_before_its_first_row(
    databases: MariaDBDatabases, pages: str, tmp_path: Path
):
    table, column = {"4k": (applications, "application_id"), "8k": (sources, "source")}[pages]
    source = open_database(f"sqlite:///{tmp_path}/source.db", label="the source")
    url = databases.migrated()
    target = open_database(parse_database(url, tmp_path).url, label="the target")
    row = next(rows_of(table, 1))
    with closing(source), closing(target):
        upgrade(source)
        source.transaction(
            lambda connection: connection.execute(table.insert(), row | {column: "k" * 129})
        )
        with pytest.raises(StoreError, match=rf"characters in {column} of {table.name}.*InnoDB"):
            copy_database(source, target, lease_s=60)
        assert schema_state(target).revision == HEAD
        for name in metadata.tables.values():
            assert row_count(target, name) == 0
    databases.free(url)


@pytest.mark.parametrize(("size", "limit"), [(4096, 768), (8192, 1536), (16384, 3072)])
def test_every_key_fits_its_page(size: int, limit: int):
    """Those of later revisions, too; of MySQL, whose limits are the smaller ones."""
    lengths = _KEY_LENGTHS.get(size, {})
    for column in (snapshots.c.id, schema_drift.c.name):
        assert isinstance(column.type, String)
        assert lengths.get(column.name, column.type.length or 0) >= FITS_EVERYWHERE
    for table in metadata.tables.values():
        keys = [table.primary_key.columns, *(index.columns for index in table.indexes)]
        for key in keys:
            size_in_bytes = 0
            for column in key:
                if isinstance(column.type, String):
                    size_in_bytes += 4 * lengths.get(column.name, column.type.length or 0)
                else:
                    size_in_bytes += 4 * 120 if isinstance(column.type, LongText) else 8
            assert size_in_bytes <= limit, (table.name, key.keys())
