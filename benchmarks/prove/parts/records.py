"""Each record, however it is spelt, becomes a row or a reject that gives the record back.

Invented records are answered over HTTP and loaded by real runs. What the tables then hold is
compared with the records, as Python's own JSON reads them.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any

from benchmarks.prove.invented_records import Inventor
from benchmarks.prove.part import Effort, Findings
from tests.support.api import Api, record
from tests.support.kept import assert_row_keeps, can_be_a_row, read, strict, unwrapped
from tests.support.project import Project, make_config, open_project
from tests.support.servers import Servers
from tests.support.strategies import BOOLEANS, INSTANTS

TITLE = "Bad records"
QUICK_S = 40
RECORDS = {True: 1_000, False: 100_000}
"""On each database."""
IN_A_VIEW = 1_000
VIEWS_IN_A_RUN = 10
ORGANIZATION = 42
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}


class Listing:
    """The records that one view lists."""

    def __init__(self, name: str, inventor: Inventor, count: int, ids: set[str]) -> None:
        self.name = name
        healthy = dict(_healthy(name))
        self.rows: dict[str, Any] = {i: read(text) for i, text in healthy.items()}
        self.rejects: Counter[Hashable] = Counter()
        texts = list(healthy.values())
        while len(texts) < count:
            text = inventor.record()
            item = read(text)
            if can_be_a_row(item):
                if item["id"] in ids:  # of two contents of one id only one is kept
                    continue
                ids.add(item["id"])
                self.rows[item["id"]] = item
            else:
                self.rejects[frozen(item)] += 1
            texts.append(text)
        self.size = len(texts)
        self.body = b'{"data": [' + b",\n".join(texts) + b"]}"


def _healthy(view: str) -> Iterator[tuple[str, bytes]]:
    """Some that say which view it is, and which organization."""
    for number in range(3):
        identifier = f"{view} {number}"
        made = record(identifier, view_name=view, org_id=ORGANIZATION)
        yield identifier, json.dumps(made).encode()


def frozen(value: Any) -> Hashable:
    """As `read` gives it, but it can be counted."""
    if isinstance(value, dict):
        return ("object", *sorted((name, frozen(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        return ("list", *map(frozen, value))
    return type(value).__name__, value


def prove(effort: Effort) -> Findings:
    logging.disable(logging.WARNING)
    findings = Findings()
    with ExitStack() as stack:
        servers = Servers()
        stack.callback(servers.stop)
        api = stack.enter_context(Api())
        projects: dict[str, Project] = {}
        for dialect in effort.databases:
            if dialect == "sqlite":
                url = f"sqlite:///{effort.folder / 'records.db'}"
            else:
                server = servers.get(dialect)
                url = server.url(server.create_database())
            projects[_NAMES[dialect]] = stack.enter_context(_opened(url, api))
        _load_everywhere(projects, api, RECORDS[effort.is_quick], effort.seed, findings)
    return findings


@contextmanager
def _opened(url: str, api: Api) -> Iterator[Project]:
    project = open_project(make_config(url, api.url))
    project.configure(page_limit=10_000, max_wait_s=60.0)
    try:
        yield project
    finally:
        project.database.close()


def _load_everywhere(
    projects: Mapping[str, Project], api: Api, number: int, seed: int, findings: Findings
) -> None:
    inventor, ids, done, rejected = Inventor(Random(seed)), set[str](), 0, 0
    api.views = {"/first": b'{"data": [' + b",".join(dict(_healthy("/first")).values()) + b"]}"}
    for project in projects.values():
        project.watch("/first")
        project.run()  # binds the source to the organization
    while done < number:
        listings: list[Listing] = []
        while done < number and len(listings) < VIEWS_IN_A_RUN:
            # No two views of one size: it would look like a cut.
            size = min(IN_A_VIEW, number - done) + len(listings) + 3
            listings.append(Listing(f"/view {done}", inventor, size, ids))
            done += size
            rejected += listings[-1].rejects.total()
        api.views = {listing.name: listing.body for listing in listings}
        for database, project in projects.items():
            project.watch(*api.views)
            _load(project, listings, database, findings, again=f"seed {seed}, records to {done}")
    findings.measured["of the records on each database"] = (
        f"{done - rejected:,} must be rows, and {rejected:,} rejects"
    )


def _load(
    project: Project, listings: list[Listing], database: str, findings: Findings, *, again: str
) -> None:
    kind = f"records on {database}"
    size = sum(listing.size for listing in listings)
    rows = sum(len(listing.rows) for listing in listings)
    with findings.trial(f"runs on {database}", again=again):
        run = project.run()
        assert [v.error for v in run.views if v.error] == []
        assert (run.total("listed"), run.total("new")) == (size, rows), "not all was stored"
    for listing in listings:
        found = {
            row["id"]: typed(row)
            for row in project.rows(
                "SELECT * FROM snapshots WHERE synced_view = :view", view=listing.name
            )
        }
        for identifier, item in listing.rows.items():
            with findings.trial(kind, again=f"{again}, id {identifier!a}"):
                assert identifier in found, "it is no row"
                assert_row_keeps(found[identifier], item)
        findings.tried[kind] += listing.rejects.total()
        with findings.trial(f"rejects of a view on {database}", again=f"{again}, {listing.name}"):
            assert found.keys() == listing.rows.keys(), "there are rows that nobody sent"
            assert _rejects(project, listing) == listing.rejects, "a reject does not give it back"
    with findings.trial(f"runs again on {database}", again=again):
        run = project.run(is_full=True)
        assert run.total("unchanged") == rows, "the same answer changes rows"


def _rejects(project: Project, listing: Listing) -> Counter[Hashable]:
    """What the rejects of a view were, and how often."""
    view = project.config.views[[v.name for v in project.config.views].index(listing.name)]
    rows = project.rows(
        "SELECT raw, count FROM rejected_records WHERE view_key = :key",
        key=view.key(project.config.source),
    )
    counts: Counter[Hashable] = Counter()
    for row in rows:
        counts[frozen(unwrapped(strict(row["raw"])))] += row["count"]
    return counts


def typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as plain SQL gives it; SQLite has neither booleans nor instants."""
    found = dict(row)
    for name in BOOLEANS:
        found[name] = None if found[name] is None else bool(found[name])
    for name in INSTANTS:
        found[name] = _utc(found[name])
    return found


def _utc(value: datetime | str | None) -> datetime | None:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
