"""`sync --metrics-file`: writes metrics for the node exporter's textfile collector.

A process that ends loses its counters: they continue from the values in the file, or from zero
where there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from etl.config.model import Sources
from etl.config.output_file import Kind, output_beside
from etl.config.validators import plain
from etl.errors import ConfigError
from etl.files import rights_of, whole_file
from etl.formatting import to_install
from etl.ledger.results import RunResult
from etl.library_faults import origin_of, packages_of, said_of

if TYPE_CHECKING:
    from etl.monitor.metrics import Metrics

log = logging.getLogger(__name__)

_LARGEST = 64 * 2**20  # far more than any that we wrote
MISSING_LIBRARY = f"needs an extra; run: {to_install('metrics')}"


def metrics_class() -> type[Metrics] | None:
    """`Metrics`; None where prometheus_client is not installed."""
    try:
        from etl.monitor.metrics import Metrics
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        return None
    return Metrics


def metrics_path(sources: Sources, file: Path) -> Path:
    """The path of the file, relative to the configuration; raises `ConfigError` if unusable."""
    if metrics_class() is None:
        raise ConfigError([f"--metrics-file: {MISSING_LIBRARY}"])
    kind = Kind("a metrics file of heatmap-etl", _holds_our_metrics)
    return output_beside("--metrics-file", file, sources, kind)


def _holds_our_metrics(file: BinaryIO) -> bool:
    """Whether every line is about one of our metrics; no other program writes such lines."""
    return all(
        line.startswith((b"heatmap_etl_", b"# HELP heatmap_etl_", b"# TYPE heatmap_etl_"))
        for line in file.read(_LARGEST).rstrip(b"\n").split(b"\n")
    )


def write_metrics(path: Path, sources: Sources, runs: Sequence[RunResult]) -> None:
    """Count the runs, read the gauges, and replace the file atomically.

    A file that cannot be written is only a warning: the rows of the runs are stored already.
    """
    metrics_type = metrics_class()
    if metrics_type is None or not runs:
        return
    metrics = metrics_type([config.source for config in sources.configs])
    try:
        # Not as text: a CR in a label, which is nothing special there, would become a line's end.
        metrics.restore(path.read_bytes().decode())
    except FileNotFoundError:
        pass
    except Exception as error:
        is_foreseen = isinstance(error, OSError | ValueError)
        if not is_foreseen and not packages_of(error):
            raise
        said = plain(said_of(error)) if is_foreseen else origin_of(error)
        log.warning("%s: its counters begin at zero again: %s", plain(path), said)
    for run in runs:
        metrics.add(run)
    for config in sources.configs:
        metrics.refresh(config)
    try:
        # The node exporter is another user: 0644, or what an administrator made of that. No person
        # is in it. Without fsync: what a crash loses, the next run writes again.
        mode, owner = rights_of(path)
        with whole_file(path, mode=mode, owner=owner, is_synced=False) as file:
            file.write(metrics.text())
    except OSError as error:
        log.warning("%s: the metrics could not be written: %s", plain(path), error.strerror)
