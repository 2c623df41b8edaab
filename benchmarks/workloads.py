"""The workloads: what is loaded, how often, and in which order.

Each round every contestant takes its turn, and the order rotates, so that what else the machine
does falls on all alike. After every run the tables are compared with what was served.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import contestants as c
from benchmarks import environments
from benchmarks.api import Api
from benchmarks.contestants import Contestant, Loading
from benchmarks.crowd import NOT_THE_CROWD, crowd, require_crowd
from benchmarks.data import Size
from benchmarks.databases import Databases
from benchmarks.environments import OURS, bare_environment
from benchmarks.measure import LIMIT_S, Measure, Measures, timed
from benchmarks.truth import WrongContent

SMALL, LARGE, MANY = Size(10, 100), Size(200, 1000), Size(200, 100)
SLOW_MS = 50
BASE = "base"  # another revision of ours
START_ROUNDS = 9


@dataclass(slots=True)
class Bench:
    """One run of the harness over one dialect. Sizes: of W1, of W2 to W4 and W6, of W5."""

    databases: Databases
    measures: Measures
    rounds: int
    contestants: list[Contestant]
    load_rounds: dict[str, int] = field(default_factory=dict)  # in W2 to W4, of who takes minutes
    limits: dict[str, float] = field(default_factory=dict)  # seconds, then it is killed
    crowd_rounds: int = 1  # so many times the rounds, in W6
    small: Size = SMALL
    large: Size = LARGE
    many: Size = MANY

    def turns(self, *names: str, times: int = 1) -> list[tuple[int, Contestant]]:
        """Round and contestant, in the order of their turns; so many times the usual rounds."""
        chosen, rounds = self.entered(*names), self.rounds * times
        return [(number, x) for number in range(rounds) for x in _rotated(chosen, number)]

    def entered(self, *names: str) -> list[Contestant]:
        """Those of these names that know the database."""
        chosen = [x for x in self.contestants if x.name in names]
        return [x for x in chosen if self.databases.dialect in x.dialects]

    def begin(self, api: Api, contestant: Contestant, concurrency: int = 4) -> Loading:
        return c.begin(self.databases, api, contestant.name, concurrency)

    def run(self, workload: str, contestant: Contestant, loading: Loading, number: int) -> Measure:
        """One measured process in round `number`; raises `WrongContent`."""
        measure = self.prepare(workload, contestant, loading, number)
        self.measures.add(measure)
        return measure

    def prepare(
        self, workload: str, contestant: Contestant, loading: Loading, number: int = 0
    ) -> Measure:
        """The same, not measured."""
        databases, url = loading.databases, loading.url
        databases.settle(url)
        before = databases.journal(url)
        command, variables = c.variables_of(contestant, loading)
        limit = self.limits.get(contestant.name, LIMIT_S)
        took, output = timed(command, variables, loading.folder, limit)
        after = databases.journal(url)
        journal = took["written_mb"] if before is None or after is None else (after - before) / 1e6
        is_cut = took["exit"] != 0
        if not is_cut:
            try:
                contestant.check(loading, output)
            except WrongContent as wrong:
                what = f"{workload}, {databases.dialect}, {contestant.name}"
                raise WrongContent(f"{what}: {wrong}") from None
        return Measure(
            *(workload, databases.dialect, contestant.name, number),
            *(took["seconds"], took["user_s"] + took["system_s"], took["peak_mb"], journal),
            is_cut=is_cut,
        )


def _rotated(chosen: Sequence[Contestant], number: int) -> list[Contestant]:
    start = number % max(1, len(chosen))
    return [*chosen[start:], *chosen[:start]]


def few(bench: Bench) -> None:
    """W1: ten views of about a hundred, first and again."""
    with Api(bench.small, 1) as api:
        names = (OURS, BASE, "script", "dlt", "official", "floor")
        for number, contestant in bench.turns(*names):
            loading = bench.begin(api, contestant)
            bench.run("W1 first", contestant, loading, number)
            bench.run("W1 again", contestant, loading, number)
            c.end(loading)


def loads(bench: Bench) -> None:
    """W2: first load; W3: again, nothing changed; W4: again, one in a hundred changed."""
    with Api(bench.large, 2) as api:
        for number, contestant in bench.turns(OURS, BASE, "script", "dlt", "floor"):
            if number >= bench.load_rounds.get(contestant.name, bench.rounds):
                continue
            loading = bench.begin(api, contestant)
            api.set(stage=0)
            bench.run("W2", contestant, loading, number)
            loading = _unchanged(bench, contestant, loading, number)
            api.set(stage=1)
            loading.stage, loading.history = 1, bench.large.changed()
            bench.run("W4", contestant, loading, number)
            c.end(loading)


def _unchanged(bench: Bench, contestant: Contestant, loading: Loading, number: int) -> Loading:
    """W3; returns a database that is as after W2."""
    for digests in bench.contestants:
        if contestant.name == "floor" and digests.name == "floor+digests":
            bench.prepare("W3", digests, loading)  # stores the digests
            bench.run("W3", digests, loading, number)
            return loading
    if bench.run("W3", contestant, loading, number).is_cut:
        # Whatever a killed process left behind is not what the next one should find.
        c.end(loading)
        loading = bench.begin(loading.api, contestant)
        bench.prepare("W2", contestant, loading)
    return loading


def slow(bench: Bench) -> None:
    """W5: 200 views of about a hundred, 50 ms for each request; and what its target is made of."""
    with Api(bench.small, 1) as few_views, Api(bench.many, 1) as api:
        for number, contestant in bench.turns(OURS, BASE):
            loading = bench.begin(few_views, contestant)
            bench.prepare("W1 first", contestant, loading)
            bench.run("W5: W1 again", contestant, loading, number)
            c.end(loading)
            loading = bench.begin(api, contestant, concurrency=8)
            api.set(delay_ms=SLOW_MS)
            bench.run("W5", contestant, loading, number)
            c.end(loading)
            loading = bench.begin(api, contestant, concurrency=8)
            api.set()
            bench.run("W5: at 0 ms", contestant, loading, number)
            bench.run("W5: again at 0 ms", contestant, loading, number)
            c.end(loading)


def crowded(bench: Bench) -> None:
    """W6: W4 on top of two million rows and five million of history, and W4 without them."""
    with Api(bench.large, 2) as api:
        pairs = {}
        for contestant in bench.entered(OURS, BASE):
            alone = _loaded(bench, api, contestant)
            among = _loaded(bench, api, contestant)
            print("==> the crowd of W6", file=sys.stderr, flush=True)
            crowd(bench.databases, among.url, bench.large)
            among.where += f" AND {NOT_THE_CROWD}"
            pairs[contestant.name] = [("W6: W4 alone", alone), ("W6", among)]
        for number, contestant in bench.turns(OURS, BASE, times=bench.crowd_rounds):
            stage = 1 - number % 2
            api.set(stage=stage)
            pair = pairs[contestant.name]
            for workload, loading in pair[:: 1 - 2 * (number % 2)]:
                loading.stage = stage
                loading.history += bench.large.changed()
                bench.run(workload, contestant, loading, number)
        for pair in pairs.values():
            require_crowd(bench.databases, pair[-1][1].url, bench.large)
            for _, loading in pair:
                c.end(loading)


def _loaded(bench: Bench, api: Api, contestant: Contestant) -> Loading:
    loading = bench.begin(api, contestant)
    bench.prepare("W2", contestant, loading)
    return loading


def tenfold(bench: Bench) -> None:
    """ApiState at ten times the views of W2, and at W2."""
    size = bench.large
    for workload, factor in (("W2 once", 1), ("W2 tenfold", 10)):
        # The bodies are made while they are asked for: time says nothing here.
        with Api(Size(size.views * factor, size.about), 0) as api:
            for contestant in bench.entered(OURS, BASE):
                loading = bench.begin(api, contestant)
                bench.run(workload, contestant, loading, 0)
                c.end(loading)


def bare(bench: Bench) -> None:
    """The bodies of W2, read by a client that does nothing with them."""
    path = Path(__file__).with_name("bare_client.py")
    with Api(bench.large, 1) as api:
        folder = environments.FOLDER / "runs" / "client"
        views = c.write_views(folder, api)
        for number in range(bench.rounds):
            command = [sys.executable, "-I", "-S", str(path), api.url, str(views)]
            _add(bench, "bodies", "bare client", number, command)


def start(bench: Bench) -> None:
    """`--version`, `--help`, and a Python that does nothing."""
    program = next(x.program for x in bench.contestants if x.name == OURS)
    python = str(program.with_name("python"))
    commands = {
        "pass": [python, "-c", "pass"],
        "--version": [str(program), "--version"],
        "--help": [str(program), "--help"],
    }
    for number in range(START_ROUNDS):
        for name, command in commands.items():
            _add(bench, "start", name, number, command)


def _add(bench: Bench, workload: str, name: str, number: int, command: list[str]) -> None:
    took, _ = timed(command, bare_environment(), environments.FOLDER / "runs" / "start")
    cpu_s = took["user_s"] + took["system_s"]
    numbers = (took["seconds"], cpu_s, took["peak_mb"], took["written_mb"])
    bench.measures.add(Measure(workload, "", name, number, *numbers))


WORKLOADS: dict[str, Callable[[Bench], None]] = {
    "W1": few,
    "W2": loads,
    "W5": slow,
    "W6": crowded,
    "memory": tenfold,
}
"""By name, for each dialect; W2 brings W3 and W4 along."""
WITHOUT_DATABASE: dict[str, Callable[[Bench], None]] = {"bodies": bare, "start": start}
