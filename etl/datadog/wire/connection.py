"""One connection to the API, for one exchange at a time.

httpcore never frees a slot of its pool when TLS fails behind a proxy. So each connection has a
pool of its own, which is thrown away after every exchange that did not end well.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpcore
import httpx

from etl.datadog.wire.deadline import Deadline
from etl.datadog.wire.network import Network, Route
from etl.datadog.wire.proxy import Proxy
from etl.library_faults import frames_of, origin_of, said_of

IDLE_S = 5.0
"""Seconds after which an idle connection is not used again: a server may be about to close it."""
NETWORK_FAULTS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)

log = logging.getLogger("etl.datadog.client")  # one logger for all that happens to a request


class UnknownFault(httpcore.NetworkError):
    """What a library raised in an exchange beyond what it says: its class, and where."""


@contextlib.contextmanager
def network_faults() -> Iterator[None]:
    """Whatever httpcore, h11, ssl, a socket or a line of `wire` raises inside is one of
    NETWORK_FAULTS afterwards: it costs this exchange, and no other."""
    try:
        yield
    except NETWORK_FAULTS:
        raise
    except Exception as error:
        log.debug("%s was raised here:\n%s", origin_of(error), frames_of(error))
        raise UnknownFault(origin_of(error)) from error


class Gateway:
    """How every connection is made: by which proxy, with which certificates."""

    def __init__(self, certificates: ssl.SSLContext, proxy: Proxy | None, *, is_tls: bool) -> None:
        self._certificates = certificates
        self._proxy = httpx.Proxy(proxy.url) if proxy else None
        self.route = Route()
        if proxy and self._proxy:
            scheme = self._proxy.url.scheme
            self._is_socks = scheme.startswith("socks")
            self.route = Route(
                proxy.label,
                has_tunnel=is_tls or self._is_socks,
                is_tls_to_proxy=scheme == "https",
                is_socks=self._is_socks,
            )

    def url(self, url: httpx.URL) -> httpcore.URL:
        """The URL of a request as httpcore needs it.

        An HTTP proxy is sent the host as it is written: an IPv6 address needs its brackets.
        """
        found = core_url(url)
        if self._proxy and not self._is_socks and b":" in found.host:
            found.host = b"[%b]" % found.host
        return found

    def pool(self, network: Network) -> httpcore.ConnectionPool:
        """A pool for one connection; it costs nothing before the first request."""
        common: dict[str, Any] = {
            "ssl_context": self._certificates,
            "max_connections": 1,
            "keepalive_expiry": IDLE_S,
            "network_backend": network,
        }
        if self._proxy is None:
            return httpcore.ConnectionPool(**common)
        url, auth = core_url(self._proxy.url), self._proxy.raw_auth
        if self._is_socks:
            return httpcore.SOCKSProxy(url, auth, **common)
        own = self._certificates if self._proxy.url.scheme == "https" else None
        return httpcore.HTTPProxy(url, auth, proxy_ssl_context=own, **common)


class Connection:
    """A connection that is made when it is needed; `end` may be called from any thread."""

    def __init__(self, gateway: Gateway, is_stopped: Callable[[], bool]) -> None:
        self._network = Network(gateway.route, is_stopped)
        self._pool = gateway.pool(self._network)

    def ask(self, request: httpcore.Request, deadline: Deadline) -> httpcore.Response:
        """Send a request; returns when the head of the response is there, with a body to come.

        Raises NETWORK_FAULTS. The response must be closed.
        """
        self._network.start(deadline)
        with network_faults():
            try:
                response = self._pool.handle_request(request)
            except NETWORK_FAULTS:
                raise
            except Exception as error:
                # The library for SOCKS has errors of its own for what is no SOCKS.
                if not self._network.is_at_proxy:
                    raise
                said = f"{type(error).__name__}: {said_of(error)}"
                raise httpcore.ProxyError(said) from error
        if not self._network.has_read:
            with network_faults():
                response.close()
            self._network.has_surplus = True
            raise httpcore.RemoteProtocolError("an answer that came before its question")
        return response

    @contextlib.contextmanager
    def body(self, response: httpcore.Response) -> Iterator[Iterator[bytes]]:
        """The body as it comes; the response is closed at the end. Both raise NETWORK_FAULTS."""
        try:
            yield _chunks(response)
        finally:
            with network_faults():
                response.close()

    def is_reusable(self) -> bool:
        """Whether it is open, and nothing came that no request has asked for.

        httpcore would take such bytes for the answer to the next question.
        """
        try:
            with network_faults():
                return self._is_clean()
        except NETWORK_FAULTS:
            return False

    def _is_clean(self) -> bool:
        connections = self._pool.connections
        if len(connections) != 1 or not connections[0].is_idle():
            return False
        left_over = self._left_over()
        if left_over:
            self._network.has_surplus = True
        return left_over == b"" and not connections[0].has_expired()

    @property
    def is_at_proxy(self) -> bool:
        """Whether what it waited for last was the proxy, and not the API."""
        return self._network.is_at_proxy

    @property
    def had_surplus(self) -> bool:
        """Whether bytes came that nobody had asked for."""
        return self._network.has_surplus

    def end(self) -> None:
        """Break the exchange under way at once; the connection cannot be used any more."""
        self._network.end()

    def close(self) -> None:
        """Close it, and what is left of one that did not come about."""
        with contextlib.suppress(*NETWORK_FAULTS), network_faults():
            self._pool.close()
        self._network.close()

    def _left_over(self) -> bytes | None:
        """What was read beyond the last response; None: not known, so better not used again.

        httpcore has no public way to it: its connections may be nested, and the innermost
        has the parser.
        """
        try:
            inner: Any = self._pool.connections[0]
            while not hasattr(inner, "_h11_state"):
                inner = inner._connection  # noqa: SLF001
            left_over: bytes = inner._h11_state.trailing_data[0]  # noqa: SLF001
        except (AttributeError, IndexError):
            return None
        return left_over


def _chunks(response: httpcore.Response) -> Iterator[bytes]:
    with network_faults():
        stream = iter(response.iter_stream())
    while True:
        with network_faults():
            chunk = next(stream, None)
        if chunk is None:
            return
        yield chunk


def core_url(url: httpx.URL) -> httpcore.URL:
    """The same URL for httpcore."""
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
