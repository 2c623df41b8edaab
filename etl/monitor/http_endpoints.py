"""The pages of `schedule --listen`: /healthz, /readyz, /status, /metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from etl.config.model import Config
from etl.database.migrations import opened_ready
from etl.errors import EtlError
from etl.ledger.results import CONTRACT
from etl.monitor.http_server import Page, Pages, Response, json_response
from etl.monitor.metrics_file import MISSING_LIBRARY
from etl.monitor.schedule_health import read_health
from etl.schedule.daemon import Daemon

if TYPE_CHECKING:
    from etl.monitor.metrics import Metrics

SILENT_S = 30.0
"""After so long without a tick the loop of the scheduler counts as hanging."""
_LONGEST_WAIT_S = 8.0


def pages_of(daemon: Daemon, metrics: Metrics | None) -> Pages:
    """Every page, by path."""
    configs, database_lock = [job.config for job in daemon.jobs], threading.Lock()

    def one_at_a_time(make_response: Callable[[], Response]) -> Page:
        """Only one request at a time uses the databases: probes come even while these hang."""

        def respond() -> Response:
            if not database_lock.acquire(timeout=_LONGEST_WAIT_S):
                return _health([f"the database has not answered for {_LONGEST_WAIT_S:g} s"])
            try:
                return make_response()
            except EtlError as error:
                return _health([str(error)])
            finally:
                database_lock.release()

        return Page(respond)

    return {
        "/healthz": Page(lambda: _alive(daemon), may_block=False),
        "/readyz": one_at_a_time(lambda: _ready(configs)),
        "/status": one_at_a_time(lambda: _status(daemon)),
        "/metrics": one_at_a_time(lambda: _metrics(configs, metrics)),
    }


def _alive(daemon: Daemon) -> Response:
    silent_s = time.monotonic() - daemon.ticked_at
    if silent_s > SILENT_S:
        return _health([f"the loop of the scheduler has stood still for {silent_s:.0f} s"])
    return json_response(200, {"status": "ok"})


def _ready(configs: list[Config]) -> Response:
    reasons = []
    for config in configs:
        try:
            with opened_ready(config):
                pass
        except EtlError as error:
            reasons.append(str(error))
    return _health(sorted(set(reasons)))


def _status(daemon: Daemon) -> Response:
    sources = [read_health(j.config, since=j.since, stuck=j.stuck) for j in daemon.jobs]
    reasons = [f"{health.source}: {reason}" for health in sources for reason in health.reasons]
    return _health(reasons, contract=CONTRACT, sources=[health.as_json() for health in sources])


def _health(reasons: list[str], **more: object) -> Response:
    """503 with the reasons, 200 when there are none."""
    status = "bad" if reasons else "ok"
    return json_response(503 if reasons else 200, {"status": status, "reasons": reasons, **more})


def _metrics(configs: list[Config], metrics: Metrics | None) -> Response:
    if metrics is None:
        return Response(501, f"/metrics {MISSING_LIBRARY}\n".encode())
    from etl.monitor.metrics import CONTENT_TYPE

    for config in configs:
        metrics.refresh(config)
    return Response(200, metrics.text(), CONTENT_TYPE)
