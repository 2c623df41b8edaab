"""The measures as ratios of medians, against their targets."""

from benchmarks.measure import Measures

OURS = "heatmap-etl"
# workload, contestant it is compared with, bound, whether ours must be that many times faster
TARGETS = (
    ("W1 again", "script", 1.1, False),
    ("W1 again", "dlt", 2.5, True),
    ("W2", "floor", 1.4, False),
    ("W2", "dlt", 7.0, True),
    ("W3", "floor+digests", 1.3, False),
    ("W3", "dlt", 20.0, True),
    ("W4", "floor", 1.2, False),
    ("W4", "dlt", 8.0, True),
)


def table(measures: Measures) -> str:
    heads = ("workload", "database", "against", "ours s", "theirs s", "ratio", "of CPU", "target")
    lines = [f"| {' | '.join(heads)} | |", "| --- " * (len(heads) + 1) + "|"]
    dialects = list(dict.fromkeys(m.dialect for m in measures.all))
    for workload, peer, bound, is_faster in TARGETS:
        for dialect in dialects:
            ours = measures.median(workload, dialect, OURS)
            theirs = measures.median(workload, dialect, peer)
            if ours is None or theirs is None:
                continue
            ratio = theirs / ours if is_faster else ours / theirs
            is_met = ratio >= bound if is_faster else ratio <= bound
            target = f"at least {bound:g} x faster" if is_faster else f"at most {bound:g} x"
            cells = (workload, dialect, peer, f"{ours:.2f}", f"{theirs:.2f}", f"{ratio:.2f}")
            cpu = [measures.cpu(workload, dialect, who) for who in (OURS, peer)]
            if is_faster:
                cpu.reverse()
            cells += (f"{cpu[0] / cpu[1]:.2f}",)
            lines.append(f"| {' | '.join(cells)} | {target} | {'met' if is_met else 'MISSED'} |")
    return "\n".join(lines)
