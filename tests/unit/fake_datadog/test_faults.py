"""Faults on purpose, over real HTTP: each kind as a client sees it, and that they repeat."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, IncompleteRead
from urllib.parse import urlencode

import httpx
import pytest
from click.testing import CliRunner

from etl.cli.app import cli
from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog, Fault, Faults, World, server
from etl.fake_datadog.api import APPLICATIONS, SNAPSHOTS, VALIDATE
from etl.fake_datadog.faults import KINDS

KEYS = {"DD-API-KEY": API_KEY, "DD-APPLICATION-KEY": APP_KEY}
HOME = {"filter[view_name]": "/home", "page[limit]": "1000"}
Failing = Callable[..., httpx.Client]


@pytest.fixture
def failing() -> Iterator[Failing]:
    """`failing("500:0.2")`: a client of a fake with these faults."""
    with ExitStack() as stack:

        def start(*faults: str, seed: int = 1) -> httpx.Client:
            drawn = Faults(map(Fault.parse, faults), seed)
            datadog = stack.enter_context(FakeDatadog(World(), faults=drawn))
            client = httpx.Client(base_url=datadog.url, headers=KEYS, trust_env=False)
            return stack.enter_context(client)

        yield start


@pytest.mark.parametrize("path", [SNAPSHOTS, APPLICATIONS, VALIDATE])
@pytest.mark.parametrize(
    ("kind", "status", "says"),
    [
        ("429", 429, "Too many requests"),
        ("500", 500, "Internal Server Error"),
        ("auth", 403, "Forbidden"),
    ],
)
def test_every_endpoint_refuses(
    failing: Failing, kind: str, status: int, says: str, path: str
) -> None:
    answer = failing(kind).get(path, params=HOME)
    assert (answer.status_code, says in answer.text) == (status, True)


def test_a_used_up_rate_limit_says_when_it_ends(failing: Failing) -> None:
    answer = failing("429").get(SNAPSHOTS, params=HOME)
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert 1 <= int(answer.headers["Retry-After"]) <= 10
    assert answer.headers["Retry-After"] == answer.headers["X-RateLimit-Reset"]


def test_empty_empties_the_lists_of_snapshots_and_nothing_else(failing: Failing) -> None:
    client = failing("empty")
    assert client.get(SNAPSHOTS, params=HOME).json() == {"data": []}
    assert client.get(APPLICATIONS).json()["data"] != []
    assert client.get(SNAPSHOTS).status_code == 400
    assert client.get(SNAPSHOTS, params=HOME, headers={"DD-API-KEY": "x"}).status_code == 403


@pytest.mark.parametrize("coding", ["gzip", "identity"])
def test_a_cut_answer_ends_in_its_middle(failing: Failing, coding: str) -> None:
    host = str(failing("cut").base_url.netloc, "ascii")
    with closing(HTTPConnection(host, timeout=10)) as connection:
        path = f"{SNAPSHOTS}?{urlencode(HOME)}"
        connection.request("GET", path, headers={**KEYS, "Accept-Encoding": coding})
        answer = connection.getresponse()
        assert answer.headers.get("Content-Encoding", "identity") == coding
        length = int(answer.headers["Content-Length"])
        with pytest.raises(IncompleteRead) as caught:
            answer.read()
    assert len(caught.value.partial) == length // 2 > 100


def test_a_slow_answer_comes_late_and_whole(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = failing("slow")
    with pytest.raises(httpx.ReadTimeout):
        client.get(SNAPSHOTS, params=HOME, timeout=0.3)
    monkeypatch.setattr(server, "SLOW_S", 0.5)
    before = time.monotonic()
    assert len(client.get(SNAPSHOTS, params=HOME, timeout=20).json()["data"]) > 4
    assert time.monotonic() - before >= 0.5


def test_a_server_ends_at_once_while_an_answer_is_late() -> None:
    with (
        FakeDatadog(World(), faults=Faults([Fault("slow")])) as datadog,
        pytest.raises(httpx.ReadTimeout),
    ):
        httpx.get(datadog.url + SNAPSHOTS, params=HOME, headers=KEYS, timeout=0.2)
    assert datadog.faults.done == {"slow": 1}


@pytest.mark.parametrize(("faults", "hours"), [((), 0), (("clock",), -2), (("clock", "500"), -2)])
def test_the_date_of_an_answer(failing: Failing, faults: tuple[str, ...], hours: int) -> None:
    answer = failing(*faults).get(SNAPSHOTS, params=HOME)
    assert len(answer.headers.get_list("Date")) == 1
    offset = parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)
    assert offset.total_seconds() == pytest.approx(3600 * hours, abs=20)


def statuses(client: httpx.Client, number: int = 400) -> list[int]:
    return [client.get(SNAPSHOTS, params=HOME).status_code for _ in range(number)]


def test_a_share_is_kept_and_repeats_with_its_seed(failing: Failing) -> None:
    first = statuses(failing("500:0.25"))
    assert 70 <= first.count(500) <= 130
    assert statuses(failing("500:0.25")) == first
    assert statuses(failing("500:0.25", seed=2)) != first


def test_what_a_question_gets_does_not_depend_on_others(failing: Failing) -> None:
    one, other = failing("500:0.5"), failing("500:0.5")
    views = World().view_names
    params = [{**HOME, "filter[view_name]": view} for view in views]
    there = [one.get(SNAPSHOTS, params=p).status_code for p in params]
    back = [other.get(SNAPSHOTS, params=p).status_code for p in reversed(params)]
    assert there == back[::-1]
    assert set(there) == {200, 500}


def test_each_kind_spoils_its_own_share(failing: Failing) -> None:
    found = statuses(failing("500:0.3", "auth:0.3"))
    assert {found.count(500) > 80, found.count(403) > 50, found.count(200) > 130} == {True}


@pytest.mark.parametrize("share", ["0", "0.0", "1e-9"])
def test_a_share_of_nothing_spoils_nothing(failing: Failing, share: str) -> None:
    assert set(statuses(failing(f"500:{share}"), 50)) == {200}


def test_faults_that_are_off_spoil_nothing() -> None:
    with FakeDatadog(World(), faults=Faults([Fault("500")])) as datadog:
        datadog.faults.is_off = True
        answer = httpx.get(datadog.url + SNAPSHOTS, params=HOME, headers=KEYS)
    assert answer.status_code == 200
    assert not datadog.faults.done


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("501", "'501' is none of 429, 500, empty, cut, slow, auth, clock"),
        ("", "'' is none of"),
        ("500 ", "is none of"),
        *((f"500:{share}", "from 0 to 1, such as 500:0.2") for share in ("", "x", "nan", "1.1")),
        *((f"cut:{share}", "from 0 to 1, such as cut:0.2") for share in ("-0.1", "20%", "inf")),
    ],
)
def test_another_kind_or_share_is_refused_with_what_is_expected(text: str, says: str) -> None:
    done = CliRunner().invoke(cli, ["fake-datadog", "--fault", text])
    assert done.exit_code == 2
    assert "--fault" in done.output
    assert says in done.output


def test_the_help_names_each_kind() -> None:
    text = CliRunner().invoke(cli, ["fake-datadog", "--help"]).output
    for kind in KINDS:
        assert re.search(rf"^ +{kind} +\w", text, re.MULTILINE)
