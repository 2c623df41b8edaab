"""Metrics in Prometheus' text format. Imports prometheus_client, so import it only when needed.

Counters grow when a run is closed in the ledger. Gauges are read from the ledger: they are right
whichever process ran. All times are instants: Prometheus computes their age.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import TypeAlias

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry
from sqlalchemy import Connection, func, select

from etl import __version__
from etl.config.model import Config
from etl.database.migrations import opened_ready
from etl.database.schema import COUNTS, sync_run_views
from etl.errors import EtlError
from etl.extract.completeness import COMPLETE, FAILED, TRUNCATED, UNPROVEN
from etl.formatting import escaped, is_future
from etl.ledger.concerns import KINDS, NEEDS_ACCEPTANCE
from etl.ledger.evidence import read_concerns
from etl.ledger.results import RunResult
from etl.ledger.runs import last_clock_skew_s, last_finished
from etl.ledger.view_state import read_view_states
from etl.pipeline.select_views import select_stored

_Key: TypeAlias = "tuple[str, tuple[tuple[str, str], ...]]"

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "heatmap_etl_"
_DURATION = "run_duration_seconds"
_COMPLETE_AT, _RUN_AT = "last_complete_timestamp_seconds", "last_run_timestamp_seconds"
_REMAINING = "rate_limit_remaining"
_WAITING, _CONCERNS, _SKEW = "needs_acceptance", "concerns", "clock_skew_seconds"
_FAMILIES = (
    (
        _COMPLETE_AT,
        "gauge",
        "Last complete reading of a view, the oldest of its filters; 0: never, or in the future",
    ),
    (_RUN_AT, "gauge", "End of the last run; 0: in the future"),
    ("runs", "counter", "Runs closed in the ledger"),
    ("views", "gauge", "Configured views by the verdict of their last run"),
    (_WAITING, "gauge", "Views whose held removals wait for sync --accept-removals"),
    (_CONCERNS, "gauge", "What waits for a person, by kind; see status"),
    (_SKEW, "gauge", "Seconds by which the last run's clock was ahead of Datadog's"),
    ("records", "counter", "Records and rows of runs, by outcome"),
    ("http_requests", "counter", "Requests to Datadog by status code; none: no answer"),
    (_REMAINING, "gauge", "Fewest requests that the rate limit had left in the last run"),
    (_DURATION, "histogram", "Time from the start of a run to its end"),
    ("build_info", "gauge", "1, with the version as a label"),
)
_GAUGES = {name for name, kind, _ in _FAMILIES if kind == "gauge" and name != "build_info"}
_BOUNDS = ("0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "120.0", "300.0", "900.0", "+Inf")
_STATUSES = ("ok", "partial", "failed", "stopped", "died")
_OUTCOMES = {n: n.removesuffix("_records") for n in COUNTS if n not in ("listed", "requests")}
_VERDICTS = (COMPLETE, UNPROVEN, TRUNCATED, FAILED)


def _key(name: str, **labels: str) -> _Key:
    """Labels hold foreign text: what no terminal should see is escaped, and two stay two."""
    return _PREFIX + name, tuple(sorted((label, escaped(text)) for label, text in labels.items()))


class Metrics(Collector):
    """Every sample, by name and labels; thread-safe. Counters begin at zero."""

    def __init__(self, sources: Collection[str]) -> None:
        self._sources = frozenset(map(escaped, sources))
        self._lock = threading.Lock()
        keys = [
            _key("runs_total", source=s, status=status) for s in sources for status in _STATUSES
        ]
        outcomes = [(s, outcome) for s in sources for outcome in _OUTCOMES.values()]
        keys += [_key("records_total", source=s, outcome=outcome) for s, outcome in outcomes]
        keys += [_key(f"{_DURATION}_bucket", le=bound) for bound in _BOUNDS]
        keys += [_key(f"{_DURATION}_count"), _key(f"{_DURATION}_sum")]
        self._samples = dict.fromkeys(keys, 0.0)
        self._samples[_key("build_info", version=__version__)] = 1.0

    def restore(self, text: str) -> None:
        """Take over the samples an earlier process wrote; raises ValueError for any other text.

        Nothing is taken from such a text.
        """
        own_kinds = {_PREFIX + name: kind for name, kind, _ in _FAMILIES if name != "build_info"}
        restored: dict[_Key, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples if family.type == own_kinds.get(family.name) else ():
                key = sample.name, tuple(sorted(sample.labels.items()))
                if key in self._samples or sample.labels.get("source") in self._sources:
                    restored[key] = sample.value
        self._samples |= restored

    def add(self, run: RunResult) -> None:
        """Count a run that the ledger has closed."""
        end = run.finished_at or run.started_at
        seconds, source = max(0.0, (end - run.started_at).total_seconds()), run.source
        increments: list[tuple[_Key, float]] = [
            (_key("runs_total", source=source, status=run.status), 1),
            (_key("runs_total", source=source, status="died"), run.died),
            (_key(f"{_DURATION}_count"), 1),
            (_key(f"{_DURATION}_sum"), seconds),
        ]
        increments += [(_key(f"{_DURATION}_bucket", le=b), seconds <= float(b)) for b in _BOUNDS]
        increments += [
            (_key("records_total", source=source, outcome=outcome), run.total(name))
            for name, outcome in _OUTCOMES.items()
        ]
        increments += [
            (_key("http_requests_total", source=source, code=code), number)
            for code, number in dict(run.codes).items()
        ]
        with self._lock:
            for key, increment in increments:
                self._samples[key] = self._samples.get(key, 0.0) + increment

    def refresh(self, config: Config) -> None:
        """Read the gauges of a source again; while the ledger cannot be read the last ones stay."""
        try:
            with opened_ready(config) as database:
                gauges = database.read(lambda connection: _gauges(connection, config))
        except EtlError as error:
            log.debug("%s: the last known metrics stay: %s", config.source, error)
            return
        names = {_PREFIX + name for name in _GAUGES}
        source_label = ("source", escaped(config.source))
        with self._lock:
            for key in [key for key in self._samples if key[0] in names and source_label in key[1]]:
                del self._samples[key]
            self._samples.update(gauges)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """All metric families; prometheus_client calls this."""
        with self._lock:
            samples = list(self._samples.items())
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
        for name, kind, description in _FAMILIES:
            metric = Metric(_PREFIX + name, description, kind)
            names = {metric.name + suffix for suffix in suffixes.get(kind, ("",))}
            for (sample, labels), value in samples:
                if sample in names:
                    metric.add_sample(sample, dict(labels), value)
            yield metric


def _gauges(connection: Connection, config: Config) -> dict[_Key, float]:
    now, source = datetime.now(UTC), config.source
    states = read_view_states(connection, source)
    views = select_stored(connection, config, now).views
    view_states = [(view.name, states.get(view.key(source))) for view in views]
    verdicts = Counter(state.verdict for _, state in view_states if state)
    gauges = {_key("views", source=source, verdict=v): float(verdicts[v]) for v in _VERDICTS}
    for name, state in view_states:
        key = _key(_COMPLETE_AT, source=source, view_name=name)
        seconds = _seconds(state.last_complete_at if state else None, now)
        gauges[key] = min(seconds, gauges.get(key, seconds))
    kinds = Counter(concern.kind for concern in read_concerns(connection, source, views, now))
    gauges |= {_key(_CONCERNS, source=source, kind=kind): float(kinds[kind]) for kind in KINDS}
    gauges[_key(_WAITING, source=source)] = float(kinds[NEEDS_ACCEPTANCE])
    skew_s = last_clock_skew_s(connection, source, now)
    if skew_s is not None:
        gauges[_key(_SKEW, source=source)] = skew_s
    return gauges | _last_run_gauges(connection, source, now)


def _seconds(instant: datetime | None, now: datetime) -> float:
    """Seconds since 1970, as Prometheus has instants.

    0 for one in the future: no rule that computes its age would ever fire.
    """
    return 0.0 if instant is None or is_future(instant, now) else instant.timestamp()


def _last_run_gauges(connection: Connection, source: str, now: datetime) -> dict[_Key, float]:
    run = last_finished(connection, source, now)
    if run is None:
        return {}
    v = sync_run_views.c
    lowest = select(func.min(v.rate_limit_remaining)).where(v.run_id == run.run_id)
    remaining = connection.execute(lowest).scalar()
    gauges = {_key(_RUN_AT, source=source): _seconds(run.finished_at, now)}
    if remaining is not None:
        gauges[_key(_REMAINING, source=source)] = float(remaining)
    return gauges
