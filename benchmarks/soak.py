"""The daemon at one run a second against a fake Datadog that fails: is it still the same later on?

Every second a sample is taken of the daemon's memory, file descriptors, threads and connections to
the database; every five, `--listen` is asked and the ledger read. At the end the daemon gets
SIGTERM, the ledger is added up, and one run without faults compares the tables with what the fake
lists. `python -m benchmarks.prove --part hours` runs it.

Flat means: after a warm-up of a third of the time, the median memory of the last quarter is not
above that of the first quarter by more than 3 % (10 % in a soak of less than five minutes), and the
least number of the others by more than 1.

Accounted for means: from the first slot of the ledger to the last one each is run once, or counted
in `missed_slots` of the run that made up for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.prove.coherence import instant
from etl.config.load import load_config
from etl.database.connection import Database, open_database
from etl.fake_datadog import (
    API_KEY,
    APP_KEY,
    FakeDatadog,
    Fault,
    Faults,
    World,
)
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from tests.support.servers import Server, Servers, free_port

ROOT = Path(__file__).resolve().parent.parent
VIEWS = 6
FAULT_KINDS = ("429", "500", "cut")
FAULT_SHARE = 0.1 / len(FAULT_KINDS)
TICK_S = 5.0
WARM_UP = 1 / 3
MEMORY_GROWTH = 1.03
MEMORY_GROWTH_WHILE_WARMING = 1.10
"""In the first minutes; memory settles after some hundred runs."""
SETTLED_S = 300
KEEP_RUNS_S = 60
START_S = 60  # until it listens, on a busy machine
SLOT = timedelta(seconds=1)

# The program refuses less than a minute between two runs; a soak wants many of them. What comes
# round once a day or a week comes round once a minute: else eight hours would never see it.
DAEMON = """
import sys
from datetime import timedelta
from msgspec.structs import force_setattr
from etl.config import settings, validators
from etl.extract import view_selection
view_selection.DAY_S = 60.0
from etl.ledger import api_state
api_state.PROBE_AFTER = timedelta(seconds=60)
for key in ("schedule.every", "keep.runs"):
    force_setattr(settings._BY_KEY[key], "check", validators.duration("1s", "5200w"))
from etl.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


# --- a Datadog that fails -----------------------------------------------------------------


@contextlib.contextmanager
def failing_datadog(seed: int) -> Iterator[FakeDatadog]:
    """A fake that spoils some answers and where time passes, until its faults are off."""
    faults = Faults((Fault(kind, FAULT_SHARE) for kind in FAULT_KINDS), seed)
    # A window of a second: nobody waits longer after a 429.
    with FakeDatadog(World(seed), faults=faults, rate_limit=(100_000, 1)) as datadog:
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


@dataclass(frozen=True, slots=True)
class Slot:
    """A row of the ledger, read before pruning takes it."""

    slot_at: datetime
    missed: int
    status: str


@dataclass(slots=True)
class Soak:
    """What was seen. `problems` is empty when all is well."""

    database: str
    seconds: float
    samples: list[Sample] = field(default_factory=list)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    ledger: dict[str, Slot] = field(default_factory=dict)
    missed: int = 0
    problems: list[str] = field(default_factory=list)

    def quarters(self) -> tuple[Sample, Sample]:
        """What the first and the last quarter after the warm-up have in common."""
        warm = self.samples[int(len(self.samples) * WARM_UP) :]
        length = max(1, len(warm) // 4)
        return _usual(warm[:length]), _usual(warm[-length:])


def _usual(samples: list[Sample]) -> Sample:
    """The median of the memory, and the least of the others: what there is between two runs.

    A run has threads and connections of its own, and on a busy machine it lasts longer; what is
    never given back raises the least as well.
    """
    columns = {column.name: [getattr(s, column.name) for s in samples] for column in fields(Sample)}
    memory = statistics.median(columns.pop("memory_kib"))
    return Sample(memory, **{name: min(values) for name, values in columns.items()})


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
    growth = MEMORY_GROWTH if soak.seconds >= SETTLED_S else MEMORY_GROWTH_WHILE_WARMING
    if last.memory_kib > first.memory_kib * growth:
        soak.problems.append(f"memory grew: {first.memory_kib:.0f} -> {last.memory_kib:.0f} KiB")
    for name in ("descriptors", "threads", "connections"):
        before, after = getattr(first, name), getattr(last, name)
        if after > before + 1:
            soak.problems.append(f"{name} grew: {before:g} -> {after:g}")


# --- what the tables must say -------------------------------------------------------------


def read_ledger(soak: Soak, database: Database) -> None:
    query = (
        "SELECT run_id, slot_at, missed_slots, status FROM sync_runs WHERE started_by = 'schedule'"
    )
    with database.connect(write=False) as connection:
        for run_id, at, missed, status in connection.execute(text(query)):
            soak.ledger[run_id] = Slot(instant(at), missed, status)


def check_slots(soak: Soak) -> None:
    rows = sorted(soak.ledger.values(), key=lambda row: row.slot_at)
    soak.statuses = Counter(row.status for row in rows)
    done = [row for row in rows if row.status in ("ok", "partial", "failed")]
    soak.missed = sum(row.missed for row in done)
    if len({row.slot_at for row in done}) != len(done):
        soak.problems.append("a slot was run twice")
    for before, row in pairwise(done):
        if row.slot_at - before.slot_at != SLOT * (1 + row.missed):
            soak.problems.append(
                f"between {before.slot_at} and {row.slot_at} {row.missed} slots count as missed"
            )
    if len(done) + soak.missed < soak.seconds - 5:
        soak.problems.append(f"only {len(done)} runs and {soak.missed} missed slots")
    if soak.statuses["running"] or soak.statuses["died"]:
        soak.problems.append(f"runs were left open: {dict(soak.statuses)}")


def check_pruning(soak: Soak, database: Database) -> None:
    with database.connect(write=False) as connection:
        kept = connection.execute(text("SELECT count(*) FROM sync_runs")).scalar()
    if soak.seconds > 3 * KEEP_RUNS_S and not (kept and kept < len(soak.ledger)):
        soak.problems.append(f"{kept} rows stand in the ledger of {len(soak.ledger)}")


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
        "[keep]",
        f"runs = '{KEEP_RUNS_S}s'",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def watch(
    soak: Soak,
    daemon: subprocess.Popen[bytes],
    port: int,
    count: Callable[[int], int],
    database: Callable[[], contextlib.AbstractContextManager[Database]],
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
        if number % 5 == 0 and number >= KEEP_RUNS_S // 2:
            with database() as opened:
                read_ledger(soak, opened)
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


def stop(daemon: subprocess.Popen[bytes]) -> int:
    """The exit code after SIGTERM; one that does not end within 20 s is killed."""
    daemon.send_signal(signal.SIGTERM)
    try:
        return daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        return daemon.wait()


def end(soak: Soak, daemon: subprocess.Popen[bytes]) -> None:
    if daemon.poll() is None:
        before = time.monotonic()
        code = stop(daemon)
        took = time.monotonic() - before
        if code != 0 or took > 10:
            soak.problems.append(f"on SIGTERM it ended with {code} after {took:.1f} s")
    not_alive = {
        key: n for key, n in soak.answers.items() if key[0] == "/healthz" and key[1] != 200
    }
    if not_alive or not soak.answers["/healthz", 200]:
        soak.problems.append(f"/healthz answered {not_alive or 'nothing'}")


def run(kind: str, seconds: float, folder: Path, seed: int = 1) -> Soak:
    soak = Soak(kind, seconds)
    keys = {"DD_API_KEY": API_KEY, "DD_APP_KEY": APP_KEY}
    with place(kind, folder) as (url, count), failing_datadog(seed) as datadog:
        path, port = write_config(folder, url, datadog), free_port()
        config = load_config(slower(path), keys)

        @contextlib.contextmanager
        def database() -> Iterator[Database]:
            with contextlib.closing(open_database(config.database_url, label=kind)) as opened:
                yield opened

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
                watch(soak, daemon, port, count, database)
            finally:
                end(soak, daemon)
        soak.faults = datadog.faults.done
        is_flat(soak)
        with database() as opened:
            read_ledger(soak, opened)
            check_slots(soak)
            check_pruning(soak, opened)
            check_rows(soak, opened, config, datadog)
    return soak


def slower(path: Path) -> Path:
    """A copy without the intervals that the program refuses."""
    text = path.read_text("utf-8").replace("every = '1s'", "every = '1m'")
    copy = path.with_name("slower.toml")
    copy.write_text(text.replace(f"runs = '{KEEP_RUNS_S}s'", ""), "utf-8")
    return copy
