"""Which proxy the environment names for a URL. Reads nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Proxy(msgspec.Struct, frozen=True):
    """A proxy, and the environment variable that names it. The URL may hold a password."""

    url: str
    variable: str


def find_proxy(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for requests to `url`; None: none, or NO_PROXY excludes its host.

    Raises ConfigError, without any password, when the proxy that would be used cannot be.
    """
    scheme = url.partition(":")[0].lower()
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if found := environment.get(name):
            return Proxy(found, name)
    return None
