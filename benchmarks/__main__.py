"""`make bench`: sets everything up, measures in turn, prints the ratios. See README.md."""

import argparse
import sys

from benchmarks import contestants
from benchmarks.data import Size
from benchmarks.databases import Databases
from benchmarks.measure import Measures
from benchmarks.report import table
from benchmarks.workloads import Bench, large, small


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--only", default="W1,W2")
    parser.add_argument("--databases", default="postgresql,sqlite")
    parser.add_argument("--peers", default="floor,script")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--views", type=int, default=200)
    options = parser.parse_args()
    makers = {
        "floor": contestants.floor,
        "script": contestants.script,
        "dlt": contestants.dlt,
        "official": contestants.official,
    }
    entered = [contestants.heatmap_etl()]
    for name in options.peers.split(","):
        entered.append(makers[name]())
        if name == "floor":
            entered.append(contestants.floor_with_digests())
    measures = Measures()
    for dialect in options.databases.split(","):
        databases = Databases(dialect)
        try:
            bench = Bench(databases, measures, options.rounds, entered)
            if "W1" in options.only:
                small(bench)
            if {"W2", "W3", "W4"} & set(options.only.split(",")):
                large(bench, Size(options.views, 1000))
        finally:
            databases.stop()
    print(table(measures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
