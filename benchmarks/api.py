"""The fast Datadog as the harness sees it: a process that is told what to answer."""

import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self
from urllib.request import ProxyHandler, Request, build_opener

from benchmarks.data import Size
from benchmarks.environments import ROOT

_open = build_opener(ProxyHandler({})).open


class Api:
    """Serves one organization; `set` says which stage, and how slowly."""

    def __init__(self, size: Size, stages: int) -> None:
        self.size = size
        command = [sys.executable, "-m", "benchmarks.server", str(size.views), str(size.about)]
        self._process = subprocess.Popen(
            [*command, str(stages)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the server of the benchmarks does not start")
        self.url = f"http://127.0.0.1:{port}"

    def set(self, stage: int = 0, delay_ms: int = 0) -> None:
        self._control({"stage": stage, "delay_ms": delay_ms})

    def requests(self) -> int:
        """For snapshots, since it was last set."""
        return int(self._control(None)["requests"])

    def _control(self, wanted: Any) -> dict[str, Any]:
        body = None if wanted is None else json.dumps(wanted).encode()
        with _open(Request(f"{self.url}/control", body), timeout=60) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()
