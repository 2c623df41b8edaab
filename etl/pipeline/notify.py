"""Reports a finished run: to the log, and by a heartbeat.

The heartbeat is a dead man's switch: its receiver raises an alarm when no good run reports any
more. Its URL is a secret, since anyone who has it can keep the alarm silent: no text shows more
than its host.
"""

from __future__ import annotations

import logging
import os
import string
import threading
import time
from base64 import b64encode
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote_to_bytes, urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

import idna  # comes with httpx

from etl import __version__
from etl.causes import NAMES_SHOWN, Told, grouped, line_of
from etl.config.model import Config
from etl.datadog.wire.proxy import Proxy, find_proxy
from etl.datadog.wire.transport import default_certificates
from etl.errors import ConfigError
from etl.extract.completeness import TRUNCATED
from etl.formatting import duration, iso, many, shortened
from etl.ledger.concerns import causes_of
from etl.ledger.results import RunResult, ViewResult
from etl.runtime.run_context import with_log_fields

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
RETRY_AFTER_S = 0.5
LONGEST_S = TIMEOUT_S + 1
"""For a heartbeat in all. One that failed is sent again by the next run all the same, and not left
alone: to its receiver silence means that the runs have ended, and it would raise the alarm."""
# What else is printable is sent as it was written: https://url.spec.whatwg.org/#percent-encoded-bytes
_QUERY_SAFE = "".join(set(string.punctuation) - set('"<>'))
_PATH_SAFE = "".join(set(_QUERY_SAFE) - set("`{}"))
_EVENTS = ("new", "changed", "vanished", "returned", "held")
_TRUNCATED_ADVICE = (
    "Datadog may have more than it sent, and rows are removed only where a part is proven; narrow "
    "the view down by "
    "device_type or application_id, raise datadog.page_limit, or set accept_truncated = true"
)


# --- log ----------------------------------------------------------------------------------


def log_run(run: RunResult) -> None:
    """One line for the run, one for each view that changed, one for each cause of bad views.

    What waits for a person is a line for each cause, too. Where logs are JSON, run, source and view
    are in fields of their own. What is bad for one cause has `views`, and the first of them in
    `view_names`; a line for each of them is at DEBUG.
    """
    fields = {"run_id": run.run_id, "source": run.source}
    for view in run.views:
        if not view.is_bad and _has_news(view):
            _log_view(logging.INFO, run, view)
    for views in grouped((v for v in run.views if v.is_bad), told_of):
        if len(views) == 1:
            _log_view(logging.WARNING, run, views[0])
            continue
        text = f"{run.source}: {line_of([told_of(view) for view in views])}"
        names = [view.view.name for view in views[:NAMES_SHOWN]]
        of_group = {"views": len(views), "view_names": names, "verdict": views[0].verdict}
        log.warning("%s", text, extra={**fields, **of_group})
        for view in views:
            _log_view(logging.INFO if _has_news(view) else logging.DEBUG, run, view)
    slot = {"slot_at": iso(run.slot_at), "missed_slots": run.missed_slots} if run.slot_at else {}
    totals = {name: run.total(name) for name in ("listed", *_EVENTS, "requests")}
    of_run = {"status": run.status, "started_by": run.started_by, **totals}
    log.info("%s: %s", run.source, _run_text(run), extra={**fields, **of_run, **slot})
    log_concerns(run)


def log_concerns(run: RunResult) -> None:
    """One warning for each cause for which the source waits for a person."""
    for kind, line in causes_of(run.concerns):
        extra = {"run_id": run.run_id, "source": run.source, "concern": kind}
        log.warning("%s: %s: %s", run.source, kind, line, extra=extra)


def _log_view(level: int, run: RunResult, view: ViewResult) -> None:
    names = {"view_name": view.view.name, "verdict": view.verdict}
    counts = {name: view.counts[name] for name in ("listed", *_EVENTS)}
    text = f"{run.source}: {shortened(view.view.label)}: {_view_text(view)}"
    fields = {"run_id": run.run_id, "source": run.source, **names, **counts}
    log.log(level, "%s", text, extra=fields)


def _has_news(view: ViewResult) -> bool:
    return any(view.counts[name] for name in _EVENTS)


def _view_text(view: ViewResult) -> str:
    names = {"vanished": "removed"}
    counts = [
        f"{view.counts[name]:,} {names.get(name, name)}" for name in _EVENTS if view.counts[name]
    ]
    return "; ".join(filter(None, [problem(view) if view.is_bad else "", ", ".join(counts)]))


def _run_text(run: RunResult) -> str:
    end = run.finished_at or run.started_at
    took = duration((end - run.started_at).total_seconds())
    bad = sum(view.is_bad for view in run.views)
    counts = ", ".join(f"{run.total(name):,} {name}" for name in ("listed", "new", "changed"))
    failed = f" ({bad:,} bad)" if bad else ""
    text = f"run {run.run_id}: {run.status}, {many(run.planned, 'view')}{failed}, {counts}, {took}"
    return f"{text}: {run.error}" if run.error else text


def problem(result: ViewResult) -> str:
    """Why a view is bad, without its name."""
    if result.verdict == TRUNCATED:
        return f"truncated, {result.reason}: {_TRUNCATED_ADVICE}"
    text = result.error or result.reason
    return f"{result.verdict}: {text.removeprefix(f'view {result.view.label}: ')}"


def told_of(result: ViewResult) -> Told:
    """Why a view is bad, to be told with the others that are for the same cause."""
    return Told(problem(result), result.view.label, has_evidence=result.verdict == TRUNCATED)


# --- heartbeat ----------------------------------------------------------------------------


def begin_heartbeat(config: Config, run: RunResult) -> Heartbeat | None:
    """Send the heartbeat of a run that was good, in the background; None where it is not due.

    While something waits for a person none is sent: its receiver calls one.
    """
    if run.status != "ok" or not config.heartbeat_url:
        return None
    if run.concerns:
        kinds = ", ".join(dict.fromkeys(concern.kind for concern in run.concerns))
        text = "%s: no heartbeat is sent while this waits for a person: %s"
        log.warning(text, run.source, kinds)
        return None
    return Heartbeat(config.heartbeat_url, run.source)


def ping(url: str, source: str) -> None:
    """GET the URL, and once more where that failed; returns when it is known, in `LONGEST_S`.

    A failure is only logged as a warning: the run itself was good.
    """
    Heartbeat(url, source).wait()


class Heartbeat:
    """A heartbeat that is being sent, in a thread: resolving a name knows no time-out."""

    def __init__(self, url: str, source: str) -> None:
        self._text = f"{source}: the heartbeat to {urlsplit(url).hostname} failed: %s"
        self._url = url
        self._end = time.monotonic() + LONGEST_S
        target = with_log_fields(self._send)
        thread = threading.Thread(target=target, name="heartbeat", daemon=True)
        self._thread: threading.Thread | None = thread
        try:
            thread.start()
        except RuntimeError as error:  # there are too many on this machine
            log.warning(self._text, error)
            self._thread = None

    def wait(self, seconds: float = LONGEST_S) -> None:
        """Wait until it was sent, at most so long, and not beyond `LONGEST_S` after it began."""
        if self._thread is None:
            return
        self._thread.join(max(0.0, min(seconds, self._end - time.monotonic())))
        if self._thread.is_alive() and time.monotonic() >= self._end:
            log.warning(self._text, "no answer in time")

    def _send(self) -> None:
        reason = _get(self._url)
        # A receiver that refuses it would do so again; one that was silent has used up the time.
        may_pass = reason and not reason.startswith(("it answered 3", "it answered 4"))
        if may_pass and self._end - time.monotonic() > TIMEOUT_S / 2:
            time.sleep(RETRY_AFTER_S)
            reason = _get(self._url)
        if reason:
            log.warning(self._text, reason)


def _get(url: str) -> str:
    """What went wrong; empty: nothing."""
    try:
        url = _ascii(url)
        proxy = find_proxy(url, os.environ, speaks_socks=False)
    except ConfigError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - of idna, and of the parser of URLs
        return type(error).__name__
    failure = _failure_of(_request(url, proxy))
    return f"{failure} through {proxy.label}" if failure and proxy else failure


def _failure_of(request: Request) -> str:
    """What went wrong; empty: nothing. Never Python's own message, which may quote the URL."""
    try:
        with _opener().open(request, timeout=TIMEOUT_S):
            return ""
    except HTTPError as answer:
        with answer:
            return f"it answered {answer.code}"
    except URLError as error:
        return "ConnectTimeout" if isinstance(error.reason, TimeoutError) else "ConnectError"
    except TimeoutError:
        return "ReadTimeout"
    except Exception as error:  # noqa: BLE001 - urllib, ssl and sockets raise more than they say
        return type(error).__name__


def _ascii(url: str) -> str:
    """The URL as it is sent: encoded what no URL can hold, all else as it was written.

    Raises idna.IDNAError, a ValueError, where the host cannot be a name.
    """
    parts = urlsplit(url)
    host, colon, port = parts.netloc.partition(":")
    if not host.isascii():
        # Python's own codec is that of 2003, to which faß.de is fass.de: another host.
        host = idna.encode(host.lower()).decode("ascii")
    return parts._replace(
        netloc=f"{host}{colon}{port}",
        path=quote(parts.path, safe=_PATH_SAFE),
        query=quote(parts.query, safe=_QUERY_SAFE),
        fragment="",  # urllib would send it to a proxy
    ).geturl()


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """None makes a redirect an answer like any other that is not 2xx."""


def _request(url: str, proxy: Proxy | None) -> Request:
    request = Request(url, headers={"User-Agent": f"heatmap-etl/{__version__}"})  # noqa: S310 - the configuration is http(s)
    if proxy is None:
        return request
    # Not by ProxyHandler, which would ask Python's own reading of NO_PROXY, too.
    scheme, _, authority = proxy.url.partition("://")
    user, _, address = authority.rpartition("@")
    if user:
        credentials = user if ":" in user else f"{user}:"
        encoded = b64encode(unquote_to_bytes(credentials)).decode()
        request.add_header("Proxy-Authorization", f"Basic {encoded}")
    request.set_proxy(address, scheme)
    return request


def _opener() -> OpenerDirector:
    """With the certificates that requests to Datadog use, and no proxy. Raises OSError."""
    https = HTTPSHandler(context=default_certificates())
    return build_opener(ProxyHandler({}), https, _NoRedirect)
