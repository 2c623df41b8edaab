"""The dashboard in a browser: Datasette on the SQLite file, with one page of our own.

The file is opened read-only, so a run may write to it meanwhile. Neither the server nor the pages
in the browser send requests to other hosts.
"""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from msgspec.structs import asdict
from sqlalchemy import Boolean, Table

from etl.config.allowed_hosts import AllowedHosts
from etl.database import schema, sql_views
from etl.database.connection import Database, is_there
from etl.database.dialects.sqlite import must_open_immutable
from etl.database.dialects.types import UtcDateTime
from etl.database.migrations import require_schema
from etl.errors import EtlError
from etl.formatting import to_install
from etl.serve.dashboard.bounded_sqlite import TEMPORARY_FILE, BoundedConnection
from etl.serve.dashboard.charts import DASHBOARD
from etl.serve.dashboard.gate import (
    MOST_AT_ONCE,
    App,
    answer,
    bounding_answers,
    refusing_foreigners,
    with_security_headers,
)
from etl.serve.dashboard.questions import MOMENT, QUESTIONS, Filter, Question

NAME = "heatmaps"
"""Name of the database and of the page in Datasette's URLs."""
_LIST = "/-/dashboards"
PAGE = f"{_LIST}/{NAME}"
_FILES = Path(__file__).resolve().parent / "files"
_BACKLOG = 64  # asyncio takes as many connections at once as wait, before one can be dropped
_FAREWELL_S = 15  # a query ends within ten


def require_file(database: Database) -> Path:
    """The SQLite file to show; raises `EtlError` for another database, or without our schema."""
    file = database.file
    if not file:
        raise EtlError(
            f"the dashboard opens SQLite files only, and {database.label} is not one; "
            "use Grafana (docs/grafana.md), Superset (docs/superset.md) or any BI tool (docs/bi.md)"
        )
    if not is_there(database):
        named = f"; it was named by {database.origin}" if database.origin else ""
        raise EtlError(
            f"there is no file {file} yet; run: heatmap-etl sync (or demo --large){named}"
        )
    require_schema(database)
    return file


def require_datasette() -> None:
    """Raises `EtlError` when the extra is not installed."""
    if not all(map(find_spec, ("datasette", "datasette_dashboards"))):
        raise EtlError(f"the dashboard needs an extra; run: {to_install('dashboard')}")


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the port; 0 takes a free one. Raises `EtlError` when it is taken."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = f"{error.strerror}; choose another port with --port, or a free one with --port 0"
        raise EtlError(f"cannot listen on {host}:{port}: {reason}") from None


def serve(
    file: Path, listener: socket.socket, allowed: AllowedHosts, on_ready: Callable[[], None]
) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` is called once requests are answered."""
    import uvicorn

    from etl.serve.dashboard.connections import BoundedProtocol

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

    # Its access log would show each query; errors are still logged.
    config = uvicorn.Config(
        make_app(file, allowed),
        http=BoundedProtocol,
        ws="none",
        log_level="error",
        lifespan="on",
        backlog=_BACKLOG,
        server_header=False,
        timeout_graceful_shutdown=_FAREWELL_S,
    )
    _bound_temporary_files()
    # When it is done, uvicorn raises the signal that ended it once more.
    previous_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            Server(config).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def _bound_temporary_files() -> None:
    """A query may sort more than the disk has; nothing else here writes a file."""
    with suppress(ImportError):  # not on Windows
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        limits = [TEMPORARY_FILE, *(limit for limit in (soft, hard) if limit >= 0)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (min(limits), hard))


def make_app(file: Path, allowed: AllowedHosts) -> App:
    """Datasette with the file and the page, and nothing else."""
    from datasette.app import Datasette
    from datasette.database import Database as DatasetteDatabase

    class ReadOnlyFile(DatasetteDatabase):  # type: ignore[misc]
        """Refuses to write, and quotes the path, which may hold characters special in a URI."""

        def connect(self, write: bool = False) -> sqlite3.Connection:
            if write:
                raise sqlite3.OperationalError("attempt to write a readonly database")
            mode = "immutable=1" if must_open_immutable(file) else "mode=ro"
            uri = f"{file.absolute().as_uri()}?{mode}"
            connection = sqlite3.connect(
                uri, uri=True, check_same_thread=False, factory=BoundedConnection
            )
            self._all_file_connections.append(connection)
            return connection

        async def execute(self, *arguments: Any, **settings: Any) -> Any:
            # Else each query that fails would be in the log, with all that a reader wrote in it.
            return await super().execute(*arguments, **{**settings, "log_sql_errors": False})

    # Datasette turns it on; a function that refuses would be in the log, as if it were a bug.
    sqlite3.enable_callback_tracebacks(False)
    # A page that is given up is no bug either: Datasette has made parts of it, and not begun them.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    datasette = Datasette(
        metadata=metadata(),
        template_dir=str(_FILES / "templates"),
        static_mounts=[("assets", str(_FILES / "static"))],
        settings={
            "sql_time_limit_ms": 10_000,
            "allow_download": False,
            "max_returned_rows": 1000,
            "max_csv_mb": 100,
            "num_sql_threads": MOST_AT_ONCE,
            "default_page_size": 50,
        },
    )
    datasette.jinja_env.globals |= {
        "instants": instants(),
        "booleans": booleans(),
        "complaints_about": complaints_about,
    }
    datasette.remove_database("_memory")
    datasette.add_database(ReadOnlyFile(datasette, path=str(file), is_mutable=True), name=NAME)
    app: App = datasette.app()
    return with_security_headers(
        refusing_foreigners(bounding_answers(_with_own_answers(app)), allowed)
    )


def _with_own_answers(app: App) -> App:
    """Refuse filters that say nothing, and show the page in place of a list of one."""

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if path.rstrip("/") == _LIST:
            await answer(send, 302, (b"location", PAGE.encode()))
            return
        name, _, ending = path.removeprefix(f"/{NAME}/").partition(".")
        pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        complaints = complaints_about(name, dict(reversed(pairs)))  # of several, Datasette's first
        if not complaints:
            await app(scope, receive, send)
        elif ending:
            refusal = json.dumps({"ok": False, "error": " ".join(complaints)}).encode()
            await answer(send, 400, (b"content-type", b"application/json"), body=refusal)
        else:
            await app(scope, receive, _refusing(send))  # our template shows the complaints

    return answered


def _refusing(send: Any) -> Any:
    """Sends what it is given, with the status of a refusal."""

    async def send_refusal(message: Any) -> None:
        await send({**message, "status": 400} if "status" in message else message)

    return send_refusal


# --- what it shows ------------------------------------------------------------------------


# What a reader of a SQL view wants to see first.
_ORDER = {
    "current_snapshots": {"sort_desc": "created_at"},
    "snapshot_versions": {"sort_desc": "valid_from"},
    "snapshot_changes": {"sort_desc": "noticed_at"},
    "view_coverage": {"sort_desc": "views_30d"},
    "sync_health": {"sort": "is_trusted"},
}


def metadata() -> dict[str, Any]:
    """Datasette's metadata: what tables, views and columns mean, the questions, and the page.

    The tables are hidden: they may change, and what people read are the SQL views.
    """
    views = sql_views.metadata.tables.values()
    tables = schema.metadata.tables.values()
    migrations = {"description": "Which migrations the file has had.", "columns": {}}
    described = {
        **{view.name: _described(view) | _ORDER[view.name] for view in views},
        **{table.name: _described(table) | {"hidden": True} for table in tables},
        schema.VERSION_TABLE: migrations | {"hidden": True},
    }
    questions = {
        question.name: _canned_query(number, question)
        for number, question in enumerate(QUESTIONS.questions, start=1)
    }
    return {
        "title": DASHBOARD.title,
        "databases": {NAME: {"tables": described, "queries": questions}},
        "plugins": {"datasette-dashboards": {NAME: page()}},
    }


def _described(table: Table) -> dict[str, Any]:
    columns = {column.name: column.comment for column in table.columns}
    return {"description": table.comment, "columns": columns}


def _canned_query(number: int, question: Question) -> dict[str, Any]:
    """A question as Datasette has it; our template makes a form of its filters."""
    filters = QUESTIONS.filters_of(question)
    return {
        "title": f"{number}. {question.title}",
        "description": question.note.replace("`", "").replace("\n", " "),
        "sql": QUESTIONS.sqlite_sql(question),
        "params": list(filters),
        "filters": {name: _form_field(name, filter_) for name, filter_ in filters.items()},
    }


def _form_field(name: str, filter_: Filter) -> dict[str, str]:
    options = DASHBOARD.filters[name].query if filter_.kind == "choice" else ""
    return {
        "label": filter_.label,
        "kind": filter_.kind,
        "empty": filter_.empty,
        "options": options,
        "pattern": MOMENT,
    }


def complaints_about(name: str, written: Mapping[str, str]) -> list[str]:
    """What is wrong with the filters of the question of that name; nothing for another page."""
    questions = [question for question in QUESTIONS.questions if question.name == name]
    return [c for question in questions for c in QUESTIONS.complaints(question, written)]


def booleans() -> list[str]:
    """Names of the columns of the SQL views whose 1 and 0 the pages show as yes and no."""
    columns = (column for view in sql_views.metadata.tables.values() for column in view.columns)
    return sorted({column.name for column in columns if isinstance(column.type, Boolean)})


def instants() -> list[str]:
    """Names of the columns whose values the pages may show as instants."""
    tables = (*sql_views.metadata.tables.values(), *schema.metadata.tables.values())
    columns = (column for table in tables for column in table.columns)
    named = {column.name for column in columns if isinstance(column.type, UtcDateTime)}
    return sorted({*named, *DASHBOARD.instants, *QUESTIONS.instants})


def page() -> dict[str, Any]:
    """The page in the format of the plugin datasette-dashboards."""
    filters = {name: asdict(f) for name, f in DASHBOARD.filters.items()}
    return {
        "title": DASHBOARD.title,
        "description": DASHBOARD.description,
        "numbers": list(DASHBOARD.numbers),
        "rows": [list(row) for row in DASHBOARD.rows],
        "filters": {name: {"type": "select", "db": NAME, **f} for name, f in filters.items()},
        "charts": {name: {"db": NAME, **asdict(c)} for name, c in DASHBOARD.charts.items()},
    }
