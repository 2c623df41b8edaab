"""`check` in front of somebody who waits: with many views, and default time-outs.

What does not answer would take minutes for each view; every test here would run into the time-out
of `finish`.
"""

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import VALIDATE, Api, record
from tests.support.certificates import make_certificate, server_tls
from tests.support.command_line import Cli, Result, finish
from tests.support.raw_server import RawServer, Reply, answer, reply, view_of
from tests.support.waiting import wait_until

API_URL, DATABASE = "HEATMAP_ETL_DATADOG_API_URL", "HEATMAP_ETL_DATABASE_URL"
NAMES = [f"/view-{n}" for n in range(120)]
FIRST = 4  # are asked before all others
TRIES = 5


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    folder = tmp_path / "project"
    folder.mkdir()
    cli = Cli(folder)
    cli.configure(f'database_url = "sqlite:///heatmap-etl.db"\nviews = {json.dumps(NAMES)}\n')
    return cli


def rows_of(name: str) -> int:
    """Not as many for all, which would look like a cut."""
    return 1 + NAMES.index(name) % 7


def records(name: str) -> list[object]:
    return [record(f"{name} {n}", view_name=name) for n in range(rows_of(name))]


def well(head: bytes) -> Reply:
    """The answer of an API in which all is well."""
    return answer(view_of(head), rows_of(view_of(head)))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """One that takes a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield listener.getsockname()[1]


def problems(done: Result) -> list[list[str]]:
    """About what each is, and the text."""
    lines = [line.split(None, 2) for line in done.out.splitlines()]
    return [line[1:] for line in lines if line[:1] == ["PROBLEM"]]


def the_problem(done: Result) -> str:
    """The only one, which is Datadog's."""
    assert (done.code, done.err) == (2, ""), done
    ((about, text),) = problems(done)
    assert about == "Datadog"
    assert f"{len(NAMES) - FIRST} further views were not asked" in text
    assert "1 problem to fix" in done.out.splitlines()[-1]
    return text


# --- nobody answers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9", "Connection refused"),
        ("https://no-such-host.invalid", "check site and api_url"),
    ],
)
def test_nobody_listens(cli: Cli, url: str, words: str) -> None:
    assert words in the_problem(cli("check", **{API_URL: url}))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_port_that_stays_silent(cli: Cli, silent_port: int, scheme: str) -> None:
    text = the_problem(cli("check", **{API_URL: f"{scheme}://127.0.0.1:{silent_port}"}))
    assert "within 10 s" in text
    assert "a run longer: timeout_s = 30, max_wait_s = 120" in text


def test_a_proxy_that_stays_silent(cli: Cli, silent_port: int) -> None:
    proxy = f"http://127.0.0.1:{silent_port}"
    text = the_problem(cli("check", **{API_URL: "https://api.invalid", "HTTPS_PROXY": proxy}))
    assert f"the proxy 127.0.0.1:{silent_port} of HTTPS_PROXY within 10 s" in text


def test_a_proxy_that_refuses(cli: Cli) -> None:
    with RawServer(otherwise=reply(407, "")) as proxy:
        done = cli("check", **{API_URL: "http://api.invalid", "HTTP_PROXY": proxy.url})
    assert "asks for a user and a password (407)" in the_problem(done)
    assert len(proxy.heads) == FIRST


# --- TLS ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "is_known", "words"),
    [
        (["IP:127.0.0.1"], False, "self-signed certificate"),
        (["DNS:elsewhere.example"], True, "IP address mismatch"),
    ],
    ids=["untrusted", "of another host"],
)
def test_a_certificate_that_is_not_trusted(
    cli: Cli, tmp_path: Path, names: list[str], is_known: bool, words: str
) -> None:
    certificate = make_certificate(tmp_path, *names)
    trusted = str(certificate) if is_known else None
    with RawServer(tls=server_tls(certificate)) as server:
        done = cli("check", **{API_URL: server.url, "SSL_CERT_FILE": trusted})
    text = the_problem(done)
    assert words in text.replace("self signed", "self-signed")
    assert "check SSL_CERT_FILE" in text
    assert server.connections == FIRST


def test_plain_http_where_tls_is_expected(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:

        def answer_all() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer_all, daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        assert "no TLS with 127.0.0.1: [SSL" in the_problem(cli("check", **{API_URL: url}))


# --- the API refuses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers"),
    [(500, {}), (429, {"X-RateLimit-Reset": "60"}), (429, {})],
    ids=["500", "429, a minute", "429"],
)
def test_no_view_is_answered(cli: Cli, status: int, headers: dict[str, str]) -> None:
    with RawServer(otherwise=reply(status, "oops", headers)) as server:
        text = the_problem(cli("check", **{API_URL: server.url}))
    assert text.startswith("500: oops" if status == 500 else "the rate limit is used up (429)")
    assert len(server.heads) <= FIRST * TRIES
    assert {view_of(head) for head in server.heads} == set(NAMES[:FIRST])


def test_refused_keys_are_one_problem(cli: Cli, api: Api) -> None:
    api.views = dict.fromkeys(NAMES, (403, {}, b'{"errors": ["Forbidden"]}'))
    api.validate = {"valid": True}
    done = cli("check", **{API_URL: api.url})
    ((about, text),) = problems(done)
    assert (done.code, about) == (2, "keys")
    assert "it is the application key" in text
    assert f"{len(NAMES) - FIRST} further views were not asked" in text
    assert (len(api.requests), len(api.asked[VALIDATE])) == (FIRST, 1)


# --- the API answers ----------------------------------------------------------------------


def test_every_view_is_asked_once_when_all_is_well(cli: Cli) -> None:
    with RawServer(otherwise=well) as server:
        done = cli("check", **{API_URL: server.url})
    assert (done.code, done.err) == (0, ""), done
    assert sorted(view_of(head) for head in server.heads) == sorted(NAMES)
    assert "120 views: 120 requests a run" in done.out


@pytest.mark.parametrize("name", [NAMES[0], NAMES[60]])
def test_the_trouble_of_one_view_stays_its_own(cli: Cli, api: Api, name: str) -> None:
    api.views = {n: records(n) for n in NAMES} | {name: (500, {}, b"oops")}
    done = cli("check", **{API_URL: api.url})
    (problem,) = problems(done)
    assert done.code == 1
    assert problem[1].startswith(f"{name} ")
    assert {request["filter[view_name]"] for request in api.requests} == set(NAMES)
    assert len(api.requests) == len(NAMES) - 1 + TRIES


def test_a_single_view_that_hangs_is_not_taken_for_a_dead_api(cli: Cli) -> None:
    cli.configure((cli.folder / "heatmap-etl.toml").read_text() + "[datadog]\ntimeout_s = 0.5\n")
    with RawServer(
        otherwise=lambda head: Reply() if view_of(head) == NAMES[0] else well(head)
    ) as server:
        done = cli("check", **{API_URL: server.url})
    (problem,) = problems(done)
    assert (done.code, problem[1].split()[0]) == (1, NAMES[0])
    assert {view_of(head) for head in server.heads} == set(NAMES)


# --- at once ------------------------------------------------------------------------------


def test_the_first_problem_is_shown_while_others_are_looked_for(cli: Cli, silent_port: int) -> None:
    url = f"http://127.0.0.1:{silent_port}"
    process = cli.start("check", **{API_URL: url, DATABASE: "sqlite:///missing/x.db"})
    assert process.stdout
    assert process.stdout.readline().startswith("ok       configuration")
    assert process.stdout.readline().startswith("PROBLEM  database")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    done = finish(process, timeout=8)
    assert (done.code, done.out) == (130, "")


def test_a_database_that_stays_silent_keeps_nobody_from_asking_datadog(
    cli: Cli, silent_port: int
) -> None:
    with RawServer(otherwise=well) as server:
        url = f"mysql://user:word@127.0.0.1:{silent_port}/name"
        done = cli("check", **{API_URL: server.url, DATABASE: url})
    ((about, text),) = problems(done)
    assert (done.code, about) == (2, "database")
    # By the time-out of a login, before check itself gives up.
    assert "the server gave no answer for 10 s (timed out); check host and port" in text
    assert "accepted by" in done.out
    assert len(server.heads) == len(NAMES)


def test_a_signal_ends_it_though_the_database_is_silent(cli: Cli, silent_port: int) -> None:
    with RawServer(otherwise=well) as server:
        url = f"mysql://user:word@127.0.0.1:{silent_port}/name"
        process = cli.start("check", **{API_URL: server.url, DATABASE: url})
        wait_until(lambda: len(server.heads) == len(NAMES))
        process.send_signal(signal.SIGTERM)
        assert finish(process, timeout=8).code == 143
