"""As PID 1, which no default of the kernel ends: as in a container, in a real namespace."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.fake_datadog import FakeDatadog, World
from tests.support.command_line import SECRETS, Cli
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
DELAYS = tuple(n / 20 for n in range(11))  # as long as the start takes on a busy machine
ENTRYPOINT = re.findall(
    r'^ENTRYPOINT \["(env)", "(.*?)", "heatmap-etl"\]$',
    (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def has_namespaces() -> bool:
    if shutil.which(UNSHARE[0]) is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not has_namespaces(),
    reason="LOUD: PID 1 is not tested: needs util-linux and the right to make a PID namespace",
)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Against an API that answers too late: a signal that is lost is one after which it goes on."""
    api_key, app_key = SECRETS.values()
    world = World(views=("/home",), snapshots_per_view=2)
    with FakeDatadog(world, api_key=api_key, app_key=app_key, latency_s=60) as datadog:
        cli = Cli(tmp_path)
        cli.configure(
            'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home"]\n'
            f'[datadog]\napi_url = "{datadog.url}"\n'
        )
        yield cli


def child_of(pid: int) -> int | None:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return int(text.split()[0]) if text.split() else None


def end_of(cli: Cli, prefix: tuple[str, ...], number: int, delay_s: float | None) -> int:
    """The exit code of a run as PID 1 that gets a signal so long after its program has begun.

    None: as soon as it has a handler for SIGTERM, which Python has none for.
    """
    process = subprocess.Popen(
        [*UNSHARE, *prefix, *cli.command("sync")],
        cwd=cli.folder,
        env=cli.environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while (pid := child_of(process.pid)) is None or command_of(pid) != sys.executable:
            assert process.poll() is None
        if delay_s is None:
            wait_until(lambda: is_caught(pid, signal.SIGTERM))
        time.sleep(delay_s or 0)
        os.kill(pid, number)
        return process.wait(20)
    finally:
        process.kill()
        process.wait()


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().partition("\0")[0]


def is_caught(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_the_image_starts_it_no_signal_is_lost(cli: Cli, number: int) -> None:
    (prefix,) = ENTRYPOINT
    codes = {delay: end_of(cli, prefix, number, delay) for delay in DELAYS}
    assert codes == dict.fromkeys(DELAYS, 128 + number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_by_itself_it_ends_from_the_first_handler_on(cli: Cli, number: int) -> None:
    assert [end_of(cli, (), number, None) for _ in range(3)] == [128 + number] * 3
