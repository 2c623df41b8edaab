"""One outage of Datadog is one line, for 120 views, whatever is wrong, and for many sources."""

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from etl.cli.output.run import quiet_lines
from etl.pipeline.notify import log_run
from tests.support import raw_server as raw
from tests.support.project import Project, make_config, open_project
from tests.support.raw_server import RawServer, Reply, reply

VIEWS = [f"/shop/{number}" for number in range(120)]
NOBODY = "http://127.0.0.1:9"
counter = itertools.count(1)
released = threading.Event()


@pytest.fixture
def open_on(new_database: Callable[..., str]) -> Iterator[Callable[..., Project]]:
    """A project on SQLite that asks this API for these views."""
    made: list[Project] = []

    def make(url: str, views: list[str], **settings: object) -> Project:
        made.append(open_project(make_config(new_database("sqlite"), url, views)))
        made[-1].configure(**{"max_wait_s": 0.1, "concurrency": 8, **settings})
        return made[-1]

    yield make
    for project in made:
        project.database.close()


@dataclass
class Fault:
    """What is wrong, what the one line says of it, and settings that keep the test short."""

    otherwise: Reply | Callable[[bytes], Reply] | None
    says: str
    settings: dict[str, float] = field(default_factory=dict)


FAULTS = {
    "nothing listens": Fault(None, "no answer: no connection to 127.0.0.1: "),
    "500": Fault(reply(500, "oops"), "500: oops"),
    "a request id": Fault(
        lambda _: reply(500, f'{{"errors": ["no: {uuid4()}, {next(counter)}"]}}'), "500: no: "
    ),
    "429": Fault(reply(429, '{"errors": ["Too many"]}'), "the rate limit is used up (429)"),
    "429 for long": Fault(
        reply(429, "", {"X-RateLimit-Reset": "600", "X-RateLimit-Remaining": "0"}),
        "the rate limit is used up (429)",
    ),
    "hangs": Fault(
        Reply(wait_for=released), "took too long: the head did not arrive", {"timeout_s": 0.2}
    ),
    "resets": Fault(raw.RESET, "no answer: the head did not arrive: the connection was closed"),
    "hangs up": Fault(raw.HUNG_UP, "no answer: the head did not arrive: the connection was closed"),
    "cut": Fault(raw.CUT, "200: the answer did not end: the connection was closed or reset"),
    "no JSON": Fault(
        lambda _: reply(200, '{"data": [' + " " * next(counter)), "200: the answer is not JSON"
    ),
    "403": Fault(reply(403, '{"errors": ["Forbidden"]}'), "403: Forbidden"),
    "a page": Fault(reply(403, "<title>Blocked</title>"), "403: Blocked"),
    "404": Fault(reply(404, '{"errors": ["Not found"]}'), "404: Not found"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_outage_is_one_line(
    fault: Fault, open_on: Callable[..., Project], caplog: pytest.LogCaptureFixture
) -> None:
    released.clear()
    with ExitStack() as ends:
        url = NOBODY
        if fault.otherwise:
            server = ends.enter_context(RawServer(otherwise=fault.otherwise))
            ends.callback(released.set)
            url = server.url
        run = open_on(url, VIEWS, **fault.settings).run()
    (line,) = quiet_lines(run)
    assert line.startswith("120 views (/shop/0, /shop/1, /shop/2, ...)")
    assert fault.says in line
    assert len({view.error for view in run.views}) > 1  # each says more of its own
    with caplog.at_level(logging.INFO):
        log_run(run)
    (of_views,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert of_views.getMessage() == f"datadoghq.com: {line}"
    assert (of_views.views, of_views.view_names) == (120, VIEWS[:3])  # type: ignore[attr-defined]
    assert len([r for r in caplog.records if r.name == "etl.pipeline.notify"]) == 2


def test_two_outages_are_two_lines(open_on: Callable[..., Project]) -> None:
    def answer(head: bytes) -> Reply:
        return reply(500 if int(raw.view_of(head).rpartition("/")[2]) % 2 else 404, "oops")

    with RawServer(otherwise=answer) as server:
        lines = quiet_lines(open_on(server.url, VIEWS, max_wait_s=0.0).run())
    assert sorted(line.partition(": failed: ")[2][:3] for line in lines) == ["404", "500"]
    assert all(line.startswith("60 views (") for line in lines)
