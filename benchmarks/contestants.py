"""Who is measured: how each is called, and how what it loaded is checked."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks import environments
from benchmarks.api import Api
from benchmarks.databases import Databases, sqlalchemy_url
from benchmarks.environments import OURS, PEERS, Environments, bare_environment
from benchmarks.truth import WrongContent, require_content, require_ids

DIALECTS = ("postgresql", "sqlite", "mariadb")
PAGE_LIMIT = 5000
_NUMBERS = count(1)
LIVE = "WHERE removed_at IS NULL"


@dataclass(slots=True)
class Loading:
    """One database that one contestant loads into, again and again."""

    databases: Databases
    api: Api
    url: str
    folder: Path
    views: Path
    history: int = 0  # rows that the history must have
    stage: int = 0
    where: str = LIVE


@dataclass(frozen=True, slots=True)
class Contestant:
    """`command` gives program, arguments and variables; `check` raises `WrongContent`."""

    name: str
    command: Callable[[Loading], tuple[list[str], dict[str, str]]]
    check: Callable[[Loading, str], None]
    dialects: tuple[str, ...] = ("postgresql", "sqlite")
    program: Path = Path()


def begin(databases: Databases, api: Api, name: str, concurrency: int) -> Loading:
    """A new database, and a folder for what the contestant keeps beside it."""
    url = databases.new()
    folder = environments.FOLDER / "runs" / f"{name}-{next(_NUMBERS)}"
    loading = Loading(databases, api, url, folder, write_views(folder, api))
    configuration = (
        f"views = {json.dumps(api.size.names(), ensure_ascii=False)}\n"
        f'[datadog]\napi_url = "{api.url}"\nsource = "bench"\n'
        f"page_limit = {PAGE_LIMIT}\nconcurrency = {concurrency}\n"
    )
    (folder / "heatmap-etl.toml").write_text(configuration, encoding="utf-8")
    return loading


def write_views(folder: Path, api: Api) -> Path:
    """The file with the names of all views, in a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "views.json"
    path.write_text(json.dumps(api.size.names()), encoding="utf-8")
    return path


def end(loading: Loading) -> None:
    loading.databases.drop(loading.url)
    shutil.rmtree(loading.folder)


# --- ours ---------------------------------------------------------------------------------


def heatmap_etl(made: Environments, name: str = OURS, revision: str = "") -> Contestant:
    program = made.ours(name, revision)

    def command(loading: Loading) -> tuple[list[str], dict[str, str]]:
        configuration = str(loading.folder / "heatmap-etl.toml")
        variables = {"DD_API_KEY": "api", "DD_APP_KEY": "app"}
        variables["HEATMAP_ETL_DATABASE_URL"] = loading.url
        return [str(program), "sync", "--json", "--config", configuration], variables

    return Contestant(name, command, _check_ours, DIALECTS, program)


def _check_ours(loading: Loading, output: str) -> None:
    run = json.loads(output)
    views = run["views"]
    if run["status"] != "ok" or any(view["verdict"] != "complete" for view in views):
        raise WrongContent(f"the run was {run['status']}")
    if (sent := sum(view["requests"] for view in views)) != loading.api.size.views:
        raise WrongContent(f"{sent} requests for {loading.api.size.views} views")
    _check_attributes(loading, start="start_ms", where=loading.where)
    ours = loading.where.replace("removed_at IS NULL", "1 = 1")  # which the history has not
    counted = f"SELECT count(*) FROM snapshot_history {ours}"
    ((history,),) = loading.databases.rows(loading.url, counted)
    if history != loading.history:
        raise WrongContent(f"{history} rows of history, {loading.history} were changed")


def _check_attributes(loading: Loading, *, start: str = "start", where: str = "") -> None:
    size = loading.api.size
    databases, url = loading.databases, loading.url
    require_content(databases, url, size, loading.stage, start=start, where=where)


# --- peers --------------------------------------------------------------------------------


def _script(
    made: Environments, name: str, *flags: str, lock: str = "", module: str = ""
) -> Contestant:
    python = made.programs(lock or name) / "python"
    path = PEERS / f"{module or name}.py"

    def command(loading: Loading) -> tuple[list[str], dict[str, str]]:
        url = sqlalchemy_url(loading.url)
        arguments = [*flags, loading.api.url, url, str(loading.views)]
        return [str(python), str(path), *arguments], {}

    return Contestant(name, command, lambda loading, _: _check_attributes(loading))


def script(made: Environments) -> Contestant:
    return _script(made, "script")


def floor(made: Environments) -> Contestant:
    return _script(made, "floor")


def floor_with_digests(made: Environments) -> Contestant:
    return _script(made, "floor+digests", "--digests", lock="floor", module="floor")


def official(made: Environments) -> Contestant:
    return _script(made, "official")


def dlt(made: Environments) -> Contestant:
    python = made.programs("dlt") / "python"

    def command(loading: Loading) -> tuple[list[str], dict[str, str]]:
        # Its name must not be that of what it imports.
        path = PEERS / "with_dlt.py"
        arguments = [loading.api.url, loading.url, str(loading.views), str(loading.folder)]
        return [str(python), str(path), *arguments], {"RUNTIME__DLTHUB_TELEMETRY": "false"}

    def check(loading: Loading, _: str) -> None:
        table = "snapshots" if loading.databases.dialect == "sqlite" else "bench.snapshots"
        require_ids(loading.databases, loading.url, table, loading.api.size)

    return Contestant("dlt", command, check)


def variables_of(contestant: Contestant, loading: Loading) -> tuple[list[str], dict[str, str]]:
    command, variables = contestant.command(loading)
    return command, bare_environment() | variables
