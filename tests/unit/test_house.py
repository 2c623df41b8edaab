"""How the code is built: imports point one way, the middle is pure, a run loads what it needs."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support.api import Api, record
from tests.support.paths import ROOT

PURE = (
    *("etl.transform.lenient_json", "etl.transform.fields", "etl.transform.snapshot"),
    *("etl.transform.decode", "etl.transform.privacy", "etl.transform.hider"),
    *("etl.transform.person_names", "etl.transform.persons", "etl.transform.strict_json"),
    *("etl.transform.envelope", "etl.transform.json_pieces"),
    *("etl.extract.completeness", "etl.extract.names", "etl.extract.partition"),
    *("etl.extract.side_question", "etl.extract.view_selection", "etl.formatting", "etl.causes"),
    *("etl.library_faults", "etl.own_keys"),
    *("etl.load.changeset", "etl.load.diff", "etl.load.ownership", "etl.load.removals"),
    "etl.load.versions",
    *(
        "etl.datadog.cache_headers",
        "etl.datadog.dates",
        "etl.datadog.responses",
        "etl.datadog.rate_limit",
        "etl.datadog.page_limit",
        "etl.datadog.rum",
        "etl.datadog.wire.proxy",
    ),
    *("etl.config.cron_line", "etl.config.host_name", "etl.schedule.cron"),
    *("etl.config.allowed_hosts", "etl.monitor.http_request"),
    "etl.pipeline.progress_bound",
    "etl.source.true_instants",
    *("etl.diagnose.probe.redaction", "etl.diagnose.probe.data", "etl.diagnose.probe.records"),
    "etl.diagnose.probe.answers",
)
IMPURE_IMPORTS = {
    *("asyncio", "glob", "io", "os", "pathlib", "shutil", "signal", "socket", "subprocess", "sys"),
    *("tempfile", "threading", "time", "uuid", "zoneinfo", "logging", "queue", "random", "secrets"),
    *("sqlalchemy", "alembic", "httpx", "urllib"),
}
IMPURE_CALLS = {"now", "utcnow", "today", "open", "print", "input", "getenv"}


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


PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WALLS = {wall["id"]: wall for wall in PYPROJECT["tool"]["importlinter"]["contracts"]}
# For each wall a module and what it must not import.
BREACHES = {
    "order": ("etl.config.load", "etl.pipeline.sync"),
    "acyclic": ("etl.transform.lenient_json", "etl.transform.snapshot"),
    "extract": ("etl.extract.listing", "sqlalchemy"),
    "load": ("etl.load.writer", "etl.datadog.client"),
    "transform": ("etl.transform.snapshot", "etl.config.views"),
    "wire": ("etl.datadog.wire.deadline", "etl.datadog.client"),
    "http": ("etl.load.upsert", "httpx"),
    "drivers": ("etl.load.upsert", "pymysql"),
    "click": ("etl.load.upsert", "click"),
    "fake": ("etl.fake_datadog.world", "etl.errors"),
}

GRAPH = {module: imports_of_us(tree, TREES) for module, tree in TREES.items()}


def verdict(wall: str, folder: Path = ROOT) -> tuple[int, str]:
    """Exit code of import-linter and what it says, asked for one contract of `pyproject.toml`."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--contract", wall],
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    # It colours its lines wherever they go.
    return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


@pytest.mark.parametrize("wall", WALLS)
def test_imports_point_one_way_and_the_walls_stand(wall: str):
    code, said = verdict(wall)
    assert code == 0, said
    assert f"{WALLS[wall]['name']} KEPT\n" in said
    assert "Contracts: 1 kept, 0 broken." in said


def test_every_room_has_its_place_in_the_order():
    layers = WALLS["order"]["layers"]
    placed = [room.strip() for layer in layers for room in layer.split("|")]
    rooms = {module.split(".")[1] for module in TREES if "." in module}
    outside = {"__main__", "fake_datadog"}  # the one calls cli, the other has a wall of its own
    assert sorted(placed) == sorted(rooms - outside)


def test_for_every_wall_it_is_tried_whether_a_breach_would_be_found():
    assert BREACHES.keys() == WALLS.keys()
    assert len(WALLS) >= 9


@pytest.mark.parametrize("wall", BREACHES)
def test_a_wall_that_is_broken_would_be_found(wall: str, tmp_path: Path):
    """Each contract once, on a copy of the code that breaks it."""
    shutil.copytree(ROOT / "etl", tmp_path / "etl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    module, target = BREACHES[wall]
    file = tmp_path / f"{module.replace('.', '/')}.py"
    with file.open("a", encoding="utf-8") as code:
        code.write(f"\nimport {target}\n")
    code_of_exit, said = verdict(wall, tmp_path)
    assert code_of_exit == 1
    assert f"{WALLS[wall]['name']} BROKEN\n" in said
    # It says which import it is; of a circle, which of the two in the room.
    importer, imported = (
        [f".{name.rpartition('.')[2]}" for name in (module, target)]
        if wall == "acyclic"
        else (module, target)
    )
    assert re.search(rf"{re.escape(importer)} -> {re.escape(imported)} \(", said), said


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
        if name.split(".")[0] == "etl":
            inner = f"{name}.{attribute}"
            module = inner if inner in TREES else name
            found += [] if module in (*PURE, "etl.errors") else [f"import {module}"]
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
        "from etl.database import connection",
        "from etl.config.views import View",
        "import datetime as dt\ndt.datetime.now()",
        "datetime.utcnow()",
        "open('x')",
    ],
)
def test_what_is_not_pure_would_be_found(code: str):
    assert len(impurities(ast.parse(code))) == 1


def test_no_module_is_a_drawer_for_everything():
    names = {module.rpartition(".")[2] for module in TREES}
    assert names & {"util", "utils", "helper", "helpers", "common", "misc", "base"} == set()


def test_no_module_is_called_like_one_of_pythons_own():
    # Alembic, by hand on the wheel's alembic.ini, puts the folder `etl` itself on the path.
    top = {module.split(".")[1] for module in TREES if "." in module} - {"__main__"}
    assert top & sys.stdlib_module_names == set()


def test_no_test_file_imports_another():
    # What two of them need is in tests/support; a file can then be moved, split or run alone.
    statement = re.compile(r"^\s*(?:from|import) (tests\b\S*)(?: import (\w+))?", re.MULTILINE)
    for path in (ROOT / "tests").rglob("*.py"):
        for module, name in statement.findall(path.read_text(encoding="utf-8")):
            assert f"{module}.{name}".startswith("tests.support."), path.name


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
__main__ causes cli cli.app cli.commands cli.commands.check cli.commands.dashboard cli.commands.db
cli.commands.demo cli.commands.export cli.commands.fake_datadog cli.commands.init
cli.commands.privacy cli.commands.schedule cli.commands.status cli.commands.sync
cli.commands.sync_sources cli.commands.views cli.fan_out cli.options cli.output cli.output.run
cli.output.selection cli.progress config config.credentials config.cron_line config.database_url
config.files config.folder config.host_name config.load config.model config.output_file
config.settings config.sites config.trust config.url_parameters config.validators config.views
database database.batches database.connection database.cursor database.dialects
database.dialects.lookup database.dialects.types database.migrations database.private_errors
database.schema database.upgrade_wait datadog datadog.cache_headers datadog.client datadog.dates
datadog.gates datadog.page_limit datadog.rate_limit datadog.refused_keys datadog.responses
datadog.retry datadog.rum datadog.server_clock datadog.wire datadog.wire.body
datadog.wire.connection datadog.wire.deadline datadog.wire.network datadog.wire.network_faults
datadog.wire.proxy datadog.wire.transport errors extract extract.api_state extract.ask
extract.buffer extract.completeness extract.discovery extract.fetch extract.listing extract.names
extract.partition extract.side_question extract.spill_file extract.verify extract.view_selection
files formatting ledger ledger.api_state ledger.concerns ledger.evidence ledger.known_views
ledger.results ledger.retention ledger.runs ledger.side_questions ledger.view_state library_faults
load load.changeset load.counters load.decide load.diff load.discovered load.loader load.lookup
load.ownership load.rejects load.removals load.schema_drift load.upsert load.versions load.writer
monitor monitor.metrics_file own_keys pipeline pipeline.applications pipeline.notify
pipeline.progress_bound pipeline.read_views pipeline.run pipeline.select_views
pipeline.side_questions pipeline.sync pipeline.watchdog runtime runtime.console runtime.logs
runtime.refusals runtime.run_context runtime.signals runtime.streams source source.identity
source.lease source.privacy_setting transform transform.decode transform.envelope
transform.fields transform.hider transform.json_pieces transform.lenient_json
transform.person_names transform.persons transform.privacy transform.snapshot
transform.strict_json
"""
BEFORE_A_RUN = "httpx, msgspec.json, sqlalchemy, click, sqlite3"
DIALECTS = {
    "sqlite": {"database.dialects.sqlite"},
    "postgresql": {
        "database.dialects.bounded",
        "database.dialects.bounded_psycopg",
        "database.dialects.login_hints",
        "database.dialects.postgresql",
        "database.dialects.servers",
    },
    "mariadb": {
        "database.dialects.bounded",
        "database.dialects.bounded_pymysql",
        "database.dialects.galera",
        "database.dialects.login_hints",
        "database.dialects.mysql",
        "database.dialects.servers",
    },
}
DRIVERS = {
    "sqlite": "sqlalchemy.dialects.sqlite",
    "postgresql": "psycopg, sqlalchemy.dialects.postgresql.psycopg",
    "mariadb": "pymysql, sqlalchemy.dialects.mysql.pymysql",
}
BESIDES = {"httpcore", "h11", "anyio", "certifi"}  # httpx loads these when it is first used
BESIDES |= {"socksio"}  # of the extra [socks]: httpcore loads it where it is installed
OF_PYTHON = {
    *("concurrent.futures.thread", "encodings.idna", "encodings.utf_8_sig", "gc", "gzip", "hmac"),
    *("queue", "_queue", "secrets", "stringprep", "tomllib"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_run_loads_what_is_listed_and_nothing_else(
    database_url: str, api: Api, tmp_path: Path
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

    dialect = database_url.partition(":")[0]
    before = loaded_by(f"import {BEFORE_A_RUN}, {DRIVERS[dialect]}")
    loaded = loaded_by(sync, folder=tmp_path, variables=keys) - before
    ours = {module.removeprefix("etl.") for module in loaded if module.startswith("etl.")}
    assert ours == {*OF_A_RUN.split(), *DIALECTS[dialect]}
    known = {"etl", *BESIDES, *OF_PYTHON}
    assert {m for m in loaded - known if m.partition(".")[0] not in known} == set()


def test_a_run_loads_nothing_it_does_not_use():
    # httpx loads rich and pygments by itself where they are installed.
    loaded = loaded_by("import etl.pipeline.sync") - loaded_by("import httpx")
    assert {"etl.pipeline.sync", "etl.load.writer", "sqlalchemy", "msgspec"} <= loaded
    unused = {"alembic", "mako", "apscheduler", "click", "rich", "pygments", "pytest", "pip"}
    unused |= {"psycopg", "pymysql", "pythonjsonlogger", "dotenv", "difflib", "html"}
    assert loaded & unused == set()
    ours = {"cli", "diagnose", "monitor", "pipeline.plan", "demo", "fake_datadog"}
    assert loaded & {f"etl.{name}" for name in ours} == set()


def test_a_run_loads_no_other_library_and_no_database_it_does_not_use():
    loaded = loaded_by("import etl.cli.commands.sync_sources") - loaded_by("import httpx, httpcore")
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
        "etl.database.dialects.",
    )
    found = {module for module in loaded if module.startswith(parts)}
    assert found == {"etl.database.dialects.types"}  # what columns are, on every database


def test_the_command_line_loads_what_a_command_needs_only_when_it_runs():
    loaded = loaded_by("import etl.cli.app")
    assert {"etl.cli.app", "click"} <= loaded
    assert loaded & {"sqlalchemy", "httpx", "msgspec", "alembic", "etl.pipeline.sync"} == set()


# Everything else that makes a file with a name. `open` and `sqlite3.connect` are looked into.
MAKES_FILES = {
    *("write_text", "write_bytes", "touch", "mkstemp", "mktemp", "NamedTemporaryFile"),
    *("SpooledTemporaryFile", "FileHandler", "RotatingFileHandler", "copyfile", "copy2", "rename"),
    *("copytree", "move", "symlink_to", "hardlink_to", "symlink", "link", "mkfifo", "mknod"),
}
WRITES_FILES = {"etl.files"}
# `open(2, "w")` and /dev/null: the standard streams, no file.
OPENS = {"etl.runtime.streams"}


def made_files(tree: ast.AST) -> list[str]:
    """Calls that make a file, or write one, by a name."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = getattr(called, "attr", None) or getattr(called, "id", "")
        texts = [
            argument.value
            for argument in (*node.args, *(keyword.value for keyword in node.keywords))
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        ]
        written = ast.unparse(node)
        is_mode = any(re.fullmatch(r"[rwaxbt+]*[wax+][rwaxbt+]*", text) for text in texts)
        is_read_only = "mode=ro" in written or ", uri=True" in written or ":memory:" in texts
        if (
            name in MAKES_FILES
            or (name == "open" and (is_mode or "os.O_" in written or "O_WRONLY" in written))
            or (name == "connect" and "sqlite3" in written and not is_read_only)
            or (name == "replace" and "os.replace" in written)
        ):
            found.append(written)
    return found


def test_one_writer_makes_all_files_with_a_name():
    """It takes names that nobody can guess, follows no link, and gives the right permissions."""
    found = {module: made_files(tree) for module, tree in TREES.items()}
    assert {module for module, calls in found.items() if calls} <= WRITES_FILES | OPENS
    assert found["etl.files"]


@pytest.mark.parametrize(
    "code",
    [
        "Path('x').write_text('')",
        "path.open('wb')",
        "open('x', 'a')",
        "open('x', mode='r+')",
        "os.open('x', os.O_WRONLY | os.O_CREAT)",
        "tempfile.NamedTemporaryFile()",
        "sqlite3.connect('x.db')",
        "os.replace('a', 'b')",
        "logging.FileHandler('x')",
        "shutil.copyfile('a', 'b')",
    ],
)
def test_a_second_writer_would_be_found(code: str):
    assert len(made_files(ast.parse(code))) == 1
