"""Results -> lines for people and objects for programs. Pure.

A few views are all listed; of hundreds only those that have something to say,
the bad ones first when even those are too many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from etl.errors import DatadogAuthError
from etl.extract.completeness import COMPLETE, FAILED
from etl.formatting import count, duration, iso, many, shortened, table
from etl.ledger.results import CONTRACT, RunResult, ViewResult
from etl.pipeline.notify import problem

if TYPE_CHECKING:
    from etl.pipeline.plan import RowPlan, ViewPlan

T = TypeVar("T")

ALL_SHOWN = 20
MOST_SHOWN = 40
_ROWS_SHOWN = 20
_LONGEST_VALUE = 40
_EVENTS = ("new", "changed", "vanished", "returned")
_SELDOM = ("held", "rejected", "foreign_records", "duplicates")


def chosen(
    items: Sequence[T], is_bad: Callable[[T], bool], is_telling: Callable[[T], bool]
) -> list[T]:
    """Those worth a line, in their order."""
    if len(items) <= ALL_SHOWN:
        return list(items)
    bad = [n for n, item in enumerate(items) if is_bad(item)]
    telling = [n for n, item in enumerate(items) if is_telling(item) and not is_bad(item)]
    return [items[n] for n in sorted((bad + telling)[:MOST_SHOWN])]


def left_out(total: int, shown: int, what: str) -> list[str]:
    """The line that says that there are more."""
    return [f"... and {many(total - shown, 'more view')}{what}"] if total > shown else []


# --- sync ---------------------------------------------------------------------------------


def run_lines(run: RunResult, database: str, planned: int) -> list[str]:
    """What a run did. `planned`: how many views it was to read."""
    shown = chosen(run.views, lambda v: v.is_bad, _is_telling)
    lines = [*_run_table(shown), *left_out(len(run.views), len(shown), _REST)]
    lines += ["", *_totals(run, planned), _where(run, database)]
    lines += [f"Note: {note}" for note in run.notes]
    if problems := _problems([v for v in run.views if needs_look(v)]):
        lines += ["", "Problems:", *problems, *_advice(run)]
    return lines


_REST = ", see `heatmap-etl status` or sync --json"


def _is_telling(result: ViewResult) -> bool:
    counts = result.counts
    is_plain = result.verdict == COMPLETE
    return not is_plain or any(counts[n] for n in (*_EVENTS, *_SELDOM) if n != "duplicates")


def _run_table(results: Sequence[ViewResult]) -> list[str]:
    if not results:
        return ["no view has anything new to say"]
    seldom = [name for name in _SELDOM if any(r.counts[name] for r in results)]
    names = ("listed", *_EVENTS, *seldom)
    header = ("view", "verdict", *(n.removesuffix("_records") for n in names))
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
    names = ("new", "changed", "unchanged", "vanished", "returned", *_SELDOM)
    counts = {n.removesuffix("_records"): run.total(n) for n in names}
    said = [f"{number:,} {n}" for n, number in counts.items() if number or n in ("new", "changed")]
    return [*lines, f"{many(run.total('listed'), 'record')} listed: {', '.join(said)}"]


def _where(run: RunResult, database: str) -> str:
    took = (run.finished_at - run.started_at).total_seconds() if run.finished_at else 0.0
    requests = many(run.total("requests"), "request")
    return f"{database}, run {run.run_id}: {run.status}, {duration(took)}, {requests}"


def _problems(bad: Sequence[ViewResult]) -> list[str]:
    """One line for each reason: an outage of Datadog gives every view the same."""
    groups: dict[str, list[ViewResult]] = {}
    for result in bad:
        groups.setdefault(problem(result), []).append(result)
    lines = [f"  {_names(results)}: {text}" for text, results in groups.items()]
    return lines[:MOST_SHOWN] + [f"  ... and {len(lines) - MOST_SHOWN} more"] * (
        len(lines) > MOST_SHOWN
    )


def _names(results: Sequence[ViewResult]) -> str:
    first = shortened(results[0].view.label)
    return first if len(results) == 1 else f"{first} and {many(len(results) - 1, 'more view')}"


def _advice(run: RunResult) -> list[str]:
    if not any(v.verdict == FAILED for v in run.views):
        return []
    return ["Failed views keep the rows they had; the next run asks again."]


def quiet_lines(run: RunResult) -> list[str]:
    """One line per view that needs somebody: what cron mails."""
    return [f"{shortened(v.view.label)}: {problem(v)}" for v in run.views if needs_look(v)]


def needs_look(result: ViewResult) -> bool:
    """Whether a person should look at a view: it is bad, or removals are held."""
    return result.is_bad or result.counts["held"] > 0


def refusal(run: RunResult) -> str:
    """The one reason why a run stored nothing, when the keys were refused for every view."""
    refused = [v for v in run.views if v.error_class == DatadogAuthError.__name__]
    return problem(refused[0]).removeprefix(f"{FAILED}: ") if refused else run.error or ""


# --- sync --plan --------------------------------------------------------------------------


def plan_lines(plans: Sequence[ViewPlan], database: str) -> list[str]:
    """What a run would do, row by row."""
    lines: list[str] = []
    quiet = [p for p in plans if not _planned_rows(p) and p.verdict == COMPLETE]
    for plan in plans:
        if len(plans) <= ALL_SHOWN or plan not in quiet:
            lines += [*_view_plan_lines(plan), ""]
    if quiet and len(plans) > ALL_SHOWN:
        lines += [f"{many(len(quiet), 'view')} as stored", ""]
    total = {kind: sum(len(rows) for _, k, rows in _rows(plans) if k == kind) for kind in _PLANNED}
    said = ", ".join(f"{number:,} {_PLANNED[kind]}" for kind, number in total.items())
    return [*lines, f"A run would find {said}.", f"Nothing was written to {database}."]


_PLANNED = {
    "new": "new",
    "changed": "changed",
    "returned": "returned",
    "vanished": "would vanish",
    "held": "would hold",
}


def _rows(plans: Iterable[ViewPlan]) -> list[tuple[ViewPlan, str, list[RowPlan]]]:
    return [(plan, kind, getattr(plan, kind)) for plan in plans for kind in _PLANNED]


def _planned_rows(plan: ViewPlan) -> int:
    return sum(len(rows) for _, _, rows in _rows([plan]))


def _view_plan_lines(plan: ViewPlan) -> list[str]:
    label = shortened(plan.view.label)
    if plan.verdict == FAILED:
        return [f"{label}: failed: {plan.reason.removeprefix(f'view {plan.view.label}: ')}"]
    counts = {n: getattr(plan, n) for n in ("unchanged", "foreign", "duplicates", "rejected")}
    said = [f"{number:,} {name}" for name, number in counts.items() if number]
    lines = [f"{label}: {', '.join([plan.verdict, f'{plan.listed:,} listed', *said])}"]
    for _, kind, rows in _rows([plan]):
        lines += [line for row in rows[:_ROWS_SHOWN] for line in _row_lines(_PLANNED[kind], row)]
        if len(rows) > _ROWS_SHOWN:
            lines.append(f"  {_PLANNED[kind]:12}  ... and {len(rows) - _ROWS_SHOWN:,} more")
    return lines


def _row_lines(kind: str, row: RowPlan) -> list[str]:
    name = _value(row.snapshot_name) if row.snapshot_name else "without a name"
    lines = [f"  {kind:12}  {shortened(row.id)}  {name}"]
    width = max(map(len, row.after), default=0)
    return lines + [
        f"  {'':12}    {column:{width}}  {_difference(row.before[column], value)}"
        for column, value in row.after.items()
    ]


def _difference(before: object, after: object) -> str:
    """Both values; of long texts what stands around the first place where they differ."""
    if isinstance(before, str) and isinstance(after, str):
        pairs = zip(before, after, strict=False)
        shorter = min(len(before), len(after))
        place = next((n for n, (one, other) in enumerate(pairs) if one != other), shorter)
        before, after = _around(before, place), _around(after, place)
    return f"{_value(before)} -> {_value(after)}"


def _around(text: str, place: int) -> str:
    if len(text) <= _LONGEST_VALUE:
        return text
    size = _LONGEST_VALUE - 6
    begin = max(0, place - size // 2)
    rest = text[begin : begin + size]
    return "..." * (begin > 0) + rest + "..." * (begin + size < len(text))


def _value(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, datetime):
        return iso(value)
    text = shortened(str(value), _LONGEST_VALUE)
    return f'"{text}"' if isinstance(value, str) else text


def plan_json(source: str, plans: Sequence[ViewPlan]) -> dict[str, Any]:
    """The object that `sync --plan --json` prints: every row."""
    return {"contract": CONTRACT, "source": source, "views": [_plan_json(p) for p in plans]}


def _plan_json(plan: ViewPlan) -> dict[str, Any]:
    names = ("verdict", "reason", "listed", "unchanged", "foreign", "duplicates", "rejected")
    return {
        "view_name": plan.view.name,
        "application_id": plan.view.application_id,
        "device_type": plan.view.device_type,
        **{name: getattr(plan, name) for name in names},
        **{kind: [_row_json(row) for row in rows] for _, kind, rows in _rows([plan])},
    }


def _row_json(row: RowPlan) -> dict[str, Any]:
    return {
        "id": row.id,
        "snapshot_name": row.snapshot_name,
        "before": _plain(row.before),
        "after": _plain(row.after),
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {n: iso(v) if isinstance(v, datetime) else v for n, v in values.items()}
