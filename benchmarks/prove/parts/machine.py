"""Whatever the machine does to a run, the next ordinary run makes all good, and nothing is double.

A story of rounds is told to two databases. Before each round the machine spoils a run on the first
one; then an ordinary run reads the round. The second database is read without a disturbance. After
each round both hold the same rows and the same history.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.prove.conditions import (
    CONDITIONS,
    Condition,
    Trial,
    set_clock,
    with_clock,
)
from benchmarks.prove.part import Effort, Findings
from benchmarks.soak import DAEMON, stop
from tests.support.api import Api, record
from tests.support.project import Project, make_config, open_project
from tests.support.servers import Server, Servers

TITLE = "A bad machine"
QUICK_S = 40.0

Contents = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Rows and versions."""

ROOT = Path(__file__).resolve().parents[3]
VIEWS = ("/a", "/b", "/c", "/large")
LARGE = 5_000
KEYS = {"DD_API_KEY": "api-key", "DD_APP_KEY": "app-key"}
DISK_MIB = 64
TWO_SLOTS_S = 30.0
"""Two slots of a second, and the room that a machine with other work needs."""


def prove(effort: Effort) -> Findings:
    findings = Findings()
    rounds = effort.times(whole=15, quick=1)

    def on(database: str) -> Findings:
        chance = random.Random(f"{effort.seed} {database}")
        folder = effort.folder / database
        folder.mkdir()
        with place(database, folder) as here:
            fitting = [c for c in CONDITIONS if database in c.databases]
            found = Findings()
            for number in range(rounds):
                for condition in chance.sample(fitting, len(fitting)):
                    again = f"seed {effort.seed}, {database}, round {number}"
                    with found.trial(f"a run: {condition.name}", again=again):
                        spoilt(here, condition, chance)
            with found.trial("the daemon, with all limits at once", again=f"seed {effort.seed}"):
                daemon_through_steps(
                    here, found, chance, effort.times(whole=12, quick=2), effort.seed
                )
        return found

    with ThreadPoolExecutor(len(effort.databases)) as pool:
        for found in pool.map(on, effort.databases):
            findings.add(found)
    return findings


# --- the story, and the two databases that are told it ------------------------------------


@dataclass(slots=True)
class Place:
    """`disturbed` is what the processes write into; `undisturbed` is a SQLite file of our own."""

    folder: Path
    api: Api
    disturbed: Project
    undisturbed: Project
    round: int = 0

    def tell_next(self) -> None:
        self.round += 1
        for view in VIEWS:
            self.api.views[view] = records(view, self.round)
        assert self.undisturbed.run().status == "ok", "the undisturbed run did not end well"

    def holds(self, truth: Contents) -> bool:
        return contents(self.disturbed) == truth

    def assert_equal(self) -> None:
        ours, truth = contents(self.disturbed), contents(self.undisturbed)
        for what, found, told in zip(("rows", "versions"), ours, truth, strict=True):
            if found != told:
                strange = sorted(set(map(str, found)) - set(map(str, told)))[:2]
                lost = sorted(set(map(str, told)) - set(map(str, found)))[:2]
                raise AssertionError(f"{what} that nobody told: {strange}; {what} lost: {lost}")
        open_runs = self.disturbed.rows("SELECT run_id FROM sync_runs WHERE status = 'running'")
        assert not open_runs, f"{len(open_runs)} runs are left open"


def records(view: str, number: int) -> list[dict[str, Any]]:
    """Records come, change, go and return from round to round; /large changes a little."""
    if view == "/large":
        changed = number % LARGE
        return [
            record(f"large {n}", view_name=view, snapshot_name=f"{number if n == changed else 0}")
            for n in range(LARGE + number % 3)
        ]
    return [
        record(
            f"{view} {n}",
            view_name=view,
            snapshot_name=f"round {number if (n + number) % 3 == 0 else 0}",
        )
        for n in range(47)
        if (n + number) % 5
    ]


def contents(project: Project) -> Contents:
    """What two ways to the same state must agree on: everything but when it was read."""
    of_row = "id, view_key, content_hash, version, began, changed_columns"
    of_version = "snapshot_id, version, content_hash, began, changed_columns, ended"
    rows = project.rows(f"SELECT {of_row}, removed_at IS NULL AS listed FROM snapshots ORDER BY id")
    versions = project.rows(f"SELECT {of_version} FROM snapshot_history ORDER BY 1, 2")
    # One database says true where another says 1.
    return [row | {"listed": bool(row["listed"])} for row in rows], versions


@contextlib.contextmanager
def place(database: str, folder: Path) -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        disk = folder / "disk"
        disk.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)], check=True
        )
        stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        api = stack.enter_context(Api())
        url = f"sqlite:///{disk}/disturbed.db"
        if database != "sqlite":
            servers = Servers()
            stack.callback(servers.stop)
            server: Server = servers.get(database)
            url = server.url(server.create_database())
        write_config(folder, url, api)

        def opened(address: str) -> Project:
            project = open_project(make_config(address, api.url, VIEWS))
            stack.callback(project.database.close)
            project.configure(page_limit=10 * LARGE)
            return project

        undisturbed = opened(f"sqlite:///{folder}/undisturbed.db")
        here = Place(folder, api, opened(url), undisturbed)
        here.tell_next()
        assert here.disturbed.run().status == "ok", "the first run did not end well"
        yield here


def write_config(folder: Path, url: str, api: Api) -> None:
    lines = [
        f"database_url = {url!r}",
        f"views = {json.dumps(VIEWS)}",
        "[datadog]",
        f"api_url = {api.url!r}",
        f"page_limit = {10 * LARGE}",
        "source = 'datadoghq.com'",
        "[schedule]",
        "every = '1s'",
    ]
    text = "\n".join(lines) + "\n"
    (folder / "daemon.toml").write_text(text, encoding="utf-8")
    text = text.replace("every = '1s'", "every = '1m'")
    (folder / "heatmap-etl.toml").write_text(text, encoding="utf-8")


# --- one run that the machine spoils ------------------------------------------------------


def spoilt(here: Place, condition: Condition, chance: random.Random) -> None:
    here.tell_next()
    before = len(here.api.requests)
    trial = Trial(here.folder, chance, lambda: len(here.api.requests) > before)
    command = [sys.executable, "-W", "error", "-m", "etl"]
    command += ["--config", str(here.folder / "heatmap-etl.toml"), "sync", "--quiet"]
    with condition.around(trial):
        process = subprocess.Popen(
            condition.wrap(trial, command),
            cwd=here.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            if condition.during:
                condition.during(trial, process)
            said = process.communicate(timeout=120)[0].decode(errors="replace")
        finally:
            process.kill()
            process.wait()
    assert process.returncode in condition.codes, f"exit {process.returncode}: {said[-600:]}"
    assert "Traceback" not in said, said[-600:]
    assert process.returncode == 0 or said.strip() or "streams" in condition.name, "not a word"
    assert here.disturbed.run().status == "ok", "the next ordinary run did not end well"
    here.assert_equal()


def environment() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        **KEYS,
    }


# --- the daemon ---------------------------------------------------------------------------


def wait_for_round(here: Place, daemon: subprocess.Popen[bytes]) -> None:
    """A new round is told, and the daemon reads it by itself."""
    here.tell_next()
    truth = contents(here.undisturbed)
    end = time.monotonic() + TWO_SLOTS_S
    while not here.holds(truth):
        assert daemon.poll() is None, f"the daemon ended with {daemon.returncode}"
        assert time.monotonic() < end, f"the daemon did not recover within {TWO_SLOTS_S:.0f} s"
        time.sleep(0.3)


def ahead_and_right_again(here: Place, _daemon: object, chance: random.Random) -> None:
    set_clock(here.folder, chance.uniform(2 * 3600, 72 * 3600))
    time.sleep(3)
    set_clock(here.folder, 0)


def back_and_right_again(
    here: Place, daemon: subprocess.Popen[bytes], chance: random.Random
) -> None:
    set_clock(here.folder, -chance.uniform(2 * 3600, 72 * 3600))
    wait_for_round(here, daemon)
    set_clock(here.folder, 0)


def minutes_off(here: Place, daemon: subprocess.Popen[bytes], chance: random.Random) -> None:
    set_clock(here.folder, chance.choice((-1, 1)) * chance.uniform(60, 3000))
    wait_for_round(here, daemon)
    set_clock(here.folder, 0)


def stopped(_here: Place, daemon: subprocess.Popen[bytes], chance: random.Random) -> None:
    daemon.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(1, 4))
    daemon.send_signal(signal.SIGCONT)


STEPS: tuple[tuple[str, Callable[[Place, subprocess.Popen[bytes], random.Random], None]], ...] = (
    ("the clock steps hours or days ahead, and is right again", ahead_and_right_again),
    ("the clock steps hours or days back, and is right again", back_and_right_again),
    ("the clock is minutes off, and is right again", minutes_off),
    ("stopped for seconds, and continued", stopped),
)


def daemon_through_steps(
    here: Place, found: Findings, chance: random.Random, steps: int, seed: int
) -> None:
    """It starts with little memory and few descriptors, and its clock steps while it works."""
    set_clock(here.folder, 0)
    trial = Trial(here.folder, chance, lambda: True)
    script = [sys.executable, "-c", DAEMON, "--config", str(here.folder / "daemon.toml")]
    limits = ["prlimit", f"--data={256 * 2**20}", "--nofile=64"]
    command = [*limits, *with_clock(trial, [*script, "schedule"])]
    with (here.folder / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            command,
            cwd=here.folder,
            env=environment() | {"MALLOC_ARENA_MAX": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for_round(here, daemon)
            for number in range(steps):
                name, action = STEPS[number % len(STEPS)]
                kind = f"the daemon: {name}"
                with found.trial(kind, again=f"seed {seed}, step {number}"):
                    action(here, daemon, chance)
                    wait_for_round(here, daemon)
        finally:
            code = stop(daemon)
    said = (here.folder / "daemon.log").read_text(encoding="utf-8", errors="replace")
    assert code == 0, f"the daemon ended with {code}: {said[-600:]}"
    assert "Traceback" not in said, said[-2000:]
    assert here.disturbed.run().status == "ok", "the next ordinary run did not end well"
    here.assert_equal()
