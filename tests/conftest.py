"""Fixtures that every test file may use, and the rule that nothing is skipped in silence."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.support.api import Api
from tests.support.databases import AllDatabases
from tests.support.paths import ROOT
from tests.support.project import Project, make_config, open_project
from tests.support.servers import (
    ALWAYS_TRIED,
    DIALECTS,
    FURTHER_SERVERS,
    NAMES,
    Server,
    ServerMissing,
    Servers,
    named_dialects,
    require_binaries,
    wanted_dialects,
)

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
NOT_SELECTED = "not in DATABASES"
STRIPPED_PREFIXES = ("DD_", "DATADOG_", "HEATMAP_ETL_")
STRIPPED_NAMES = {"DATABASE_URL", "SSL_CERT_FILE", "SSL_CERT_DIR"}

SKIPPED = pytest.StashKey[list[tuple[str, str]]]()
DESELECTED = pytest.StashKey[dict[str, int]]()

settings.register_profile(
    "project",
    deadline=None,
    derandomize=IN_CI,
    max_examples=60,
    print_blob=True,
    # Derandomized examples are the same each time: there is nothing to remember.
    database=None if IN_CI else DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples"),
)
settings.load_profile("project")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SKIPPED] = []
    config.stash[DESELECTED] = {}
    config.pluginmanager.register(SkipWatch(config))
    try:
        wanted_dialects()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    # Like Ctrl-C: fixtures are torn down, so that no server outlives the tests.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts background jobs with SIGINT ignored, which every child would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whoever uses the fixture `dialect` and names none runs on each."""
    own = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "dialect" not in metafunc.fixturenames or any("dialect" in names for names in own):
        return
    is_marked = metafunc.definition.get_closest_marker("every_server") is not None
    tried = {*named_dialects(), *([ALWAYS_TRIED] if is_marked else [])}
    further = [name for name in FURTHER_SERVERS if name in tried]
    metafunc.parametrize("dialect", [*DIALECTS, *further], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = wanted_dialects()
    kept, left_out = [], []
    for item in items:
        dialect = getattr(item, "callspec", None) and item.callspec.params.get("dialect")  # type: ignore[attr-defined]
        if dialect in NAMES and dialect not in wanted:
            counts = config.stash[DESELECTED]
            counts[dialect] = counts.get(dialect, 0) + 1
            left_out.append(item)
        else:
            kept.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


class SkipWatch:
    """Hears of every report, also where the tests run in several processes."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        _note_skip(self._config, report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        _note_skip(self._config, report)


def _note_skip(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        config.stash[SKIPPED].append((report.nodeid, reason.removeprefix("Skipped: ")))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if IN_CI and exitstatus == pytest.ExitCode.OK and _unwanted_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    # Several processes deselect on their own, and nobody counts for all of them.
    for dialect in sorted(set(NAMES) - wanted_dialects()):
        number = config.stash[DESELECTED].get(dialect, "the")
        terminalreporter.line(
            f"{NOT_SELECTED}: {number} tests on {dialect} were not run", cyan=True
        )
    if not (skips := _unwanted_skips(config)):
        return
    terminalreporter.section(f"NOT TESTED: {len(skips)} skipped", sep="!", red=True, bold=True)
    for reason in sorted({reason for _, reason in skips}):
        tests = [test for test, other in skips if other == reason]
        terminalreporter.line(f"{reason}: {len(tests)} tests", red=True)
        if IN_CI:
            for test in tests:
                terminalreporter.line(f"  {test}")
    if IN_CI:
        terminalreporter.line("CI=true: a skipped test fails the whole run", red=True, bold=True)


def _unwanted_skips(config: pytest.Config) -> list[tuple[str, str]]:
    return [skip for skip in config.stash[SKIPPED] if not skip[1].startswith(NOT_SELECTED)]


@pytest.fixture(autouse=True)
def _clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the developer's shell holds decides no test."""
    for name in list(os.environ):
        if (
            name in STRIPPED_NAMES
            or name.startswith(STRIPPED_PREFIXES)
            or name.lower().endswith("_proxy")
        ):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _clean_logging() -> Iterator[None]:
    """A command run inside a test sets up logging for its process, which is that of the tests."""
    root, ours = logging.getLogger(), logging.getLogger("etl")
    levels, disabled = (root.level, ours.level), root.manager.disable
    yield
    logging.captureWarnings(False)
    logging.disable(disabled)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    for handler in [h for h in root.handlers if type(h).__module__ == "etl.runtime.logs"]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """`servers.get("postgresql")` starts it at need; ask `require_server` first."""
    servers = Servers()
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def _databases(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AllDatabases:
    return AllDatabases(servers, tmp_path_factory.mktemp("databases"), _migrate)


@pytest.fixture
def dialect(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def require_server() -> Callable[[str], None]:
    """`require_server(dialect)` skips the test where the dialect cannot or shall not be tested."""

    def require(dialect: str) -> None:
        if dialect not in wanted_dialects():
            pytest.skip(f"{NOT_SELECTED}: {dialect}")
        try:
            require_binaries(dialect)
        except ServerMissing as error:
            pytest.skip(f"LOUD: {dialect} is not tested: {error}")

    return require


@pytest.fixture
def server(dialect: str, servers: Servers, require_server: Callable[[str], None]) -> Server:
    """The one of the dialect, which all tests share."""
    require_server(dialect)
    return servers.get(dialect)


@pytest.fixture
def new_database(
    _databases: AllDatabases, require_server: Callable[[str], None]
) -> Iterator[Callable[..., str]]:
    """`new_database(dialect, migrated=False)`: as many as a test needs, on whichever it names."""
    made: list[tuple[str, str]] = []

    def make(dialect: str, *, migrated: bool = True) -> str:
        require_server(dialect)
        databases = _databases.of(dialect)
        url = databases.migrated() if migrated else databases.empty()
        made.append((dialect, url))
        return url

    yield make
    for dialect, url in made:
        _databases.of(dialect).free(url)


@pytest.fixture
def empty_database_url(dialect: str, new_database: Callable[..., str]) -> str:
    """Driverless URL of a database with nothing in it."""
    return new_database(dialect, migrated=False)


@pytest.fixture
def database_url(dialect: str, new_database: Callable[..., str]) -> str:
    """Driverless URL of a database with our schema, built by the migrations, and no rows."""
    return new_database(dialect)


def _migrate(url: str) -> None:
    # Late: most tests need no database, and none of those should wait for Alembic.
    from etl.database.migrations import upgrade_url

    upgrade_url(url)


@pytest.fixture
def api() -> Iterator[Api]:
    """A scripted API; set `api.views[name]`."""
    with Api() as api:
        yield api


@pytest.fixture
def other_api() -> Iterator[Api]:
    """That of another organization."""
    with Api() as api:
        yield api


@pytest.fixture
def project(database_url: str, api: Api) -> Iterator[Project]:
    """One configured view, `/home`, on each database; the schema is there."""
    project = open_project(make_config(database_url, api.url))
    yield project
    project.database.close()


@pytest.fixture
def pair(database_url: str, api: Api, other_api: Api) -> Iterator[tuple[Project, Project]]:
    """Two sources with an equal view in one database."""
    with ExitStack() as stack:
        made = []
        for name, server in (("a", api), ("b", other_api)):
            config = make_config(database_url, server.url)
            other = "b" if name == "a" else "a"
            project = open_project(replace(config, source=name, neighbours=(other,)))
            stack.callback(project.database.close)
            made.append(project)
        yield made[0], made[1]
