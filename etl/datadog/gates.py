"""Which requests wait for a rate limit that is used up: each limit has a gate of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from etl.datadog.rate_limit import remaining, reset_seconds

MOST_NAMES = 20
"""Names kept of one endpoint, so that a server that makes up a new one each time fills nothing."""


class Gates:
    """The gates of all rate limits, for all threads. Instants are those of `monotonic`.

    A limit is that of its `X-RateLimit-Name`; one without a name is that of its endpoint alone. An
    endpoint learns the names that its answers bear, and waits for each of them that is closed.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._open_at: dict[tuple[str, str], float] = {}  # by kind of gate, and name or endpoint
        self._names: dict[str, dict[str, None]] = {}  # by endpoint, the latest last

    def note(self, endpoint: str, headers: Mapping[str, str]) -> None:
        """Learn the name of the endpoint's limit; close its gate where nothing is left of it."""
        name = headers.get("X-RateLimit-Name", "").strip()
        reset_s = reset_seconds(headers)
        with self._lock:
            if name:
                self._learn(endpoint, name)
            if remaining(headers) == 0 and reset_s is not None:
                gate = ("name", name) if name else ("endpoint", endpoint)
                open_at = self._monotonic() + reset_s
                self._open_at[gate] = max(self._open_at.get(gate, open_at), open_at)

    def closed_for_s(self, endpoint: str) -> float:
        """Seconds until every gate of the endpoint is open; 0 or less: they are."""
        with self._lock:
            now = self._monotonic()
            self._open_at = {gate: at for gate, at in self._open_at.items() if at > now}
            gates = [("endpoint", endpoint)]
            gates += [("name", name) for name in self._names.get(endpoint, ())]
            return max(self._open_at.get(gate, now) for gate in gates) - now

    def _learn(self, endpoint: str, name: str) -> None:
        names = self._names.setdefault(endpoint, {})
        names.pop(name, None)
        names[name] = None
        while len(names) > MOST_NAMES:
            del names[next(iter(names))]
