"""What becomes of the rows that views no longer list, told by the rules alone."""

Sizes = list[tuple[int, int]]
"""For each view, how many rows it had, and how many of them it still lists."""


def outcomes(views: Sizes) -> list[str]:
    """What becomes of the rows that each view no longer lists, told by the rules alone."""

    def loses_too_much(live: int, kept: int) -> bool:
        gone = live - kept
        return (gone > 0.3 * live and gone > 20) or (live >= 3 and kept == 0)

    losing = [view for view in views if loses_too_much(*view)]
    with_rows = [view for view in views if view[0]]
    is_shared = len(losing) >= 3 and 2 * len(losing) >= len(with_rows)
    lost = 0 if any(kept for _, kept in views) else sum(live for live, _ in views)
    found = []
    for view in views:
        held = "waits" if is_shared or lost > 20 else "held"
        found.append(held if view in losing or lost >= 3 else "gone")
    return found
