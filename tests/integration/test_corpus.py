"""Bad records, one by one and all together: none stops a view, and nothing it held is lost."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.database.schema import VERSION_TABLE
from etl.transform.decode import decode
from tests.support import make_corpus
from tests.support.api import Api, record
from tests.support.kept import (
    assert_reject_keeps,
    assert_row_keeps,
    can_be_a_row,
    read,
    strict,
    unwrapped,
)
from tests.support.project import Project, counts, make_config, open_project
from tests.support.strategies import ATTRIBUTES, BOOLEANS, INSTANTS, odd_words, timestamps, words

HEALTHY = ("healthy 1", "healthy 2", "healthy 3")
UNREAD_DEPTH = 500
"""Deeper than Python reads JSON everywhere; `extra` is compared to the letter all the same."""

Case = dict[str, Any]


def load(name: str) -> list[Case]:
    text = (make_corpus.FOLDER / f"{name}.jsonl").read_text(encoding="ascii")
    return [json.loads(line) for line in text.splitlines()]


CORPUS = [case for name in make_corpus.FILES for case in load(name)]
ROWS = [case for case in CORPUS if case["is"] == "row"]
REJECTS = [case for case in CORPUS if case["is"] == "reject"]


def raw(case: Case) -> bytes:
    if "base64" in case:
        return base64.b64decode(case["base64"])
    text: str = case["raw"]
    return text.encode()


def answer(*records: bytes) -> bytes:
    return b'{"data": [' + b",\n".join(records) + b"]}"


def healthy(*ids: str, view: str = "/home") -> list[bytes]:
    return [json.dumps(record(identifier, view_name=view)).encode() for identifier in ids]


def typed(row: dict[str, Any]) -> dict[str, Any]:
    """A row as plain SQL gives it; SQLite has neither booleans nor instants."""
    found = dict(row)
    for name in BOOLEANS:
        found[name] = None if found[name] is None else bool(found[name])
    for name in INSTANTS:
        found[name] = utc(found[name])
    return found


def utc(value: Any) -> datetime | None:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if value is None:
        return None
    instant: datetime = value
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def rows(project: Project) -> dict[str, dict[str, Any]]:
    return {identifier: typed(row) for identifier, row in project.snapshots().items()}


def rejects(project: Project) -> dict[str, dict[str, Any]]:
    return {row["raw"]: row for row in project.rows("SELECT * FROM rejected_records")}


def drift(project: Project) -> dict[tuple[str, str], int]:
    query = "SELECT name, kind, count FROM schema_drift"
    return {(row["name"], row["kind"]): row["count"] for row in project.rows(query)}


def expected_drift(cases: Iterable[Case]) -> dict[tuple[str, str], int]:
    return dict(Counter((name, kind) for case in cases for name, kind in case["drift"]))


def everything(project: Project) -> dict[str, Any]:
    """All that an unchanged listing leaves as it is."""
    tables = ("snapshots", "snapshot_history", "rejected_records", "schema_drift")
    found = {table: project.rows(f"SELECT * FROM {table}") for table in tables}
    return {table: sorted(found[table], key=repr) for table in tables}


def assert_as_expected(case: Case, row: dict[str, Any]) -> None:
    columns = make_corpus.HEALTHY_COLUMNS | case["columns"]
    for name in INSTANTS:
        columns[name] = utc(columns[name])
    assert {name: row[name] for name in columns} == columns, case["name"]
    assert row["extra"] == case["extra"], case["name"]
    if raw(case).count(b"[") < UNREAD_DEPTH:
        assert_row_keeps(row, read(raw(case)))


def assert_reject_as_expected(case: Case, reject: dict[str, Any]) -> None:
    assert (reject["reason"], reject["count"], reject["resolved_at"]) == (case["reason"], 1, None)
    if raw(case).count(b"[") < UNREAD_DEPTH:
        assert_reject_keeps(reject["raw"], read(raw(case)))


# --- the corpus ---------------------------------------------------------------------------


def test_the_corpus_is_large_and_each_record_stands_in_it_once():
    assert len(CORPUS) > 1000
    assert len({case["name"] for case in CORPUS}) == len(CORPUS)
    assert len({case["id"] for case in ROWS}) == len(ROWS)
    assert len({case["kept"] for case in REJECTS}) == len(REJECTS)


@pytest.mark.parametrize("name", make_corpus.FILES)
def test_the_files_are_what_their_program_writes(name: str):
    assert load(name) == [json.loads(line) for line in make_corpus.lines(name).splitlines()]


def test_all_bad_records_in_one_listing_are_rows_and_rejects(project: Project, api: Api) -> None:
    project.configure(page_limit=10_000)
    api.views["/home"] = answer(*map(raw, CORPUS), *healthy(*HEALTHY))
    run = project.run()
    new = len(ROWS) + len(HEALTHY)
    assert run.views[0].error is None
    assert counts(run) == {"listed": len(CORPUS) + 3, "new": new, "rejected": len(REJECTS)}
    found = rows(project)
    assert found.keys() == {case["id"] for case in ROWS} | set(HEALTHY)
    for case in ROWS:
        assert_as_expected(case, found[case["id"]])
    kept = rejects(project)
    assert kept.keys() == {case["kept"] for case in REJECTS}
    for case in REJECTS:
        assert_reject_as_expected(case, kept[case["kept"]])
    assert drift(project) == expected_drift(CORPUS)
    before = everything(project)
    for is_full in (False, True):
        again = project.run(is_full=is_full)
        assert counts(again) == {
            "listed": len(CORPUS) + 3,
            "unchanged": new,
            "rejected": len(REJECTS),
        }
        assert everything(project) == before
    assert before["snapshot_history"] == []


def test_counts_of_rejects_and_drift_move_with_each_changed_answer(
    project: Project, api: Api
) -> None:
    project.configure(page_limit=10_000)
    api.views["/home"] = answer(*map(raw, CORPUS))
    project.run()
    api.views["/home"] = answer(*map(raw, reversed(CORPUS)), *healthy(*HEALTHY))
    run = project.run()
    assert counts(run) == {
        "listed": len(CORPUS) + 3,
        "new": 3,
        "unchanged": len(ROWS),
        "rejected": len(REJECTS),
    }
    assert {row["count"] for row in rejects(project).values()} == {2}
    assert drift(project) == {key: 2 * n for key, n in expected_drift(CORPUS).items()}
    api.views["/home"] = answer(*healthy(*HEALTHY))
    project.run()
    assert all(row["resolved_at"] is not None for row in rejects(project).values())
    api.views["/home"] = answer(*map(raw, REJECTS), *map(raw, REJECTS), *healthy(*HEALTHY))
    run = project.run()
    assert run.total("rejected") == 2 * len(REJECTS)
    found = rejects(project).values()
    assert {(row["count"], row["resolved_at"]) for row in found} == {(4, None)}


def open_sqlite(new_database: Callable[..., str], api: Api) -> Project:
    return open_project(make_config(new_database("sqlite"), api.url))


@pytest.mark.slow
def test_a_bad_record_stops_neither_its_view_nor_another(
    new_database: Callable[..., str], api: Api
) -> None:
    project = open_sqlite(new_database, api)
    views = {f"/{number}": case for number, case in enumerate(CORPUS)}
    for view, case in views.items():
        beside = healthy(*(f"{view} {identifier}" for identifier in HEALTHY), view=view)
        api.views[view] = answer(*beside[:2], raw(case), *beside[2:])
    api.views["/beside"] = answer(*healthy(*(f"beside {n}" for n in range(9)), view="/beside"))
    project.watch("/beside", *views)
    run = project.run()
    assert [(v.view.name, v.error) for v in run.views if v.verdict != "complete"] == []
    assert counts(run) == {
        "listed": 4 * len(CORPUS) + 9,
        "new": 3 * len(CORPUS) + 9 + len(ROWS),
        "rejected": len(REJECTS),
    }
    found = rows(project)
    for view, case in views.items():
        assert {f"{view} {identifier}" for identifier in HEALTHY} <= found.keys()
        if case["is"] == "row":
            assert found[case["id"]]["synced_view"] == view
            assert_as_expected(case, found[case["id"]])
    assert rejects(project).keys() == {case["kept"] for case in REJECTS}
    assert drift(project) == expected_drift(CORPUS)
    before = everything(project)
    assert project.run(is_full=True).total("unchanged") == len(found)
    assert everything(project) == before
    project.database.close()


@pytest.mark.parametrize("case", REJECTS, ids=lambda case: case["name"][:60])
def test_what_is_rejected_has_an_exact_text(case: Case):
    (rejected,) = decode(answer(raw(case))).rejected
    assert (rejected.reason, rejected.raw) == (case["reason"], case["kept"])


# --- the same id more than once -----------------------------------------------------------


def test_a_bad_record_listed_twice_is_one_row(project: Project, api: Api) -> None:
    project.configure(page_limit=10_000)
    api.views["/home"] = answer(*map(raw, CORPUS), *healthy(*HEALTHY), *map(raw, CORPUS))
    for is_first in (True, False):
        run = project.run(is_full=True)
        new = "new" if is_first else "unchanged"
        assert counts(run) == {
            "listed": 2 * len(CORPUS) + 3,
            new: len(ROWS) + 3,
            "duplicates": len(ROWS),
            "rejected": 2 * len(REJECTS),
        }
    assert {row["count"] for row in rejects(project).values()} == {2}
    assert drift(project) == {key: 2 * n for key, n in expected_drift(CORPUS).items()}


@pytest.mark.parametrize("is_reversed", [False, True])
def test_of_two_contents_of_a_bad_id_the_later_stays_whatever_their_order(
    project: Project, api: Api, is_reversed: bool
) -> None:
    records = [
        record("twice", modified_at="2026-02-01T10:00:00Z", theme="old"),
        record("twice", modified_at="2026-02-01T10:00:01Z", theme="new", start="x"),
        record("twice", modified_at="unreadable", theme="never"),
        record("twice", modified_at=None, theme="nor this"),
        record("tied", theme="a"),
        record("tied", theme="b"),
    ]
    api.views["/home"] = records[::-1] if is_reversed else records
    assert counts(project.run()) == {"listed": 6, "new": 2, "duplicates": 4}
    assert json.loads(project.snapshots()["twice"]["extra"]) == {"theme": "new", "start": "x"}
    before = everything(project)
    api.views["/home"] = list(reversed(api.views["/home"]))
    assert counts(project.run()) == {"listed": 6, "unchanged": 2, "duplicates": 4}
    assert everything(project)["snapshots"] == before["snapshots"]
    assert project.history() == []


def test_a_bad_record_under_two_views_is_one_row_and_rejects_are_kept_for_both(
    project: Project, api: Api
) -> None:
    project.configure(page_limit=10_000, concurrency=1)
    project.watch("/home", "/other")
    api.views["/home"] = answer(*map(raw, CORPUS), *healthy("home"))
    api.views["/other"] = answer(*map(raw, CORPUS), *healthy("o1", "o2", "o3", view="/other"))
    run = project.run()
    assert {v.error for v in run.views} == {None}
    assert counts(run) == {
        "listed": 2 * len(CORPUS) + 4,
        "new": len(ROWS) + 4,
        "foreign_records": len(ROWS),
        "rejected": 2 * len(REJECTS),
    }
    before = everything(project)
    assert len(before["rejected_records"]) == 2 * len(REJECTS)
    assert len({row["synced_view"] for row in before["snapshots"] if row["extra"]}) == 1
    assert counts(project.run(is_full=True)) == {
        "listed": 2 * len(CORPUS) + 4,
        "unchanged": len(ROWS) + 4,
        "foreign_records": len(ROWS),
        "rejected": 2 * len(REJECTS),
    }
    assert everything(project) == before


# --- and more of them, invented -----------------------------------------------------------

numbers = st.from_regex(
    r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,4})?", fullmatch=True
)
integers = (st.integers(-(2**64), 2**64) | st.sampled_from([0, 42, 10**9, 10**12])).map(str)
strings = words | odd_words | timestamps | integers | st.text(st.characters(), max_size=4)


@st.composite
def spelled(draw: st.DrawFn, texts: st.SearchStrategy[str] = strings) -> str:
    """A text as JSON: escaped, or as it is, in bytes that may be no UTF-8."""
    text = draw(texts)
    if draw(st.booleans()):
        return json.dumps(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def listed(items: list[str]) -> str:
    return "[" + ",".join(items) + "]"


def members(pairs: list[tuple[str, str]]) -> str:
    """Names may come twice."""
    return "{" + " , ".join(f"{name}: {value}" for name, value in pairs) + "}"


NAMES = spelled(odd_words | st.sampled_from([*ATTRIBUTES, "$top", "$literal", "$hash", "extra"]))
SCALARS = (
    numbers
    | integers
    | st.sampled_from(["null", "true", "false", "NaN", "Infinity", "-Infinity", "1e400", "-0"])
    | spelled()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(listed)
        | st.lists(st.tuples(NAMES, inner), max_size=3).map(members)
    ),
    max_leaves=6,
)
DEEP = st.builds(
    lambda levels, value: "[" * levels + value + "]" * levels, st.integers(50, 90), VALUES
)
ATTRIBUTE = st.tuples(st.sampled_from([f'"{name}"' for name in ATTRIBUTES]), SCALARS | VALUES)
INVENTED_ATTRIBUTES = st.lists(ATTRIBUTE | st.tuples(NAMES, VALUES | DEEP), max_size=8).map(members)
MEMBERS = st.one_of(
    st.tuples(st.just('"id"'), spelled() | VALUES),
    st.tuples(st.just('"type"'), st.just('"snapshots"') | VALUES),
    st.tuples(st.just('"attributes"'), INVENTED_ATTRIBUTES | VALUES | DEEP),
    st.tuples(NAMES, VALUES | DEEP),
)
PLAIN = st.builds(
    lambda identifier, attributes: (
        f'{{"id":{identifier},"type":"snapshots","attributes":{attributes}}}'
    ),
    spelled(),
    INVENTED_ATTRIBUTES,
)
RECORDS = (PLAIN | st.lists(MEMBERS, max_size=5).map(members) | VALUES | DEEP).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)


@pytest.mark.slow
@settings(max_examples=400)
@given(st.lists(RECORDS, min_size=1, max_size=3))
def test_whatever_is_listed_is_a_row_or_a_reject_and_is_kept(raws: list[bytes]):
    decoded = decode(answer(*raws))
    records = [read(text) for text in raws]
    assert len(decoded.snapshots) == sum(map(can_be_a_row, records))
    snapshots, rejected = iter(decoded.snapshots), iter(decoded.rejected)
    for item in records:
        if can_be_a_row(item):
            assert_row_keeps(msgspec.structs.asdict(next(snapshots)), item)
        else:
            assert_reject_keeps(next(rejected).raw, item)
    assert decode(answer(*raws)) == decoded
    # ... and none depends on what stands beside it.
    alone = [decode(answer(text)) for text in raws]
    assert decoded.snapshots == [read for one in alone for read in one.snapshots]
    assert decoded.rejected == [read for one in alone for read in one.rejected]
    assert {key: n for key, (n, _) in decoded.drift.items()} == dict(
        sum((Counter({key: n for key, (n, _) in one.drift.items()}) for one in alone), Counter())
    )


@pytest.fixture
def emptied(new_database: Callable[..., str], api: Api) -> Iterator[Callable[[], Project]]:
    """`emptied()` is a project on one SQLite file, each time without a row in it."""
    project = open_sqlite(new_database, api)

    def empty() -> Project:
        for row in project.rows("SELECT name FROM sqlite_schema WHERE type = 'table'"):
            if row["name"] != VERSION_TABLE:
                project.execute(f"DELETE FROM {row['name']}")
        return project

    yield empty
    project.database.close()


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RECORDS, min_size=1, max_size=6))
def test_whatever_is_listed_is_stored_and_the_next_run_sees_no_change(
    emptied: Callable[[], Project], api: Api, raws: list[bytes]
) -> None:
    project = emptied()
    by_id: dict[str, bytes] = {}
    rejected: list[Any] = []
    for text in raws:
        item = read(text)
        if can_be_a_row(item):
            by_id[item["id"]] = text
        else:
            rejected.append(item)
    by_id["healthy"] = healthy("healthy")[0]
    api.views["/home"] = answer(*by_id.values(), *(text for text in raws if not is_row(text)))
    size = {"listed": len(by_id) + len(rejected)} | (
        {"rejected": len(rejected)} if rejected else {}
    )
    assert counts(project.run()) == {**size, "new": len(by_id)}
    found = rows(project)
    assert found.keys() == by_id.keys()
    for identifier, text in by_id.items():
        assert_row_keeps(found[identifier], read(text))
        for name in json.loads(found[identifier]["extra"] or "{}").keys() & set(ATTRIBUTES):
            assert any(key[0] == name for key in drift(project))
    kept = rejects(project)
    assert sum(row["count"] for row in kept.values()) == len(rejected)
    held = [unwrapped(strict(text)) for text in kept]
    assert all(item in held for item in rejected)
    assert all(item in rejected for item in held)
    before = everything(project)
    for is_full in (False, True):
        assert counts(project.run(is_full=is_full)) == {**size, "unchanged": len(by_id)}
        assert everything(project) == before


def is_row(text: bytes) -> bool:
    return can_be_a_row(read(text))
