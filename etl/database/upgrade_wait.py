"""The wait for an upgrade that another process is at: bounded, and told."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator

log = logging.getLogger(__name__)

WAIT_S = 600
TOLD_AFTER_S = 2


def looks(label: str) -> Iterator[None]:
    """One for each time to look whether it has ended, with short sleeps between, for `WAIT_S`.

    `label`: the database, for the one warning.
    """
    began = time.monotonic()
    is_told = False
    yield
    while (waited_s := time.monotonic() - began) <= WAIT_S:
        if waited_s > TOLD_AFTER_S and not is_told:
            is_told = True
            log.warning(
                "another upgrade of %s is under way; waiting for it, at most %d minutes",
                label,
                WAIT_S // 60,
            )
        time.sleep(random.uniform(0.05, 0.3))  # noqa: S311
        yield
