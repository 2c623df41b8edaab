"""`[keep] runs`: old rows leave the ledger, a few runs at a time, when a run has ended.

Snapshots and history are never pruned. Each batch is a transaction of its own under the lease,
which the run still holds; what there is no time for is left to the next run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, select

from etl.config.model import Config
from etl.database.connection import Database
from etl.database.schema import sync_run_views, sync_runs, view_state
from etl.errors import EtlError
from etl.formatting import many
from etl.ledger.results import JOB
from etl.ledger.runs import last_slot_run
from etl.source.lease import Lease

log = logging.getLogger(__name__)

BATCH = 10
LONGEST_S = 5.0


def old_runs(connection: Connection, config: Config, now: datetime) -> Sequence[str]:
    """Ids of the oldest few runs that may be deleted.

    Never the newest run, nor one that `view_state` names, nor that of the last slot, which says
    what is due.
    """
    r, source = sync_runs.c, config.source
    newest = select(r.run_id).where(r.source == source).order_by(r.started_at.desc()).limit(1)
    slot = last_slot_run(connection, source, JOB, now)
    kept = {connection.execute(newest).scalar(), slot.run_id if slot else None} - {None}
    named = select(view_state.c.last_run_id).where(
        view_state.c.source == source, view_state.c.last_run_id.is_not(None)
    )
    query = select(r.run_id).where(
        r.source == source,
        r.started_at < now - timedelta(seconds=config.keep_runs_s),
        r.run_id.not_in(sorted(kept)),
        r.run_id.not_in(named),
    )
    return connection.execute(query.order_by(r.started_at).limit(BATCH)).scalars().all()


def prune(
    config: Config,
    database: Database,
    lease: Lease,
    stop: threading.Event,
    now: datetime | None = None,
) -> None:
    """Delete until nothing old is left, time is up, or `stop` is set. `EtlError` is only logged.

    `now`: None by this machine's clock.
    """
    end, deleted = time.monotonic() + LONGEST_S, 0

    def batch(connection: Connection) -> int:
        lease.renew(connection)
        runs = old_runs(connection, config, now or datetime.now(UTC))
        for table in (sync_run_views, sync_runs) if runs else ():
            connection.execute(delete(table).where(table.c.run_id.in_(runs)))
        return len(runs)

    try:
        while not stop.is_set() and time.monotonic() < end:
            count = database.transaction(batch)
            deleted += count
            if count < BATCH:
                break
    except EtlError as error:
        log.warning("%s: the ledger was not pruned: %s", config.source, error)
    if deleted:
        log.debug(
            "%s: deleted %s older than keep.runs from the ledger",
            config.source,
            many(deleted, "run"),
        )
