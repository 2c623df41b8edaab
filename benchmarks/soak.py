"""Soak: the daemon at one run a second against a fake Datadog that fails, and is it still the same?

    .venv/bin/python benchmarks/soak.py --seconds 600 --database postgresql --write

Every second it samples the daemon's memory, file descriptors, threads and connections to the
database; every five it asks `--listen`. At the end it sends SIGTERM, adds up the ledger, and lets
one run without faults compare the tables with what the fake lists.

Flat means: after a warm-up of a third of the time, the median of the last quarter is not above
that of the first quarter by more than 3 % (memory) or by more than 1 (the others).

Accounted for means: from the first slot of the ledger to the last one each is run once, or counted
in `missed_slots` of the run that made up for it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sqlalchemy import text  # noqa: E402

from etl.config.load import load_config  # noqa: E402
from etl.database.connection import Database, open_database  # noqa: E402
from etl.fake_datadog import (  # noqa: E402
    API_KEY,
    APP_KEY,
    FakeDatadog,
    Fault,
    Faults,
    World,
)
from etl.pipeline.run import Options  # noqa: E402
from etl.pipeline.sync import sync  # noqa: E402
from tests.support.servers import Server, Servers, free_port  # noqa: E402

DOCUMENT = ROOT / "benchmarks" / "SOAK.md"
BEGIN, END = "<!-- soak: written by benchmarks/soak.py -->", "<!-- end of soak -->"
HEADINGS = (
    "database",
    "seconds",
    "runs",
    "slots missed, all counted",
    "faults",
    "memory, MiB",
    "descriptors",
    "threads",
    "connections",
    "on",
)
VIEWS = 6
FAULT_KINDS = ("429", "500", "cut")
FAULT_SHARE = 0.1 / len(FAULT_KINDS)
TICK_S = 5.0
WARM_UP = 1 / 3
MEMORY_GROWTH = 1.03
START_S = 60  # until it listens, on a busy machine
SLOT = timedelta(seconds=1)

# The program refuses less than a minute between two runs; a soak wants many of them.
DAEMON = """
import sys
from etl.cli.app import main
from msgspec.structs import force_setattr
from etl.config import settings, validators
force_setattr(settings._BY_KEY["schedule.every"], "check", validators.duration("1s", "52w"))
sys.exit(main(sys.argv[1:]))
"""


# --- a Datadog that fails -----------------------------------------------------------------


@contextlib.contextmanager
def failing_datadog() -> Iterator[FakeDatadog]:
    """A fake that spoils some answers and where time passes, until its faults are off."""
    faults = Faults(Fault(kind, FAULT_SHARE) for kind in FAULT_KINDS)
    # A window of a second: nobody waits longer after a 429.
    with FakeDatadog(World(7), faults=faults, rate_limit=(100_000, 1)) as datadog:
        is_over = threading.Event()

        def let_time_pass() -> None:
            while not (is_over.wait(TICK_S) or faults.is_off):
                datadog.world.tick()

        threading.Thread(target=let_time_pass, daemon=True).start()
        yield datadog
        is_over.set()


# --- what is measured ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """Of the daemon at one moment."""

    memory_kib: float
    descriptors: float
    threads: float
    connections: float


@dataclass(slots=True)
class Soak:
    """What was seen. `problems` is empty when all is well."""

    database: str
    seconds: float
    samples: list[Sample] = field(default_factory=list)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    problems: list[str] = field(default_factory=list)

    def quarters(self) -> tuple[Sample, Sample]:
        """Medians of the first and the last quarter after the warm-up."""
        warm = self.samples[int(len(self.samples) * WARM_UP) :]
        length = max(1, len(warm) // 4)
        return _median(warm[:length]), _median(warm[-length:])


def _median(samples: list[Sample]) -> Sample:
    return Sample(
        *(statistics.median(column) for column in zip(*map(astuple, samples), strict=True))
    )


def take_sample(pid: int, connections: Callable[[int], int]) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    numbers = dict(re.findall(r"^(\w+):\s+(\d+)", status, re.MULTILINE))
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Sample(float(numbers["VmRSS"]), descriptors, float(numbers["Threads"]), connections(pid))


def open_files(pid: int, name: str) -> int:
    """How often the process has the file open: for SQLite, its connections."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(link.readlink()) == name
    return found


def ask(soak: Soak, port: int) -> None:
    for path in ("/healthz", "/readyz", "/status", "/metrics"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
                answer.read()
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError:
            status = 0
        soak.answers[path, status] += 1


def is_flat(soak: Soak) -> None:
    first, last = soak.quarters()
    if last.memory_kib > first.memory_kib * MEMORY_GROWTH:
        soak.problems.append(f"memory grew: {first.memory_kib:.0f} -> {last.memory_kib:.0f} KiB")
    for name in ("descriptors", "threads", "connections"):
        before, after = getattr(first, name), getattr(last, name)
        if after > before + 1:
            soak.problems.append(f"{name} grew: {before:g} -> {after:g}")


# --- what the tables must say -------------------------------------------------------------


def check_slots(soak: Soak, database: Database) -> None:
    query = (
        "SELECT slot_at, missed_slots, status FROM sync_runs"
        " WHERE started_by = 'schedule' ORDER BY slot_at, started_at"
    )
    with database.connect(write=False) as connection:
        rows = [
            (instant(at), missed, status) for at, missed, status in connection.execute(text(query))
        ]
    soak.statuses = Counter(status for *_, status in rows)
    done = [(at, missed) for at, missed, status in rows if status in ("ok", "partial", "failed")]
    soak.missed = sum(missed for _, missed in done)
    if len({at for at, _ in done}) != len(done):
        soak.problems.append("a slot was run twice")
    for (before, _), (at, missed) in pairwise(done):
        if at - before != SLOT * (1 + missed):
            soak.problems.append(f"between {before} and {at} {missed} slots are counted as missed")
    if len(done) + soak.missed < soak.seconds - 5:
        soak.problems.append(f"only {len(done)} runs and {soak.missed} missed slots")


def instant(value: Any) -> datetime:
    """SQLite gives text, the others an instant."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def check_rows(soak: Soak, database: Database, config: Any, datadog: FakeDatadog) -> None:
    """One run without faults, and the tables hold what the fake lists."""
    datadog.faults.is_off = True
    run = sync(replace(config, every_s=None), database, Options(), stop=threading.Event())
    if run.status != "ok":
        soak.problems.append(f"the last run without faults is {run.status}")
    with database.connect(write=False) as connection:
        found = connection.execute(text("SELECT id FROM snapshots WHERE removed_at IS NULL"))
        stored = {row.id for row in found}
    listed = {record["id"] for view in config.views for record in datadog.world.records(view.name)}
    if stored != listed:
        soak.problems.append(f"{len(stored ^ listed)} snapshots differ from what is listed")


# --- the run ------------------------------------------------------------------------------


@contextlib.contextmanager
def place(kind: str, folder: Path) -> Iterator[tuple[str, Callable[[int], int]]]:
    """URL of an empty database, and what counts a process's connections to it."""
    if kind == "sqlite":
        file = folder / "soak.db"
        yield f"sqlite:///{file}", lambda pid: open_files(pid, str(file))
        return
    servers = Servers()
    server: Server = servers.get(kind)
    name = server.create_database()
    count = {
        "postgresql": f"select count(*) from pg_stat_activity where datname = '{name}'",
        "mariadb": f"select count(*) from information_schema.processlist where db = '{name}'",
    }[kind]
    try:
        yield server.url(name), lambda _pid: int(server.execute(count)[0][0])
    finally:
        servers.stop()


def write_config(folder: Path, url: str, datadog: FakeDatadog) -> Path:
    names = list(datadog.world.view_names)[:VIEWS]
    path = folder / "heatmap-etl.toml"
    lines = [
        f"database_url = {url!r}",
        f"views = {names!r}",
        "[datadog]",
        f"api_url = {datadog.url!r}",
        "[schedule]",
        "every = '1s'",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def watch(
    soak: Soak, daemon: subprocess.Popen[bytes], port: int, count: Callable[[int], int]
) -> None:
    wait_until_it_listens(daemon, port)
    end = time.monotonic() + soak.seconds
    number = 0
    while (left := end - time.monotonic()) > 0:
        if daemon.poll() is not None:
            soak.problems.append(f"the daemon ended with {daemon.returncode}")
            return
        soak.samples.append(take_sample(daemon.pid, count))
        if number % 5 == 0:
            ask(soak, port)
        if number % 60 == 0:
            print(f"{soak.seconds - left:5.0f} s  {soak.samples[-1]}", flush=True)
        number += 1
        time.sleep(min(1.0, max(0.0, left)))


def wait_until_it_listens(daemon: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and daemon.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)


def end(soak: Soak, daemon: subprocess.Popen[bytes]) -> None:
    if daemon.poll() is None:
        before = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        try:
            code = daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            code = daemon.wait()
        took = time.monotonic() - before
        if code != 0 or took > 10:
            soak.problems.append(f"on SIGTERM it ended with {code} after {took:.1f} s")
    not_alive = {
        key: n for key, n in soak.answers.items() if key[0] == "/healthz" and key[1] != 200
    }
    if not_alive or not soak.answers["/healthz", 200]:
        soak.problems.append(f"/healthz answered {not_alive or 'nothing'}")


def run(kind: str, seconds: float, folder: Path) -> Soak:
    soak = Soak(kind, seconds)
    keys = {"DD_API_KEY": API_KEY, "DD_APP_KEY": APP_KEY}
    with place(kind, folder) as (url, count), failing_datadog() as datadog:
        path, port = write_config(folder, url, datadog), free_port()
        command = ["--config", str(path), "schedule", "--listen", f"127.0.0.1:{port}"]
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-c", DAEMON, *command],
                cwd=ROOT,
                # One arena, as the files in deploy/ set it.
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1", **keys},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                watch(soak, daemon, port, count)
            finally:
                end(soak, daemon)
        soak.faults = datadog.faults.done
        is_flat(soak)
        config = load_config(_slower(path), keys)
        with contextlib.closing(
            open_database(config.database_url, label=config.database_label)
        ) as database:
            check_slots(soak, database)
            check_rows(soak, database, config, datadog)
    return soak


def _slower(path: Path) -> Path:
    """The same without the interval that the program refuses."""
    path.write_text(path.read_text("utf-8").replace("every = '1s'", "every = '1m'"), "utf-8")
    return path


# --- what is told -------------------------------------------------------------------------


def row(soak: Soak) -> list[str]:
    first, last = soak.quarters()

    def pair(before: float, after: float, digits: int = 0) -> str:
        return f"{before:.{digits}f} → {after:.{digits}f}"

    return [
        soak.database,
        f"{soak.seconds:.0f}",
        ", ".join(f"{number} {status}" for status, number in sorted(soak.statuses.items())),
        str(soak.missed),
        ", ".join(f"{number} {fault}" for fault, number in sorted(soak.faults.items())),
        pair(first.memory_kib / 1024, last.memory_kib / 1024, 1),
        pair(first.descriptors, last.descriptors),
        pair(first.threads, last.threads),
        pair(first.connections, last.connections),
        f"{datetime.now(UTC):%Y-%m-%d}",
    ]


def write(cells: list[str]) -> None:
    """The row of this database in the document; those of others stay."""
    document = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = document.partition(f"{BEGIN}\n")
    inside, _, after = rest.partition(f"{END}\n")
    rows = {line.split("|")[1].strip(): line for line in inside.splitlines()[2:]}
    rows[cells[0]] = f"| {' | '.join(cells)} |"
    head = [f"| {' | '.join(HEADINGS)} |", f"|{' --- |' * len(HEADINGS)}"]
    table = "\n".join([*head, *(rows[name] for name in sorted(rows))])
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}\n{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), default="sqlite")
    parser.add_argument("--write", action="store_true", help="into benchmarks/SOAK.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="etl-soak-") as folder:
        soak = run(arguments.database, arguments.seconds, Path(folder))
        if soak.problems:
            print((Path(folder) / "log").read_text("utf-8")[-4000:])
    cells = row(soak)
    for name, value in zip(HEADINGS, cells, strict=True):
        print(f"{name}: {value}")
    print(f"answers: {dict(sorted(soak.answers.items()))}")
    for problem in soak.problems[:20]:
        print(f"PROBLEM: {problem}")
    if arguments.write and not soak.problems:
        write(cells)
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
