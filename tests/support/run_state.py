"""One view that has just answered, and what the run knows of the others."""

from etl.load.decide import RunState
from etl.load.ownership import Ownership
from etl.load.removals import RemovalGuard, Removals
from etl.load.versions import Owner
from etl.source.identity import Organization
from tests.support.strategies import snapshot

VIEWS = frozenset({"mine", "other", "third"})
OWNER = Owner("s", "mine", "/home")

RED, BLUE = snapshot("a", created_by="red"), snapshot("a", created_by="blue")


def run_state(
    *,
    unread: tuple[str, ...] = (),
    read: tuple[str, ...] = (),
    absent: dict[str, frozenset[str]] | None = None,
    waiting: dict[str, frozenset[str]] | None = None,
    claims: dict[str, frozenset[str]] | None = None,
) -> RunState:
    """`mine` has just answered; what the other views did is known."""
    gone = {view: (absent or {}).get(view, frozenset()) for view in read}
    ownership = Ownership(VIEWS, {"mine", *unread}, gone, dict(waiting or {}))
    for view, ids in (claims or {}).items():
        ownership.claims.add(view, ids)
    return RunState(ownership.draft(), Removals(RemovalGuard(0.3, 20, is_off=True)), Organization())
