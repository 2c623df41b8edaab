"""The dead man's switch: somebody is told of each good run, and alarms when that ends.

The URL is a secret: whoever has it can keep the alarm silent. Nothing shows more than its host.
"""

from __future__ import annotations

import logging
import threading
from urllib.parse import urlsplit

import httpx

from etl import __version__

LONGEST_S = 5.0

log = logging.getLogger(__name__)


def ping(url: str, source: str) -> None:
    """GET the URL. Whatever goes wrong is a warning: the run itself was good."""
    said: list[str] = []
    # In a thread: resolving a name knows no time-out, and bytes may drip.
    sender = threading.Thread(target=lambda: said.append(_ping(url)), name="heartbeat", daemon=True)
    sender.start()
    sender.join(LONGEST_S + 1)
    problem = said[0] if said else "no answer in time"
    if problem:
        host = urlsplit(url).hostname
        log.warning("%s: the heartbeat to %s failed: %s", source, host, problem)


def _ping(url: str) -> str:
    """What went wrong; empty: nothing. httpx's own words may quote the URL."""
    agent = {"User-Agent": f"heatmap-etl/{__version__}"}
    try:
        with (
            httpx.Client(headers=agent, timeout=LONGEST_S, follow_redirects=False) as client,
            client.stream("GET", url) as response,
        ):
            return "" if response.is_success else f"it answered {response.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:
        return type(error).__name__
