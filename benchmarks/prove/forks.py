"""A process that has loaded everything, and that forks another one for each thing that is done.

    python -m benchmarks.prove.forks

To start the program anew takes longer than a run. A fork is a process of its own all the same:
it opens its own connections, and `kill -9` ends it where it stands. The one that forks has no
thread and no connection. It reads an `Order` from each line of stdin, and answers with an `Ended`.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import msgspec

KILLED = -signal.SIGKILL
LONGEST_S = 120.0
"""Of a process that nobody kills: one that hangs is a finding."""


class Order(msgspec.Struct):
    """What to do: the name of one of `ACTS`, on which database, and when to kill it."""

    act: str
    url: str
    api_url: str = ""
    kill_after_s: float | None = None
    changes: dict[str, Any] = {}
    """Settings that differ; for `rename` and `copy` their argument."""


class Ended(msgspec.Struct):
    """How the process ended; the code is -9 where it was killed."""

    code: int
    seconds: float
    said: str


def sync(order: Order) -> int:
    from benchmarks.prove.telling import configure
    from etl.pipeline.run import Options
    from etl.pipeline.sync import sync as run

    config = configure(order.url, order.api_url, **order.changes)
    with closing(_opened(order.url)) as database:
        result = run(config, database, Options(), stop=threading.Event())
    sys.stderr.write("" if result.status == "ok" else f"{result.status}: {result.error}")
    return int(result.status != "ok")


def upgrade(order: Order) -> int:
    from etl.cli.commands.db import upgrade_schema

    with closing(_opened(order.url)) as database:
        upgrade_schema(database)
    return 0


def privacy(order: Order) -> int:
    from benchmarks.prove.telling import configure
    from etl.source import reapply_privacy

    reapply_privacy.BATCH = 7  # as many transactions as a large database has
    config = configure(order.url, "http://127.0.0.1:9", **order.changes)
    with closing(_opened(order.url)) as database:
        reapply_privacy.apply_privacy(config, database, threading.Event())
    return 0


def copy(order: Order) -> int:
    from etl.source import table_copy
    from etl.source.copy_database import copy_database

    table_copy.BATCH = 7
    with (
        closing(_opened(order.url)) as database,
        closing(_opened(order.changes["to"])) as target,
    ):
        copy_database(database, target, lease_s=60)
    return 0


def rename(order: Order) -> int:
    from etl.source.rename import rename_source

    with closing(_opened(order.url)) as database:
        rename_source(database, order.changes["old"], order.changes["new"])
    return 0


ACTS = {act.__name__: act for act in (sync, upgrade, privacy, copy, rename)}


def _opened(url: str) -> Any:
    from etl.config.database_url import parse_database
    from etl.database.connection import open_database

    parsed = parse_database(url, Path.cwd())
    return open_database(parsed.url, label=parsed.label)


# --- the process that forks ----------------------------------------------------------------


def _load_all() -> None:
    """Everything that an act would import, once and for all of them."""
    import importlib

    for name in (
        "alembic.command", "alembic.ddl.mysql", "alembic.ddl.postgresql",
        "benchmarks.prove.telling", "etl.cli.commands.db", "etl.cli.output.schema",
        "etl.database.comments", "etl.database.ddl", "etl.database.dialects.mysql",
        "etl.database.dialects.postgresql",
        "etl.database.dialects.sqlite", "etl.datadog.client", "etl.pipeline.sync",
        "etl.source.copy_database", "etl.source.reapply_privacy", "etl.source.rename", "httpx",
        "psycopg", "pymysql", "sqlalchemy.dialects.mysql.pymysql",
        "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite",
    ):  # fmt: skip
        importlib.import_module(name)
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()


def serve() -> None:
    """Until stdin ends."""
    _load_all()
    print("ready", flush=True)
    for line in sys.stdin:
        ended = _forked(msgspec.json.decode(line, type=Order))
        print(msgspec.json.encode(ended).decode(), flush=True)


def _forked(order: Order) -> Ended:
    reading, writing = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        _act(order)
    os.close(writing)
    is_late = order.kill_after_s is None
    time.sleep(0 if order.kill_after_s is None else order.kill_after_s)
    watch = threading.Timer(LONGEST_S, os.kill, (pid, signal.SIGKILL)) if is_late else None
    if watch:
        watch.start()
    else:
        os.kill(pid, signal.SIGKILL)  # one that has ended is a zombie until somebody waits for it
    with os.fdopen(reading, "rb") as output:
        said = output.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - began
    if watch:
        watch.cancel()
        watch.join()
    return Ended(os.waitstatus_to_exitcode(status), seconds, said[-2000:])


def _act(order: Order) -> None:
    """In the child: it never returns."""
    code = 1
    try:
        code = ACTS[order.act](order)
    except BaseException as error:  # noqa: BLE001 - there is nobody above
        os.write(2, f"{type(error).__name__}: {error}".encode())
        code = getattr(error, "exit_code", 1)
    finally:
        sys.stderr.flush()
        os._exit(code)


# --- who asks for it -----------------------------------------------------------------------


class Forks:
    """`forks(order)` has it done in a process of its own, and says how that ended."""

    def __enter__(self) -> Self:
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.prove.forks"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(LONGEST_S)

    def __call__(self, order: Order) -> Ended:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._read(), type=Ended)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


if __name__ == "__main__":
    serve()
