"""No name, address or other value of a row in what is said of an error: not by the database's
words, in the ledger, nor anywhere that these words go."""

import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from etl.cli.app import main
from etl.database.cursor import driver_cursor
from etl.database.schema import snapshots
from etl.errors import StoreError
from etl.runtime.logs import set_up
from tests.support.api import Api, record
from tests.support.databases import kind_of
from tests.support.project import Project, make_config, open_project

NAME, HANDLE, TITLE = "Ada 'O' \"Planted\"", "planted@example.com", "planted title"
PLANTED = {
    "created_by": NAME,
    "created_by_handle": HANDLE,
    "created_by_user_id": None,
    "snapshot_name": TITLE,
}

# A table of somebody, a statement that it refuses, and what may be said of that.
REFUSED = {
    "sqlite": [
        ("name TEXT UNIQUE", "VALUES (:v), (:v)", "UNIQUE constraint failed: t.name"),
        (
            "name TEXT CONSTRAINT short CHECK (length(name) < 4)",
            "VALUES (:v)",
            "CHECK constraint failed: short",
        ),
    ],
    "postgresql": [
        (
            "name text CONSTRAINT one UNIQUE",
            "VALUES (:v), (:v)",
            'duplicate key value violates unique constraint "one" (table t)',
        ),
        (
            "name text CONSTRAINT short CHECK (length(name) < 4)",
            "VALUES (:v)",
            'new row for relation "t" violates check constraint "short"',
        ),
        (
            "name text, other text NOT NULL",
            "VALUES (:v)",
            'null value in column "other" of relation "t" violates not-null constraint',
        ),
        ("name varchar(4)", "VALUES (:v)", "value too long for type character varying(4)"),
        ("name json", "VALUES (CAST(:v AS json))", "invalid input syntax for type json"),
        (
            "name integer",
            "VALUES (CAST(:v AS integer))",
            "invalid input syntax for type integer: ***",
        ),
        ("name timestamptz", "SELECT CAST(:v AS date)", "invalid input syntax for type date: ***"),
        (
            "name text REFERENCES heatmap_etl_version (version_num)",
            "VALUES (:v)",
            'insert or update on table "t" violates foreign key constraint "t_name_fkey"',
        ),
        (
            "name text, EXCLUDE USING hash (name WITH =)",
            "VALUES (:v), (:v)",
            'conflicting key value violates exclusion constraint "t_name_excl" (table t)',
        ),
    ],
    "mariadb": [
        (
            "name varchar(90) UNIQUE",
            "VALUES (:v), (:v)",
            "Duplicate entry *** for key 'name'",
        ),
        (
            "name text, CONSTRAINT short CHECK (length(name) < 4)",
            "VALUES (:v)",
            "CONSTRAINT `short` failed for",
        ),
        ("name varchar(4)", "VALUES (:v)", "Data too long for column 'name' at row 1"),
        ("name integer", "VALUES (:v)", "Incorrect integer value: *** for column `"),
        ("name datetime", "VALUES (:v)", "Incorrect datetime value: *** for column `"),
        ("name enum('a')", "VALUES (:v)", "Data truncated for column 'name' at row 1"),
        ("name json", "VALUES (:v)", "CONSTRAINT `t.name` failed for"),
        (
            "name integer",
            "SELECT 1 - CAST(:v AS integer)",
            "Truncated incorrect INTEGER value: ***",
        ),
    ],
}


@pytest.fixture
def one_view(database_url: str, api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)  # between two tries
    project = open_project(make_config(database_url, api.url))
    yield project
    project.database.close()


def assert_private(said: str) -> None:
    for value in ("Ada", "Planted", "planted", "Failing row"):
        assert value not in said


def by_sqlalchemy(opened: Connection, sql: str) -> None:
    opened.execute(text(sql), {"v": NAME})


def by_cursor(opened: Connection, sql: str) -> None:
    mark = "?" if opened.dialect.name == "sqlite" else "%s"
    with driver_cursor(opened) as cursor:
        cursor.execute(sql.replace(":v", mark), [NAME] * sql.count(":v"))


def test_the_words_of_the_database_hold_no_value(one_view: Project, dialect: str):
    """Nor does the traceback of a bug."""
    for columns, values, told in REFUSED[kind_of(dialect)]:
        one_view.execute(f"CREATE TABLE t ({columns})")
        for execute in (by_sqlalchemy, by_cursor):
            with pytest.raises(StoreError) as caught:
                one_view.database.transaction(
                    partial(execute, sql=f"INSERT INTO t (name) {values}")
                )
            assert told in str(caught.value), columns
            assert_private("".join(traceback.format_exception(caught.value)))
        one_view.execute("DROP TABLE t")


def test_a_text_that_is_no_instant_is_not_shown(new_database: Callable[..., str], api: Api):
    project = open_project(make_config(new_database("sqlite"), api.url))
    api.views["/home"] = [record("1")]
    assert project.run().status == "ok"
    project.execute("UPDATE snapshots SET created_at = 'Ada Planted'")
    with pytest.raises(StoreError) as caught:
        project.database.read(lambda opened: opened.execute(select(snapshots)).all())
    assert str(caught.value) == "a column of instants holds something else"
    assert_private("".join(traceback.format_exception(caught.value)))
    project.database.close()


def test_a_text_that_cannot_be_decoded_is_not_shown(new_database: Callable[..., str], api: Api):
    project = open_project(make_config(new_database("sqlite"), api.url))
    query = text("SELECT CAST(:v AS TEXT) AS name")
    value = {"v": NAME.encode() + b"\xff"}
    with pytest.raises(StoreError) as caught:
        project.database.read(lambda opened: opened.execute(query, value).all())
    assert str(caught.value).endswith("Could not decode to UTF-8 column 'name'")
    assert_private("".join(traceback.format_exception(caught.value)))
    project.database.close()


def test_the_driver_logs_no_row_that_was_refused_while_something_else_went_wrong(
    new_database: Callable[..., str], api: Api, capfd: pytest.CaptureFixture[str]
):
    project = open_project(make_config(new_database("postgresql"), api.url))
    project.execute("CREATE TABLE t (name text CHECK (name = ''))")
    set_up("console", "DEBUG")

    def stopped(opened: Connection) -> None:
        with driver_cursor(opened) as cursor, cursor.copy("COPY t FROM STDIN") as copy:
            for _ in range(20_000):
                copy.write_row((NAME,))
            raise InterruptedError

    with pytest.raises((InterruptedError, StoreError)):
        project.database.transaction(stopped)
    project.database.close()
    assert_private(capfd.readouterr().err)


# What others may do to our table, how it is undone, and what is said of it in between.
SPOILT = {
    "postgresql": [
        ("ADD CONSTRAINT nobody CHECK (created_by IS NULL)", "DROP CONSTRAINT nobody", "nobody"),
        (
            "ALTER COLUMN created_by_user_id SET NOT NULL",
            "ALTER COLUMN created_by_user_id DROP NOT NULL",
            "created_by_user_id",
        ),
        (
            "ADD CONSTRAINT one_each UNIQUE (created_by_handle)",
            "DROP CONSTRAINT one_each",
            "one_each",
        ),
        (
            "ADD CONSTRAINT json CHECK (json_typeof(snapshot_name::json) <> 'x')",
            "DROP CONSTRAINT json",
            "invalid input syntax for type json",
        ),
        (
            "ADD COLUMN short varchar(4) GENERATED ALWAYS AS (snapshot_name) STORED",
            "DROP COLUMN short",
            "value too long for type character varying(4)",
        ),
    ],
    "mariadb": [
        ("ADD CONSTRAINT nobody CHECK (created_by IS NULL)", "DROP CONSTRAINT nobody", "nobody"),
        (
            "MODIFY created_by_user_id bigint NOT NULL",
            "MODIFY created_by_user_id bigint",
            "created_by_user_id",
        ),
        (
            "ADD CONSTRAINT one_each UNIQUE (created_by_handle(80))",
            "DROP KEY one_each",
            "for key 'one_each'",
        ),
        (
            "MODIFY snapshot_name json",
            "MODIFY snapshot_name longtext",
            "snapshots.snapshot_name",
        ),
        (
            "MODIFY snapshot_name varchar(4)",
            "MODIFY snapshot_name longtext",
            "for column 'snapshot_name'",
        ),
    ],
}
# In a trigger of theirs, and what is said of it.
TRIGGERS = {
    "postgresql": [
        (
            "RAISE 'not on Sundays' USING DETAIL = NEW.created_by, HINT = NEW.created_by;",
            "not on Sundays",
        ),
        ("NEW.start_ms = NEW.created_by::bigint;", "invalid input syntax for type bigint: ***"),
        ("EXECUTE 'SELECT ' || NEW.created_by;", "***"),
    ],
    "mariadb": [
        ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not on Sundays'", "not on Sundays"),
        (
            "SET NEW.start_ms = CAST(NEW.created_by AS integer)",
            "Truncated incorrect INTEGER value: ***",
        ),
    ],
}
FORMS = (
    *(["sync"], ["sync", "--quiet"], ["sync", "--json"], ["--log-format", "json", "-v", "sync"]),
    *(["status"], ["status", "--json"], ["check"]),
)
BARE = record("a", created_by=None, created_by_handle=HANDLE, snapshot_name=None)


@pytest.fixture
def spoilt(one_view: Project, dialect: str) -> Callable[[], Iterator[str]]:
    """`spoilt()`: our table in one way after the other, and what must be said."""

    def each() -> Iterator[str]:
        for change, undo, told in SPOILT[dialect]:
            one_view.execute(f"ALTER TABLE snapshots {change}")
            yield told
            one_view.execute(f"ALTER TABLE snapshots {undo}")
        for body, told in TRIGGERS[dialect]:
            trigger = "CREATE TRIGGER theirs BEFORE INSERT ON snapshots FOR EACH ROW"
            if dialect == "postgresql":
                declared = "CREATE OR REPLACE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql"
                with one_view.database.connect() as opened, opened.begin():
                    opened.exec_driver_sql(f"{declared} AS $$ BEGIN {body} RETURN NEW; END $$")
                    opened.exec_driver_sql(f"{trigger} EXECUTE FUNCTION theirs()")
            else:
                one_view.execute(f"{trigger} {body}")
            yield told
            on_table = " ON snapshots" * (dialect == "postgresql")
            one_view.execute(f"DROP TRIGGER theirs{on_table}")

    return each


@pytest.mark.parametrize("dialect", sorted(SPOILT), indirect=True)
def test_a_row_that_is_refused_fails_its_view_and_is_shown_nowhere(
    one_view: Project,
    dialect: str,
    spoilt: Callable[[], Iterator[str]],
    api: Api,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    settings = f'views = ["/home"]\n[datadog]\napi_url = "{api.url}"\n'
    (tmp_path / "heatmap-etl.toml").write_text(settings, encoding="utf-8")
    monkeypatch.setenv("HEATMAP_ETL_DATABASE_URL", one_view.config.database_url)
    monkeypatch.setenv("DD_API_KEY", "a")
    monkeypatch.setenv("DD_APP_KEY", "b")
    api.views["/home"] = [BARE]
    one_view.run()
    for told in spoilt():
        api.views["/home"] = [BARE, record("b", **PLANTED)]
        # They all show the same text.
        for arguments in FORMS if told == "nobody" else FORMS[:1]:
            main(arguments)
            printed = "\n".join(capsys.readouterr())
            assert_private(printed)
            assert told in printed or arguments == ["check"]
        assert one_view.live() == {"a"}
        if told != "nobody":
            continue
        # A row that is replaced goes another way.
        api.views["/home"] = [record("a", **PLANTED)]
        assert main(["sync"]) == 1
        printed = "\n".join(capsys.readouterr())
        assert_private(printed)
        assert told in printed
    errors = one_view.rows("SELECT error FROM sync_run_views WHERE error IS NOT NULL")
    assert len(errors) > len([*SPOILT[dialect], *TRIGGERS[dialect]])
    for table in ("sync_runs", "sync_run_views", "view_state", "sync_health"):
        assert_private(repr(one_view.rows(f"SELECT * FROM {table}")))
