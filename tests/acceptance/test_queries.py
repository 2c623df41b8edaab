"""The twelve questions of `docs/queries.md` and dbt's sources, against a known history."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from etl.config.database_url import parse_database
from etl.database import sql_views
from etl.database.connection import Database, open_database
from etl.database.migrations import upgrade
from etl.serve.dashboard.questions import QUESTIONS as CATALOGUE
from scripts import dbt_sources as dbt
from scripts import questions as written
from tests.support import known_history
from tests.support.known_history import APP, SESSION
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"^## (\d+)\. .*?^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
REPLAY = f"https://app.datadoghq.eu/rum/replay/sessions/{SESSION}"
LINK = f"{REPLAY}?seed=view-1"

# Instants are compared to the second, ages not at all: they grow.
ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "1": [("/checkout/?", "web", 500, 0), ("/home", None, 80, 1)],
    "2": [
        ("/home", "web", 900, "2026-01-02 07:00:00"),
        ("/old", None, 3, "2026-01-01 08:00:00"),
    ],
    "3": [
        ("/home", "desktop", 3, "2026-01-01 08:00:00"),
        ("/home", "mobile", 1, "2026-01-02 07:00:00"),
        ("/old", None, 1, "2026-01-01 08:00:00"),
    ],
    "4": [("Ada", "/home", 3), ("Ada", "/old", 1), ("Bo", "/home", 1)],
    "5": [
        ("2026-01-02", "added", 1),
        ("2026-01-02", "changed", 1),
        ("2026-01-02", "removed", 1),
        ("2026-01-04", "removed", 1),
        ("2026-01-05", "returned", 1),
    ],
    "6": [
        ("/home", "New", "Bo", "2026-01-02 10:00:00", "2026-01-04 10:00:00"),
        ("/old", "Gone", "Ada", "2026-01-01 10:00:00", "2026-01-02 10:00:00"),
    ],
    "7": [
        ("moved", "Moved", 1, "2026-01-01 10:00:00", "2026-01-02 10:00:00", None,
         "https://app.datadoghq.eu/rum/replay/sessions/session-0"),
        ("moved", "Moved", 2, "2026-01-02 10:00:00", None, "modified_at,session_id,view_id",
         REPLAY),
    ],
    "8": [("/home", 4), ("/old", 1)],
    "9": [
        ("/home", "Kept", "2027-04-01 08:00:00", LINK),
        ("/old", "Left", "2027-04-01 08:00:00", None),
    ],
    "10": [
        ("moved", "/home", 2, "2026-01-02 10:00:00"),
        ("new", "/home", 2, "2026-01-05 10:00:00"),
    ],
    "11": [("/home", 1, "complete"), ("/old", 0, "complete")],
    "12": [("web", 2, 1, 4, "2026-01-02 07:00:00"), (None, 2, 1, 1, "2026-01-01 08:00:00"),
           (None, 1, 0, 0, None)],
}  # fmt: skip


@pytest.fixture
def known(database_url: str) -> Iterator[Database]:
    parsed = parse_database(database_url, Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    known_history.write(database)
    yield database
    database.close()


def plain(value: Any) -> Any:
    """The same on every database."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | None):
        return value
    said = str(value)
    if re.fullmatch(r"-?\d+", said):
        return int(said)  # sums are decimals on some
    return said[:19] if re.match(r"\d{4}-\d\d-\d\d \d\d:", said) else said


def test_there_are_twelve_questions():
    assert [number for number, _ in QUESTIONS] == [str(n) for n in range(1, 13)] == list(ANSWERS)


def test_the_page_is_that_of_the_catalogue():
    assert written.with_questions(PAGE) == PAGE, "run: make docs"


@pytest.mark.parametrize("number", ANSWERS)
def test_each_question_is_answered_alike_on_every_database(known: Database, number: str):
    sql = dict(QUESTIONS)[number]
    with known.connect(write=False) as connection:
        if known.family == "postgresql":
            connection.execute(text("SET TIME ZONE 'UTC'"))
        # Long after the traffic was counted it would be left out.
        found = connection.execute(text(sql.replace("<= 30", "<= 300000"))).all()
    expected = ANSWERS[number]
    width = len(expected[0])
    rows = [tuple(plain(value) for value in row)[:width] for row in found]
    if number == "12":  # NULLs come first on some databases and last on others
        assert sorted(rows, key=repr) == sorted(expected, key=repr)
    else:
        assert rows == expected


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    file = tmp_path_factory.mktemp("known") / "known.db"
    database = open_database(f"sqlite:///{file}", label="known.db")
    upgrade(database)
    known_history.write(database)
    yield database
    database.close()


@pytest.mark.parametrize("question", CATALOGUE.questions, ids=lambda question: question.name)
def test_a_question_of_datasette_with_the_examples_is_that_of_the_docs(sqlite, question):
    chosen = {name: f.example for name, f in CATALOGUE.filters_of(question).items()}
    in_docs = CATALOGUE.portable_sql(question).replace("<= 30", "<= 300000")  # as above
    on_page = CATALOGUE.sqlite_sql(question).replace("<= 30", "<= 300000")
    with sqlite.connect(write=False) as connection:
        expected = connection.execute(text(in_docs)).all()
        assert expected
        assert connection.exec_driver_sql(on_page, chosen).all() == expected


def test_an_application_without_a_name_is_still_one(known: Database):
    with known.connect(write=False) as connection:
        names = "SELECT DISTINCT application_name FROM view_coverage WHERE application_id = :a"
        assert connection.execute(text(names), {"a": APP}).scalars().all() == ["web"]


# --- dbt ----------------------------------------------------------------------------------

WRITTEN = (ROOT / "dashboards" / "dbt" / "sources.yml").read_text(encoding="utf-8")


def test_dbts_sources_are_those_of_the_catalogue():
    assert dbt.sources() == WRITTEN, "run: make docs"
    (source,) = yaml.safe_load(WRITTEN)["sources"]
    assert [table["name"] for table in source["tables"]] == list(sql_views.NAMES)
    for table in source["tables"]:
        view = sql_views.metadata.tables[table["name"]]
        assert table["description"] == view.comment
        described = {column["name"]: column["description"] for column in table["columns"]}
        assert described == {column.name: column.comment for column in view.columns}


def test_dbts_tests_hold_for_rows_of_every_kind(known: Database):
    (source,) = yaml.safe_load(WRITTEN)["sources"]
    kinds = set()
    with known.connect(write=False) as connection:
        for table in source["tables"]:
            for column in table["columns"]:
                query = text(f"SELECT {column['name']} FROM {table['name']}")
                values = connection.execute(query).scalars().all()
                for test in column.get("data_tests", []):
                    kinds.add(test if isinstance(test, str) else next(iter(test)))
                    assert_test_holds(test, list(values))
    assert kinds == {"not_null", "unique", "accepted_values"}


def assert_test_holds(test: Any, values: list[Any]) -> None:
    if test == "not_null":
        assert None not in values
    elif test == "unique":
        assert len(set(values)) == len(values)
    else:
        assert set(values) - {None} <= set(test["accepted_values"]["arguments"]["values"])
