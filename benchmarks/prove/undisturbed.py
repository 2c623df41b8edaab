"""An undisturbed reading of the same fake Datadog, into a database of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from benchmarks.prove import coherence
from etl.config.credentials import Keys
from etl.database.connection import Database
from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog
from tests.support.project import make_config, open_project

Contents = set[tuple[Any, ...]]

COMPARED = (
    "snapshot_id",
    "version",
    "began",
    "ended_by",
    "changed_columns",
    "content_hash",
    "view_key",
    "synced_view",
    "snapshot_name",
    "view_name",
    "application_id",
    "device_type",
    "start_ms",
    "created_by_handle",
)


def contents(database: Database) -> Contents:
    """Every version of every snapshot, without the instants of the readings."""
    versions = coherence.versions(database)
    return {tuple(_plain(one[name]) for name in COMPARED) for one in versions}


def _plain(value: Any) -> Any:
    """JSON as PostgreSQL and the others spell it."""
    is_json = isinstance(value, str) and value.startswith("[")
    return json.dumps(json.loads(value)) if is_json else value


class Undisturbed:
    """A context manager. To be compared after each change of the fake, and before the next one."""

    def __init__(self, folder: Path, datadog: FakeDatadog, views: Sequence[str]) -> None:
        config = make_config(f"sqlite:///{folder}/undisturbed.db", datadog.url, views)
        config = replace(config, keys=Keys(API_KEY, APP_KEY), max_wait_s=60.0)
        self._project = open_project(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._project.database.close()

    def compare(self, found: Contents) -> None:
        """Read what is listed now; AssertionError says where `found` differs."""
        run = self._project.run()
        assert run.status == "ok", f"the undisturbed reading itself is {run.status}"
        wrong = {row[0] for row in found ^ contents(self._project.database)}
        assert not wrong, f"{len(wrong)} snapshots differ from an undisturbed reading: {min(wrong)}"
