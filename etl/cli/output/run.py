"""What a run did, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etl.causes import Told, cause_lines, lines_of
from etl.cli.output.selection import choose_shown, omitted_line
from etl.config.views import View
from etl.errors import DatadogAuthError
from etl.extract.completeness import COMPLETE, FAILED, TRUNCATED, UNPROVEN
from etl.formatting import count, counted, duration, many, shortened, table
from etl.ledger.concerns import NEEDS_ACCEPTANCE
from etl.ledger.results import RunResult, ViewResult
from etl.pipeline.notify import problem, told_of

_EVENTS = ("new", "changed", "vanished", "returned")
_SHOWN_AS = {"vanished": "removed", "foreign_records": "foreign"}
_RARE = ("held", "rejected", "foreign_records", "duplicates")
_OMITTED_ENDING = ", see `heatmap-etl status` or sync --json"


def run_lines(run: RunResult, database: str, planned: int) -> list[str]:
    """Views, totals and problems of a run. `planned`: how many views it had to read."""
    shown = choose_shown(run.views, lambda v: v.is_bad, _has_news)
    lines = [*_run_table(shown), *omitted_line(len(run.views), len(shown), _OMITTED_ENDING)]
    lines += ["", *_totals(run, planned), _run_line(run, database)]
    lines += [f"Note: {note}" for note in run.notes]
    if not_complete := _not_complete(run):
        lines += ["", "Not complete, and why:", *(f"  {line}" for line in not_complete)]
    if problems := quiet_lines(run):
        lines += ["", "Problems:", *(f"  {line}" for line in problems), *_advice(run)]
    return lines


def _has_news(result: ViewResult) -> bool:
    counts = result.counts
    is_plain = result.verdict == COMPLETE
    return not is_plain or any(counts[n] for n in (*_EVENTS, *_RARE) if n != "duplicates")


def _run_table(results: Sequence[ViewResult]) -> list[str]:
    if not results:
        return ["no view has news"]
    rare = [name for name in _RARE if any(r.counts[name] for r in results)]
    names = ("listed", *_EVENTS, *rare)
    header = ("view", "verdict", *(_SHOWN_AS.get(n, n) for n in names))
    rows = [
        (shortened(r.view.label), r.verdict, *(count(r.counts[n]) for n in names)) for r in results
    ]
    return table(header, rows, right=" ".join(header[2:]))


def _totals(run: RunResult, planned: int) -> list[str]:
    verdicts = [v.verdict for v in run.views]
    kinds = [f"{verdicts.count(v)} {v}" for v in dict.fromkeys(sorted(verdicts))]
    lines = [f"{many(planned, 'view')}: {', '.join(kinds) or 'none read'}"]
    if planned > len(run.views):
        lines[0] += f", {planned - len(run.views)} not read"
    names = ("new", "changed", "unchanged", "vanished", "returned", *_RARE)
    counts = {_SHOWN_AS.get(n, n): run.total(n) for n in names}
    shown = [
        counted(number, n) for n, number in counts.items() if number or n in ("new", "changed")
    ]
    return [*lines, f"{many(run.total('listed'), 'record')} listed: {', '.join(shown)}"]


def _run_line(run: RunResult, database: str) -> str:
    seconds = (run.finished_at - run.started_at).total_seconds() if run.finished_at else 0.0
    requests = many(run.total("requests"), "request")
    return f"{database}, run {run.run_id}: {run.status}, {duration(seconds)}, {requests}"


def _advice(run: RunResult) -> list[str]:
    if not any(v.verdict == FAILED for v in run.views):
        return []
    return ["Failed views keep the rows they had; the next run asks again."]


def quiet_lines(run: RunResult) -> list[str]:
    """One line for each cause for which a person should look at views: what cron mails."""
    return lines_of(complaints(run))


def complaints(run: RunResult) -> list[Told]:
    """Why a person should look at views or at the source, and why the run ended early if it did."""
    bad, error = _bad(run), run.error or ""
    named = {view.view for view in bad}
    of_run: list[Told] = []
    if unread := bool(error) * max(0, run.planned - len(run.views)):
        others = [view for view in bad if view.error != error]
        not_read = many(unread + len(bad) - len(others), "view")
        bad, of_run = others, [Told(f"{error}; {not_read} not read")]
    elif error and all(view.error != error for view in bad):
        of_run = [Told(error)]
    waiting = [
        Told(concern.line, concern.view.label if concern.view else "", kind=concern.kind)
        for concern in run.concerns
        if concern.kind != TRUNCATED or concern.view not in named
    ]
    return [*map(told_of, bad), *waiting, *of_run]


def _not_complete(run: RunResult) -> list[str]:
    """Why the other views, which are not bad, are not complete."""
    told = {view.view for view in _bad(run)} | _waiting(run, UNPROVEN)
    others = [v for v in run.views if v.verdict != COMPLETE and v.view not in told]
    return cause_lines((v.view.label, f"{v.verdict}: {v.reason}") for v in others)


def _bad(run: RunResult) -> list[ViewResult]:
    """Views that are bad, or whose removals are held until the next run decides."""
    told = _waiting(run, NEEDS_ACCEPTANCE)
    return [v for v in run.views if v.is_bad or (v.counts["held"] and v.view not in told)]


def _waiting(run: RunResult, kind: str) -> set[View | None]:
    return {concern.view for concern in run.concerns if concern.kind == kind}


def refusal(run: RunResult) -> str:
    """The one reason why a run stored nothing, when the keys were refused for every view."""
    refused = [v for v in run.views if v.error_class == DatadogAuthError.__name__]
    return problem(refused[0]).removeprefix(f"{FAILED}: ") if refused else run.error or ""


def lines_of_all_sources(runs: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """The last line for a folder, from the JSON objects of its runs; None: a run did not start."""
    statuses = [run["status"] if run else "not run" for run in runs]
    kinds = ", ".join(f"{statuses.count(kind)} {kind}" for kind in sorted(set(statuses)))
    views = [view for run in runs if run for view in run["views"]]
    names = ("listed", "new", "changed", "vanished", "returned", "requests")
    totals = {_SHOWN_AS.get(name, name): sum(view[name] for view in views) for name in names}
    counts = ", ".join(counted(number, name) for name, number in totals.items())
    return ["", f"{many(len(runs), 'source')}: {kinds}; {many(len(views), 'view')}: {counts}"]
