"""What `schedule --listen` answers: /healthz, /readyz, /status, /metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from etl.config.model import Config
from etl.database.migrations import opened_ready
from etl.errors import EtlError
from etl.ledger.results import CONTRACT
from etl.monitor.health import read_health
from etl.monitor.http_server import Page, Pages, page
from etl.monitor.metrics_file import NEEDS
from etl.schedule.daemon import Daemon

if TYPE_CHECKING:
    from etl.monitor.metrics import Metrics

SILENT_S = 30.0
"""How long the loop of the scheduler may not have been seen before it counts as hanging."""
_PATIENCE_S = 8.0


class Asking:
    """One question to the databases at a time: probes come whether or not they answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Raises `EtlError` when the one before still waits."""
        if not self._lock.acquire(timeout=_PATIENCE_S):
            raise EtlError(f"the database has not answered for {_PATIENCE_S:g} s")
        try:
            yield
        finally:
            self._lock.release()


def pages_of(daemon: Daemon, metrics: Metrics | None) -> Pages:
    """Every page, by path."""
    asking, configs = Asking(), [job.config for job in daemon.jobs]

    def guarded(make: Callable[[], Page]) -> Callable[[], Page]:
        def ask() -> Page:
            try:
                with asking.turn():
                    return make()
            except EtlError as error:
                return page(503, {"status": "bad", "reasons": [str(error)]})

        return ask

    return {
        "/healthz": lambda: _alive(daemon),
        "/readyz": guarded(lambda: _ready(configs)),
        "/status": guarded(lambda: _status(daemon)),
        "/metrics": guarded(lambda: _metrics(configs, metrics)),
    }


def _alive(daemon: Daemon) -> Page:
    silent_s = time.monotonic() - daemon.ticked_at
    if silent_s > SILENT_S:
        return page(503, {"status": "bad", "reasons": [f"no tick for {silent_s:.0f} s"]})
    return page(200, {"status": "ok"})


def _ready(configs: list[Config]) -> Page:
    reasons = []
    for config in configs:
        try:
            with opened_ready(config):
                pass
        except EtlError as error:
            reasons.append(str(error))
    return _page(sorted(set(reasons)))


def _status(daemon: Daemon) -> Page:
    found = [read_health(job.config, since=job.since) for job in daemon.jobs]
    reasons = [f"{health.source}: {reason}" for health in found for reason in health.reasons]
    return _page(reasons, contract=CONTRACT, sources=[health.as_json() for health in found])


def _page(reasons: list[str], **more: object) -> Page:
    status = "bad" if reasons else "ok"
    return page(503 if reasons else 200, {"status": status, "reasons": reasons, **more})


def _metrics(configs: list[Config], metrics: Metrics | None) -> Page:
    if metrics is None:
        return Page(501, f"/metrics {NEEDS}\n".encode())
    from etl.monitor.metrics import CONTENT_TYPE

    for config in configs:
        metrics.refresh(config)
    return Page(200, metrics.text(), CONTENT_TYPE)
