"""The dashboard in a browser: Datasette on the SQLite file, with one page of ours.

Comes in: the file and where to listen. It is opened read-only, so a job may go on writing
to it; nothing is asked of anybody outside, and browsers are told not to either.
"""

from __future__ import annotations

import signal
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from msgspec.structs import asdict

from etl.database import schema, sql_views
from etl.database.connection import Database, is_there
from etl.database.dialects.sqlite import must_open_immutable
from etl.database.migrations import require_schema
from etl.errors import EtlError
from etl.serve.dashboard.charts import DASHBOARD

NAME = "heatmaps"
"""Of the database and of the page, in the addresses that Datasette serves."""
PAGE = f"/-/dashboards/{NAME}"
_FILES = Path(__file__).resolve().parent / "files"

App: TypeAlias = "Callable[[Any, Any, Any], Awaitable[None]]"

# Vega compiles its expressions, Datasette's pages hold scripts of their own.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def require_file(database: Database) -> Path:
    """The SQLite file to show. Raises `EtlError` when it is none, or holds no schema of ours."""
    file = database.file
    if not file:
        raise EtlError(
            f"the dashboard opens SQLite files only, and {database.label} is none; "
            "use Superset (docs/superset.md) or any BI tool (docs/bi.md)"
        )
    if not is_there(database):
        raise EtlError(f"there is no file {file} yet; run: heatmap-etl sync (or demo --large)")
    require_schema(database)
    return file


def require_datasette() -> None:
    """Raises `EtlError` when the extra is not installed."""
    if not all(map(find_spec, ("datasette", "datasette_dashboards"))):
        raise EtlError("the dashboard needs an extra; run: pip install 'heatmap-etl[dashboard]'")


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to the port; 0 takes a free one. Raises `EtlError` when it is taken."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = f"{error.strerror}; name another with --port, or --port 0"
        raise EtlError(f"cannot listen on {host}:{port}: {reason}") from None


def serve(file: Path, bound: socket.socket, on_ready: Callable[[], None]) -> None:
    """Answers on the socket until SIGINT or SIGTERM; `on_ready` is called once it does."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

    # Its own access log would tell each query; errors still come.
    config = uvicorn.Config(make_app(file), log_level="error", lifespan="on")
    # Once ended, uvicorn raises anew the signal that ended it.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            Server(config).run(sockets=[bound])
    finally:
        signal.signal(signal.SIGTERM, before)


def make_app(file: Path) -> App:
    """Datasette with the file and the page, and nothing else."""
    from datasette.app import Datasette
    from datasette.database import Database as Served

    class File(Served):  # type: ignore[misc]
        """A path may hold what has a meaning in a URI, and nobody may write."""

        def connect(self, write: bool = False) -> sqlite3.Connection:
            if write:
                raise sqlite3.OperationalError("attempt to write a readonly database")
            mode = "immutable=1" if must_open_immutable(file) else "mode=ro"
            address = f"{file.absolute().as_uri()}?{mode}"
            connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            self._all_file_connections.append(connection)
            return connection

    datasette = Datasette(
        metadata=metadata(),
        template_dir=str(_FILES / "templates"),
        static_mounts=[("assets", str(_FILES / "static"))],
        settings={
            "sql_time_limit_ms": 10_000,
            "allow_download": False,
            "num_sql_threads": 4,
            "default_page_size": 50,
        },
    )
    datasette.remove_database("_memory")
    datasette.add_database(File(datasette, path=str(file), is_mutable=True), name=NAME)
    app: App = datasette.app()
    return _within(app)


def _within(app: App) -> App:
    """The same with a policy that keeps a page from asking anybody but this server."""

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [
                    (b"content-security-policy", _POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await app(scope, receive, answer)

    return asked


# --- what it shows ------------------------------------------------------------------------


def metadata() -> dict[str, Any]:
    """Datasette's metadata: what the catalogue says of tables, views and columns, and the page."""
    tables = (*sql_views.metadata.tables.values(), *schema.metadata.tables.values())
    described = {
        table.name: {
            "description": table.comment,
            "columns": {column.name: column.comment for column in table.columns},
        }
        for table in tables
    }
    return {
        "title": DASHBOARD.title,
        "databases": {NAME: {"tables": described}},
        "plugins": {"datasette-dashboards": {NAME: page()}},
    }


def page() -> dict[str, Any]:
    """The page, as the plugin has it."""
    filters = {name: asdict(each) for name, each in DASHBOARD.filters.items()}
    return {
        "title": DASHBOARD.title,
        "description": DASHBOARD.description,
        "numbers": list(DASHBOARD.numbers),
        "rows": [list(row) for row in DASHBOARD.rows],
        "filters": {name: {"type": "select", "db": NAME, **each} for name, each in filters.items()},
        "charts": {name: {"db": NAME, **asdict(c)} for name, c in DASHBOARD.charts.items()},
    }
