"""The comments in a database follow the catalogue, and nothing else of a table is changed."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, inspect, text

from etl.cli.commands.db import upgrade_schema
from etl.database import comments, schema, sql_views
from etl.database.connection import Database
from etl.database.dialects import mysql_comments
from etl.database.migrations import upgrade
from tests.support.databases import alembic_check

SERVERS = ["postgresql", "mariadb"]
TABLES = list(schema.metadata.tables.values())
VIEWS = list(sql_views.metadata.tables.values())


# --- a database, and what it says ---------------------------------------------------------


def execute(database: Database, *statements: str) -> None:
    with database.connect() as connection, connection.begin():
        for statement in statements:
            connection.execute(text(statement))


@pytest.fixture
def database(database_url: str, opened: Callable[[str], Database]) -> Database:
    return opened(database_url)


@pytest.fixture
def old(
    dialect: str,
    empty_database_url: str,
    opened: Callable[[str], Database],
    monkeypatch: pytest.MonkeyPatch,
) -> Database:
    """A database as the revisions alone leave it, with the words of their time."""
    database = opened(empty_database_url)
    with monkeypatch.context() as patch:
        patch.setattr(comments, "refresh", lambda _: None)
        upgrade(database)
    if dialect == "postgresql":
        execute(
            database,
            "COMMENT ON VIEW sync_health IS 'of before'",
            "COMMENT ON COLUMN sync_health.held IS NULL",
        )
    assert not database.read(comments.are_current)
    return database


def said(database: Database) -> dict[str, Any]:
    """The comments of the tables, and of the views where the server keeps them."""
    tables = TABLES + (VIEWS if database.dialect.family == "postgresql" else [])
    with database.connect(write=False) as connection:
        look = inspect(connection)
        return {
            table.name: (
                look.get_table_comment(table.name)["text"],
                {column["name"]: column["comment"] for column in look.get_columns(table.name)},
            )
            for table in tables
        }


def shape(database: Database) -> dict[str, Any]:
    """Everything but the comments."""
    with database.connect(write=False) as connection:
        look = inspect(connection)
        return {
            table.name: (
                [str(column | {"comment": ""}) for column in look.get_columns(table.name)],
                look.get_pk_constraint(table.name),
                look.get_check_constraints(table.name),
                sorted(map(str, look.get_indexes(table.name))),
            )
            for table in TABLES
        }


def changes_of(database: Database, action: Callable[[Database], object]) -> list[str]:
    """The statements of an action that change comments."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("COMMENT", "ALTER")):
            sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    action(database)
    event.remove(database.engine, "before_cursor_execute", note)
    return sent


# --- the upgrade --------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", SERVERS)
def test_an_upgrade_brings_the_comments_of_an_older_program_to_the_catalogue(old: Database):
    before = shape(old)
    assert changes_of(old, upgrade_schema) != []
    tables = TABLES + (VIEWS if old.dialect.family == "postgresql" else [])
    assert said(old) == {t.name: (t.comment, {c.name: c.comment for c in t.c}) for t in tables}
    assert shape(old) == before
    alembic_check(old)
    assert changes_of(old, upgrade_schema) == changes_of(old, upgrade) == []


@pytest.mark.parametrize("dialect", ["mariadb"])
def test_an_upgrade_that_is_cut_between_two_tables_goes_on_the_next_time(
    old: Database, monkeypatch: pytest.MonkeyPatch
):
    alter = mysql_comments.alter
    done: list[str] = []

    def cut(connection: Any, table: str, words: dict[str, str]) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(table)
        alter(connection, table, words)

    with monkeypatch.context() as patch:
        patch.setattr(mysql_comments, "alter", cut)
        with pytest.raises(KeyboardInterrupt):
            upgrade_schema(old)
    altered = [statement.split()[2] for statement in changes_of(old, upgrade_schema)]
    assert set(altered) == {table.name for table in TABLES} - set(done)
    assert old.read(comments.are_current)


@pytest.mark.parametrize("dialect", ["mariadb"])
def test_what_others_changed_of_a_column_stays(database: Database):
    execute(
        database,
        "ALTER TABLE sources MODIFY site VARCHAR(300) COLLATE utf8mb4_bin NOT NULL DEFAULT 'it''s'"
        r" COMMENT 'it''s a back\\slash, NOT NULL' CHECK (site <> 'x')",
        "ALTER TABLE sources MODIFY org_id BIGINT UNSIGNED COMMENT ''",
        "ALTER TABLE sources ADD COLUMN other INTEGER COMMENT 'not ours'",
    )
    before = shape(database)
    upgrade_schema(database)
    assert shape(database) == before
    assert said(database)["sources"][1]["other"] == "not ours"
    assert database.read(comments.are_current)


@pytest.mark.parametrize("dialect", ["mariadb"])
def test_where_a_server_would_copy_the_table_the_comments_stay(
    old: Database, monkeypatch: pytest.MonkeyPatch
):
    """Such a server answers as this one does to a longer copy of the column."""
    change, before = mysql_comments.change, said(old)

    def slow(made: str, column: str, words: str) -> str:
        return change(made, column, words).replace(" bigint(20) ", " int ")

    monkeypatch.setattr(mysql_comments, "change", slow)
    assert changes_of(old, upgrade_schema) != []
    after = said(old)
    assert after["sync_runs"] == before["sync_runs"]
    assert after["snapshot_history"] == before["snapshot_history"]


@pytest.mark.parametrize("dialect", SERVERS)
def test_comments_of_a_table_in_use_stay_and_are_no_reason_to_fail(
    database: Database, dialect: str, caplog: pytest.LogCaptureFixture
):
    wrong = {
        "postgresql": "COMMENT ON TABLE sources IS 'other words'",
        "mariadb": "ALTER TABLE sources COMMENT = 'other words'",
    }
    in_use = {
        "postgresql": "LOCK TABLE sources IN SHARE UPDATE EXCLUSIVE MODE",  # as VACUUM
        "mariadb": "SELECT * FROM sources",
    }
    execute(database, wrong[dialect])
    with database.connect() as connection, connection.begin():
        connection.execute(text(in_use[dialect])).close()
        began = time.monotonic()
        line = upgrade_schema(database)
        assert time.monotonic() - began < 5  # a run waits for ten seconds
    assert line.endswith(f"already current, revision {schema.HEAD}")
    (warning,) = caplog.messages
    assert warning.startswith("the comments in the database ")
    assert warning.endswith("a table is in use; run later: heatmap-etl db upgrade")
    assert said(database)["sources"][0] == "other words"
    line = upgrade_schema(database)
    assert line.endswith(f"revision {schema.HEAD}; 1 comment brought up to date")
    assert said(database)["sources"][0] == schema.sources.comment


@pytest.mark.parametrize("dialect", SERVERS)
def test_marks_in_a_comment_arrive_as_they_are(old: Database, monkeypatch: pytest.MonkeyPatch):
    words = r"it's a back\slash: 100 % of \n"
    monkeypatch.setattr(schema.sources, "comment", words)
    monkeypatch.setattr(schema.sources.c.site, "comment", words)
    upgrade_schema(old)
    comment, columns = said(old)["sources"]
    assert (comment, columns["site"]) == (words, words)
    assert changes_of(old, upgrade_schema) == []


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_sqlite_keeps_none(database: Database):
    assert database.read(comments.are_current)
    assert changes_of(database, upgrade_schema) == []
