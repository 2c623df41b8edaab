"""The workloads: what is loaded, how often, and in which order.

Each round every contestant takes its turn, and the order rotates, so that what else the machine
does falls on all alike. After every run the tables are compared with what was served.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks import contestants as c
from benchmarks.api import Api
from benchmarks.contestants import Contestant, Loading
from benchmarks.data import Size
from benchmarks.databases import Databases
from benchmarks.measure import Measure, Measures, timed
from benchmarks.truth import WrongContent

SMALL, LARGE, MANY = Size(10, 100), Size(200, 1000), Size(200, 100)


@dataclass(slots=True)
class Bench:
    """One run of the harness over one dialect."""

    databases: Databases
    measures: Measures
    rounds: int
    contestants: list[Contestant]
    few_rounds: dict[str, int] = field(default_factory=dict)  # for those that take minutes

    def turns(self, names: Sequence[str]) -> list[tuple[int, Contestant]]:
        """Round and contestant, in the order of their turns."""
        chosen = [x for x in self.contestants if x.name in names]
        chosen = [x for x in chosen if self.databases.dialect in x.dialects]
        return [
            (number, contestant)
            for number in range(self.rounds)
            for contestant in chosen[number % len(chosen) :] + chosen[: number % len(chosen)]
            if number < self.few_rounds.get(contestant.name, self.rounds)
        ]

    def run(
        self, workload: str, contestant: Contestant, loading: Loading, number: int | None
    ) -> Measure:
        """One process; measured unless `number` (of the round) is None."""
        databases, url = loading.databases, loading.url
        databases.settle(url)
        before = databases.journal(url)
        command, variables = c.variables_of(contestant, loading)
        took, output = timed(command, variables, loading.folder)
        after = databases.journal(url)
        journal = took["written_mb"] if before is None or after is None else (after - before) / 1e6
        cpu_s = took["user_s"] + took["system_s"]
        measure = Measure(
            *(workload, databases.dialect, contestant.name, number or 0),
            *(took["seconds"], cpu_s, took["peak_mb"], journal),
            is_cut=took["exit"] != 0,
        )
        if not measure.is_cut:
            try:
                contestant.check(loading, output)
            except WrongContent as wrong:
                raise WrongContent(f"{workload}, {contestant.name}, {url}: {wrong}") from None
        if number is not None:
            self.measures.add(measure)
        return measure


def small(bench: Bench, size: Size = SMALL) -> None:
    """W1: ten views of about a hundred, first and again."""
    names = ("heatmap-etl", "base", "script", "dlt", "official", "floor")
    with Api(size, 1) as api:
        for number, contestant in bench.turns(names):
            loading = c.begin(bench.databases, api, f"W1-{contestant.name}")
            bench.run("W1 first", contestant, loading, number)
            bench.run("W1 again", contestant, loading, number)
            c.end(loading)


def large(bench: Bench, size: Size = LARGE) -> None:
    """W2: first load; W3: again, nothing changed; W4: again, one in a hundred changed."""
    digests = next((x for x in bench.contestants if x.name == "floor+digests"), None)
    with Api(size, 2) as api:
        for number, contestant in bench.turns(("heatmap-etl", "base", "script", "dlt", "floor")):
            loading = c.begin(bench.databases, api, f"W2-{contestant.name}")
            api.set(stage=0)
            bench.run("W2", contestant, loading, number)
            if contestant.name == "floor" and digests:
                bench.run("W3", digests, loading, None)
                bench.run("W3", digests, loading, number)
            else:
                bench.run("W3", contestant, loading, number)
            api.set(stage=1)
            loading.stage, loading.history = 1, size.changed()
            bench.run("W4", contestant, loading, number)
            c.end(loading)


WORKLOADS: dict[str, Callable[[Bench], None]] = {"W1": small, "W2": large}
