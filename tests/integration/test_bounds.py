"""Whole runs against servers and proxies without an end: what they take of time and of memory."""

import itertools
import json
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.certificates import make_certificate, server_tls
from tests.support.command_line import Cli
from tests.support.project import Project, make_config, open_project
from tests.support.raw_server import RawServer, Reply, answer, reply, view_of
from tests.support.tunnel import (
    Behave,
    ConnectionServer,
    after_connect,
    relay_to,
    wait_for_the_end,
)

API = "https://api.datadog.invalid"
VIEWS = [f"/{n}" for n in range(6)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), "DNS:api.datadog.invalid")


@pytest.fixture
def open_on(new_database: Callable[..., str]) -> Iterator[Callable[..., Project]]:
    """A project on SQLite that asks this API for these views."""
    made: list[Project] = []

    def make(url: str, views: list[str], **settings: object) -> Project:
        made.append(open_project(make_config(new_database("sqlite"), url, views)))
        made[-1].configure(**{"concurrency": 2, "timeout_s": 0.3, "max_wait_s": 0.3, **settings})
        return made[-1]

    yield make
    for project in made:
        project.database.close()


def run_within(project: Project, seconds: float) -> dict[str, tuple[str, str]]:
    """Verdict and error of each view of one run, which ends in time."""
    found: dict[str, tuple[str, str]] = {}

    def run() -> None:
        found.update({v.view.name: (v.verdict, v.error or "") for v in project.run().views})

    work = threading.Thread(target=run, daemon=True)
    work.start()
    work.join(seconds)
    assert not work.is_alive(), "the run does not end"
    return found


# --- proxies ------------------------------------------------------------------------------

TUNNELS: dict[str, tuple[Behave | None, str]] = {
    "an untrusted certificate": (None, "CERTIFICATE_VERIFY_FAILED"),
    "closed": (lambda _: None, "behind the proxy 127.0.0.1"),
    "silence": (wait_for_the_end, "behind the proxy 127.0.0.1"),
    "garbage": (lambda c: c.sendall(b"220 mail.example.com ESMTP\r\n" * 9), "behind the proxy"),
}


@pytest.mark.parametrize(("behave", "said"), TUNNELS.values(), ids=TUNNELS)
def test_more_views_than_room_end_behind_a_proxy_that_fails_tls(
    behave: Behave | None,
    said: str,
    open_on: Callable[..., Project],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with RawServer(otherwise=reply(), tls=server_tls(certificate)) as inspecting:
        tunnel = after_connect(behave or relay_to(inspecting.port))
        with ConnectionServer(tunnel) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            found = run_within(open_on(API, VIEWS), 20)
    assert {verdict for verdict, _ in found.values()} == {"failed"}
    assert len(found) == len(VIEWS)
    for _, error in found.values():
        assert said in error or "not asked" in error
    assert sum(said in error for _, error in found.values()) >= 2
    if behave is None:
        assert any("SSL_CERT_FILE" in error for _, error in found.values())


@pytest.mark.parametrize("kind", ["closed", "silence", "garbage"])
def test_a_proxy_that_is_bad_for_a_while_costs_the_views_of_that_while(
    kind: str,
    open_on: Callable[..., Project],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = TUNNELS[kind][0]
    assert bad
    sizes = {view: n for n, view in enumerate(VIEWS, 1)}
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    def serve(head: bytes) -> Reply:
        view = view_of(head)
        return answer(view, sizes[view]) if view in sizes else reply(404, b"")

    with RawServer(otherwise=serve, tls=server_tls(certificate)) as server:
        with ConnectionServer(after_connect(*[bad] * 5, relay_to(server.port))) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            project = open_on(API, VIEWS, max_wait_s=10.0)
            found = run_within(project, 20)
        assert proxy.connections <= 5 + 2
    assert {verdict for verdict, _ in found.values()} == {"complete"}
    assert len(project.live()) == sum(sizes.values())


# --- time ---------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "head": (HEAD + b"X: ", b"x"),
    "102 Processing": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "body": (HEAD + b"Content-Length: 9999\r\n\r\n", b" "),
    "chunk extension": (CHUNKED + b"1;x=", b"x"),
    "trailer": (CHUNKED + b"0\r\nT: ", b"x"),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_a_run_does_not_wait_for_what_drips(
    drip: tuple[bytes, bytes], open_on: Callable[..., Project]
) -> None:
    first, then = drip

    def drip_for_one(head: bytes) -> Reply:
        if view_of(head) != "/drips":
            return answer(view_of(head), 2)
        return Reply((first, *itertools.repeat(then, 3000)), pause_s=0.02)

    with RawServer(otherwise=drip_for_one) as server:
        project = open_on(server.url, ["/drips", "/a", "/b"], timeout_s=0.5, max_wait_s=1.2)
        begun = time.monotonic()
        found = run_within(project, 10)
        # One exchange has a second at least, however little of the wait is left.
        assert time.monotonic() - begun < 1.2 + 1.0 + 1.5
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        "/drips": "failed",
        "/a": "complete",
        "/b": "complete",
    }
    assert "took too long" in found["/drips"][1]


def test_a_slow_head_has_its_time_though_little_may_be_waited(
    open_on: Callable[..., Project],
) -> None:
    slow = Reply(answer("/slow", 2).parts, pause_s=0.8)
    with RawServer(otherwise=slow) as server:
        project = open_on(server.url, ["/slow"], timeout_s=5, max_wait_s=0.3)
        assert run_within(project, 10)["/slow"][0] == "complete"


# --- memory -------------------------------------------------------------------------------

MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(done.returncode, peak // (1024 if sys.platform == "linux" else 1024**2), done.stdout)
print(done.stderr, file=sys.stderr)
"""


def endless(piece: bytes, count: int | None = None) -> Iterator[bytes]:
    """Chunks of one piece, for ever or `count` times."""
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
    yield from itertools.repeat(chunk) if count is None else itertools.repeat(chunk, count)
    yield b"0\r\n\r\n"


def packed_zeros(megabytes: int) -> Iterator[bytes]:
    """So many MB of zeros as one gzip, in chunks; each MB is packed as the one before."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    more = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    yield from (b"%x\r\n%s\r\n" % (len(part), part) for part in (start,))
    yield from endless(more, megabytes)


def streamed(body: Iterable[bytes], headers: bytes = b"") -> Reply:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + headers + b"\r\n"
    return Reply(itertools.chain([head], body))


def record_of(megabytes: int) -> Iterator[bytes]:
    return itertools.chain(
        [b'17\r\n{"data": [{"id": "1", "\r\n'], endless(b"x" * (1 << 20), megabytes)
    )


def tiny_records() -> Reply:
    records = ",".join(f'{{"id":"{n}"}}' for n in range(2_000_000))
    return reply(200, f'{{"data": [{records}]}}')


GIANTS: dict[str, Callable[[], Reply]] = {
    "10 GB of packed zeros": lambda: streamed(
        packed_zeros(10 * 1024), b"Content-Encoding: gzip\r\n"
    ),
    "an endless body": lambda: streamed(endless(b" " * (1 << 20))),
    "a record of 300 MB": lambda: streamed(record_of(300)),
    "two million tiny records": tiny_records,
}


def sync_measured(cli: Cli) -> tuple[dict[str, object], int]:
    """The result of `sync --json`, and the peak of its memory in MB."""
    command = [sys.executable, "-c", MEASURE, *cli.command("sync", "--json")]
    done = subprocess.run(
        command,
        cwd=cli.folder,
        env=cli.environment({}),
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    code, peak, out = done.stdout.split(" ", 2)
    assert code in ("0", "1"), done.stderr
    return json.loads(out), int(peak)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*GIANTS, "all at once"])
def test_a_giant_beside_a_good_view_takes_less_than_a_gigabyte(kind: str, tmp_path: Path) -> None:
    giants = {f"/{name}": make for name, make in GIANTS.items() if kind in (name, "all at once")}

    def serve(head: bytes) -> Reply:
        view = view_of(head)
        return giants[view]() if view in giants else answer(view, 3)

    cli = Cli(tmp_path)
    with RawServer(otherwise=serve) as server:
        views = json.dumps([*giants, "/good"])
        database = "sqlite:///heatmap-etl.db"
        cli.configure(
            f'database_url = "{database}"\nviews = {views}\n[datadog]\napi_url = "{server.url}"\n'
        )
        result, peak = sync_measured(cli)
        asked = [view_of(head) for head in server.heads]
    views_of = {v["view_name"]: v for v in result["views"]}  # type: ignore[attr-defined]
    assert views_of["/good"]["verdict"] == "complete"
    assert cli.sql("SELECT COUNT(*) FROM snapshots WHERE synced_view = '/good'") == [(3,)]
    for view in giants.keys() - {"/two million tiny records"}:
        assert views_of[view]["verdict"] == "failed", view
        assert asked.count(view) == 1, view
    assert peak < 1024, "MB"
