"""What `check` tries in the database: on real servers, as they are and as somebody spoilt them."""

import re
import select
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import make_url

from etl.database import schema
from etl.diagnose.self_test import Busy, find_faults
from etl.diagnose.throw_away import INSTANT
from etl.errors import DatabaseUnreachable
from etl.source.lease import Lease
from tests.support.api import Api, record
from tests.support.poolers import PgBouncer
from tests.support.project import Project, make_config, open_project
from tests.support.servers import PostgreSQL, ServerMissing, Servers
from tests.support.tunnel import Behave, ConnectionServer

LATENCY_S = 0.02


def faults(project: Project, *, has_tables: bool = True) -> list[str]:
    return [str(f) for f in find_faults(project.database, project.config, has_tables=has_tables)]


def everything(project: Project) -> dict[str, list[dict[str, object]]]:
    tables = sorted(schema.metadata.tables)
    return {t: sorted(project.rows(f"SELECT * FROM {t}"), key=str) for t in tables}


@pytest.fixture
def on(new_database: Callable[..., str]) -> Iterator[Callable[..., Project]]:
    """`on(dialect, migrated=True)`: a project on a database of its own."""
    made: list[Project] = []

    def on(dialect: str, *, migrated: bool = True) -> Project:
        url = new_database(dialect, migrated=migrated)
        made.append(open_project(make_config(url, "http://127.0.0.1:1")))
        return made[-1]

    yield on
    for project in made:
        project.database.close()


# --- as it should be ----------------------------------------------------------------------


def test_it_holds_beside_stored_rows_and_leaves_nothing(project: Project, api: Api):
    api.views["/home"] = [record("a"), record("b")]
    project.run()
    before = everything(project)
    assert faults(project) == []
    assert everything(project) == before
    assert faults(project) == []  # no lock, table or setting of the first time is in the way
    assert project.run().status == "ok"


def counting(port: int, trips: list[int]) -> Behave:
    """Pass everything on to a server; an item for each time that the client has to wait for it."""

    def relay(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            other = {client: server, server: client}
            has_answered = True
            while True:
                for end in select.select(list(other), [], [])[0]:
                    if not (got := end.recv(65536)):
                        return
                    if end is client and has_answered:
                        trips.append(len(got))
                    has_answered = end is server
                    other[end].sendall(got)

    return relay


def test_it_takes_under_two_seconds_also_with_a_network_between(database_url: str, dialect: str):
    url, trips = make_url(database_url), list[int]()
    with ConnectionServer(counting(url.port or 0, trips)) as between:
        if dialect != "sqlite":
            url = url.set(host="127.0.0.1", port=between.port)
        project = open_project(make_config(url.render_as_string(hide_password=False), ""))
        before = len(trips)
        started = time.thread_time()
        assert faults(project) == []
        used_s = time.thread_time() - started
        project.database.close()
    found = len(trips) - before
    assert found == 0 if dialect == "sqlite" else 40 < found < 90
    assert used_s + found * LATENCY_S < 2


def test_a_run_at_work_is_neither_in_the_way_nor_disturbed(project: Project, dialect: str):
    lease = Lease(project.config.source, 60)
    project.database.transaction(lambda connection: lease.take(connection, project.config))
    with project.database.connect() as run, run.begin():
        lease.guard(run)
        run.execute(text("UPDATE sources SET privacy = 'keep'"))
        if dialect == "sqlite":  # has one writer
            with pytest.raises(Busy):
                faults(project)
        else:
            assert faults(project) == []
    project.database.transaction(lease.release)
    assert project.one("SELECT privacy FROM sources") == {"privacy": "keep"}
    assert faults(project) == []


def test_sqlite_keeps_its_journal_and_its_files(on: Callable[..., Project]):
    project = on("sqlite")
    file = project.database.file
    assert file is not None
    project.database.close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    before = file.read_bytes()
    project = open_project(project.config)
    assert faults(project) == []
    project.database.close()
    assert file.read_bytes() == before
    assert [f.name for f in file.parent.glob(f"{file.name}*")] == [file.name]


def test_one_allowed_connection_is_enough(on: Callable[..., Project], servers: Servers):
    project = on("postgresql")
    project.database.close()
    name = make_url(project.config.database_url).database
    servers.get("postgresql").execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 1')
    assert faults(project) == []


def test_one_connection_of_a_pooler_is_enough(on: Callable[..., Project], servers: Servers):
    project, server = on("postgresql"), servers.get("postgresql")
    assert isinstance(server, PostgreSQL)
    try:
        pooler = PgBouncer.before(server, "transaction", 1)
    except ServerMissing as error:
        pytest.skip(f"LOUD: PgBouncer is not tested: {error}")
    url = make_url(project.config.database_url).set(port=pooler.port)
    behind = open_project(make_config(url.render_as_string(hide_password=False), ""))
    try:
        began = time.monotonic()
        assert faults(behind) == []
        assert time.monotonic() - began < 5
    finally:
        behind.database.close()
        pooler.stop()


def test_a_policy_may_let_a_login_write_its_own_source_alone(on: Callable[..., Project]):
    project = on("postgresql")
    own = f"(source = '{project.config.source}')"
    lease = Lease(project.config.source, 60)
    project.database.transaction(lambda connection: lease.take(connection, project.config))
    for table in ("sources", "view_state", "sync_runs"):
        project.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        project.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        project.execute(f"CREATE POLICY own ON {table} USING {own}")
    assert faults(project) == []
    project.execute("DROP POLICY own ON sources")
    project.execute("CREATE POLICY other ON sources USING (source = 'other')")
    (line,) = faults(project)
    assert 'lease fails: new row violates row-level security policy for table "sources"' in line


LOST_AT = [
    ("postgresql", "BEGIN", 2),
    ("postgresql", "INSERT INTO side_questions", 1),
    ("postgresql", "UNION ALL", 1),
    ("mariadb", "INSERT INTO side_questions", 1),
    ("mariadb", "UNION ALL", 1),
]


@pytest.mark.parametrize(("dialect", "statement", "nth"), LOST_AT)
def test_a_connection_that_is_lost_is_no_fault_of_the_tables(
    on: Callable[..., Project], servers: Servers, dialect: str, statement: str, nth: int
):
    project, server = on(dialect), servers.get(dialect)
    seen = []

    def end(connection: Connection, _cursor: object, sent: str, *_: object) -> None:
        if not re.search(statement, sent):
            return
        seen.append(sent)
        if len(seen) != nth:
            return
        driver: Any = connection.connection.dbapi_connection
        if dialect == "postgresql":
            server.execute(f"SELECT pg_terminate_backend({driver.info.backend_pid})")
        else:
            server.execute(f"KILL {driver.thread_id()}")

    event.listen(project.database.engine, "before_cursor_execute", end)
    with pytest.raises(DatabaseUnreachable) as failure:
        faults(project)
    assert str(failure.value).startswith(f"{project.database.label}: ")
    assert "tables" not in str(failure.value)
    assert len(seen) >= nth
    event.remove(project.database.engine, "before_cursor_execute", end)
    assert faults(project) == []


# --- spoilt -------------------------------------------------------------------------------

Spoil = tuple[list[str], list[str]]
"""Statements that spoil a database, and those that mend it again."""


def trigger(when: str, table: str, body: str) -> Spoil:
    function = "CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql"
    made = f"CREATE TRIGGER t BEFORE {when} ON {table} FOR EACH ROW EXECUTE FUNCTION f()"
    return [f"{function} AS $$ BEGIN {body} END $$", made], [f"DROP TRIGGER t ON {table}"]


def rule(when: str, table: str) -> Spoil:
    return [f"CREATE RULE r AS ON {when} TO {table} DO INSTEAD NOTHING"], [
        f"DROP RULE r ON {table}"
    ]


def policy(table: str, made: str) -> Spoil:
    secured = f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    undone = f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY"
    return [secured, f"CREATE POLICY p ON {table} {made}"], [f"DROP POLICY p ON {table}", undone]


def change(table: str, changed: str, undone: str) -> Spoil:
    return [f"ALTER TABLE {table} {changed}"], [f"ALTER TABLE {table} {undone}"]


SWALLOW, KEEP = "RETURN NULL;", "RETURN OLD;"
TO_THE_SECOND = "NEW.created_at = date_trunc('second', NEW.created_at); RETURN NEW;"
NOT_REMOVED = "NEW.removed_at = NULL; RETURN NEW;"
ID = "MODIFY id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_{} NOT NULL"
OF_POSTGRESQL = [
    (
        trigger("INSERT", "snapshots", SWALLOW),
        "adding snapshots: 0 of 120 new rows are in snapshots; look for a trigger",
    ),
    (
        trigger("INSERT", "snapshots", TO_THE_SECOND),
        f"reading them: in snapshots.created_at {INSTANT:%Y-%m-%d}T01:30:00+00:00 came back for",
    ),
    (
        trigger("UPDATE", "snapshots", KEEP),
        "changing them: in snapshots.version 1 came back for 2 (also in began, valid_from",
    ),
    (
        trigger("UPDATE", "snapshots", NOT_REMOVED),
        "removing them: 0 of 25 rows of snapshots are marked as removed; look for",
    ),
    (
        trigger("INSERT", "snapshot_history", SWALLOW),
        "keeping their history: 25 of 25 rows are missing in snapshot_history",
    ),
    (
        trigger("INSERT", "snapshot_history", "RAISE EXCEPTION 'not today';"),
        "keeping their history fails: not today",
    ),
    (
        trigger("UPDATE", "sources", KEEP),
        "a lease: a lease that was taken is missing in sources; look for",
    ),
    (
        trigger("DELETE", "applications", SWALLOW),
        "a row in each table: a row of applications was not deleted; look for",
    ),
    (rule("INSERT", "view_state"), "1 of 1 rows are missing in view_state; look for"),
    (rule("UPDATE", "view_state"), "a row in each table: in view_state.view_name "),
    (
        policy("view_state", "FOR INSERT WITH CHECK (true)"),
        "a row in each table: 1 of 1 rows are missing in view_state; look for",
    ),
    (
        policy("sync_runs", "USING (source = 'other')"),
        'each table fails: new row violates row-level security policy for table "sync_runs"',
    ),
    (
        change("schema_drift", "ADD team text NOT NULL", "DROP team"),
        'null value in column "team" of relation "schema_drift" violates not-null',
    ),
]
OF_MARIADB = [
    (
        change("schema_drift", "ADD team TEXT NOT NULL", "DROP team"),
        "a row in each table fails: Field 'team' doesn't have a default value; look for",
    ),
    (
        change("view_state", "ENGINE=MyISAM", "ENGINE=InnoDB"),
        "it still had its row in view_state (now deleted); the tables need an engine with",
    ),
    (
        change("snapshots", ID.format("general_ci"), ID.format("nopad_bin")),
        "keeping ids apart fails: Duplicate entry *** for key 'PRIMARY'; give its columns back",
    ),
    (
        change("snapshots", ID.format("bin"), ID.format("nopad_bin")),
        "keeping ids apart fails: Duplicate entry *** for key 'PRIMARY'; give its columns back",
    ),
    (
        change("snapshots", "MODIFY created_at DATETIME(3)", "MODIFY created_at DATETIME(6)"),
        f"reading them: in snapshots.created_at {INSTANT:%Y-%m-%d}T01:30:00.123000+00:00 came back",
    ),
    (
        change("snapshots", "MODIFY org_id DOUBLE", "MODIFY org_id BIGINT"),
        "in snapshots.org_id 9007199254740992.0 came back for 9007199254740993; look for",
    ),
    (
        change("snapshots", "MODIFY snapshot_name TEXT", "MODIFY snapshot_name LONGTEXT"),
        "fails: Data too long for column 'snapshot_name' at row 119; look for a trigger",
    ),
    (
        (
            ["CREATE TRIGGER t BEFORE INSERT ON snapshots FOR EACH ROW SET NEW.created_by = NULL"],
            ["DROP TRIGGER t"],
        ),
        "reading them: in snapshots.created_by None came back for",
    ),
]


@pytest.mark.parametrize(
    ("dialect", "spoilt"), [("postgresql", OF_POSTGRESQL), ("mariadb", OF_MARIADB)]
)
def test_what_others_did_to_a_table_is_one_line_whatever_it_is(
    on: Callable[..., Project], dialect: str, spoilt: list[tuple[Spoil, str]]
):
    project = on(dialect)
    found = []
    for (spoil, mend), _ in spoilt:
        for statement in spoil:
            project.execute(statement)
        found.append(faults(project))
        for statement in mend:
            project.execute(statement)
    assert faults(project) == []
    assert not any(everything(project).values())
    for lines, ((spoil, _), expected) in zip(found, spoilt, strict=True):
        assert len(lines) == 1, (spoil, lines)
        assert expected in lines[0], spoil
        assert lines[0].isprintable()


DEFERRED = [
    (
        [
            "CREATE TABLE teams (source text PRIMARY KEY)",
            "ALTER TABLE view_state ADD FOREIGN KEY (source) REFERENCES teams INITIALLY DEFERRED",
        ],
        'on table "view_state" violates foreign key constraint "view_state_source_fkey"',
    ),
    (
        [
            (
                "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql"
                " AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$"
            ),
            (
                "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON snapshots INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION f()"
            ),
        ],
        "not today",
    ),
]


@pytest.mark.parametrize(("statements", "expected"), DEFERRED)
def test_what_is_refused_at_the_end_alone_is_found(
    on: Callable[..., Project], statements: list[str], expected: str
):
    project = on("postgresql")
    for statement in statements:
        project.execute(statement)
    (line,) = faults(project)
    assert line.startswith("committing fails: ")
    assert expected in line
    assert line.endswith("look for a trigger, rule, policy or column that others added or changed")


def test_several_faults_are_a_line_each(on: Callable[..., Project]):
    project = on("postgresql")
    for spoil, _ in (
        change("schema_drift", "ADD team text NOT NULL", ""),
        trigger("UPDATE", "sources", KEEP),
    ):
        for statement in spoil:
            project.execute(statement)
    project.execute("CREATE TRIGGER t BEFORE UPDATE ON snapshots FOR EACH ROW EXECUTE FUNCTION f()")
    about = [line.partition(":")[0] for line in faults(project)]
    assert about == ["a row in each table fails", "taking and giving back a lease", "changing them"]


SESSIONS = [
    ("postgresql", "SET LOCAL DateStyle = 'German'", "DateStyle"),
    ("postgresql", "SET LOCAL extra_float_digits = -3", "0.333333333333"),
    ("postgresql", "SET LOCAL client_encoding = 'latin1'", "latin"),
    (
        "postgresql",
        "SET LOCAL search_path = pg_catalog",
        "look for a pooler that connects to another",
    ),
    (
        "postgresql",
        "SET LOCAL transaction_read_only = on",
        "read-only transaction; it is read-only; use its",
    ),
    ("mariadb", "SET sql_select_limit = 10", "a query gives 10 of 120 rows of snapshots"),
    ("mariadb", "SET sql_select_limit = 100", "a query gives 100 of 120 rows of snapshots"),
    ("mariadb", "SET sql_big_selects = 0, max_join_size = 2", "MAX_JOIN_SIZE"),
    ("mariadb", "SET autocommit = 1", "rolling back a transaction: it still had its row"),
]


@pytest.mark.parametrize(("dialect", "statement", "expected"), SESSIONS)
def test_a_session_that_is_not_as_the_program_sets_it_is_found_by_what_it_does(
    on: Callable[..., Project],
    dialect: str,
    statement: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
):
    project = on(dialect)
    # Without the comparison of settings, which knows those alone that somebody thought of.
    kind = type(project.database.dialect)
    monkeypatch.setattr(kind, "spoilt_settings", lambda *_: [])

    def spoil(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    event.listen(project.database.engine, "begin", spoil)
    first, *_ = faults(project)
    assert expected in first


def test_a_setting_that_is_not_as_the_program_sets_it_ends_the_trials(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    kind = type(project.database.dialect)
    monkeypatch.setattr(kind, "spoilt_settings", lambda *_: ["DateStyle is German, not ISO"])
    said = "the settings of a session: DateStyle is German, not ISO; let the connection pooler"
    (line,) = faults(project)
    assert line.startswith(said)


def test_two_transactions_at_a_nthare_compared(project: Project, monkeypatch: pytest.MonkeyPatch):
    open_now = []

    def spoilt(_dialect: object, connection: Connection, schema_name: str | None) -> list[str]:
        assert connection.in_transaction()
        open_now.append((connection.connection.dbapi_connection, schema_name))
        return []

    monkeypatch.setattr(type(project.database.dialect), "spoilt_settings", spoilt)
    assert faults(project) == []
    (first, _), (second, _) = open_now
    assert first is not second


def test_rows_that_go_to_another_schema(
    on: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
):
    project = on("postgresql")
    monkeypatch.setattr(type(project.database.dialect), "spoilt_settings", lambda *_: [])
    project.execute("CREATE SCHEMA other")
    project.execute("CREATE TABLE other.view_state (LIKE view_state)")
    project.configure(database_schema="other")
    (line,) = faults(project)
    assert "view_state went into another schema than database_schema other; look for a" in line
    # The same after a trial that gave the rows up: a lease on another source is refused.
    lease = Lease(project.config.source, 60)
    project.database.transaction(lambda connection: lease.take(connection, project.config))
    own = f"source = '{project.config.source}'"
    project.execute("ALTER TABLE sources ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    project.execute(f"CREATE POLICY own ON sources USING ({own})")
    assert faults(project) == [line]


def test_a_packet_that_is_too_small(on: Callable[..., Project], servers: Servers):
    project, server = on("mariadb"), servers.get("mariadb")
    ((was,),) = server.execute("SELECT @@global.max_allowed_packet")
    server.execute("SET GLOBAL max_allowed_packet = 204800")
    try:
        (line,) = faults(project)
    finally:
        server.execute(f"SET GLOBAL max_allowed_packet = {was}")
    assert line.startswith("sending much at once: a record of 950,002 bytes is too long")
    assert "raise max_allowed_packet of the server, which is 204,800" in line


def test_without_tables_the_session_is_tried(on: Callable[..., Project]):
    project = on("postgresql", migrated=False)
    assert faults(project, has_tables=False) == []
    event.listen(
        project.database.engine,
        "begin",
        lambda connection: connection.exec_driver_sql("SET LOCAL DateStyle = 'German'"),
    )
    (line,) = faults(project, has_tables=False)
    assert "DateStyle" in line


# --- with something of others that a run gets along with ----------------------------------

A_UUID = {
    "postgresql": "application_id::uuid IS NOT NULL",
    "mariadb": "application_id RLIKE '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'",
}
CHECKS = [
    "snapshots ADD CHECK (device_type IN ('desktop', 'mobile', 'tablet'))",
    "snapshots ADD CHECK (created_at > '2025-01-01')",
    "snapshots ADD CHECK (created_by_handle LIKE '%@%')",
    "snapshots ADD CHECK (view_name LIKE '/%')",
    "snapshots ADD CHECK (synced_view LIKE '/%')",
    "view_state ADD CHECK (view_name LIKE '/%')",
    "sync_runs ADD CHECK (status IN ('running', 'ok', 'partial', 'failed', 'stopped', 'died'))",
    "sync_run_views ADD FOREIGN KEY (run_id) REFERENCES sync_runs (run_id) ON DELETE CASCADE",
    "view_state ADD FOREIGN KEY (last_run_id) REFERENCES sync_runs (run_id) ON DELETE CASCADE",
    "rejected_records ADD FOREIGN KEY (source) REFERENCES sources (source) ON DELETE CASCADE",
    "snapshots ADD FOREIGN KEY (source) REFERENCES sources (source) ON DELETE CASCADE",
    "snapshot_history ADD FOREIGN KEY (snapshot_id) REFERENCES snapshots (id) ON DELETE CASCADE",
    "view_state ADD FOREIGN KEY (source) REFERENCES sources (source) ON DELETE CASCADE",
]
OF_APPLICATIONS = (
    "ALTER TABLE {} ADD FOREIGN KEY (source, application_id)"
    " REFERENCES applications (source, application_id)"
)
WITH_APPLICATIONS = ["snapshots", "discovered_views", "view_state"]
SHORT = "MODIFY application_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"])
def test_what_others_demand_of_rows_and_real_ones_meet_is_met(
    on: Callable[..., Project], dialect: str
):
    project = on(dialect)
    for check in (*CHECKS, f"snapshots ADD CHECK ({A_UUID[dialect]})"):
        project.execute(f"ALTER TABLE {check}")
    for table in WITH_APPLICATIONS:
        if dialect == "mariadb":  # has no foreign keys of long texts
            project.execute(f"ALTER TABLE {table} {SHORT}")
        project.execute(OF_APPLICATIONS.format(table))
    assert faults(project) == []
    assert not any(everything(project).values())


def test_few_numbers_of_a_column_of_others_are_used_up(on: Callable[..., Project]):
    project = on("postgresql")
    project.execute("ALTER TABLE snapshots ADD number bigint GENERATED ALWAYS AS IDENTITY")
    assert faults(project) == []
    used = project.one("SELECT last_value AS number FROM snapshots_number_seq")["number"]
    assert 100 < used < 200


def test_a_login_that_writes_its_own_source_alone_may_be_new(on: Callable[..., Project]):
    project = on("postgresql")
    for table in ("sources", "view_state", "sync_runs", "snapshots"):
        secured = "ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        project.execute(f"ALTER TABLE {table} {secured}")
        project.execute(f"CREATE POLICY own ON {table} USING (source = current_user)")
    project.execute(OF_APPLICATIONS.format("snapshots"))
    user = make_url(project.config.database_url).username
    project.configure(source=user)
    assert faults(project) == []
    assert not any(everything(project).values())
