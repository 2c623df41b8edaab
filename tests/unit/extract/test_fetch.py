"""What the fetcher keeps of the answers that it hands on."""

import gc
import threading
from dataclasses import replace

from etl.config.views import View
from etl.datadog.client import Client
from etl.extract.api_state import ApiState
from etl.extract.buffer import MAX_BODIES
from etl.extract.fetch import Failed, Fetcher
from tests.support.api import Api, Reply, record
from tests.support.project import make_config


def test_a_dropped_answer_frees_its_slot_at_once_after_a_refused_limit(api: Api) -> None:
    refusal: Reply = (400, {}, b'{"errors": ["the limit is at most 10"]}')
    replies: list[object] = [refusal, [record("a")]]
    api.views["/home"] = lambda: replies.pop(0)
    config = replace(make_config("sqlite:///unused.db", api.url), page_limit=20)
    assert config.keys is not None
    gc.disable()  # which would hide a cycle, and may not come round while every thread waits
    try:
        with (
            Client(config, config.keys) as client,
            Fetcher(client, config, ApiState(), threading.Event()) as fetcher,
        ):
            result = fetcher.fetch_one(View("/home"))
            assert not isinstance(result, Failed)
            del result
            slots = [fetcher.buffer.slot() for _ in range(MAX_BODIES)]
            assert [slot.take_now() for slot in slots] == [True] * MAX_BODIES
    finally:
        gc.enable()
