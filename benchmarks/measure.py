"""One measured process, and the list of all of them."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

STOPWATCH = Path(__file__).with_name("stopwatch.py")
LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Measure:
    """What one process took. `journal_mb`: write-ahead log, or all that it wrote (SQLite)."""

    workload: str
    dialect: str
    contestant: str
    round: int
    seconds: float
    cpu_s: float
    peak_mb: float
    journal_mb: float
    is_cut: bool = False  # killed at the limit: it takes longer than `seconds`


class ProcessFailed(Exception):
    """A measured process ended with an error; the message ends with its own words."""


def timed(
    command: list[str], variables: dict[str, str], folder: Path, limit_s: float = LIMIT_S
) -> tuple[dict[str, float], str]:
    """What it took (see stopwatch.py), and its output. Raises `ProcessFailed`."""
    folder.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    stopwatch = [sys.executable, "-I", "-S", str(STOPWATCH), str(writing), str(limit_s)]
    output, errors = folder / "stdout", folder / "stderr"
    with output.open("wb") as out, errors.open("wb") as err:
        watched = subprocess.Popen(
            [*stopwatch, *command],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=[writing],
        )
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            text = told.read()
        watched.wait()
    said = errors.read_text(encoding="utf-8", errors="replace")
    if not text:
        raise ProcessFailed(said)
    took: dict[str, float] = json.loads(text)
    if took["exit"] not in (0, -9):
        raise ProcessFailed(f"{command[0]} ended with {took['exit']}:\n{said[-4000:]}")
    return took, output.read_text(encoding="utf-8", errors="replace")


class Measures:
    """All measures; `path` keeps them between runs of the harness, workload by workload."""

    def __init__(self) -> None:
        self.all: list[Measure] = []

    def add(self, measure: Measure) -> None:
        self.all.append(measure)
        text = f"{measure.workload:<9} {measure.dialect:<11} {measure.contestant:<14}"
        cut = " (killed)" if measure.is_cut else ""
        numbers = f"{measure.seconds:8.3f} s{cut} {measure.peak_mb:6.0f} MB"
        print(f"{text} round {measure.round + 1} {numbers}", file=sys.stderr, flush=True)

    def of(self, workload: str, dialect: str, contestant: str) -> list[Measure]:
        wanted = (workload, dialect, contestant)
        return [m for m in self.all if (m.workload, m.dialect, m.contestant) == wanted]

    def median(self, workload: str, dialect: str, contestant: str) -> float | None:
        found = [m.seconds for m in self.of(workload, dialect, contestant)]
        return statistics.median(found) if found else None

    def cpu(self, workload: str, dialect: str, contestant: str) -> float:
        """Median of the processor time of the process itself, not of the database's."""
        return statistics.median(m.cpu_s for m in self.of(workload, dialect, contestant))


def as_json(measures: Iterable[Measure]) -> list[dict[str, object]]:
    return [asdict(measure) for measure in measures]
