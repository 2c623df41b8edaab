"""The endpoints of `--listen`: alive, ready, and the status as JSON."""

import time
from datetime import timedelta

import pytest
import time_machine

from etl.errors import EtlError
from etl.monitor.http_endpoints import SILENT_S
from etl.monitor.http_server import listening
from tests.support.api import Api, record
from tests.support.watched import QUARTER, Watched, get


@pytest.mark.slow
def test_while_the_api_is_down_health_stays_and_status_turns(
    watched: Watched, api: Api, clock: time_machine.Traveller
) -> None:
    clock.shift(QUARTER)
    watched.look()
    assert watched.json("/status")["reasons"] == []
    api.views["/home"] = (503, {}, b"")
    for _ in range(10):
        clock.shift(QUARTER)
        watched.look()
        watched.daemon.ticked_at = time.monotonic()
        assert [watched.code(p) for p in ("/healthz", "/readyz", "/status")] == [200, 200, 503]
    (reason,) = watched.json("/status")["reasons"]
    assert reason.startswith("datadoghq.com: failed: run ")
    api.views["/home"] = [record("1")]
    clock.shift(QUARTER)
    watched.look()
    assert [watched.code(p) for p in ("/healthz", "/readyz", "/status")] == [200, 200, 200]
    (source,) = watched.json("/status")["sources"]
    assert source["last_run"]["status"] == "ok"
    assert source["due_since"] is None
    samples = watched.samples()
    assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="failed"}'] == 10
    assert samples['heatmap_etl_runs_total{source="datadoghq.com",status="ok"}'] == 2
    assert samples['heatmap_etl_http_requests_total{code="503",source="datadoghq.com"}'] == 10


def test_a_late_run_is_told(watched: Watched, clock: time_machine.Traveller) -> None:
    clock.shift(QUARTER)
    assert watched.code("/status") == 200
    clock.shift(timedelta(minutes=3))
    status = watched.json("/status")
    assert status["status"] == "bad"
    assert "late: a run has been due since 2026-11-25T12:15:00" in status["reasons"][0]
    assert status["sources"][0]["next_run_at"] == "2026-11-25T12:30:00.000000Z"


def test_a_loop_that_hangs_is_no_longer_alive(watched: Watched) -> None:
    assert watched.code("/healthz") == 200
    watched.daemon.ticked_at -= SILENT_S + 1
    assert watched.code("/healthz") == 503


def test_what_is_not_there_is_named(watched: Watched) -> None:
    status, _, text = get(f"{watched.url}/nowhere")
    assert (status, "/healthz" in text) == (404, True)


def test_an_address_that_is_taken_is_one_line(watched: Watched) -> None:
    port = int(watched.url.rpartition(":")[2])
    with pytest.raises(EtlError, match="cannot listen on 127"), listening(("127.0.0.1", port), {}):
        pass
