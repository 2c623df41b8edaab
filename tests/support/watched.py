"""A daemon as monitors see it, by the endpoints of `--listen`."""

import json
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine

from etl.config.model import Config, Sources
from etl.monitor.http_endpoints import pages_of
from etl.monitor.http_server import listening
from etl.monitor.metrics import Metrics
from etl.schedule.daemon import Daemon

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def just_past_noon() -> time_machine.travel:
    """Five seconds past noon, and the clock goes on."""
    return time_machine.travel(NOON + timedelta(seconds=5), tick=True)


def get(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


class Watched:
    """A daemon that listens, and whose job the test runs itself."""

    def __init__(self, config: Config, stack: ExitStack) -> None:
        self.metrics = Metrics([config.source])
        self.daemon = Daemon(
            Sources((config,), is_folder=False), threading.Event(), self.metrics.add
        )
        pages = pages_of(self.daemon, self.metrics)
        self.url = stack.enter_context(listening(("127.0.0.1", 0), pages))
        self.look = self.daemon.jobs[0].look

    def code(self, path: str) -> int:
        return get(self.url + path)[0]

    def json(self, path: str) -> Any:
        return json.loads(get(self.url + path)[2])

    def samples(self) -> dict[str, float]:
        status, kind, text = get(f"{self.url}/metrics")
        assert (status, kind.partition(";")[0]) == (200, "text/plain")
        return parsed(text)


def parsed(text: str) -> dict[str, float]:
    lines = [line for line in text.split("\n") if line and line[0] != "#"]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
