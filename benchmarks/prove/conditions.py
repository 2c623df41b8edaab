"""What a machine may do to one process: its clock, memory, descriptors, disks and streams.

Needs root, `unshare`, `prlimit` and libfaketime (Debian: faketime); a machine without them cannot
run the proof.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.support.small_disk import SmallDisk

MEMORY_BYTES = 256 * 2**20
DESCRIPTORS = 64
CLOCK = "clock"
"""The file in the folder of a place that says how far the clock is off, as libfaketime reads it."""

REFUSED_S = 3600
"""A clock this far ahead of Datadog's is refused (DESIGN: exit codes of `sync`)."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One process under one condition, in the folder where its configuration is."""

    folder: Path
    random: random.Random
    is_asked: Callable[[], bool]
    """Whether the process has asked Datadog for something: it is in mid-run."""


@dataclass(frozen=True, slots=True)
class Condition:
    """`wrap` gives the command for a command; `around` holds while it runs, `during` happens then.

    `codes` are the exit codes that are right. When it is none of them, or when the process has
    written a traceback, the promise is broken.
    """

    name: str
    codes: frozenset[int]
    wrap: Callable[[Trial, list[str]], list[str]] = lambda _trial, command: command
    during: Callable[[Trial, subprocess.Popen[bytes]], None] | None = None
    around: Callable[[Trial], AbstractContextManager[None]] = lambda _: nullcontext()
    databases: frozenset[str] = frozenset(("sqlite", "postgresql", "mariadb"))


def faketime_library() -> str:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise FileNotFoundError("libfaketime is not here: apt-get install faketime")
    return str(found[0])


def with_clock(trial: Trial, command: list[str]) -> list[str]:
    """Under a clock that the file CLOCK moves; what measures durations is left alone."""
    return [
        "env",
        f"LD_PRELOAD={faketime_library()}",
        "FAKETIME_NO_CACHE=1",
        "DONT_FAKE_MONOTONIC=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        f"FAKETIME_TIMESTAMP_FILE={trial.folder / CLOCK}",
        *command,
    ]


def set_clock(folder: Path, offset_s: float) -> None:
    beside = folder / f"{CLOCK}.new"
    beside.write_text(f"{offset_s:+.0f}\n", encoding="ascii")
    beside.replace(folder / CLOCK)


def off_by(shortest_s: float, longest_s: float, sign: int, trial: Trial) -> nullcontext[None]:
    set_clock(trial.folder, sign * trial.random.uniform(shortest_s, longest_s))
    return nullcontext()


def in_mid_run(trial: Trial, process: subprocess.Popen[bytes], longest_s: float = 0.1) -> None:
    """Waits until the process has asked for something, and a little longer."""
    end = time.monotonic() + 30
    while not trial.is_asked() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(trial.random.uniform(0, longest_s))


def step_clock(shortest_s: float, longest_s: float, sign: int) -> Condition:
    def during(trial: Trial, process: subprocess.Popen[bytes]) -> None:
        in_mid_run(trial, process)
        set_clock(trial.folder, sign * trial.random.uniform(shortest_s, longest_s))

    def around(trial: Trial) -> nullcontext[None]:
        set_clock(trial.folder, 0)
        return nullcontext()

    way = "ahead" if sign > 0 else "back"
    codes = frozenset((0, 1, 2) if sign > 0 else (0,))
    return Condition(f"the clock steps {way} in mid-run", codes, with_clock, during, around)


def stop_and_continue(trial: Trial, process: subprocess.Popen[bytes]) -> None:
    for _ in range(3):
        in_mid_run(trial, process)
        process.send_signal(signal.SIGSTOP)
        time.sleep(trial.random.uniform(0.05, 0.5))
        process.send_signal(signal.SIGCONT)


def limited(option: str, _trial: Trial, command: list[str]) -> list[str]:
    return ["prlimit", option, *command]


def in_namespace(script: str, trial: Trial, command: list[str]) -> list[str]:
    """The command after mounts that only it sees. $1 is the folder of the trial."""
    inside = f'set -e; folder=$1; shift; {script}; exec "$@"'
    unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inside]
    return [*unshare, "sh", str(trial.folder), *command]


READ_ONLY_ROOT = 'mount --rbind "$folder" "$folder"; mount -o remount,bind,ro /; cd /'
NO_TEMPORARY = (
    "for f in /tmp /var/tmp /dev/shm; do mount --rbind $f $f; done; "
    'mount --rbind "$folder" "$folder"; '
    "for f in /tmp /var/tmp /dev/shm; do mount -o remount,bind,ro $f; done; cd /proc"
)
STREAMS = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full")


def without_streams(trial: Trial, command: list[str]) -> list[str]:
    return ["/bin/sh", "-c", f'exec "$@" {trial.random.choice(STREAMS)}', "sh", *command]


def full_disk(trial: Trial) -> AbstractContextManager[None]:
    """The disk of the database has no room left while the process runs."""
    return SmallDisk(trial.folder / "disk").full()


MINUTES = partial(off_by, 60, 50 * 60)
HOURS = partial(off_by, 1.1 * REFUSED_S, 23 * 3600)
DAYS = partial(off_by, 24 * 3600, 400 * 24 * 3600)
OK = frozenset((0,))
REFUSED = frozenset((2,))

CONDITIONS = (
    Condition("the clock is minutes ahead", OK, with_clock, None, partial(MINUTES, 1)),
    Condition("the clock is hours ahead", REFUSED, with_clock, None, partial(HOURS, 1)),
    Condition("the clock is days ahead", REFUSED, with_clock, None, partial(DAYS, 1)),
    Condition("the clock is minutes back", OK, with_clock, None, partial(MINUTES, -1)),
    Condition("the clock is hours back", OK, with_clock, None, partial(HOURS, -1)),
    Condition("the clock is days back", OK, with_clock, None, partial(DAYS, -1)),
    step_clock(60, 86400, 1),
    step_clock(60, 86400, -1),
    Condition("stopped and continued three times", OK, during=stop_and_continue),
    Condition("256 MiB of memory", OK, partial(limited, f"--data={MEMORY_BYTES}")),
    Condition("64 descriptors", OK, partial(limited, f"--nofile={DESCRIPTORS}")),
    Condition("a read-only root", OK, partial(in_namespace, READ_ONLY_ROOT)),
    Condition("no temporary folder", OK, partial(in_namespace, NO_TEMPORARY)),
    Condition("closed or full streams", frozenset((0, 1)), without_streams),
    Condition(
        "a full disk",
        frozenset((1, 2)),
        around=full_disk,
        databases=frozenset(("sqlite",)),
    ),
)
