"""The heartbeat: when it is sent, where to, and what is said when it fails."""

import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import time_machine

from etl.config.model import Sources
from etl.pipeline.notify import LONGEST_S, ping
from etl.schedule.daemon import Daemon
from tests.support.api import Api, record
from tests.support.project import Project
from tests.support.watched import QUARTER, just_past_noon


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with just_past_noon() as traveller:
        yield traveller


class Receiver:
    """A server for heartbeats that answers with `status`; None: it does not answer."""

    def __init__(self) -> None:
        self.status: int | None = 200
        self.statuses: list[int] = []  # of the first requests
        self.on_request: Callable[[], object] = lambda: None
        self.requests: list[tuple[str, dict[str, str]]] = []
        receiver, self.may_end = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                receiver.requests.append(
                    (self.path, {k.lower(): v for k, v in self.headers.items()})
                )
                receiver.on_request()
                status = receiver.statuses.pop(0) if receiver.statuses else receiver.status
                if status is None:
                    receiver.may_end.wait(30)
                    return
                self.send_response(status)
                self.send_header("Location", f"{receiver.url}/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Closing it waits for who is asking the database: that is closed next.
        self.server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    threading.Thread(target=receiver.server.serve_forever, args=(0.02,), daemon=True).start()
    yield receiver
    receiver.may_end.set()
    receiver.server.shutdown()
    receiver.server.server_close()


def test_each_good_run_of_the_daemon_is_told_and_no_other(
    clock: time_machine.Traveller, project: Project, api: Api, receiver: Receiver
) -> None:
    api.views["/home"] = [record("1")]
    url = f"{receiver.url}/hush?token=s3cret"
    project.configure(every_s=900.0, heartbeat_url=url, max_wait_s=0.0)
    job = Daemon(Sources((project.config,), is_folder=False), threading.Event()).jobs[0]
    clock.shift(QUARTER)
    job.look()
    job.look()
    assert [path for path, _ in receiver.requests] == ["/hush?token=s3cret"]
    sent = receiver.requests[0][1]
    assert "api-key" not in str(sent)
    assert not any("dd-" in name or name == "authorization" for name in sent)
    api.views["/home"] = (500, {}, b"")
    clock.shift(QUARTER)
    job.look()
    assert len(receiver.requests) == 1


def test_while_something_waits_for_a_person_no_heartbeat_is_sent(
    clock: time_machine.Traveller,
    project: Project,
    api: Api,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    full = [record(number) for number in map(str, range(9))]
    project.configure(
        every_s=900.0, heartbeat_url=f"{receiver.url}/hush?token=s3cret", max_wait_s=0.0
    )
    job = Daemon(Sources((project.config,), is_folder=False), threading.Event()).jobs[0]

    def heartbeats_after_a_run() -> int:
        clock.shift(QUARTER)
        job.look()
        return len(receiver.requests)

    api.views["/home"] = full
    assert heartbeats_after_a_run() == 1
    project.execute("UPDATE view_state SET needs_acceptance = :yes", yes=True)
    api.views["/home"] = []
    caplog.clear()
    assert heartbeats_after_a_run() == 1
    texts = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    waits, is_silent = texts
    assert waits.startswith(
        "datadoghq.com: needs_acceptance: /home: snapshots are no longer listed"
    )
    assert is_silent.endswith(
        "no heartbeat is sent while this waits for a person: needs_acceptance"
    )
    assert "s3cret" not in caplog.text
    api.views["/home"] = full
    assert heartbeats_after_a_run() == 2


@pytest.mark.parametrize(
    ("status", "word", "requests"),
    [
        (500, "500", 2),
        (404, "404", 1),
        (302, "302", 1),  # a redirect is not followed
        (None, "ReadTimeout", 1),
    ],
)
def test_a_heartbeat_that_fails_is_a_warning_without_its_url(
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    status: int | None,
    word: str,
    requests: int,
) -> None:
    receiver.status = status
    begun = time.monotonic()
    ping(f"{receiver.url}/s3cret?x=s3cret", "acme")
    assert time.monotonic() - begun < LONGEST_S + 0.5
    assert len(receiver.requests) == requests
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert word in line.getMessage()
    assert "acme" in line.getMessage()
    assert "s3cret" not in caplog.text


def test_a_heartbeat_that_fails_once_is_sent_once_more(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [503]
    ping(f"{receiver.url}/hush", "acme")
    assert len(receiver.requests) == 2
    assert not caplog.records


def test_a_receiver_that_is_silent_delays_neither_a_run_nor_the_next_one(
    clock: time_machine.Traveller,
    project: Project,
    api: Api,
    receiver: Receiver,
) -> None:
    """The run is closed, and the lease given back, before the heartbeat is sent."""
    api.views["/home"] = [record("1")]
    states: list[dict[str, object]] = []
    query = "SELECT status, lease_token FROM sync_runs JOIN sources ON 1 = 1 ORDER BY started_at"
    receiver.on_request = lambda: states.extend(project.rows(query)[-1:])
    receiver.status = None
    project.configure(every_s=900.0, heartbeat_url=f"{receiver.url}/hush", max_wait_s=0.0)
    job = Daemon(Sources((project.config,), is_folder=False), threading.Event()).jobs[0]
    for _ in range(2):
        clock.shift(QUARTER)
        begun = time.monotonic()
        job.look()
        assert time.monotonic() - begun < 3
    assert states == [{"status": "ok", "lease_token": None}] * 2
    receiver.may_end.set()
    job.finish()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_heartbeat_goes_through_the_proxy_as_it_was_written(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setenv(name, receiver.url)
    ping("http://nöbody.invalid:81/s3crét%20;a?q=é&r=%2F#x", "acme")
    encoded_url = "http://xn--nbody-jua.invalid:81/s3cr%C3%A9t%20;a?q=%C3%A9&r=%2F"
    assert [path for path, _ in receiver.requests] == [encoded_url]
    assert not caplog.records


@pytest.mark.parametrize(
    "no_proxy", ["127.0.0.0/8", "::1 127.0.0.1", "127.*", "*", "::ffff:127.0.0.0/104"]
)
def test_a_heartbeat_to_an_excluded_host_goes_through_no_proxy(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    ping(f"{receiver.url}/hush", "acme")
    assert [path for path, _ in receiver.requests] == ["/hush"]


def test_what_python_itself_takes_for_excluded_goes_through_the_proxy_of_the_others(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url)
    monkeypatch.setenv("no_proxy", "nobody.invalid:82")  # which urllib takes for a domain
    ping("http://nobody.invalid:81/x", "acme")
    monkeypatch.setenv("no_proxy", "4")
    ping("http://192.0.2.4/x", "acme")
    paths = [path for path, _ in receiver.requests]
    assert paths == ["http://nobody.invalid:81/x", "http://192.0.2.4/x"]


@pytest.mark.parametrize(
    ("user", "credentials"),
    [
        ("us%65r:p%40:ss", b"user:p@:ss"),
        ("user", b"user:"),
        ("us\u00e9r:w", "us\u00e9r:w".encode()),
    ],
)
def test_a_heartbeat_tells_the_proxy_who_asks(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, user: str, credentials: bytes
) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url.replace("//", f"//{user}@"))
    ping("http://nobody.invalid/x", "acme")
    ((_, headers),) = receiver.requests
    scheme, _, encoded = headers["proxy-authorization"].partition(" ")
    assert (scheme, b64decode(encoded)) == ("Basic", credentials)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("socks5://u:s3cret@h:1", "HTTPS_PROXY: is a SOCKS proxy, which cannot be used here"),
        ("ftp://u:s3cret@h", "HTTPS_PROXY: ftp:// is not supported for a proxy"),
        (
            "http://u:s3cret@127.0.0.1:9",
            "ConnectError through the proxy 127.0.0.1:9 of HTTPS_PROXY",
        ),
    ],
)
def test_the_proxy_that_a_heartbeat_cannot_use_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str, reason: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    ping("https://nobody.invalid/s3cret", "acme")
    (line,) = caplog.messages
    assert line.startswith(f"acme: the heartbeat to nobody.invalid failed: {reason}")
    assert "s3cret" not in line


def test_a_heartbeat_to_nobody_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ping("http://127.0.0.1:9/s3cret", "acme")
    ping("http://nobody.invalid/s3cret", "acme")
    assert caplog.text.count("WARNING") == 2
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("host", "encoded"),
    [
        pytest.param("faß.invalid", "xn--fa-hia.invalid", id="IDNA 2003 makes it fass"),
        pytest.param("NÖBODY.invalid:81", "xn--nbody-jua.invalid:81", id="capital, with a port"),
        pytest.param("a_b.invalid", "a_b.invalid", id="ASCII as it is"),
        pytest.param("[::1]:81", "[::1]:81", id="IPv6"),
    ],
)
def test_a_heartbeat_goes_to_the_host_that_is_meant(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, host: str, encoded: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url)
    ping(f"http://{host}/x", "acme")
    ((path, headers),) = receiver.requests
    assert (path, headers["host"]) == (f"http://{encoded}/x", encoded)


def test_a_host_that_cannot_be_a_name_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ping("http://☃.invalid/s3cret", "acme")
    (line,) = caplog.records
    assert "InvalidCodepoint" in line.getMessage()
    assert "s3cret" not in caplog.text


def test_what_no_url_can_hold_is_encoded_in_a_heartbeat(receiver: Receiver) -> None:
    ping(f'{receiver.url}/%2F"<>`{{}}[|]?q=%2f"<>`{{}}[|]\'%zz', "acme")
    encoded = "/%2F%22%3C%3E%60%7B%7D[|]?q=%2f%22%3C%3E`{}[|]'%zz"
    assert [path for path, _ in receiver.requests] == [encoded]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "FileNotFoundError", id="missing"),
        pytest.param("no certificate", "SSLError", id="unreadable"),
    ],
)
def test_certificates_that_cannot_be_read_are_the_reason_of_a_heartbeat_that_fails(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    content: str | None,
    reason: str,
) -> None:
    path = tmp_path / "s3cret.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    for scheme in ("http", "https"):
        ping(f"{scheme}://{receiver.url.rpartition('/')[2]}/s3cret", "acme")
    assert [line.getMessage().rpartition(": ")[2] for line in caplog.records] == [reason] * 2
    assert "s3cret" not in caplog.text
    assert receiver.requests == []
