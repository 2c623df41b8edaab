"""What `status` found, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from etl.causes import cause_lines
from etl.cli.output.selection import choose_shown, omitted_line
from etl.datadog.server_clock import WORTH_A_WORD_S
from etl.extract.completeness import COMPLETE, FAILED, TRUNCATED, UNPROVEN
from etl.extract.side_question import APPLICATIONS, DISCOVERY, ORGANIZATION, VALIDATION
from etl.formatting import age, clipped, count, duration, many, moment, shortened, skew_text, table
from etl.ledger.concerns import CLOCK, NEEDS_ACCEPTANCE, NEWS, concern_lines
from etl.monitor.status import Status, ViewStatus
from etl.schedule.due import LATE

_NEVER = "never read"
_COLOURS = {
    **dict.fromkeys((COMPLETE, "ok"), "green"),
    **dict.fromkeys((UNPROVEN, "partial", "stopped", "running"), "yellow"),
    **dict.fromkeys((TRUNCATED, FAILED, "died", _NEVER), "red"),
}
_SKEW_SHOWN_S = 1.0
_ENDED = {"partial": "ended early"}
_QUESTIONS = {
    APPLICATIONS: "RUM's list of applications",
    DISCOVERY: "which views RUM counts now",
    ORGANIZATION: "which organization the keys belong to",
    VALIDATION: "which of the keys was refused",
}


def status_lines(status: Status, *, has_colours: bool = False) -> list[str]:
    """Freshness first, then what is wrong, then the last runs."""
    style = _coloured if has_colours else str
    privacy = f", created_by: {status.privacy.stored}"
    lines = [f"{status.database}, source {status.source}{privacy}", ""]
    lines += _view_lines(status, style)
    if status.privacy.problem:
        lines += ["", f"No run starts: {status.privacy.problem}"]
    lines += _clock_lines(status.clock_skew_s)
    if problems := problem_lines(status):
        lines += ["", "Look at:", *(f"  {line}" for line in problems)]
    if not_complete := _not_complete(status):
        lines += ["", "Not complete, and why:", *(f"  {line}" for line in not_complete)]
    if status.not_known:
        lines += ["", "Not known (the readings are as good without it):", *_not_known(status)]
    return [*lines, "", *_run_lines(status, style)]


def quiet_status_lines(status: Status) -> list[str]:
    """What somebody should look at, a line for each cause; none when all is well."""
    lines = [f"No run starts: {status.privacy.problem}"] if status.privacy.problem else []
    if status.overrun:
        lines.append(f"The run under way hangs: {status.overrun}; end that process")
    lines += _late_line(status)
    return lines + problem_lines(status)


def _coloured(cell: str) -> str:
    return click.style(cell, fg=_COLOURS[cell]) if cell in _COLOURS else cell


def _view_lines(status: Status, style: Callable[[str], str]) -> list[str]:
    concerned = {concern.view for concern in status.concerns}
    bad = {v.view for v in status.views if v.is_bad or v.view in concerned}
    shown = choose_shown(status.views, lambda v: v.view in bad, lambda v: v.verdict != COMPLETE)
    header = ("view", "verdict", "listed", "last read", "last complete", "failures", "held")
    rows = [
        (
            shortened(v.view.label),
            v.verdict or _NEVER,
            count(v.listed),
            age(v.last_read_at, status.at),
            age(v.last_complete_at, status.at),
            count(v.consecutive_failures),
            count(v.held),
        )
        for v in shown
    ]
    right = "listed failures held"
    lines = table(header, rows, right=right, style=style) if rows else []
    lines += omitted_line(len(status.views), len(shown), ", all complete" if rows else "")
    oldest = min((v.trusted_at for v in status.views if v.trusted_at), default=None)
    views = f"{many(len(status.views), 'view')}, {len(bad)} to look at"
    lines += ["", f"{views}; oldest trusted reading: {age(oldest, status.at)}"]
    if status.views_no_longer_configured:
        gone = many(status.views_no_longer_configured, "view")
        lines.append(f"{gone} no longer configured; their rows stay")
    return lines


def _clock_lines(skew_s: float | None) -> list[str]:
    """How far this machine's clock was from Datadog's, where a run saw it."""
    if skew_s is None:
        return []
    apart = f"{skew_text(skew_s)}{' of' * (skew_s > 0)}"
    if abs(skew_s) < _SKEW_SHOWN_S:
        apart = f"within {_SKEW_SHOWN_S:g} s of"
    text = f"clock was {apart} Datadog's in the last run that saw it"
    if abs(skew_s) <= WORTH_A_WORD_S:
        return ["", f"This machine's {text}."]
    return ["", f"WARNING: this machine's {text}; set the clock."]


def problem_lines(status: Status) -> list[str]:
    """One line for each cause for which a person should look at views, or at the source."""
    causes = ((view.view.label, _complaint(view, status)) for view in status.views)
    lines = cause_lines((label, text) for label, text in causes if text)
    unread = ["no view is known yet; run `heatmap-etl sync`"] * status.is_unread
    news = [concern for concern in status.concerns if concern.kind in NEWS]
    alarms = [concern for concern in status.concerns if concern.kind not in NEWS]
    return [*unread, *_last_run_lines(status), *concern_lines(alarms), *lines, *concern_lines(news)]


def _last_run_lines(status: Status) -> list[str]:
    """Why the last run did not end well, where neither a view nor a concern says it."""
    run = status.latest
    if run is None or run["status"] not in ("failed", "partial", "died") or not run["error"]:
        return []
    is_told = any(concern.kind == CLOCK for concern in status.concerns)
    if is_told or any(view.reason == run["error"] for view in status.views):
        return []
    return [f"the last run {_ENDED.get(run['status'], run['status'])}: {run['error']}"]


def _complaint(view: ViewStatus, status: Status) -> str:
    """What is wrong with a view, besides the concerns. It names no age: views share one line."""
    told = {concern.kind for concern in status.concerns if concern.view == view.view}
    problems = ["clock: its last reading is in the future"] * view.is_in_future
    if view.is_stale and view.verdict and not view.is_in_future:
        problems.append("older than --max-age")
    if view.verdict is None:
        problems.append(f"{_NEVER}; run `heatmap-etl sync`")
    elif view.is_unread_or_cut and view.verdict not in told:
        problems.append(f"{view.verdict}: {_reason(view)}")
    if view.held and NEEDS_ACCEPTANCE not in told:
        problems.append("removals are held until the next reading confirms them")
    return "; ".join(problems)


def _reason(view: ViewStatus) -> str:
    return (view.reason or "").removeprefix(f"view {view.view.label}: ")


def _not_complete(status: Status) -> list[str]:
    """Why the other views, which are not bad, are not complete."""
    told = {concern.view for concern in status.concerns if concern.kind == UNPROVEN}
    views = [v for v in status.views if v.verdict == UNPROVEN and v.view not in told]
    views += [v for v in status.views if v.verdict == TRUNCATED and v.view.accept_truncated]
    return cause_lines((v.view.label, f"{v.verdict}: {_reason(v)}") for v in views)


def _not_known(status: Status) -> Iterator[str]:
    for item in status.not_known:
        again = f"asked again by a run after {moment(item.ask_again_at)}"
        what, since = _QUESTIONS.get(item.question, item.question), age(item.failed_at, status.at)
        yield f"  {what}, asked {since}: {clipped(item.error, 200)}; {again}"


def _run_lines(status: Status, style: Callable[[str], str]) -> list[str]:
    lines = [f"A run is under way: {status.holder}.", ""] if status.holder else []
    if status.overrun:
        lines.insert(1, f"It hangs: {status.overrun}. End that process: what is stored stays.")
    if not status.runs:
        return [*lines, "No run yet."]
    lines += _next_lines(status)
    numbers = "views failed new changed removed requests"
    header = ["run started", "status", "by", "took", *numbers.split(), "error"]
    rows = [_run_row(run) for run in status.runs]
    return [*lines, *table(header, rows, right=numbers, style=style)]


def _next_lines(status: Status) -> list[str]:
    if status.next_run_at is None:
        return []
    wait = duration((status.next_run_at - status.at).total_seconds())
    lines = [f"Next run: {moment(status.next_run_at)}, in {wait} ({status.schedule}).", ""]
    return [*_late_line(status), *lines]


def _late_line(status: Status) -> list[str]:
    """That a daemon should have begun a run, and did not; nothing where that is not so."""
    due = status.due_since
    if due is None or status.at - due <= LATE or status.holder:
        return []
    since = f"{moment(due)}, {age(due, status.at)}"
    return [f"A run has been due since {since}: is `heatmap-etl schedule` running?"]


def _run_row(run: Mapping[str, Any]) -> list[str]:
    end = run["finished_at"]
    took = duration((end - run["started_at"]).total_seconds()) if end else "-"
    numbers = ("views", "views_failed", "new", "changed", "vanished", "requests")
    return [
        moment(run["started_at"]),
        run["status"],
        run["started_by"],
        took,
        *(count(run[name]) for name in numbers),
        clipped(run["error"] or "", 80),
    ]
