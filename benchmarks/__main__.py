"""`make bench`: sets everything up, measures in turn, prints the ratios. See README.md."""

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import contestants, machine
from benchmarks.contestants import DIALECTS, Contestant
from benchmarks.data import Size
from benchmarks.databases import Databases
from benchmarks.environments import FOLDER, Environments
from benchmarks.measure import Measures, ProcessFailed, Store
from benchmarks.report import page, targets
from benchmarks.truth import WrongContent
from benchmarks.workloads import BASE, WITHOUT_DATABASE, WORKLOADS, Bench

RESULTS = Path(__file__).with_name("RESULTS.md")
PEERS: dict[str, tuple[Callable[[Environments], Contestant], ...]] = {
    "floor": (contestants.floor, contestants.floor_with_digests),
    "script": (contestants.script,),
    "dlt": (contestants.dlt,),
    "official": (contestants.official,),
}
ROUNDS = 5
SLOW_ROUNDS = 3  # of dlt in W2 to W4, where each process takes half a minute
SLOW_LIMIT_S = 90.0
CROWD_ROUNDS = 3  # times the others: the two sides of W6 differ by less than rounds do
SAME = {"W3": "W2", "W4": "W2"}
# MariaDB needs minutes for the rows of W6. Who names it gets them.
ONLY_BY_NAME = {("W6", "mariadb"), ("memory", "mariadb")}
QUICK = {"only": "start,W1,W2", "databases": "postgresql,sqlite", "peers": "floor,script"}
INDICATIVE = "Indicative only: smaller, fewer rounds or fewer peers than `make bench`."


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    store, taken = Store(FOLDER / "measures.json"), Measures(echo=_echo)
    entered = _contestants(options)
    try:
        for name in [n for n in options.only if n in WITHOUT_DATABASE]:
            bench = _bench(options, Databases("sqlite"), entered)
            _measure(name, WITHOUT_DATABASE[name], bench, None if options.is_less else store)
            taken.all += bench.measures.all
        for dialect in options.databases:
            databases = Databases(dialect)
            try:
                for name in [n for n in options.only if n in WORKLOADS]:
                    if (name, dialect) in ONLY_BY_NAME and not options.is_named:
                        continue
                    bench = _bench(options, databases, entered)
                    _measure(name, WORKLOADS[name], bench, None if options.is_less else store)
                    taken.all += bench.measures.all
            finally:
                databases.stop()
    except (WrongContent, ProcessFailed) as error:
        _echo(f"benchmarks: {error}")
        return 1
    print(targets(taken))
    if options.is_less:
        print(f"\n{INDICATIVE}")
    else:
        RESULTS.write_text(page(store.entries, store.measures(), machine.facts()), encoding="utf-8")
    return 0


def _measure(
    name: str, workload: Callable[[Bench], None], bench: Bench, store: Store | None
) -> None:
    """Raises `WrongContent` and `ProcessFailed`."""
    dialect = "" if name in WITHOUT_DATABASE else bench.databases.dialect
    _echo(f"==> {name} {dialect}")
    facts = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "revision": machine.revision(),
        "load_before": machine.load(),
    }
    workload(bench)
    if store:
        version = bench.databases.version() if dialect else ""
        facts |= {"load_after": machine.load(), "server": f"{dialect} {version}".strip()}
        store.put(f"{name} {dialect}".strip(), bench.measures, facts)


def _bench(options: argparse.Namespace, databases: Databases, entered: list[Contestant]) -> Bench:
    bench = Bench(databases, Measures(echo=_echo), options.rounds, entered)
    bench.load_rounds = {"script": 0} if options.quick else {"dlt": SLOW_ROUNDS}
    bench.limits = {"dlt": SLOW_LIMIT_S}
    bench.crowd_rounds = 1 if options.quick else CROWD_ROUNDS
    bench.large = Size(options.views, 1000)
    return bench


def _contestants(options: argparse.Namespace) -> list[Contestant]:
    made = Environments(options.here)
    entered = [contestants.heatmap_etl(made)]
    if options.base:
        entered.append(contestants.heatmap_etl(made, BASE, options.base))
    return [*entered, *(peer(made) for name in options.peers for peer in PEERS[name])]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    workloads = (*WITHOUT_DATABASE, *WORKLOADS)
    parser.add_argument("--quick", action="store_true", help="about a minute; says how it stands")
    parser.add_argument(
        "--only", metavar="LIST", help=f"some of {','.join(workloads)}; W3 and W4 come with W2"
    )
    parser.add_argument("--databases", metavar="LIST", help=f"some of {','.join(DIALECTS)}")
    parser.add_argument("--peers", metavar="LIST", help=f"some of {','.join(PEERS)}, or none")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--views", type=int, help="of W2 to W4 and W6, default 200")
    parser.add_argument("--base", metavar="REVISION", help="measure this revision of ours, too")
    parser.add_argument("--here", action="store_true", help="everything in this environment")
    options = parser.parse_args(arguments)
    # What was measured with less than all must not take the place of what was.
    less = (options.quick, options.peers, options.rounds, options.views, options.base, options.here)
    options.is_less = any(less)
    options.is_named = options.only is not None
    default = QUICK if options.quick else {}
    for name, known in (("only", workloads), ("databases", DIALECTS), ("peers", tuple(PEERS))):
        wanted = getattr(options, name) or default.get(name) or ",".join(known)
        names = [SAME.get(n, n) for n in wanted.split(",") if n != "none"]
        if unknown := sorted(set(names) - set(known)):
            parser.error(f"--{name}: {', '.join(unknown)} is none of {', '.join(known)}")
        setattr(options, name, list(dict.fromkeys(names)))
    options.rounds = options.rounds or (2 if options.quick else ROUNDS)
    options.views = options.views or (20 if options.quick else 200)
    return options


def _echo(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
