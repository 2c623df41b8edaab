"""A daemon that the tests of its endpoints and of its metrics watch."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import time_machine

from tests.support.api import Api, record
from tests.support.project import Project
from tests.support.watched import Watched, just_past_noon


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with just_past_noon() as traveller:
        yield traveller


@pytest.fixture
def watched(clock: time_machine.Traveller, project: Project, api: Api) -> Iterator[Watched]:
    api.views["/home"] = [record("1"), record("2")]
    project.configure(every_s=900.0, max_wait_s=0.0)
    with ExitStack() as stack:
        yield Watched(project.config, stack)
