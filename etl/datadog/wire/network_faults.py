"""Why no connection came about: an exception with its causes -> what to say and what to do."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import httpcore

from etl.datadog.wire.proxy import Proxy
from etl.library_faults import name_of, said_of

# Not EAI_FAIL, which a name server's own trouble is, too.
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_CUT = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})
_ENDED = ("Server disconnected", "peer closed connection")  # by httpcore and h11
_NO_WAY_THERE = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "ENETDOWN", "ETIMEDOUT"),
        *("EADDRNOTAVAIL", "EACCES", "EPERM"),
    )
    if hasattr(errno, name)
)


def is_unknown_host(error: BaseException) -> bool:
    """Whether a name does not exist, which waiting seldom fixes.

    Any other failure of a resolver, such as EAI_AGAIN where it is away for a moment, may pass.
    """
    return any(
        isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_NAME
        for cause in _causes(error)
    )


def network_text(error: BaseException) -> str:
    """What the network said. One text for a connection that was cut: whether its end is seen while
    sending, or before or while reading, and as which error, is chance."""
    causes = list(_causes(error))
    is_cut = any(getattr(cause, "errno", None) in _CUT for cause in causes)
    is_ended = isinstance(error, httpcore.RemoteProtocolError) and said_of(error).startswith(_ENDED)
    return (
        "the connection was closed or reset"
        if is_cut or is_ended
        else said_of(error) or name_of(error)
    )


def proxy_problem(error: BaseException, proxy: Proxy | None) -> str:
    """What kept a request from its proxy, on one line without a password; "" for anything else."""
    if proxy is None:
        return ""
    if any(isinstance(cause, socket.gaierror) for cause in _causes(error)):
        is_unknown = is_unknown_host(error)
        return f"{proxy.label} {'does not resolve' if is_unknown else 'cannot be resolved for now'}"
    if any(getattr(cause, "errno", None) in _NO_WAY_THERE for cause in _causes(error)):
        return f"{proxy.label} cannot be reached"
    if isinstance(error, httpcore.ProxyError):
        return f"{proxy.label} refused"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
