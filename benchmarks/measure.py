"""One measured process, all of them, and the file that keeps them between runs."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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
    if took["exit"] != 0 and took["seconds"] < limit_s:
        raise ProcessFailed(f"{command[0]} ended with {took['exit']}:\n{said[-4000:]}")
    return took, output.read_text(encoding="utf-8", errors="replace")


@dataclass(slots=True)
class Measures:
    """What was measured, to be asked for medians. `echo` hears of each as it comes."""

    all: list[Measure] = field(default_factory=list)
    echo: Callable[[str], None] = lambda _: None

    def add(self, measure: Measure) -> None:
        self.all.append(measure)
        cut = " (killed)" if measure.is_cut else ""
        what = f"{measure.workload:<17} {measure.dialect:<10} {measure.contestant:<13}"
        took = f"{measure.seconds:8.3f} s{cut}, {measure.peak_mb:.0f} MB"
        self.echo(f"{what} round {measure.round + 1} {took}")

    def of(self, workload: str, dialect: str, contestant: str) -> list[Measure]:
        wanted = (workload, dialect, contestant)
        return [m for m in self.all if (m.workload, m.dialect, m.contestant) == wanted]

    def median(
        self, workload: str, dialect: str, contestant: str, what: str = "seconds"
    ) -> float | None:
        found = [getattr(m, what) for m in self.of(workload, dialect, contestant)]
        return statistics.median(found) if found else None

    def dialects(self) -> list[str]:
        return list(dict.fromkeys(m.dialect for m in self.all if m.dialect))


class Store:
    """The measures of each workload and dialect, as last taken, with when and where."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: dict[str, dict[str, Any]] = {}
        if path.exists():
            self.entries = json.loads(path.read_text(encoding="utf-8"))

    def put(self, name: str, measures: Measures, facts: dict[str, Any]) -> None:
        """Replace what there was under this name."""
        self.entries[name] = {**facts, "measures": [asdict(m) for m in measures.all]}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.entries), encoding="utf-8")

    def measures(self) -> Measures:
        kept = [Measure(**m) for entry in self.entries.values() for m in entry["measures"]]
        return Measures(kept)
