"""A finished run -> log lines: one for it, one for each view that changed or failed."""

from __future__ import annotations

import logging

from etl.extract.completeness import TRUNCATED
from etl.formatting import duration, many, shortened
from etl.ledger.runs import RunResult, ViewResult, iso

log = logging.getLogger(__name__)

_EVENTS = ("new", "changed", "vanished", "returned", "held")
_TRUNCATED_ADVICE = (
    "there may be more than Datadog sends, so nothing was removed; narrow the view down by "
    "device_type or application_id, raise datadog.page_limit, or set accept_truncated = true"
)


def log_run(run: RunResult) -> None:
    """Run, source and view stand in fields of their own, too, where logs are JSON."""
    fields = {"run_id": run.run_id, "source": run.source}
    for view in run.views:
        if view.is_bad or any(view.counts[name] for name in _EVENTS):
            level = logging.WARNING if view.is_bad else logging.INFO
            of_view = {"view_name": view.view.name, "verdict": view.verdict}
            counts = {name: view.counts[name] for name in ("listed", *_EVENTS)}
            text = f"{run.source}: {shortened(view.view.label)}: {_view_text(view)}"
            log.log(level, "%s", text, extra={**fields, **of_view, **counts})
    slot = {"slot_at": iso(run.slot_at), "missed_slots": run.missed_slots} if run.slot_at else {}
    totals = {name: run.total(name) for name in ("listed", *_EVENTS, "requests")}
    of_run = {"status": run.status, "started_by": run.started_by, **totals}
    log.info("%s: %s", run.source, _run_text(run), extra={**fields, **of_run, **slot})


def problem(result: ViewResult) -> str:
    """Why a view is bad, without its name."""
    if result.verdict == TRUNCATED:
        return f"truncated, {result.reason}: {_TRUNCATED_ADVICE}"
    text = result.error or result.reason
    return f"{result.verdict}: {text.removeprefix(f'view {result.view.label}: ')}"


def _view_text(view: ViewResult) -> str:
    counts = [f"{view.counts[name]:,} {name}" for name in _EVENTS if view.counts[name]]
    return "; ".join(filter(None, [problem(view) if view.is_bad else "", ", ".join(counts)]))


def _run_text(run: RunResult) -> str:
    end = run.finished_at or run.started_at
    took = duration((end - run.started_at).total_seconds())
    bad = sum(view.is_bad for view in run.views)
    counts = ", ".join(f"{run.total(name):,} {name}" for name in ("listed", "new", "changed"))
    failed = f" ({bad:,} bad)" if bad else ""
    text = f"run {run.run_id}: {run.status}, {many(run.planned, 'view')}{failed}, {counts}, {took}"
    return f"{text}: {run.error}" if run.error else text
