"""How the code is built: imports point one way, the middle is pure, nothing grows too long."""

import ast
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.api import Api, record
from tests.conftest import ROOT

# From the bottom up. A module may import from the lines above its own, never from its own line or
# from below. A new module gets its place here.
LAYERS = (
    ("etl", "etl.errors", "etl.schedule.cron"),
    # configuration
    ("etl.config.validators",),
    ("etl.config.database_url", "etl.config.credentials", "etl.config.sites", "etl.config.views"),
    ("etl.config.settings",),
    ("etl.config.folder", "etl.config.files"),
    ("etl.config.load", "etl.config.template"),
    ("etl.config.edit",),
    # pure, or of use to many
    (
        "etl.extract.buffer",
        "etl.database.types",
        "etl.transform.lenient_json",
        "etl.formatting",
        "etl.datadog.retry",
        "etl.datadog.responses",
    ),
    ("etl.datadog.rum",),
    ("etl.runtime.run_context",),
    (
        "etl.transform.fields",
        "etl.monitor.http_server",
        "etl.pipeline.heartbeat",
        "etl.diagnose.probe.redaction",
        "etl.runtime.console",
    ),
    ("etl.runtime.signals",),
    (
        "etl.transform.snapshot",
        "etl.runtime.logs",
        "etl.diagnose.probe.data",
        "etl.diagnose.probe.records",
        "etl.cli.progress",
    ),
    (
        "etl.extract.completeness",
        "etl.transform.privacy",
        "etl.diagnose.probe.answers",
        "etl.extract.spool",
    ),
    # the two outer worlds
    ("etl.database.schema", "etl.database.engine", "etl.datadog.transport"),
    ("etl.datadog.client", "etl.database.sql_views"),
    ("etl.database.connection",),
    ("etl.extract.discovery",),
    # decide and load
    ("etl.load.diff", "etl.source.lease", "etl.extract.listing", "etl.load.versions"),
    (
        "etl.ledger.runs",
        "etl.source.organization",
        "etl.extract.fetch",
        "etl.load.existing",
        "etl.load.upsert",
    ),
    ("etl.schedule.due", "etl.ledger.view_state", "etl.extract.verify", "etl.ledger.retention"),
    (
        "etl.source.identity",
        "etl.load.rejects",
        "etl.pipeline.select_views",
        "etl.source.privacy_setting",
    ),
    ("etl.load.writer",),
    ("etl.diagnose.probe.questions", "etl.pipeline.run"),
    ("etl.pipeline.sync",),
    # the bundled fake API stands on its own
    ("etl.fake_datadog.organization", "etl.fake_datadog.rate_limit"),
    ("etl.fake_datadog.aggregate", "etl.fake_datadog.world"),
    ("etl.fake_datadog.api",),
    ("etl.fake_datadog.greeting", "etl.fake_datadog.server", "etl.fake_datadog.year"),
    ("etl.fake_datadog",),
    # the outside
    (
        "etl.dbt",
        "etl.demo.rounds",
        "etl.dictionary",
        "etl.cli.output.schema",
        "etl.pipeline.plan",
        "etl.cli.options",
        "etl.source.rename",
    ),
    ("etl.serve.dashboard.looks", "etl.serve.export"),
    ("etl.serve.dashboard.charts",),
    ("etl.source.reapply_privacy", "etl.serve.dashboard.server", "etl.demo.year"),
    ("etl.diagnose.probe.report", "etl.cli.output.report", "etl.cli.fan_out"),
    (
        "etl.diagnose.check",
        "etl.monitor.health",
        "etl.monitor.metrics",
        "etl.pipeline.run_log",
        "etl.monitor.status",
        "etl.monitor.views",
    ),
    ("etl.monitor.metrics_file",),
    ("etl.cli.dashboard", "etl.cli.demo", "etl.cli.export"),
    ("etl.cli.run", "etl.schedule.daemon", "etl.cli.views"),
    ("etl.monitor.pages", "etl.cli.status"),
    ("etl.cli.schedule",),
    ("etl.cli.app",),
    ("etl.__main__",),
)
PURE = (
    *(
        "etl.transform.lenient_json",
        "etl.transform.fields",
        "etl.transform.snapshot",
        "etl.transform.privacy",
        "etl.load.diff",
        "etl.load.versions",
    ),
    "etl.extract.completeness",
    *("etl.datadog.responses", "etl.datadog.rum", "etl.schedule.cron"),
    *(
        "etl.diagnose.probe.redaction",
        "etl.diagnose.probe.data",
        "etl.diagnose.probe.records",
        "etl.diagnose.probe.answers",
    ),
)
IMPURE_IMPORTS = {
    *("asyncio", "glob", "io", "os", "pathlib", "shutil", "signal", "socket", "subprocess", "sys"),
    *("tempfile", "threading", "time", "uuid", "zoneinfo", "logging", "queue", "random", "secrets"),
    *("sqlalchemy", "alembic", "httpx", "urllib"),
}
IMPURE_CALLS = {"now", "utcnow", "today", "open", "print", "input", "getenv"}

MAX_FILE = 400
MAX_FUNCTION = 60
LONG_FUNCTION = 35
LONG_FUNCTIONS = 5


def path_to_module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


PATHS = {path_to_module(path): path for path in sorted((ROOT / "etl").rglob("*.py"))}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in PATHS.items()}


def imported(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Each `(module, name)` that is imported anywhere in it, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import relative to the module hides where it points"
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


def imports_of_us(tree: ast.AST, known: Mapping[str, object]) -> set[str]:
    found = set()
    for module, name in imported(tree):
        if module.partition(".")[0] == "etl":
            found.add(inner if (inner := f"{module}.{name}") in known else module)
    return found


def against_the_order(
    graph: Mapping[str, set[str]], layers: Sequence[Sequence[str]]
) -> list[tuple[str, str]]:
    level = {module: number for number, layer in enumerate(layers) for module in layer}
    return sorted(
        (module, target)
        for module, targets in graph.items()
        for target in targets
        if level[target] >= level[module]
    )


GRAPH = {module: imports_of_us(tree, TREES) for module, tree in TREES.items()}


def test_every_module_has_one_place_in_the_order():
    placed = [module for layer in LAYERS for module in layer]
    assert sorted(placed) == sorted(TREES)


def test_imports_point_one_way():
    assert against_the_order(GRAPH, LAYERS) == []
    assert sum(map(len, GRAPH.values())) > 50


def test_an_import_the_wrong_way_would_be_found():
    layers = [("etl.a", "etl.b"), ("etl.c",)]
    known = dict.fromkeys(["etl.a", "etl.b", "etl.c"])

    def found(module: str, code: str) -> list[tuple[str, str]]:
        return against_the_order({module: imports_of_us(ast.parse(code), known)}, layers)

    assert found("etl.c", "import etl.a\nfrom etl import b\nfrom etl.b import x\nimport os") == []
    assert found("etl.a", "from etl.c import x") == [("etl.a", "etl.c")]
    assert found("etl.a", "def f():\n    from etl import c") == [("etl.a", "etl.c")]
    assert found("etl.a", "import etl.b as neighbour") == [("etl.a", "etl.b")]
    with pytest.raises(KeyError):
        found("etl.a", "from etl.unplaced import x")


def test_the_order_is_that_of_the_design():
    level = {module: number for number, layer in enumerate(LAYERS) for module in layer}
    design = (
        ("cli",),
        ("sync",),
        ("listing", "changes", "store", "lease"),
        ("datadog", "snapshot", "schema"),
        ("errors", "config"),
    )
    for above, below in itertools.pairwise(design):
        assert all(level[f"etl.{a}"] > level[f"etl.{b}"] for a in above for b in below)


def test_the_fake_datadog_knows_nothing_of_us():
    for module, targets in GRAPH.items():
        if module.startswith("etl.fake_datadog"):
            assert [t for t in targets if not t.startswith("etl.fake_datadog")] == []


@pytest.mark.parametrize("module", PURE)
def test_the_middle_is_pure(module: str):
    assert impurities(TREES[module]) == []


def impurities(tree: ast.AST) -> list[str]:
    found = [f"import {m}" for m, _ in imported(tree) if m.partition(".")[0] in IMPURE_IMPORTS]
    for name, attribute in imported(tree):
        if name.startswith("etl.") and name not in (*PURE, "etl.errors"):
            found.append(f"import {name}")
        elif name == "etl" and f"etl.{attribute}" not in PURE:
            found.append(f"from etl import {attribute}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            call = getattr(called, "attr", None) or getattr(called, "id", "")
            found += [f"{call}()"] if call in IMPURE_CALLS else []
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import os",
        "from time import monotonic",
        "def f():\n    from sqlalchemy.sql import text",
        "from etl.database.schema import snapshots",
        "from etl import database",
        "from etl.config.load import View",
        "import datetime as dt\ndt.datetime.now()",
        "datetime.utcnow()",
        "open('x')",
    ],
)
def test_what_is_not_pure_would_be_found(code: str):
    assert len(impurities(ast.parse(code))) == 1


def test_no_file_is_too_long():
    lengths = {module: len(path.read_bytes().splitlines()) for module, path in PATHS.items()}
    assert {module: lines for module, lines in lengths.items() if lines > MAX_FILE} == {}


def test_no_function_is_too_long_and_few_are_long():
    lengths = {
        f"{module}.{node.name}": node.end_lineno - node.lineno + 1
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }
    assert len(lengths) > 200
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION} == {}
    long = {name: lines for name, lines in lengths.items() if lines > LONG_FUNCTION}
    assert len(long) <= LONG_FUNCTIONS, long


def test_no_module_is_a_drawer_for_everything():
    names = {module.rpartition(".")[2] for module in TREES}
    assert names & {"util", "utils", "helper", "helpers", "common", "misc", "base"} == set()


def test_no_module_is_called_like_one_of_pythons_own():
    # Alembic, by hand on the wheel's alembic.ini, puts the folder `etl` itself on the path.
    top = {module.split(".")[1] for module in TREES if "." in module} - {"__main__"}
    assert top & sys.stdlib_module_names == set()


NONE: Mapping[str, str] = MappingProxyType({})


def loaded_by(code: str, *, folder: Path = ROOT, variables: Mapping[str, str] = NONE) -> set[str]:
    """Modules that a fresh interpreter has loaded after `code`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; {code}; print(*sys.modules)"],
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


# All of ours that a run may load, and of Python and other libraries what these do not load anyway.
OF_A_RUN = """
__main__ attributes bodies changes cli column_types command completeness config config.database
config.folder config.keys config.settings config.site config.sources config.values config.views
dashboard_command database datadog demo_command discovery engine entries errors export_command
heartbeat jsontext judge labels layout lease ledger listing logs metrics_file oddities
organization patience privacy progress reader report response retention rows rum run_command
run_context run_log schedule_command schema scope side_by_side signals slots snapshot spool
status_command store stored stored_privacy sync terminal upsert views_command wire work
"""
BEFORE_A_RUN = "httpx, msgspec.json, sqlalchemy, click, sqlite3"
DRIVERS = {
    "sqlite": "sqlalchemy.dialects.sqlite",
    "postgresql": "psycopg, sqlalchemy.dialects.postgresql.psycopg",
    "mariadb": "pymysql, sqlalchemy.dialects.mysql.pymysql",
}
BESIDES = {"httpcore", "h11", "anyio", "certifi"}  # httpx loads these when it is first used
OF_PYTHON = {
    *("concurrent.futures.thread", "encodings.idna", "encodings.utf_8_sig", "gc", "gzip", "hmac"),
    *("queue", "_queue", "secrets", "stringprep", "tomllib"),
}


def test_a_run_loads_what_is_listed_and_nothing_else(
    database_url: str, dialect: str, api: Api, tmp_path: Path
) -> None:
    """Also what is loaded on the way: the run adds, changes, takes over and removes."""
    keys = {"DD_API_KEY": "api", "DD_APP_KEY": "app", "HEATMAP_ETL_DATABASE_URL": database_url}
    settings = f'views = ["/a", "/b"]\n[datadog]\napi_url = "{api.url}"\n'
    (tmp_path / "heatmap-etl.toml").write_text(settings, encoding="utf-8")
    sync = "from etl.__main__ import run; sys.argv[1:] = ['sync', '--quiet']; assert run() == 0"
    api.views = {view: [record(f"{view} {n}") for n in range(9)] for view in ("/a", "/b")}
    loaded_by(sync, folder=tmp_path, variables=keys)
    last = api.views["/b"].pop()
    api.views["/a"] = [record("/a 0", start=7), *api.views["/a"][2:], last, record("new")]

    before = loaded_by(f"import {BEFORE_A_RUN}, {DRIVERS[dialect]}")
    loaded = loaded_by(sync, folder=tmp_path, variables=keys) - before
    ours = {module.removeprefix("etl.") for module in loaded if module.startswith("etl.")}
    assert ours == set(OF_A_RUN.split())
    known = {"etl", *BESIDES, *OF_PYTHON}
    assert {m for m in loaded - known if m.partition(".")[0] not in known} == set()


def test_a_run_loads_nothing_it_does_not_use():
    # httpx loads rich and pygments by itself where they are installed.
    loaded = loaded_by("import etl.pipeline.sync") - loaded_by("import httpx")
    assert {"etl.pipeline.sync", "etl.load.writer", "sqlalchemy", "msgspec"} <= loaded
    unused = {"alembic", "mako", "apscheduler", "click", "rich", "pygments", "pytest", "pip"}
    unused |= {"psycopg", "pymysql", "pythonjsonlogger", "dotenv", "difflib", "html"}
    assert loaded & unused == set()
    ours = {"cli", "check", "status", "report", "demo", "plan", "fake_datadog", "progress"}
    assert loaded & {f"etl.{name}" for name in ours} == set()


def test_a_run_loads_no_other_library_and_no_database_it_does_not_use():
    loaded = loaded_by("import etl.cli.run") - loaded_by("import httpx")
    libraries = {module.partition(".")[0] for module in loaded} - sys.stdlib_module_names
    ours = {"etl", "click", "msgspec", "sqlalchemy", "typing_extensions"}
    assert {name for name in libraries - ours if "cython" not in name and name[0] != "_"} == set()
    parts = (
        "sqlalchemy.dialects.",
        "sqlalchemy.orm",
        "sqlalchemy.ext",
        "etl.pipeline.plan",
        "etl.diagnose.check",
        "etl.database.sql_views",
    )
    assert sorted(module for module in loaded if module.startswith(parts)) == []


def test_the_command_line_loads_what_a_command_needs_only_when_it_runs():
    loaded = loaded_by("import etl.cli.app")
    assert {"etl.cli.app", "click"} <= loaded
    assert loaded & {"sqlalchemy", "httpx", "msgspec", "alembic", "etl.pipeline.sync"} == set()
