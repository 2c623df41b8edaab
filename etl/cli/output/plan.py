"""What a run would do, row by row: for people, and as the object of `sync --plan --json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from etl.causes import Told, lines_of
from etl.cli.output.selection import ALL_SHOWN
from etl.extract.completeness import COMPLETE, FAILED
from etl.formatting import counted, iso, many, shortened
from etl.ledger.results import CONTRACT
from etl.pipeline.plan import RowPlan, ViewPlan

_ROWS_SHOWN = 20
_LONGEST_VALUE = 40
_KINDS = {
    "new": "new",
    "changed": "changed",
    "returned": "returned",
    "vanished": "would be removed",
    "held": "would be held",
}
_WIDTH = max(map(len, _KINDS.values()))


def plan_lines(plans: Sequence[ViewPlan], database: str) -> list[str]:
    """Every view with its planned rows, then those that failed, by cause, then totals."""
    lines: list[str] = []
    unchanged = [p for p in plans if not _row_count(p) and p.verdict == COMPLETE]
    failed = [p for p in plans if p.verdict == FAILED]
    for plan in plans:
        if plan not in failed and (len(plans) <= ALL_SHOWN or plan not in unchanged):
            lines += [*_view_plan_lines(plan), ""]
    for line in lines_of(map(_told_of, failed)):
        lines += [line, ""]
    if unchanged and len(plans) > ALL_SHOWN:
        lines += [f"{many(len(unchanged), 'view')} without a change", ""]
    counts = {
        kind: sum(len(rows) for _, k, rows in _rows_by_kind(plans) if k == kind) for kind in _KINDS
    }
    names = {"vanished": "removed"}
    totals = ", ".join(f"{number:,} {names.get(kind, kind)}" for kind, number in counts.items())
    return [*lines, f"A run would store {totals}.", f"Nothing was written to {database}."]


def _rows_by_kind(plans: Iterable[ViewPlan]) -> list[tuple[ViewPlan, str, list[RowPlan]]]:
    return [(plan, kind, getattr(plan, kind)) for plan in plans for kind in _KINDS]


def _row_count(plan: ViewPlan) -> int:
    return sum(len(rows) for _, _, rows in _rows_by_kind([plan]))


def _told_of(plan: ViewPlan) -> Told:
    label = plan.view.label
    return Told(f"{FAILED}: {plan.reason.removeprefix(f'view {label}: ')}", label)


def _view_plan_lines(plan: ViewPlan) -> list[str]:
    label = shortened(plan.view.label)
    counts = {n: getattr(plan, n) for n in ("unchanged", "foreign", "duplicates", "rejected")}
    other = [counted(number, name) for name, number in counts.items() if number]
    lines = [f"{label}: {', '.join([plan.verdict, f'{plan.listed:,} listed', *other])}"]
    if plan.held or plan.verdict != COMPLETE:
        lines.append(f"  {plan.reason}")
    for _, kind, rows in _rows_by_kind([plan]):
        lines += [line for row in rows[:_ROWS_SHOWN] for line in _row_lines(_KINDS[kind], row)]
        if len(rows) > _ROWS_SHOWN:
            lines.append(f"  {_KINDS[kind]:{_WIDTH}}  ... and {len(rows) - _ROWS_SHOWN:,} more")
    return lines


def _row_lines(kind: str, row: RowPlan) -> list[str]:
    name = _value(row.snapshot_name) if row.snapshot_name else "without a name"
    lines = [f"  {kind:{_WIDTH}}  {shortened(row.id)}  {name}"]
    width = max(map(len, row.after), default=0)
    return lines + [
        f"  {'':{_WIDTH}}    {column:{width}}  {_difference(row.before[column], value)}"
        for column, value in row.after.items()
    ]


def _difference(before: object, after: object) -> str:
    """Both values; of long texts only the part around their first difference."""
    if isinstance(before, str) and isinstance(after, str):
        pairs = zip(before, after, strict=False)
        shorter = min(len(before), len(after))
        position = next((n for n, (old, new) in enumerate(pairs) if old != new), shorter)
        before, after = _around(before, position), _around(after, position)
    return f"{_value(before)} -> {_value(after)}"


def _around(text: str, position: int) -> str:
    if len(text) <= _LONGEST_VALUE:
        return text
    size = _LONGEST_VALUE - 6
    begin = max(0, position - size // 2)
    part = text[begin : begin + size]
    return "..." * (begin > 0) + part + "..." * (begin + size < len(text))


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
        **{kind: [_row_json(row) for row in rows] for _, kind, rows in _rows_by_kind([plan])},
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
