"""The results of one run and of its views, as the ledger and `sync --json` show them."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from etl.config.views import View
from etl.database.schema import COUNTS
from etl.errors import DatadogAuthError, DatadogHostUnknown, EtlError
from etl.extract.completeness import FAILED, TRUNCATED
from etl.extract.listing import Listing
from etl.formatting import iso
from etl.ledger.concerns import Concern

CONTRACT = 1
JOB = "sync"
ID_INSTANT = "%Y%m%dT%H%M%SZ"
"""How the id of a run begins: when it began, by the clock of its machine."""
_REFUSALS = (DatadogAuthError, DatadogHostUnknown)


@dataclass(slots=True)
class ViewResult:
    """The result of one configured view in one run; `counts` has the names of the ledger."""

    view: View
    verdict: str
    reason: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    seconds: float = 0.0
    read_at: datetime | None = None
    page_limit: int | None = None
    rate_limit_remaining: int | None = None
    error: str | None = None
    error_class: str | None = None

    @property
    def is_bad(self) -> bool:
        """Whether the run is not ok because of this view."""
        return self.verdict == FAILED or (
            self.verdict == TRUNCATED and not self.view.accept_truncated
        )

    def as_json(self) -> dict[str, Any]:
        """The view's part of `sync --json`."""
        counts = {
            {"foreign_records": "foreign"}.get(name, name): self.counts[name] for name in COUNTS
        }
        return {
            "view_name": self.view.name,
            "application_id": self.view.application_id,
            "device_type": self.view.device_type,
            "verdict": self.verdict,
            "reason": self.reason,
            **counts,
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }


def result_of(listing: Listing) -> ViewResult:
    """A result for a listing that is about to be loaded, its counts still zero."""
    result = ViewResult(
        listing.view,
        listing.verdict,
        listing.reason,
        seconds=listing.seconds,
        page_limit=listing.page_limit,
        rate_limit_remaining=listing.rate_limit_remaining,
    )
    result.counts["requests"] = listing.requests
    return result


def failed_result(view: View, error: EtlError, *, requests: int, seconds: float) -> ViewResult:
    """The result of a view that could not be read or loaded."""
    message = str(error)
    result = ViewResult(view, FAILED, message, seconds=seconds, error=message)
    result.error_class = type(error).__name__
    result.counts["requests"] = requests
    return result


@dataclass(slots=True)
class RunResult:
    """The result of one run."""

    source: str
    run_id: str
    started_at: datetime
    status: str = "running"
    finished_at: datetime | None = None
    views: list[ViewResult] = field(default_factory=list)
    error: str | None = None
    job: str = JOB
    started_by: str = "manual"
    slot_at: datetime | None = None
    missed_slots: int = 0
    planned: int = 0  # views it had to read
    died: int = 0  # earlier runs that it found dead
    codes: Counter[str] = field(default_factory=Counter)  # HTTP exchanges by status code
    clock_skew_s: float | None = None  # this machine's clock minus the server's; None: not known
    notes: list[str] = field(default_factory=list)  # for people, about the selection of views
    concerns: Sequence[Concern] = ()  # of the source, what waits for a person when it ended

    def as_json(self) -> dict[str, Any]:
        """The object that `sync --json` prints."""
        return {
            "contract": CONTRACT,
            "run_id": self.run_id,
            "source": self.source,
            "status": self.status,
            "started_at": iso(self.started_at),
            "finished_at": iso(self.finished_at) if self.finished_at else None,
            "views": [view.as_json() for view in self.views],
        }

    @property
    def has_read(self) -> bool:
        """Whether any view was read, so that something is stored."""
        return any(view.verdict != FAILED for view in self.views)

    def settle(self, *, is_stopped: bool) -> None:
        """Set status and error by the results of the views; `is_stopped`: it was asked to end."""
        if exit_code(self) == 2:
            self.error = self.views[0].error
        self.status = "ok"
        if any(view.is_bad for view in self.views):
            self.status = "partial" if self.has_read else "failed"
        if is_stopped:
            self.status = "stopped"

    def total(self, name: str) -> int:
        """A count summed over the views."""
        return sum(view.counts[name] for view in self.views)


def new_run(source: str) -> RunResult:
    """A run that starts now, with an id that sorts by time, to the microsecond."""
    now = datetime.now(UTC)
    return RunResult(source, f"{now:{ID_INSTANT}}-{now.microsecond:05x}{secrets.token_hex(4)}", now)


def exit_code(run: RunResult) -> int:
    """0 all views read, 1 some failed or truncated, 2 none could be read: wrong keys or site."""
    classes = {view.error_class for view in run.views}
    if classes and classes <= {kind.__name__ for kind in _REFUSALS}:
        return 2
    return 1 if run.error or any(view.is_bad for view in run.views) else 0


def is_refused(errors: Sequence[EtlError]) -> bool:
    """Whether there are errors, and all of them are wrong keys or a wrong site."""
    return bool(errors) and all(type(error) in _REFUSALS for error in errors)
