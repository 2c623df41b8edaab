"""What a run learns of the API: read from `sources` and `view_state`, written for later runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update

from etl.config.model import Config
from etl.database.schema import sources
from etl.extract.api_state import ApiFindings, ApiState, LastReading
from etl.extract.names import RELATIONS
from etl.formatting import is_future
from etl.ledger.view_state import read_view_states

PROBE_AFTER = timedelta(days=7)
"""How long a refused limit is believed, and a cap that is not seen again taken for certain."""


def read_api_state(connection: Connection, config: Config, *, is_full: bool) -> ApiState:
    """What earlier runs of the source learned; with `is_full` no answer may be skipped."""
    row = connection.execute(select(sources).where(sources.c.source == config.source)).one_or_none()
    may_skip = config.shortcut and not is_full
    states = read_view_states(connection, config.source)
    readings = {
        key: LastReading(state.shortcut_digest, state.listed)
        for key, state in states.items()
        if may_skip and state.shortcut_digest
    }
    needs_acceptance = frozenset(key for key, state in states.items() if state.needs_acceptance)
    if row is None:
        return ApiState(readings)
    now = datetime.now(UTC)
    is_limit_known = _is_recent(row.largest_accepted_limit_at, now)
    return ApiState(
        readings,
        learned_cap=row.learned_cap,
        is_cap_recent=_is_recent(row.learned_cap_probed_at, now),
        page_limit=row.largest_accepted_limit if is_limit_known else None,
        org_id=row.org_id,
        needs_acceptance=needs_acceptance,
        name_matching=frozenset((row.name_matching or "").split(",")) & {*RELATIONS},
    )


def _is_recent(learned_at: datetime | None, now: datetime) -> bool:
    """Whether what was learned then is still believed; an instant of a wrong clock is not."""
    if learned_at is None or is_future(learned_at, now):
        return False
    return now - learned_at < PROBE_AFTER


def write_findings(connection: Connection, source: str, findings: ApiFindings) -> None:
    """Write what a run learned of the API, for later runs."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {}
    if findings.is_cap_seen or findings.learned_cap is None:
        values["learned_cap"] = findings.learned_cap
        values["learned_cap_probed_at"] = now if findings.learned_cap else None
    if findings.lowered_to:
        values["largest_accepted_limit"] = findings.lowered_to
        values["largest_accepted_limit_at"] = now
    if findings.rate_limit_name:
        values["rate_limit_name"] = findings.rate_limit_name
    if findings.name_matching:
        values["name_matching"] = ",".join(sorted(findings.name_matching))
    if values:
        connection.execute(update(sources).where(sources.c.source == source).values(values))
