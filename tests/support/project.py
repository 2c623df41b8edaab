"""A configured project for tests: one API, one database, and what the tables say."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from etl.config.credentials import Keys
from etl.config.database_url import parse_database
from etl.config.model import Config
from etl.config.views import View
from etl.database.connection import Database, open_database
from etl.ledger.results import RunResult
from etl.pipeline.run import Options
from etl.pipeline.sync import sync

TABLES_OF_SOURCE = (
    "snapshots",
    "snapshot_history",
    "view_state",
    "rejected_records",
    "schema_drift",
)


@dataclass
class Project:
    """`run()` is one sync; `rows(sql)` what the database holds then."""

    config: Config
    database: Database
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, *views: str, is_full: bool = False, accept: bool = False) -> RunResult:
        options = Options(views, is_full=is_full, accepts_removals=accept)
        return sync(self.config, self.database, options, stop=self.stop)

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        with self.database.connect(write=False) as connection:
            return [dict(row._mapping) for row in connection.execute(text(sql), parameters)]

    def execute(self, sql: str, **parameters: Any) -> None:
        with self.database.connect() as connection, connection.begin():
            connection.execute(text(sql), parameters)

    def one(self, sql: str, **parameters: Any) -> dict[str, Any]:
        (row,) = self.rows(sql, **parameters)
        return row

    def snapshots(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.rows("SELECT * FROM snapshots")}

    def live(self) -> set[str]:
        return {i for i, row in self.snapshots().items() if row["removed_at"] is None}

    def history(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM snapshot_history ORDER BY snapshot_id, version")

    def configure(self, **changes: Any) -> None:
        self.config = replace(self.config, **changes)

    def watch(self, *views: str | View) -> None:
        named = tuple(view if isinstance(view, View) else View(view) for view in views)
        self.configure(views=named)


def of_source(project: Project, source: str) -> dict[str, list[dict[str, Any]]]:
    """Everything that is stored of one source."""
    return {
        table: sorted(
            project.rows(f"SELECT * FROM {table} WHERE source = :source", source=source), key=str
        )
        for table in TABLES_OF_SOURCE
    }


def make_config(url: str, api_url: str, views: Sequence[str | View] = ("/home",)) -> Config:
    parsed = parse_database(url, Path.cwd())
    return Config(
        path=None,
        database_url=parsed.url,
        database_label=parsed.label,
        database_schema=None,
        views=tuple(view if isinstance(view, View) else View(view) for view in views),
        source="datadoghq.com",
        site="datadoghq.com",
        api_url=api_url,
        app_url="https://app.datadoghq.com",
        keys=Keys("api-key", "app-key"),
        keys_problem="",
        max_wait_s=1.0,
    )


def counts(run: RunResult, *names: str) -> dict[str, int]:
    """The totals of a run that are not zero, without requests."""
    wanted = names or tuple(name for name in run.views[0].counts if name != "requests")
    return {name: run.total(name) for name in wanted if run.total(name) or names}


OpenProject = Callable[..., Project]


def open_project(config: Config) -> Project:
    label, schema_name = config.database_label, config.database_schema
    return Project(config, open_database(config.database_url, label=label, schema_name=schema_name))
