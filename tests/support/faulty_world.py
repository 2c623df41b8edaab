"""A world between us and Datadog that does all it can to spoil an answer, over real sockets.

    client -> Proxy -> ApiServer -> Cache -> Truth

`Truth` has the snapshots of each view and changes between runs. `Cache` sometimes hands out what
belongs to another question or to an earlier run. `ApiServer` speaks TLS and HTTP, and drips, breaks
off, refuses, says nonsense, too much or only a part. `Proxy` takes CONNECT and often fails behind
it; `resolver` does not always know where it is. Each misdeed is drawn by a seed, the run, the view
and the number of the try, so that it does not depend on which thread comes first; only a poisoned
entry of the cache stays, for two runs and every try. While `Faults.is_off` everything is in order.
"""

import contextlib
import gzip
import json
import random
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.support.api import APPLICATIONS, record
from tests.support.tunnel import ConnectionServer, relay_to, wait_for_the_end

HOST = "api.datadog.test"
"""The name on the certificate; only the proxy knows where it is."""
PROXY_HOST = "proxy.datadog.test"
"""The name of the proxy, which only `resolver` knows."""
APPS = ("app-a", "app-b")
DEVICES = ("desktop", "mobile")
FOR_EVER_S = 15.0
"""How long the world keeps up a drip or a silence at most: a client without a deadline hangs."""
_PAUSE_S = 0.03
_SLOW_S = 0.3


def make_certificate(folder: Path, name: str) -> Path:
    """Key and self-signed certificate of `HOST` in one file."""
    openssl = shutil.which("openssl")
    assert openssl, "TLS is not tested: there is no openssl"
    key, file = folder / f"{name}.key", folder / f"{name}.pem"
    make = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{HOST}", "-days", "2"]
    subprocess.run(
        [*make, "-nodes", "-keyout", key, "-out", file, *subject], check=True, capture_output=True
    )
    file.write_text(key.read_text() + file.read_text())
    return file


# --- what is so ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Pin:
    """One snapshot; `edition` counts its changes."""

    id: str
    view: str
    application: str
    device: str
    edition: int = 1

    @property
    def name(self) -> str:
        return f"{self.id}, edition {self.edition}"

    def as_record(self) -> dict[str, Any]:
        return record(
            self.id,
            view_name=self.view,
            snapshot_name=self.name,
            application_id=self.application,
            device_type=self.device,
            modified_at=f"2026-02-01T10:{self.edition // 60:02}:{self.edition % 60:02}Z",
        )


class Truth:
    """The snapshots of each view. Each view keeps its first few, so that none is ever empty."""

    def __init__(self, views: list[str], seed: int) -> None:
        self._random = random.Random(seed)
        self._numbers = iter(range(1, 1_000_000))
        self._unpinned: list[Pin] = []
        self.pins: dict[str, dict[str, Pin]] = {view: {} for view in views}
        for view in views:
            for _ in range(self._random.randint(4, 16)):
                self._pin(view)
        self._kept = {view: set(list(pins)[:3]) for view, pins in self.pins.items()}

    def change(self) -> None:
        """What people do between two runs: pin, change, unpin, and pin again."""
        for view in self._random.sample(sorted(self.pins), k=len(self.pins) // 3):
            pins = self.pins[view]
            for _ in range(self._random.randint(0, 2)):
                self._pin(view)
            changed = pins[self._random.choice(sorted(pins))]
            pins[changed.id] = Pin(
                changed.id, view, changed.application, changed.device, changed.edition + 1
            )
            free = sorted(pins.keys() - self._kept[view])
            for gone in self._random.sample(free, k=min(len(free), self._random.randint(0, 2))):
                self._unpinned.append(pins.pop(gone))
        if self._unpinned and self._random.random() < 0.5:
            again = self._unpinned.pop(self._random.randrange(len(self._unpinned)))
            self.pins[again.view][again.id] = again

    def listed(self) -> dict[str, Pin]:
        """Everything there is, by id."""
        return {pin.id: pin for pins in self.pins.values() for pin in pins.values()}

    def answer(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """What the question should get."""
        application, device = query.get("filter[application_id]"), query.get("filter[device_type]")
        found = [
            pin.as_record()
            for pin in self.pins.get(query.get("filter[view_name]", ""), {}).values()
            if application in (None, pin.application) and device in (None, pin.device)
        ]
        return found[: int(query["page[limit]"])]

    def _pin(self, view: str) -> None:
        identifier = f"{view[1:]}-{next(self._numbers)}"
        place = self._random.choice(APPS), self._random.choice(DEVICES)
        self.pins[view][identifier] = Pin(identifier, view, *place)


# --- what goes wrong ----------------------------------------------------------------------

MISDEEDS: Mapping[str, tuple[float, tuple[str, ...]]] = {
    "resolver": (1 / 12, ("name unknown", "try again", "slow")),
    "proxy": (1 / 12, ("refuses", "wants a login", "resets")),
    "tls": (1 / 4, ("closed", "garbage", "untrusted", "silent")),
    "drip": (1 / 20, ("head", "interim", "extension", "trailer", "body")),
    "cache": (1 / 20, ("other view", "other view, marked", "earlier run")),
    "poisoned cache": (1 / 40, ("other view, for two runs",)),
    "partial": (1 / 30, ("status", "link")),
    "break": (1 / 16, ("reset", "cut", "chunks cut", "silent", "hung up", "no HTTP")),
    "status": (1 / 25, ("408", "500", "502", "503", "504")),
    "429 storm": (1 / 30, ("Reset", "Retry-After", "without a word")),
    "redirect": (1 / 80, ("301", "302", "307", "308")),
    "coding": (1 / 30, ("bad gzip", "cut gzip", "unasked")),
    "body": (1 / 20, ("empty", "HTML", "cut JSON", "two in one", "no list", "name twice")),
    "stray": (1 / 30, ("second answer",)),
    "hang up": (1 / 4, ("close",)),
}
"""For each kind how often it happens, and its forms."""
HARMLESS = ("hang up",)
"""What spoils no answer: a server may always end a connection after one."""
STORM_TRIES = 3
"""So many tries in a row of one question get a 429."""


@dataclass
class Faults:
    """Draws misdeeds, and counts those done.

    `attempts`: requests sent, and connections for one that failed before; `spoilt`: how many of
    them got no answer, or another than the true one.
    """

    seed: int
    run: int = 0
    is_off: bool = False
    done: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    spoilt: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def draw(self, kind: str, key: object, *, runs: int = 1) -> str:
        """The form in which `kind` of misdeed happens to `key` in this run; "": it does not.

        It is the same for so many `runs` in a row.
        """
        share, forms = MISDEEDS[kind]
        dice = random.Random(f"{self.seed} {self.run // runs} {kind} {key}")
        if self.is_off or dice.random() >= share:
            return ""
        form = dice.choice(forms)
        with self._lock:
            self.done[f"{kind}: {form}"] += 1
        return form

    def note_attempt(self, *, is_spoilt: bool) -> None:
        """Not while everything is in order."""
        if not self.is_off:
            with self._lock:
                self.attempts += 1
                self.spoilt += is_spoilt


@dataclass(frozen=True)
class Answer:
    """What goes over the wire: a 200 with these headers, unless the status is another one.

    `is_wrong`: it is not what the question should get.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    is_wrong: bool = False


class Cache:
    """Between server and truth. What it hands out of another view or run is never empty."""

    def __init__(self, truth: Truth, faults: Faults) -> None:
        self._truth, self._faults = truth, faults
        self._earlier: dict[str, tuple[int, bytes]] = {}  # a whole answer, and its run, by view

    def answer(self, query: Mapping[str, str], key: str) -> Answer:
        view = query["filter[view_name]"]
        body = encoded(self._truth.answer(query))
        form = self._faults.draw("poisoned cache", view, runs=2) or self._faults.draw("cache", key)
        run, earlier = self._earlier.get(view, (self._faults.run, b""))
        if "filter[application_id]" not in query:
            self._earlier.setdefault(view, (self._faults.run, body))
        if form == "earlier run" and run < self._faults.run:
            self._earlier.pop(view)
            return Answer(earlier, {"Age": "3600", "X-Cache": "HIT"}, is_wrong=True)
        if form.startswith("other view"):
            views = sorted(self._truth.pins)
            other = views[(views.index(view) + 1) % len(views)]
            body = encoded(self._truth.answer({**query, "filter[view_name]": other}))
            headers = {"Age": "60"} if form.endswith("marked") else {}
            return Answer(body, headers, is_wrong=True)
        return Answer(body)

    def of_another(self, query: Mapping[str, str]) -> bytes:
        """The whole answer for some other view."""
        other = next(view for view in self._truth.pins if view != query["filter[view_name]"])
        return encoded(self._truth.answer({"filter[view_name]": other, "page[limit]": "1000"}))


def encoded(records: list[dict[str, Any]], **beside: object) -> bytes:
    return json.dumps({"data": records, **beside}).encode()


# --- on the wire --------------------------------------------------------------------------


def read_head(connection: socket.socket) -> bytes:
    """A request up to its empty line; empty when the client has gone."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (got := connection.recv(65536)):
            return b""
        head += got
    return head


class Proxy(ConnectionServer):
    """Takes CONNECT, answers 200, and then often fails; else it passes on what comes."""

    def __init__(self, faults: Faults, server: "ApiServer", untrusted: Path) -> None:
        super().__init__(self.serve)
        self._faults, self._server = faults, server
        self._untrusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._untrusted.load_cert_chain(untrusted)
        self._lock = threading.Lock()
        self.tunnels = 0
        self.strange: list[bytes] = []  # requests for another host: nobody may send keys there

    def serve(self, connection: socket.socket) -> None:
        head = read_head(connection)
        if not head:  # its deadline came before it could ask
            return
        if not head.startswith(f"CONNECT {HOST}:443 ".encode()):
            self.strange.append(head)
            return
        with self._lock:
            self.tunnels += 1
            number = self.tunnels
        refusal = self._faults.draw("proxy", number)
        form = "" if refusal else self._faults.draw("tls", number)
        if refusal or form:  # else the server behind counts it
            self._faults.note_attempt(is_spoilt=True)
        if refusal:
            self._refuse(connection, refusal)
            return
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if form == "garbage":
            connection.sendall(b"HTTP/1.1 503 upstream\r\n\r\n")
        elif form == "untrusted":
            with self._untrusted.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(1)
        elif form == "silent":
            connection.settimeout(FOR_EVER_S)
            wait_for_the_end(connection)
        elif not form:
            relay_to(self._server.port)(connection)

    def _refuse(self, connection: socket.socket, form: str) -> None:
        if form == "resets":
            reset(connection)
            return
        status = "503 Busy" if form == "refuses" else "407 Who are you"
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


class ApiServer(ConnectionServer):
    """Datadog's API over TLS. `asked`: how many requests came in all."""

    def __init__(self, faults: Faults, cache: Cache, certificate: Path) -> None:
        super().__init__(self.serve)
        self._faults, self._cache = faults, cache
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        self._lock = threading.Lock()
        self._tries: Counter[tuple[int, str]] = Counter()
        self.asked = 0

    def serve(self, connection: socket.socket) -> None:
        with self._tls.wrap_socket(connection, server_side=True) as wrapped:
            while head := read_head(wrapped):
                if not self._respond(wrapped, head.split(b" ")[1].decode()):
                    return

    def _respond(self, connection: ssl.SSLSocket, target: str) -> bool:
        """Answer one request; returns whether the connection stays open."""
        path = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(path.query).items()}
        with self._lock:
            self.asked += 1
            self._tries[self._faults.run, target] += 1
            key = f"{target} {self._tries[self._faults.run, target]}"
        if path.path == APPLICATIONS:
            listed = [{"id": app, "type": "rum_application", "attributes": {}} for app in APPS]
            connection.sendall(message(Answer(encoded(listed))))
            return True
        is_open, is_spoilt = self._answer(connection, query, key)
        self._faults.note_attempt(is_spoilt=is_spoilt)
        return is_open

    def _answer(
        self, connection: ssl.SSLSocket, query: dict[str, str], key: str
    ) -> tuple[bool, bool]:
        """Whether the connection stays open, and whether the answer was spoilt."""
        faults = self._faults
        if form := faults.draw("break", key):
            self._break_off(connection, form)
            return False, True
        if refusal := self._refusal(key):
            connection.sendall(message(refusal))
            return True, True
        answer = self._cache.answer(query, key)
        if form := faults.draw("drip", key):
            self._drip(connection, answer, form)
            return False, True
        if form := faults.draw("partial", key):
            answer = partial_answer(answer, form)
        if form := faults.draw("coding", key) or faults.draw("body", key):
            answer = nonsense(answer, form)
        connection.sendall(message(answer))
        if stray := faults.draw("stray", key):
            connection.sendall(message(Answer(self._cache.of_another(query))))
        return not faults.draw("hang up", key), bool(stray) or answer.is_wrong

    def _refusal(self, key: str) -> Answer | None:
        """Instead of an answer."""
        faults = self._faults
        target, number = key.rsplit(" ", 1)
        if int(number) <= STORM_TRIES and (form := faults.draw("429 storm", target)):
            headers = {
                "Reset": {"X-RateLimit-Reset": "1", "X-RateLimit-Remaining": "0"},
                "Retry-After": {"Retry-After": "1"},
            }
            return Answer(b'{"errors": ["slow down"]}', headers.get(form, {}), 429)
        if form := faults.draw("redirect", key):
            return Answer(b"", {"Location": f"https://elsewhere.test{target}"}, int(form))
        if form := faults.draw("status", key):
            return Answer(b"oops", {}, int(form))
        return None

    def _break_off(self, connection: ssl.SSLSocket, form: str) -> None:
        """Answer with half of something, or not at all; then the connection ends."""
        if form == "cut":
            connection.sendall(message(Answer(encoded([])))[:-6])
        elif form == "chunks cut":
            chunk = b'{"data": ['
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + b"%x\r\n%s\r\n" % (len(chunk), chunk))
        elif form == "no HTTP":
            connection.sendall(b"220 mail.example.com ESMTP\r\n")
        elif form == "silent":
            connection.settimeout(FOR_EVER_S)
            wait_for_the_end(connection)
        elif form == "reset":
            reset(connection)

    def _drip(self, connection: ssl.SSLSocket, answer: Answer, form: str) -> None:
        """Begin an answer that never ends: the next piece always comes before a time-out."""
        first, again = dripping(answer, form)
        connection.sendall(first)
        end = time.monotonic() + FOR_EVER_S
        while time.monotonic() < end:
            time.sleep(_PAUSE_S)
            connection.sendall(again)


def message(answer: Answer) -> bytes:
    lines = {"Content-Type": "application/json", **answer.headers}
    lines["Content-Length"] = str(len(answer.body))
    status = b"HTTP/1.1 %d Said\r\n" % answer.status
    return status + header_lines(lines) + b"\r\n" + answer.body


def header_lines(headers: Mapping[str, str]) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())


def partial_answer(answer: Answer, form: str) -> Answer:
    """Half of the records, and beside them that there is more."""
    records = json.loads(answer.body)["data"]
    half = records[: len(records) // 2]
    beside: dict[str, Any] = {"meta": {"status": "timeout"}}
    if form == "link":
        beside = {"links": {"next": f"https://{HOST}/more"}}
    return Answer(encoded(half, **beside), answer.headers, is_wrong=True)


def nonsense(answer: Answer, form: str) -> Answer:
    """A 200 that means nothing."""
    body, zipped = answer.body, gzip.compress(answer.body)
    bodies = {
        "bad gzip": body,
        "cut gzip": zipped[:-9],
        "unasked": body,
        "empty": b"",
        "HTML": b"<!doctype html><title>Sign in</title>",
        "cut JSON": body[: len(body) // 2],
        "two in one": body + body,
        "no list": b'{"data": null}',
        "name twice": body[:-1] + b', "data": []}',
    }
    codings = {"bad gzip": "gzip", "cut gzip": "gzip", "unasked": "br"}
    coding = {"Content-Encoding": codings[form]} if form in codings else {}
    return Answer(bodies[form], {**answer.headers, **coding}, is_wrong=True)


def reset(connection: socket.socket) -> None:
    """When it is closed, which must follow, the other side gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def dripping(answer: Answer, form: str) -> tuple[bytes, bytes]:
    """How an answer begins, and the piece that follows again and again."""
    head = b"HTTP/1.1 200 OK\r\n" + header_lines(answer.headers)
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    size = b"%x" % len(answer.body)
    return {
        "head": (head, b"X-Wait: 1\r\n"),
        "interim": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        "extension": (chunked + size + b";", b"x=1;"),
        "trailer": (chunked + size + b"\r\n" + answer.body + b"\r\n0\r\n", b"X-Wait: 1\r\n"),
        "body": (head + b"Content-Length: 1000000\r\n\r\n" + answer.body, b" "),
    }[form]


@contextlib.contextmanager
def resolver(faults: Faults) -> Iterator[None]:
    """Of this process: it knows the proxy's name, and sometimes it does not. The rest is as ever.

    A slow one answers late, but it answers.
    """
    before, looked_up, lock = socket.getaddrinfo, Counter[int](), threading.Lock()

    def getaddrinfo(host: Any, *given: Any, **named: Any) -> Any:
        if host not in (PROXY_HOST, PROXY_HOST.encode()):
            return before(host, *given, **named)
        with lock:
            looked_up[faults.run] += 1
            number = looked_up[faults.run]
        form = faults.draw("resolver", number)
        if form == "slow":
            time.sleep(_SLOW_S)
        elif form:
            faults.note_attempt(is_spoilt=True)
            code = socket.EAI_NONAME if form == "name unknown" else socket.EAI_AGAIN
            raise socket.gaierror(code, "the resolver is away")
        return before("127.0.0.1", *given, **named)

    socket.getaddrinfo = getaddrinfo
    try:
        yield
    finally:
        socket.getaddrinfo = before


class FaultyWorld:
    """All of it, as a context manager. `url` is asked through `proxy_url`, trusting `certificate`.

    `begin(run)` says which run comes next.
    """

    def __init__(self, folder: Path, views: list[str], seed: int) -> None:
        self.certificate = make_certificate(folder, "trusted")
        self.faults = Faults(seed)
        self.truth = Truth(views, seed)
        self._server = ApiServer(self.faults, Cache(self.truth, self.faults), self.certificate)
        self._proxy = Proxy(self.faults, self._server, make_certificate(folder, "untrusted"))
        self.url = f"https://{HOST}"
        self.proxy_url = f"http://{PROXY_HOST}:{self._proxy.port}"
        self._resolver = resolver(self.faults)

    def __enter__(self) -> Self:
        self._server.__enter__()
        self._proxy.__enter__()
        self._resolver.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._resolver.__exit__(None, None, None)
        self._proxy.__exit__()
        self._server.__exit__()

    @property
    def asked(self) -> int:
        """Requests that came as far as the API."""
        return self._server.asked

    @property
    def tunnels(self) -> int:
        """Connections that were asked for at the proxy."""
        return self._proxy.tunnels

    @property
    def strange(self) -> list[bytes]:
        """Requests for another host than the API's."""
        return self._proxy.strange

    def begin(self, run: int) -> None:
        self.faults.run = run
