"""Runs tests against one mutant after the other, inside one session of pytest.

What the tests import is loaded once. Each mutant is put into a fork of that process, and only
the tests that reach its line run there, the quickest first, until one fails.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import msgspec
import pytest

from benchmarks.prove.mutants import Mutant, put_in

LANES = 2
PATIENCE_S = 900.0
"""Of the wall clock; a mutant that waits longer never ends: it is killed, too."""
EXAMPLES = 20
"""Of a test of Hypothesis that does not say how many it needs."""

Reach = dict[str, dict[int, list[int]]]
"""By path and line: numbers of the tests that come there, the quickest first."""


@dataclass
class Outcome:
    """`unreached`: no test comes to their lines."""

    killed: list[str] = field(default_factory=list)
    survived: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)
    tests: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """What another session found, too."""
        self.killed += other.killed
        self.survived += other.survived
        self.unreached += other.unreached
        self.tests += other.tests
        self.broken += other.broken


@dataclass(frozen=True)
class Trial:
    """A mutant in a process. `killer`: a pipe that says which test killed it."""

    mutant: Mutant
    killer: int
    began: float


class Session:
    """A plugin of pytest that takes the place of its loop over the tests."""

    def __init__(self, root: Path, mutants: Sequence[Mutant]) -> None:
        self.outcome = Outcome()
        self._seconds: dict[int, float] = {}
        self._root = root
        self._mutants = mutants
        self._failed: list[str] = []
        self._killers: dict[tuple[str, str], list[int]] = {}
        self._now = 0
        self._killer: int | None = None  # in a trial: where to say which test killed

    def pytest_collection(self) -> None:
        # After the profile of conftest.py, before the tests are loaded. Pytest must see it first.
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutation",
            deadline=None,
            derandomize=True,
            max_examples=EXAMPLES,
            database=None,
            phases=(Phase.explicit, Phase.generate),  # the first that fails is enough
        )
        settings.load_profile("mutation")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.append(report.nodeid)
            if self._killer is not None:
                os.write(self._killer, str(self._now).encode())
                os._exit(1)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = session.items
        self.outcome.tests = len(items)
        reach = self._reach(items)
        if not self.outcome.broken:
            self._try_all(items, reach)
        return True

    def _reach(self, items: Sequence[pytest.Item]) -> Reach:
        """Run all tests once, without a mutant, in a fork: what they cache must not stay."""
        with tempfile.NamedTemporaryFile() as file:

            def measure() -> None:
                found = self._measured(items), self._seconds, self._failed
                Path(file.name).write_bytes(msgspec.msgpack.encode(found))

            _wait(_forked(measure))
            reach, self._seconds, self.outcome.broken = msgspec.msgpack.decode(
                Path(file.name).read_bytes(), type=tuple[Reach, dict[int, float], list[str]]
            )
        return reach

    def _measured(self, items: Sequence[pytest.Item]) -> Reach:
        paths = sorted({mutant.path for mutant in self._mutants})
        cover = coverage.Coverage(
            data_file=None, include=[str(self._root / path) for path in paths], config_file=False
        )
        cover.start()
        for number, item in enumerate(items):
            cover.switch_context(str(number))
            began = time.process_time()
            _run(item, items[number + 1] if number + 1 < len(items) else None)
            self._seconds[number] = time.process_time() - began
        cover.stop()
        data, reach = cover.get_data(), Reach()
        for path in paths:
            lines = data.contexts_by_lineno(str(self._root / path))
            reach[path] = {
                line: sorted((int(c) for c in contexts if c), key=self._seconds.__getitem__)
                for line, contexts in lines.items()
            }
        return reach

    def _try_all(self, items: Sequence[pytest.Item], reach: Reach) -> None:
        running: dict[int, Trial] = {}
        for mutant in self._mutants:
            tests = self._tests_of(mutant, reach)
            if not tests:
                self.outcome.unreached.append(mutant.name)
                continue
            while len(running) >= LANES:
                self._reap(running)
            # What killed another mutant of the same function is likely to kill this one.
            first = self._killers.get((mutant.path, mutant.place), [])
            tests = [*(n for n in first if n in tests), *(n for n in tests if n not in first)]
            killer, end = os.pipe()
            child = _forked(self._trial(mutant, items, tests, end))
            os.close(end)
            running[child] = Trial(mutant, killer, time.monotonic())
        while running:
            self._reap(running)

    def _tests_of(self, mutant: Mutant, reach: Reach) -> list[int]:
        """For a number of a module all of them: who reads it cannot be told by the line."""
        if mutant.place:
            return reach[mutant.path].get(mutant.line, [])
        return sorted(self._seconds, key=self._seconds.__getitem__)

    def _trial(
        self, mutant: Mutant, items: Sequence[pytest.Item], tests: Sequence[int], killer: int
    ) -> Callable[[], None]:
        def run() -> None:
            self._killer = killer
            put_in(mutant)
            for number, following in zip(tests, [*tests[1:], None], strict=True):
                self._now = number
                # By its own CPU time: on a busy machine a clock would end what nothing kills.
                signal.setitimer(signal.ITIMER_PROF, 2 + 5 * self._seconds[number])
                _run(items[number], None if following is None else items[following])

        return run

    def _reap(self, running: dict[int, Trial]) -> None:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child in running:
            trial = running.pop(child)
            name, killer = trial.mutant.name, os.read(trial.killer, 20)
            os.close(trial.killer)
            (self.outcome.killed if status else self.outcome.survived).append(name)
            if killer:
                tests = self._killers.setdefault((trial.mutant.path, trial.mutant.place), [])
                if int(killer) in tests:
                    tests.remove(int(killer))
                tests.insert(0, int(killer))
            return
        for late, trial in running.items():
            if time.monotonic() - trial.began > PATIENCE_S:
                os.kill(late, signal.SIGKILL)
        time.sleep(0.005)


def _run(item: pytest.Item, following: pytest.Item | None) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def _forked(act: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    if "MUTATION_DEBUG" not in os.environ:
        os.dup2(nowhere, 2)
    try:
        act()
    except BaseException as error:  # noqa: BLE001 - a fork must not go on as its parent
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(2)
    os._exit(0)


def _wait(child: int) -> None:
    os.waitpid(child, 0)


def run_session(root: Path, mutants: Sequence[Mutant], tests: Sequence[str]) -> Outcome:
    """Try the mutants with these tests; what is broken without any mutant is said instead."""
    session = Session(root, mutants)
    options = ["-q", "-s", "--tb=no", "--rootdir", str(root)]
    options += [
        part for name in ("xdist", "randomly", "cacheprovider") for part in ("-p", f"no:{name}")
    ]
    # The frame of the proof has loaded other parts, and with them plugins of pytest.
    options += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    pytest.main([*options, *(str(root / test) for test in tests)], plugins=[session])
    return session.outcome
