"""One place for what differs from one kind of database to the next."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pymysql.err import DataError, OperationalError
from sqlalchemy import create_engine, insert, inspect, select

from etl.database.dialects import dialect_named, dialect_of, file_of
from etl.database.schema import side_questions
from tests.support.paths import ROOT
from tests.support.project import Project

KINDS = {"sqlite", "postgresql", "mysql", "mariadb"}
DIALECT_NAME = "dialect.name"
MAY_BRANCH = {
    "config/database_url.py",  # what people write, and which driver it needs
    "config/url_parameters.py",  # what each driver takes
    "formatting.py",  # the names of our extras
}


def branches(tree: ast.AST) -> list[str]:
    """Code that compares with the name of a kind of database, or looks something up by it."""
    found = []
    for node in ast.walk(tree):
        chosen: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            chosen = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            chosen = list(node.keys)
        elif isinstance(node, ast.MatchValue):
            chosen = [node.value]
        names = {n.value for c in chosen if c for n in ast.walk(c) if isinstance(n, ast.Constant)}
        asked = {n.attr for c in chosen if c for n in ast.walk(c) if isinstance(n, ast.Attribute)}
        is_named = any(DIALECT_NAME in ast.unparse(c) for c in chosen if c)
        if names & KINDS or "family" in asked or is_named:
            found.append(ast.unparse(node))
    return found


def test_only_the_dialects_branch_on_the_kind_of_database():
    found = {}
    for path in (ROOT / "etl").rglob("*.py"):
        place = path.relative_to(ROOT / "etl").as_posix()
        if place not in MAY_BRANCH and not place.startswith("database/dialects/"):
            found[place] = branches(ast.parse(path.read_text(encoding="utf-8")))
    assert {place: lines for place, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        'if database.family == "sqlite": pass',
        'if connection.dialect.name in ("mysql", "mariadb"): pass',
        'WAYS = {"postgresql": copy}',
        "match name:\n    case 'sqlite': pass",
        "if database.family != FILE: pass",
        "if dialect.name in SERVERS: pass",
    ],
)
def test_a_branch_elsewhere_would_be_found(code: str):
    assert branches(ast.parse(code))


@pytest.mark.parametrize("name", sorted(KINDS))
def test_each_kind_has_one_dialect(name: str):
    dialect = dialect_named(name)
    assert dialect.family == name.replace("mariadb", "mysql")
    assert dialect_named(name) is dialect


def test_another_database_has_none():
    with pytest.raises(ValueError, match="oracle"):
        dialect_named("oracle")


def test_the_dialect_is_that_of_an_engine_a_connection_or_an_inspector():
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        for known in (engine, connection, inspect(connection)):
            assert dialect_of(known) is dialect_named("sqlite")


def test_only_sqlite_is_a_file():
    assert file_of("sqlite:////data/x.db") == Path("/data/x.db")
    assert file_of("postgresql+psycopg://etl@host/x") is None
    assert file_of("mysql+pymysql://etl@host/x") is None


def test_a_query_with_a_list_is_read_in_batches(project: Project):
    now, names = datetime.now(UTC), ["a", "b", "c"]
    of_each = {"source": "s", "failures": 1, "failed_at": now, "ask_again_at": now, "error": ""}
    question = side_questions.c.question
    query = select(question).where(question.in_([*names, "d"])).order_by(question)
    with project.database.connect() as connection, connection.begin():
        rows = [{**of_each, "question": name} for name in names]
        connection.execute(insert(side_questions), rows)
        found = dialect_of(connection).batches(connection, query, 2)
        assert [[row.question for row in batch] for batch in found] == [["a", "b"], ["c"]]


@pytest.mark.parametrize("said", ["Data too long for column {}", "Daten zu lang für Spalte {}"])
def test_of_a_source_too_long_for_its_key_the_setting_is_named_in_any_language(said: str):
    dialect, engine = dialect_named("mariadb"), create_engine("sqlite://")
    error = DataError(1406, said.format("'source'"))
    assert dialect.hint_on_limit(error, engine).startswith("give datadog.source a shorter name:")
    assert dialect.hint_on_limit(DataError(1406, said.format("'other'")), engine) == ""


def test_of_a_time_limit_of_mysql_the_setting_is_named():
    dialect, engine = dialect_named("mysql"), create_engine("sqlite://")
    error = OperationalError(3024, "Die Ausführung wurde unterbrochen")
    hint = "raise max_statement_time (max_execution_time on MySQL) of this login"
    assert dialect.hint_on_limit(error, engine) == hint
