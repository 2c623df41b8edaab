"""Which `Host` headers a server of ours answers. Pure.

A page of somebody else can let the name of its own server point to this machine (DNS rebinding).
The browser then takes our answers for those of that page, and shows them to it. Only the name in
`Host` tells such a request from others.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from etl.config.host_name import ascii_host

_PORT = re.compile(r":[0-9]{0,5}\Z")

REFUSAL = (
    "this server is not to be asked under that name; if the name is right, start the server with "
    "--allow-host NAME"
)


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Loopback, the host that is listened on (`bound`; "" is every address), and `named` ones."""

    bound: str
    named: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, bound: str, named: Iterable[str] = ()) -> AllowedHosts:
        """Both as `ascii_host` gives them."""
        return cls(_plain(bound), frozenset(map(_plain, named)))

    def allow(self, headers: Sequence[str], *, is_old: bool = False) -> bool:
        """Whether to answer a request with these `Host` headers; HTTP/1.0 needs none (`is_old`)."""
        if not headers:
            return is_old  # no browser speaks it
        if len(headers) > 1:
            return False
        host = _host_of(headers[0])
        if host is None:
            return False
        if host in (*self.named, self.bound, "localhost") or host.endswith(".localhost"):
            return True
        address = _address(host)
        return address is not None and (address.is_loopback or self._is_everywhere())

    def _is_everywhere(self) -> bool:
        """Then each address of the machine is one of ours, and no name points to a bare address."""
        address = _address(self.bound)
        return not self.bound or (address is not None and address.is_unspecified)


def _host_of(header: str) -> str | None:
    """The host without its port, as `ascii_host` gives it; None: the header is none."""
    host = _PORT.sub("", header) if not header.endswith("]") else header
    is_bracketed = host.startswith("[")
    if is_bracketed != (":" in host) or is_bracketed != host.endswith("]") or not host.isascii():
        return None
    try:
        return _plain(ascii_host(host))
    except ValueError:
        return None


def _plain(host: str) -> str:
    return host.removesuffix(".")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
