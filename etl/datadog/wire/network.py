"""Sockets whose every wait ends at the deadline of the exchange that uses them.

httpx and httpcore bound each single read, so that a byte now and then has no end. Here each
operation may take what is left of the whole exchange. httpcore has a public interface for that; it
comes with httpx, which is made of it.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias, TypeVar

import httpcore

from etl.datadog.wire.deadline import Deadline
from etl.library_faults import name_of, said_of

T = TypeVar("T")

CONNECT_S = 10.0
"""Seconds for one address of a host, before the next one is tried."""
_TICK_S = 0.1
_TLS_BYTES = 64 * 1024

HEAD = "the head did not arrive"

_Address: TypeAlias = tuple[int, int, int, str, Any]  # as socket.getaddrinfo returns them


class CertificateError(httpcore.ConnectError):
    """A certificate that is not trusted."""


class Route:
    """What stands between us and the API, and how messages call what has not happened yet.

    `proxy`: how they call the proxy, "" for none. `has_tunnel`: it passes on bytes without a look
    at them. `is_tls_to_proxy`: it is spoken to by TLS itself. `is_socks`: it speaks SOCKS.
    """

    def __init__(
        self,
        proxy: str = "",
        *,
        has_tunnel: bool = False,
        is_tls_to_proxy: bool = False,
        is_socks: bool = False,
    ) -> None:
        self.proxy = proxy
        self.has_tunnel = has_tunnel
        self.is_tls_to_proxy = is_tls_to_proxy
        self.is_socks = is_socks

    def connect(self, host: str) -> str:
        """What has not happened while connecting."""
        return f"no connection to {self.proxy or host}"

    def connected(self) -> tuple[str, bool]:
        """The stage after connecting, and after TLS with the proxy; whether it is at the proxy."""
        if self.has_tunnel:
            return f"no way through {self.proxy}", True
        return HEAD, False

    def handshake(self, host: str, *, is_inner: bool) -> tuple[str, bool]:
        """The same of a TLS handshake; `is_inner`: within another TLS connection."""
        if self.is_tls_to_proxy and not is_inner:
            return f"no TLS with {self.proxy}", True
        return f"no TLS with {host}" + f" behind {self.proxy}" * bool(self.proxy), False

    def shaken(self, *, is_inner: bool) -> tuple[str, bool]:
        """The same after it."""
        return self.connected() if self.is_tls_to_proxy and not is_inner else (HEAD, False)


class Network(httpcore.NetworkBackend):
    """The sockets of one connection, for one thread at a time; `end` may come from any.

    `deadline` is that of the exchange under way. `route` names each stage of a way through a
    proxy. `is_stopped` is asked before each read.
    """

    def __init__(self, route: Route, is_stopped: Callable[[], bool]) -> None:
        self.deadline = Deadline(0.0, 0.0)
        self.route = route
        self.is_at_proxy = False
        self.has_read = False  # since a question was last written
        self.has_surplus = False  # bytes came that nobody had asked for
        self._is_stopped = is_stopped
        self._is_ended = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()

    def start(self, deadline: Deadline) -> None:
        """Begin an exchange, on a connection that is there already, unless `connect_tcp` comes."""
        self.deadline, self.has_read = deadline, False
        self.at(HEAD, is_at_proxy=False)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline says it
        local_address: str | None = None,  # noqa: ARG002 - not ours
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - the same
    ) -> httpcore.NetworkStream:
        """A connection to the first address of `host` that takes one."""
        self.at(self.route.connect(host), is_at_proxy=bool(self.route.proxy))
        fault = OSError("the host has no address")
        addresses = self._look_up(host, port)
        for number, address in enumerate(addresses):
            share_s = self._left(httpcore.ConnectTimeout) / (len(addresses) - number)
            try:
                connection = self._connected(address, min(CONNECT_S, share_s))
            except OSError as error:
                # Its traceback and this frame would keep each other, and all callers.
                fault = error.with_traceback(None)
            else:
                self.at(*self.route.connected())
                kind = _SocksStream if self.route.is_socks else _Stream
                return kind(self, connection)
        self._left(httpcore.ConnectTimeout)
        raise _connect_error(fault)

    def at(self, stage: str, is_at_proxy: bool) -> None:
        """Note what is waited for from now on, and whether from the proxy itself."""
        self.deadline.stage, self.is_at_proxy = stage, is_at_proxy

    def is_readable(self, stream: _Layer) -> bool:
        """Whether an idle connection has ended, or says what nobody has asked for."""
        data = stream.read_now(1)
        self.has_surplus = self.has_surplus or bool(data)
        return data is not None

    def end(self) -> None:
        """Wake the thread that waits, which closing its socket would not do. It stays so."""
        with self._lock:
            self._is_ended = True
            for connection in self._sockets:
                _shut(connection)

    def close(self) -> None:
        """Close what is left open, such as the socket of a tunnel that did not come about."""
        with self._lock:
            while self._sockets:
                self._sockets.pop().close()

    def forget(self, connection: socket.socket) -> None:
        """Close one socket."""
        with self._lock:
            self._sockets.discard(connection)
            connection.close()

    def try_to(self, act: Callable[[], T], late: type[Exception], fault: type[Exception]) -> T:
        """What `act`, a call on a socket, returns. Raises `late` for a time-out, else `fault`."""
        if self._must_end():
            raise fault("stopped while reading")
        try:
            return act()
        except TimeoutError as error:
            raise late(said_of(error)) from error
        except OSError as error:
            raise fault(said_of(error)) from error

    def left_for(self, connection: socket.socket, late: type[Exception]) -> None:
        """Bound the next call on a socket. Raises `late` when no time is left."""
        connection.settimeout(self._left(late))

    def _left(self, late: type[Exception]) -> float:
        left_s = self.deadline.left()
        if left_s <= 0:
            raise late("the deadline has passed")
        return left_s

    def _connected(self, address: _Address, within_s: float) -> socket.socket:
        family, kind, protocol, _, where = address
        connection = socket.socket(family, kind, protocol)
        with self._lock:
            self._sockets.add(connection)
        try:
            self._check_running()
            connection.settimeout(within_s)
            connection.connect(where)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._check_running()
        except OSError:
            self.forget(connection)
            raise
        return connection

    def _check_running(self) -> None:
        if self._must_end():
            raise OSError("stopped")

    def _must_end(self) -> bool:
        return self._is_ended or self._is_stopped()

    def _look_up(self, host: str, port: int) -> list[_Address]:
        """The addresses of a host.

        Raises httpcore.ConnectError, with socket.gaierror behind it where the name does not
        resolve, and httpcore.ConnectTimeout.
        """
        with contextlib.suppress(OSError, UnicodeError):
            return _addresses(host, port, socket.AI_NUMERICHOST)
        # The resolver of the system has no time-out that we could set: a thread waits for it.
        found: queue.SimpleQueue[list[_Address] | Exception] = queue.SimpleQueue()

        def ask() -> None:
            try:
                found.put(_addresses(host, port))
            except UnicodeError as error:  # a label that is empty or too long
                found.put(socket.gaierror(socket.EAI_NONAME, said_of(error)))
            except Exception as error:  # noqa: BLE001 - raised in the thread that waits
                found.put(error)

        try:
            threading.Thread(target=ask, name="resolver", daemon=True).start()
        except RuntimeError as error:  # there are too many on this machine
            raise httpcore.ConnectError(str(error)) from None
        while not self._must_end():
            try:
                answer = found.get(timeout=min(_TICK_S, self._left(httpcore.ConnectTimeout)))
            except queue.Empty:
                continue
            if isinstance(answer, Exception):
                raise _connect_error(answer)
            return answer
        raise httpcore.ConnectError("stopped while looking up a name")


class _Layer(httpcore.NetworkStream):
    """What a connected socket, and TLS over one, have in common."""

    network: Network

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline says it
    ) -> httpcore.NetworkStream:
        return _TlsStream(self, ssl_context, server_hostname)

    def get_extra_info(self, info: str) -> Any:
        return self.network.is_readable(self) if info == "is_readable" else None

    def pass_on(self, data: bytes) -> None:
        """Send bytes that may be no question of ours, such as those of a TLS handshake."""
        raise NotImplementedError

    def read_now(self, max_bytes: int) -> bytes | None:
        """What is there without waiting; None: nothing; b"": the end."""
        raise NotImplementedError


class _Stream(_Layer):
    """A connected socket."""

    def __init__(self, network: Network, connection: socket.socket) -> None:
        self.network = network
        self._socket = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        self.network.left_for(self._socket, httpcore.ReadTimeout)
        self.network.has_read = True
        receive = partial(self._socket.recv, max_bytes)
        return self.network.try_to(receive, httpcore.ReadTimeout, httpcore.ReadError)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self.network.has_read = False
        self.pass_on(buffer)

    def pass_on(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self.network.left_for(self._socket, httpcore.WriteTimeout)
            send = partial(self._socket.send, rest)
            sent = self.network.try_to(send, httpcore.WriteTimeout, httpcore.WriteError)
            rest = rest[sent:]

    def read_now(self, max_bytes: int) -> bytes | None:
        try:
            self._socket.settimeout(0)
            return self._socket.recv(max_bytes)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        self.network.forget(self._socket)


class _SocksStream(_Stream):
    """A connected socket to a SOCKS5 proxy.

    httpcore takes what one `read` returns for a whole reply. Here it gets one, in however many
    pieces it comes, and nothing of what follows it.
    """

    def __init__(self, network: Network, connection: socket.socket) -> None:
        super().__init__(network, connection)
        self._question = b""
        self._is_through = False

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._is_through:
            self.network.at(HEAD, is_at_proxy=False)
        else:
            self._question = buffer
        super().write(buffer, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._is_through:
            return super().read(max_bytes, timeout)
        reply = self._read_up_to(2)
        is_request = self._question[:1] == b"\x05" and len(self._question) > len(b"\x05\x01\x00")
        if is_request and len(reply) == 2:
            reply += self._read_up_to(3)
            address_bytes = {1: 4, 3: 1 + reply[-1], 4: 16}.get(reply[3] if reply[4:] else 0, 0)
            if address_bytes:
                reply += self._read_up_to(address_bytes - 1 + 2)  # and a port
                self._is_through = reply[1] == 0
        return reply

    def _read_up_to(self, size: int) -> bytes:
        """So many bytes, less only where the connection ends."""
        found = b""
        while len(found) < size and (data := super().read(size - len(found))):
            found += data
        return found


class _TlsStream(_Layer):
    """TLS over another stream, which may be TLS itself: to the API, within that to a proxy.

    Not by `wrap_socket`: so every wait is one of `_Stream`, a handshake that drips included.
    """

    def __init__(self, inner: _Layer, context: ssl.SSLContext, host: str | None) -> None:
        self.network = inner.network
        self._inner = inner
        host = (host or "").strip("[]")  # an IPv6 address has brackets in a URL, and nowhere else
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host or None)
        is_inner, route = isinstance(inner, _TlsStream), self.network.route
        self.network.at(*route.handshake(host, is_inner=is_inner))
        try:
            self._wait_for(self._tls.do_handshake)
        except ssl.SSLError as error:
            with contextlib.suppress(httpcore.NetworkError, httpcore.TimeoutException):
                self._flush()  # it tells the other side why
            is_untrusted = isinstance(error, ssl.SSLCertVerificationError)
            kind = CertificateError if is_untrusted else httpcore.ConnectError
            raise kind(said_of(error)) from error
        self.network.at(*route.shaken(is_inner=is_inner))

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        try:
            return self._wait_for(partial(self._tls.read, max_bytes))
        except ssl.SSLEOFError:
            return b""  # many servers close like this; the length shows what they cut short
        except ssl.SSLError as error:
            raise httpcore.ReadError(said_of(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self.network.has_read = False
        self.pass_on(buffer)

    def pass_on(self, data: bytes) -> None:
        try:
            self._wait_for(partial(self._tls.write, data))
        except ssl.SSLError as error:
            raise httpcore.WriteError(said_of(error)) from error

    def read_now(self, max_bytes: int) -> bytes | None:
        """A ticket for a later session is nothing."""
        while True:
            try:
                return self._tls.read(max_bytes)
            except ssl.SSLWantReadError:
                data = self._inner.read_now(_TLS_BYTES)
                if not data:
                    return data
                self._incoming.write(data)
            except ssl.SSLError:
                return b""

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else super().get_extra_info(info)

    def _wait_for(self, act: Callable[[], T]) -> T:
        """What `act` returns when it has got all the bytes that it needs."""
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._inner.read(_TLS_BYTES):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._inner.pass_on(self._outgoing.read())


def _addresses(host: str, port: int, flags: int = 0) -> list[_Address]:
    return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)]


def _connect_error(why: Exception) -> httpcore.ConnectError:
    """The error with its reason behind it, where httpcore leaves it when it raises it again."""
    said = said_of(why) if isinstance(why, OSError) else name_of(why)
    error = httpcore.ConnectError(said)
    error.__context__ = why.with_traceback(None)
    return error


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
