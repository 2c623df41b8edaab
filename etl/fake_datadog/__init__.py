"""A fake Datadog: one invented organization behind a real HTTP server.

    with FakeDatadog(World()) as datadog:
        ...  # ask datadog.url with API_KEY and APP_KEY

It serves the demo, the tests and people without a Datadog account. It shares no
code with the rest of the project, so that a mistake there is not repeated here.
"""

from etl.fake_datadog.api import API_KEY, APP_KEY, BEARER_TOKEN
from etl.fake_datadog.faults import Fault, Faults
from etl.fake_datadog.server import FakeDatadog, RecordedRequest, serve
from etl.fake_datadog.world import Event, World

__all__ = [
    "API_KEY",
    "APP_KEY",
    "BEARER_TOKEN",
    "Event",
    "FakeDatadog",
    "Fault",
    "Faults",
    "RecordedRequest",
    "World",
    "serve",
]
