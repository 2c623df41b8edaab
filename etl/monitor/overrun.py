"""Whether the run under way has gone on for longer than it can take, by the ledger.

Its own process ends such a run (`pipeline/watchdog.py`), unless it hangs as a whole, or is older
than that rule: this is how another process sees it.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from etl.config.model import Config
from etl.database.schema import sync_run_views, sync_runs
from etl.pipeline.progress_bound import longest_run_s
from etl.pipeline.select_views import select_stored
from etl.pipeline.watchdog import too_long


def read_overrun(connection: Connection, config: Config, now: datetime) -> str:
    """Why the run that the source is working on takes too long; "" for none that does.

    For a source whose lease is held: without a holder a run that was not closed has died.
    """
    r, v = sync_runs.c, sync_run_views.c
    query = select(r.run_id, r.started_at, r.views).where(
        r.source == config.source, r.status == "running"
    )
    run = connection.execute(query.order_by(r.started_at.desc()).limit(1)).one_or_none()
    if run is None:
        return ""
    # As many requests as it has sent for views that it has stored, any of which may be a part.
    sent = connection.execute(select(func.sum(v.requests)).where(v.run_id == run.run_id)).scalar()
    # Until it is closed a run that discovers its views has not written how many they are.
    views = max(run.views, len(select_stored(connection, config, now).views))
    longest_s = longest_run_s(config, views, int(sent or 0))
    took_s = (now - run.started_at).total_seconds()
    return f"run {run.run_id} {too_long(took_s, longest_s)}" if took_s > longest_s else ""
