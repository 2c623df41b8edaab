"""The program with little patience, and of which a part hangs while there is a file `hang`.

`python -m tests.support.hanging PART ARGUMENTS...`; PART is `reading` (no question is answered any
more), `loading` (the thread of the run itself hangs), `loading-a` (that of source `a`), `writing`
(it hangs within a transaction) or `none`.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etl.extract import fetch
from etl.load.loader import Loader
from etl.load.writer import TableWriter
from etl.pipeline import progress_bound, watchdog
from etl.runtime.run_context import log_fields

PATIENCE_S = 1.5
GRACE_S = 2.0
GIVE_UP_S = 3.0


def hanging(work: Callable[..., Any], source: str = "") -> Callable[..., Any]:
    def hang(*arguments: Any, **named: Any) -> Any:
        while Path("hang").exists() and source in ("", log_fields()["source"]):
            time.sleep(0.05)
        return work(*arguments, **named)

    return hang


def main() -> int:
    progress_bound.STEP_S, watchdog.POLL_S = PATIENCE_S, 0.05
    watchdog.GRACE_S, watchdog.GIVE_UP_S = GRACE_S, GIVE_UP_S
    part = sys.argv.pop(1)
    if part == "reading":
        fetch.ask = hanging(fetch.ask)  # type: ignore[attr-defined]
    if part.startswith("loading"):
        Loader.load = hanging(Loader.load, part[8:])  # type: ignore[method-assign]
    if part == "writing":
        TableWriter._write_all = hanging(TableWriter._write_all)  # type: ignore[method-assign]
    from etl.__main__ import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
