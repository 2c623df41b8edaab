"""The measures as ratios of medians, against their targets; and the page they are kept on."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.environments import OURS
from benchmarks.measure import Measures
from benchmarks.workloads import BASE, SLOW_MS

MEMORY_MB = 120
JOURNAL_MB = 1
GROWTH = 1.1  # peak memory is never twice the same; ten times the views must not show
TENFOLD = ("W2 once", "W2 tenfold")
# Workload, who it is compared with, the bound, whether ours must be so many times faster.
AGAINST = (
    ("W1 again", "script", 1.1, False),
    ("W1 again", "dlt", 2.5, True),
    ("W2", "floor", 1.4, False),
    ("W2", "dlt", 7.0, True),
    ("W3", "floor+digests", 1.3, False),
    ("W3", "dlt", 20.0, True),
    ("W4", "floor", 1.2, False),
    ("W4", "dlt", 8.0, True),
)


RATIOS = """\
Ratios are those of medians of whole processes, start-up included, taken in turn in one run.
`of CPU time` leaves out what the database does in its own process."""
WRITTEN = """\
`written MB`: write-ahead log on PostgreSQL, else all bytes that the process gave to write();
`over`: killed at the limit."""
TAKEN = ("server", "date", "revision", "load_before", "load_after")


@dataclass(frozen=True, slots=True)
class Line:
    """One target on one database. `cpu`: the same ratio in processor time of the two processes."""

    what: str
    dialect: str
    ours: str
    other: str
    ratio: str
    target: str
    is_met: bool | None
    cpu: str = ""

    def cells(self) -> tuple[str, ...]:
        met = {True: "met", False: "MISSED", None: ""}[self.is_met]
        values = (self.what, self.dialect, self.ours, self.other, self.ratio)
        return (*values, self.cpu, self.target, met)


HEADS = ("", "database", "ours", "other", "ratio", "of CPU time", "target", "")


def lines(measures: Measures) -> list[Line]:
    found: list[Line] = []
    for make in (_against, _slow, _crowded, _memory, _tenfold, _journal):
        for dialect in measures.dialects():
            found += make(measures, dialect)
    return [*found, *_start(measures), *_server(measures), *_base(measures)]


def _against(measures: Measures, dialect: str) -> Iterator[Line]:
    for workload, peer, bound, is_faster in AGAINST:
        ours, other = (measures.median(workload, dialect, who) for who in (OURS, peer))
        if ours is None or other is None:
            continue
        cpu = [measures.median(workload, dialect, who, "cpu_s") or 0 for who in (OURS, peer)]
        if is_faster:
            cpu.reverse()
        ratio = other / ours if is_faster else ours / other
        is_cut = any(m.is_cut for m in measures.of(workload, dialect, peer))
        yield Line(
            f"{workload}, {peer}",
            dialect,
            f"{ours:.2f} s",
            f"{'over ' * is_cut}{other:.2f} s",
            f"{'over ' * is_cut}{ratio:.2f}",
            f"at least {bound:g} x faster" if is_faster else f"at most {bound:g} x",
            ratio >= bound if is_faster else ratio <= bound,
            f"{cpu[0] / cpu[1]:.2f}",
        )


def _slow(measures: Measures, dialect: str) -> Iterator[Line]:
    """The limit: W1 again and the waiting, with 15 % to spare, and the loading of the rows."""
    names = ("W5", "W5: W1 again", "W5: at 0 ms", "W5: again at 0 ms")
    took = [measures.median(name, dialect, OURS) for name in names]
    if None in took:
        return
    w5, again, first, unchanged = (t for t in took if t is not None)
    limit = 1.15 * (again + 200 / 8 * SLOW_MS / 1000) + (first - unchanged)
    parts = f"1.15 x ({again:.2f} s + 1.25 s) + {first - unchanged:.2f} s"
    ratio = w5 / limit
    cells = (f"{w5:.2f} s", f"{limit:.2f} s", f"{ratio:.2f}", f"at most {parts}")
    yield Line("W5, the time it waits", dialect, *cells, is_met=ratio <= 1)


def _crowded(measures: Measures, dialect: str) -> Iterator[Line]:
    ours, alone = (measures.median(w, dialect, OURS) for w in ("W6", "W6: W4 alone"))
    if ours is not None and alone is not None:
        cells = (f"{ours:.2f} s", f"{alone:.2f} s", f"{ours / alone:.2f}", "at most 1.15 x")
        yield Line("W6, W4 alone", dialect, *cells, is_met=ours / alone <= 1.15)


def _memory(measures: Measures, dialect: str) -> Iterator[Line]:
    of_us = [m for m in measures.all if (m.dialect, m.contestant) == (dialect, OURS)]
    usual = [m for m in of_us if m.workload not in TENFOLD]
    if usual:
        most = max(usual, key=lambda m: m.peak_mb)
        cells = (f"{most.peak_mb:.0f} MB", "", "", f"under {MEMORY_MB} MB")
        is_met = most.peak_mb < MEMORY_MB
        yield Line(f"peak memory ({most.workload})", dialect, *cells, is_met=is_met)


def _tenfold(measures: Measures, dialect: str) -> Iterator[Line]:
    once, tenfold = (measures.median(w, dialect, OURS, "peak_mb") for w in TENFOLD)
    if once is not None and tenfold is not None:
        ratio = tenfold / once
        cells = (f"{tenfold:.0f} MB", f"{once:.0f} MB", f"{ratio:.2f}", f"at most {GROWTH:g} x")
        yield Line("peak memory, W2 tenfold", dialect, *cells, is_met=ratio <= GROWTH)


def _journal(measures: Measures, dialect: str) -> Iterator[Line]:
    written = measures.median("W3", dialect, OURS, "journal_mb")
    if written is not None and dialect != "mariadb":
        what = "written in W3" if dialect == "sqlite" else "write-ahead log of W3"
        cells = (f"{written:.2f} MB", "", "", f"under {JOURNAL_MB} MB")
        yield Line(what, dialect, *cells, is_met=written < JOURNAL_MB)


def _start(measures: Measures) -> Iterator[Line]:
    nothing = measures.median("start", "", "pass")
    for command in ("--version", "--help"):
        took = measures.median("start", "", command)
        if took is not None and nothing is not None:
            limit = 1.5 * nothing + 0.06
            cells = (f"{took * 1000:.0f} ms", f"{nothing * 1000:.0f} ms", f"{took / limit:.2f}")
            target = "at most 1.5 x python -c pass + 60 ms"
            yield Line(command, "", *cells, target, is_met=took <= limit)


def _server(measures: Measures) -> Iterator[Line]:
    """What of the fastest load is the server's and the wire's."""
    bare = measures.median("bodies", "", "bare client")
    floors = [measures.median("W3", dialect, "floor+digests") for dialect in measures.dialects()]
    if bare is not None and (known := [took for took in floors if took is not None]):
        fastest = min(known)
        cells = (f"{bare:.2f} s", f"{fastest:.2f} s", f"{bare / fastest:.2f}", "")
        yield Line("bodies, W3 of the floor", "", *cells, is_met=None)


def _base(measures: Measures) -> Iterator[Line]:
    """Ours against another revision of ours: what a change brought."""
    for workload in dict.fromkeys(m.workload for m in measures.all):
        for dialect in measures.dialects():
            ours, base = (measures.median(workload, dialect, who) for who in (OURS, BASE))
            if ours is None or base is None:
                continue
            cpu = [measures.median(workload, dialect, who, "cpu_s") or 0 for who in (OURS, BASE)]
            cells = (f"{ours:.2f} s", f"{base:.2f} s", f"{ours / base:.2f}", "")
            yield Line(f"{workload}, base", dialect, *cells, None, f"{cpu[0] / cpu[1]:.2f}")


def everything(measures: Measures) -> list[tuple[str, ...]]:
    """A row for each workload, database and contestant: medians, and the range of the seconds."""
    keys = dict.fromkeys((m.workload, m.dialect, m.contestant) for m in measures.all)
    return [_summary(measures, *key) for key in keys]


def _summary(measures: Measures, *key: str) -> tuple[str, ...]:
    found = measures.of(*key)
    seconds = [m.seconds for m in found]
    over = "over " if any(m.is_cut for m in found) else ""
    middle = [statistics.median(getattr(m, n) for m in found) for n in ("cpu_s", "journal_mb")]
    return (
        *key,
        str(len(found)),
        f"{over}{statistics.median(seconds):.3f}",
        f"{min(seconds):.3f} to {max(seconds):.3f}",
        f"{middle[0]:.2f}",
        f"{max(m.peak_mb for m in found):.0f}",
        f"{middle[1]:.2f}",
    )


SUMMARY_HEADS = (
    *("workload", "database", "who", "rounds", "median s", "range s"),
    *("own CPU s", "peak MB", "written MB"),
)


def markdown(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table whose columns line up as plain text, too."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    text = [heads, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        f"| {' | '.join(c.ljust(w) for c, w in zip(r, widths, strict=True))} |" for r in text
    )


def targets(measures: Measures) -> str:
    return markdown(HEADS, [line.cells() for line in lines(measures)])


def page(entries: dict[str, dict[str, Any]], measures: Measures, machine: list[str]) -> str:
    """RESULTS.md."""
    held = [line.is_met for line in lines(measures) if line.is_met is not None]
    taken = [(name, *(str(entry[n]) for n in TAKEN)) for name, entry in entries.items()]
    parts = [
        "# Results",
        "Written by `make bench`; README.md beside it says what is measured, and how.",
        f"{held.count(False)} of {len(held)} targets missed.",
        targets(measures),
        RATIOS,
        "## Everything that was measured",
        markdown(SUMMARY_HEADS, everything(measures)),
        WRITTEN,
        "## When and where",
        markdown(("workload", *(name.replace("_", " ") for name in TAKEN)), taken),
        "\n".join(f"- {line}" for line in machine),
    ]
    return "\n\n".join(parts) + "\n"
