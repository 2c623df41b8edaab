"""The dashboards for Grafana: their form, each query on real servers, each expression by promtool.

Grafana itself is not at hand; `docs/grafana.md` says what that leaves untried.
"""

import copy
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import insert

from etl.config.database_url import parse_database
from etl.database import schema, sql_views
from etl.database.connection import Database, open_database
from etl.database.migrations import upgrade
from etl.ledger.concerns import KINDS
from etl.monitor import metrics
from etl.serve.dashboard.charts import DASHBOARD
from tests.support import known_history
from tests.support.api import Api, record
from tests.support.environments import GRAFANA
from tests.support.grafana import (
    Chosen,
    promql_with_values,
    sql_with_macros,
    sql_with_values,
)
from tests.support.known_history import day, moved, snapshot, traffic
from tests.support.paths import ROOT
from tests.support.project import make_config, open_project
from tests.support.servers import READERS
from tests.support.watched import QUARTER, Watched, just_past_noon

Json = dict[str, Any]

HERE = ROOT / "dashboards" / "grafana"
CHECK = ROOT / "tests" / "support" / "grafana" / "check_schema.py"
FILES = {path.name: path for path in sorted(HERE.glob("*.json"))}
DOCUMENTS: dict[str, Json] = {
    name: json.loads(path.read_text(encoding="utf-8")) for name, path in FILES.items()
}
OPERATIONS = DOCUMENTS["operations.json"]
CONTENT = {
    "postgresql": DOCUMENTS["content-postgresql.json"],
    "mariadb": DOCUMENTS["content-mysql.json"],
}


def panels(document: Json) -> dict[str, Json]:
    """By title, without the titles of rows."""
    return {panel["title"]: panel for panel in document["panels"] if panel["type"] != "row"}


def variables(document: Json) -> dict[str, Json]:
    return {variable["name"]: variable for variable in document["templating"]["list"]}


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", HERE / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- form ---------------------------------------------------------------------------------


def test_the_files_are_what_the_definitions_say() -> None:
    made = generator().documents()
    assert set(made) == set(FILES)
    for name, path in FILES.items():
        assert path.read_text(encoding="utf-8") == made[name], f"{name} is stale; run: make docs"


def check(version: str, *files: Path) -> list[str]:
    """What Grafana's own types say against the files."""
    types = GRAFANA[version]
    if not types.is_there():
        pytest.skip(f"LOUD: not tested: {types.folder.relative_to(ROOT)} (make databases)")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(CHECK), *map(str, files)],
        env={"PYTHONPATH": str(types.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == bool(done.stdout.strip())
    return done.stdout.splitlines() if done.returncode else []


@pytest.mark.parametrize("version", GRAFANA)
def test_the_files_fit_the_types_that_grafana_publishes(version: str) -> None:
    assert check(version, *FILES.values()) == []


def test_the_oldest_and_the_newest_published_types_are_tried() -> None:
    assert list(GRAFANA) == ["10.1", "11.6"]


def test_what_does_not_fit_the_types_is_found(tmp_path: Path) -> None:
    small = CONTENT["postgresql"] | {
        "panels": [p for p in CONTENT["postgresql"]["panels"] if p["title"] == "Changes per week"]
    }
    custom = ["panels", 0, "fieldConfig", "defaults", "custom"]
    wrong: list[tuple[list[Any], Any, str]] = [
        (["schemaversion"], 38, "no such property"),
        (["graphTooltip"], 3, "none of 0, 1, 2"),
        (["panels", 0, "gridPos", "w"], "12", "no int"),
        ([*custom, "drawStyle"], "bar", "none of 'line', 'bars', 'points'"),
        ([*custom, "stacking", "mode"], "stacked", "none of 'none'"),
        (["panels", 0, "options", "legend", "displaymode"], "list", "no such property"),
        (["templating", "list", 1, "refresh"], 7, "none of 0, 1, 2"),
    ]
    files = []
    for number, (path, value, _) in enumerate(wrong):
        document = copy.deepcopy(small)
        inner: Any = document
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(document), encoding="utf-8")
    for version in GRAFANA:
        found = check(version, *files)
        assert len(found) == len(wrong), found
        for line, (_, _, reason) in zip(found, wrong, strict=True):
            assert reason in line


@pytest.mark.parametrize("name", FILES)
def test_an_import_asks_for_nothing_and_replaces_what_it_made_before(name: str) -> None:
    document = DOCUMENTS[name]
    assert document["uid"] == f"heatmap-etl-{name.removesuffix('.json')}"
    assert len(document["uid"]) <= 40
    assert document["timezone"] == "utc"
    assert not {"id", "__inputs"} & set(document)
    text = json.dumps(document["panels"]) + json.dumps(list(variables(document).values())[1:])
    kinds = {(ref["type"], ref["uid"]) for ref in references(document)}
    assert kinds == {(variables(document)["datasource"]["query"], "${datasource}")}
    used = set(re.findall(r"\$(\w+)", text)) - {"__timeFilter", "__timeGroup", "__rate_interval"}
    assert used <= {*variables(document), "__all"}
    assert "No Grafana server was at hand" in document["description"]


def references(value: Any) -> Iterator[Json]:
    """Every reference to a data source."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        if "datasource" in value:
            yield value["datasource"]
        for item in value.values():
            yield from references(item)


@pytest.mark.parametrize("name", FILES)
def test_every_panel_has_a_place_of_its_own(name: str) -> None:
    members = DOCUMENTS[name]["panels"]
    numbers = [panel["id"] for panel in members]
    assert len(set(numbers)) == len(numbers)
    assert len(panels(DOCUMENTS[name])) == len([p for p in members if p["type"] != "row"])
    cells: Counter[tuple[int, int]] = Counter()
    for panel in members:
        spot = panel["gridPos"]
        assert spot["x"] + spot["w"] <= 24
        cells.update(
            (x, y)
            for x in range(spot["x"], spot["x"] + spot["w"])
            for y in range(spot["y"], spot["y"] + spot["h"])
        )
    assert set(cells.values()) == {1}
    # And no hole: what is below another begins where that ends.
    assert len(cells) == 24 * (1 + max(y for _, y in cells))


def test_the_content_is_that_of_the_datasette_page_in_its_order() -> None:
    titles = [DASHBOARD.charts[name].title for name in DASHBOARD.numbers]
    titles += [DASHBOARD.charts[name].title for row in DASHBOARD.rows for name in row]
    for document in CONTENT.values():
        assert [panel["title"] for panel in document["panels"]] == titles


def test_the_page_names_the_files_the_variables_and_the_versions() -> None:
    page = (ROOT / "docs" / "grafana.md").read_text(encoding="utf-8")
    for name, document in DOCUMENTS.items():
        assert f"`{name}`" in page
        assert all(f"`{variable}`" in page for variable in variables(document))
    assert f"/d/{CONTENT['postgresql']['uid']}?var-view=" in page
    assert " and of ".join(GRAFANA) in page
    assert "**No Grafana server was at hand" in page


# --- content: each query on a real server -------------------------------------------------

HOSTILE = "/it's \\' OR 1=1) -- \"$x\" \\"


@pytest.fixture
def begin() -> datetime:
    return datetime.now(UTC) - timedelta(days=365)


@pytest.fixture
def later() -> timedelta:
    """By which the known history is moved: its last reading was an hour ago."""
    return datetime.now(UTC) - timedelta(hours=1) - day(5)


@pytest.fixture
def recent(dialect: str, new_database: Callable[..., str], later: timedelta) -> Iterator[Database]:
    """The known history as one of these days, with old snapshots and a hostile name."""
    parsed = parse_database(new_database(dialect), Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    known_history.write(database, later=later)

    def saved(days_ago: int, identifier: str, view: str, **values: Any) -> Json:
        at = day(5) - timedelta(days=days_ago)
        return moved(snapshot(identifier, view, created_at=at, **values), later)

    rows = [
        saved(500, "expired", "/cart"),
        saved(440, "soon", "/cart", device_type="watch"),
        saved(120, "hostile", HOSTILE, snapshot_name=HOSTILE, created_by=HOSTILE),
    ]
    with database.connect() as connection, connection.begin():
        connection.execute(insert(schema.snapshots), rows)
        counted = [moved(traffic("/cart", known_history.APP, 70), later)]
        connection.execute(insert(schema.discovered_views), counted)
    yield database
    database.close()


class Asked:
    """A content dashboard whose queries go to a server as Grafana would send them."""

    def __init__(self, database: Database, dialect: str) -> None:
        self._database, self._dialect = database, dialect
        self.document = CONTENT[dialect]
        self.all_value = {
            v["allValue"] for k, v in variables(self.document).items() if k != "datasource"
        }

    def rows(self, sql: str, begin: datetime, **chosen: list[str]) -> list[Json]:
        (all_value,) = self.all_value
        values: Chosen = {"source": [], "application": [], "view": [], **chosen}
        sent = sql_with_values(sql, values, all_value)
        sent = sql_with_macros(sent, self._dialect, begin, datetime.now(UTC))
        # By the driver alone: Grafana's have no parameters either.
        with self._database.connect(write=False) as connection:
            assert connection.connection.dbapi_connection
            cursor = connection.connection.dbapi_connection.cursor()
            if self._dialect == "mariadb":
                # "Session timezone" of the data source; the server of the tests is elsewhere.
                cursor.execute("SET time_zone = '+00:00'")
            cursor.execute(sent)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def panel(self, title: str, begin: datetime, **chosen: list[str]) -> list[Json]:
        (target,) = panels(self.document)[title]["targets"]
        return self.rows(target["rawSql"], begin, **chosen)

    def choices(self, name: str, begin: datetime, **chosen: list[str]) -> list[Json]:
        return self.rows(variables(self.document)[name]["query"], begin, **chosen)


@pytest.fixture
def asked(recent: Database, dialect: str) -> Asked:
    return Asked(recent, dialect)


ON_SERVERS = pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)


def columns(rows: list[Json], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


@ON_SERVERS
def test_every_query_returns_rows_and_names_what_the_panel_uses(
    asked: Asked, begin: datetime
) -> None:
    for title, panel in panels(asked.document).items():
        rows = asked.panel(title, begin)
        assert rows, title
        for found in panel["fieldConfig"]["overrides"]:
            name = found["matcher"]["options"]
            drawn = {row["metric"] for row in rows} if title == "Changes per week" else set(rows[0])
            assert name in drawn, (title, name)
        if panel["type"] == "barchart":
            assert next(iter(rows[0])) == panel["options"]["xField"]
        assert all(name == name.lower() for name in rows[0])


@ON_SERVERS
def test_the_queries_answer_with_what_is_stored(
    asked: Asked, begin: datetime, later: timedelta
) -> None:
    def number(title: str) -> Any:
        ((value,),) = [row.values() for row in asked.panel(title, begin)]
        return value

    assert number("Snapshots pinned now") == 8
    covered = 100 * (900 + 3 + 70) / (900 + 80 + 500 + 3 + 70)
    assert int(number("Page views covered")) == round(covered)
    assert number("Changes") == 5
    assert number("Replays expired") == 1
    assert number("Views read well") == "1 of 2"

    gaps = asked.panel("Busiest views without a snapshot", begin)
    assert columns(gaps, "view", "application", "read", "page views in 30 days") == [
        ("/checkout/?", "web", "no", 500),
        ("/home", known_history.SHOP, "yes", 80),
    ]
    old = asked.panel("Busiest views whose newest snapshot is older than 90 days", begin)
    assert columns(old, "view", "days old", "page views in 30 days") == [("/cart", 440, 70)]

    stale = asked.panel("Stale backgrounds: the replay is gone, or goes within 90 days", begin)
    assert columns(stale, "snapshot", "device") == [("Expired", "desktop"), ("Soon", "watch")]

    devices = asked.panel("Snapshots pinned now, by view and device", begin)
    counted = {
        row["view"]: [int(row[n]) for n in ("desktop", "mobile", "tablet", "other")]
        for row in devices
    }
    assert counted["/home"] == [3, 1, 0, 0]
    assert counted["/cart"] == [1, 0, 0, 1]

    months = asked.panel("When replays expire (estimate)", begin)
    totals = [
        sum(int(row[state]) for row in months) for state in ("expired", "within 90 days", "later")
    ]
    assert totals == [1, 1, 5]  # and one was pinned without a replay
    assert all(re.fullmatch(r"\d{4}-\d\d", row["month"]) for row in months)

    health = asked.panel("Sync health: the last run of each view, trouble first", begin)
    assert columns(health, "view", "held") == [("/home", 1), ("/cart", 0)]

    latest = asked.panel("Latest changes", begin)
    assert columns(latest, "event", "snapshot")[:2] == [
        ("returned", "New again"),
        ("removed", "New"),
    ]
    first = latest[0]["noticed"]
    noticed = first if first.tzinfo else first.replace(tzinfo=UTC)
    assert noticed == day(5) + later


@ON_SERVERS
def test_an_empty_database_is_no_gap_in_a_panel(
    dialect: str, new_database: Callable[..., str], begin: datetime
) -> None:
    parsed = parse_database(new_database(dialect), Path.cwd())
    database = open_database(parsed.url, label=parsed.label)
    upgrade(database)
    asked = Asked(database, dialect)
    found = {title: asked.panel(title, begin) for title in panels(asked.document)}
    database.close()
    numbers = {title: next(iter(rows[0].values())) for title, rows in found.items() if rows}
    assert numbers == {
        "Snapshots pinned now": 0,
        "Page views covered": None,
        "Changes": 0,
        "Replays expired": 0,
        "Views read well": "0 of 0",
    }


@ON_SERVERS
def test_weeks_begin_on_monday_in_utc(asked: Asked, begin: datetime, later: timedelta) -> None:
    happened = {2: ("added", "changed", "removed"), 4: ("removed",), 5: ("returned",)}
    expected: Counter[tuple[datetime, str]] = Counter()
    for number, names in happened.items():
        at = day(number) + later
        monday = (at - timedelta(days=at.weekday())).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        expected.update((monday, name) for name in names)
    rows = asked.panel("Changes per week", begin)
    found = {
        (datetime.fromtimestamp(int(r["time"]), UTC), r["metric"]): r["snapshots"] for r in rows
    }
    assert found == dict(expected)
    # Grafana wants a series in order.
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert asked.panel("Changes per week", datetime.now(UTC) - timedelta(minutes=1)) == []


@ON_SERVERS
def test_variables_offer_what_is_there_and_filter_by_it(asked: Asked, begin: datetime) -> None:
    def values(name: str, **chosen: list[str]) -> list[str]:
        return [row["__text"] for row in asked.choices(name, begin, **chosen)]

    assert values("source") == ["acme"]
    assert set(values("application")) == {"web", known_history.SHOP}
    assert {"/home", "/cart", "/old", "/checkout/?", HOSTILE} <= set(values("view"))
    assert values("view", source=["other"]) == []

    title = "Snapshots pinned now, by view and device"
    both = asked.panel(title, begin, view=["/home", "/cart"], source=["acme"], application=["web"])
    assert {row["view"] for row in both} == {"/home", "/cart"}
    for name in ("source", "application", "view"):
        assert asked.panel(title, begin, **{name: ["nothing of that name"]}) == []


@ON_SERVERS
def test_a_hostile_name_is_only_a_name(asked: Asked, begin: datetime) -> None:
    (value,) = [row["__value"] for row in asked.choices("view", begin) if row["__text"] == HOSTILE]
    title = "Newest snapshots"
    assert columns(asked.panel(title, begin, view=[value]), "view") == [(HOSTILE,)]
    together = asked.panel(title, begin, view=[value, "/cart"])
    assert {row["view"] for row in together} == {HOSTILE, "/cart"}
    for other in panels(asked.document):
        asked.panel(other, begin, view=[value])


@pytest.mark.parametrize("database", CONTENT)
def test_a_query_has_the_properties_that_the_sql_data_sources_know(database: str) -> None:
    """They are not among the published types: these are those of Grafana's `SQLQuery`."""
    for panel in panels(CONTENT[database]).values():
        (target,) = panel["targets"]
        assert set(target) == {"refId", "datasource", "editorMode", "format", "rawQuery", "rawSql"}
        assert target["format"] == ("time_series" if panel["type"] == "timeseries" else "table")
        assert (target["editorMode"], target["rawQuery"]) == ("code", True)


@pytest.mark.parametrize("database", CONTENT)
def test_the_queries_read_the_sql_views_alone(database: str) -> None:
    document = CONTENT[database]
    queries = [panel["targets"][0]["rawSql"] for panel in panels(document).values()]
    queries += [v["query"] for k, v in variables(document).items() if k != "datasource"]
    read = {name for query in queries for name in re.findall(r"\bFROM (\w+)", query)}
    assert read <= set(sql_views.NAMES)
    assert len(read) >= 4


def test_a_link_to_a_replay_is_a_column_of_links() -> None:
    for document in CONTENT.values():
        linked = [
            title
            for title, panel in panels(document).items()
            for found in panel["fieldConfig"]["overrides"]
            if any(p["id"] == "links" for p in found["properties"])
        ]
        assert len(linked) == 3
        for title in linked:
            (target,) = panels(document)[title]["targets"]
            assert 'replay_url AS "replay"' in target["rawSql"]


def test_macros_become_what_grafana_makes_of_them() -> None:
    sql = "$__timeGroup(noticed_at, '1d') AS time WHERE $__timeFilter(noticed_at)"
    span = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)
    assert sql_with_macros(sql, "postgresql", *span) == (
        "floor(extract(epoch from noticed_at)/86400)*86400 AS time"
        " WHERE noticed_at BETWEEN '2026-01-02T00:00:00Z' AND '2026-01-06T00:00:00Z'"
    )
    assert sql_with_macros(sql, "mariadb", *span) == (
        "UNIX_TIMESTAMP(noticed_at) DIV 86400 * 86400 AS time"
        " WHERE noticed_at BETWEEN FROM_UNIXTIME(1767312000) AND FROM_UNIXTIME(1767657600)"
    )
    # A name that Grafana takes for a macro: docs/grafana.md warns of it.
    with pytest.raises(ValueError, match="unknown macro"):
        sql_with_macros("view_name IN ('/a$b(c)')", "mariadb", *span)
    chosen: Chosen = {"view": ["/a'b", "/c.d"], "source": []}
    assert sql_with_values("$view ($source) $__timeFilter(x)", chosen, "'*'") == (
        "'/a''b','/c.d' ('*') $__timeFilter(x)"
    )
    assert promql_with_values('{v=~"$view",s=~"$source"}', chosen, ".*") == (
        r'{v=~"(/a\\' + r"'b|/c\\.d)" + r'",s=~".*"}'
    )


# --- operations: each expression by promtool ----------------------------------------------


def expressions() -> dict[str, str]:
    """Those of the panels, by title and letter."""
    return {
        f"{title} {target['refId']}": target["expr"]
        for title, panel in panels(OPERATIONS).items()
        for target in panel["targets"]
    }


def test_the_expressions_name_metrics_and_labels_that_exist() -> None:
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
    samples = {
        f"heatmap_etl_{name}{suffix}"
        for name, kind, _ in metrics._FAMILIES
        for suffix in suffixes.get(kind, [""])
    }
    text = "\n".join(
        [*expressions().values(), *[v["query"] for v in variables(OPERATIONS).values()]]
    )
    used = set(re.findall(r"heatmap_etl_\w+", text))
    assert used <= samples
    # Each family is shown, the histogram by its buckets.
    assert samples - used == {
        "heatmap_etl_run_duration_seconds_count",
        "heatmap_etl_run_duration_seconds_sum",
    }
    for label, known in (("verdict", metrics._VERDICTS), ("kind", KINDS)):
        named = "|".join(re.findall(rf'{label}=~?"(.*?)"', text)).split("|")
        assert set(named) <= set(known)


def colors(title: str, known: tuple[str, ...]) -> None:
    overrides = panels(OPERATIONS)[title]["fieldConfig"]["overrides"]
    named = [o["matcher"]["options"] for o in overrides]
    assert sorted(named) == sorted(known)


def test_colours_are_for_series_that_exist() -> None:
    colors("Runs by status", metrics._STATUSES)
    colors("Configured views by the verdict of their last run", metrics._VERDICTS)
    colors("Records by what became of them", ("vanished",))
    assert "vanished" in metrics._OUTCOMES.values()


def test_limits_are_those_of_the_alerts() -> None:
    def steps(title: str) -> list[tuple[str, float | None]]:
        config = panels(OPERATIONS)[title]["fieldConfig"]
        properties = [p for o in config["overrides"] for p in o["properties"]]
        found = [p["value"] for p in properties if p["id"] == "thresholds"]
        (limits,) = found or [config["defaults"]["thresholds"]]
        return [(step["color"], step["value"]) for step in limits["steps"]]

    rules = generator().alert_rules()
    assert "> 3 * 3600" in rules["HeatmapEtlNoRun"]
    assert "> 24 * 3600" in rules["HeatmapEtlViewStale"]
    assert "> 60" in rules["HeatmapEtlClockSkew"]
    day_s, hours_s = 86400, 10800
    assert steps("Since the last run") == [("green", None), ("red", hours_s)]
    assert steps("Since the last run, by source") == [("green", None), ("red", hours_s)]
    assert steps("Age of the last complete reading, by view") == [("green", None), ("red", day_s)]
    assert steps("Age of the oldest complete reading, by source") == [
        ("green", None),
        ("red", day_s),
    ]
    assert steps("Clock ahead of Datadog's") == [("red", None), ("green", -60), ("red", 60)]
    for title in (
        "Views failed or truncated",
        "Views that wait for acceptance",
        "Concerns by kind",
    ):
        assert steps(title) == [("green", None), ("red", 1)]
    assert f"> {day_s}" in expressions()["Views without a complete reading for a day A"]


def exposed(new_database: Callable[..., str], api: Api) -> dict[str, float]:
    """The samples of a real daemon after runs that went well and runs that did not."""
    api.clock_s = 7200.0
    api.views["/home"] = (200, {"X-RateLimit-Remaining": "7"}, b'{"data": []}')
    api.views["/it's"] = [record("1"), record("2")]
    api.views["/broken"] = (500, {}, b"")
    views = ("/home", "/it's", "/broken")
    project = open_project(make_config(new_database("sqlite"), api.url, views))
    project.configure(every_s=QUARTER.total_seconds(), max_wait_s=0.0)
    with ExitStack() as stack:
        clock = stack.enter_context(just_past_noon())
        watched = Watched(project.config, stack)
        clock.shift(QUARTER)
        watched.look()
        samples = watched.samples()
    project.database.close()
    return samples


SCRAPES = 400


def series(samples: dict[str, float]) -> list[Json]:
    """As Prometheus would have scraped them every four minutes; all instants are of 1970."""
    found = []
    for name, value in {**samples, "up": 0}.items():
        bare, _, labels = name.partition("{")
        joined = f'{bare}{{job="heatmap-etl",instance="a:9090"{"," + labels if labels else "}"}'
        if "timestamp" in bare:
            values = f"{min(value, 1):g}x{SCRAPES}"
        elif bare.endswith(("_total", "_bucket", "_count", "_sum")):
            values = f"0+{value:g}x{SCRAPES}"
        else:
            values = f"{value:g}x{SCRAPES}"
        found.append({"series": joined, "values": values})
    return found


def promtool() -> str:
    found = shutil.which(READERS["prometheus"])
    if found is None:
        pytest.skip("LOUD: not tested: promtool was not found (Debian: prometheus)")
    return found


def tried(folder: Path, scraped: list[Json], cases: dict[str, list[Json]]) -> str:
    """What promtool says against the expressions over these series; empty for nothing."""
    program = promtool()
    (folder / "none.yaml").write_text("groups: []\n", encoding="utf-8")
    case = {"eval_time": f"{4 * SCRAPES - 4}m"}
    test = {
        "interval": "4m",
        "input_series": scraped,
        "promql_expr_test": [{**case, "expr": e, "exp_samples": s} for e, s in cases.items()],
    }
    document = {"rule_files": ["none.yaml"], "evaluation_interval": "4m", "tests": [test]}
    (folder / "test.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run(
        [program, "test", "rules", "test.yaml"],
        cwd=folder,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def with_a_value(chosen: Chosen) -> dict[str, list[Json]]:
    """Each expression of the dashboard, and that it must have one."""
    sample = {"labels": "{}", "value": 1}
    return {f"count({query(e, chosen)}) > bool 0": [sample] for e in expressions().values()}


def query(expression: str, chosen: Chosen) -> str:
    """With the values of the variables, and for the interval that Grafana would choose."""
    return promql_with_values(expression, chosen, ".*").replace("$__rate_interval", "3615s")


@pytest.mark.slow
def test_every_expression_has_a_value_over_what_a_daemon_exposes(
    new_database: Callable[..., str], api: Api, tmp_path: Path
) -> None:
    scraped = series(exposed(new_database, api))
    everything: Chosen = {"source": [], "view_name": []}
    assert tried(tmp_path, scraped, with_a_value(everything)) == ""
    some: Chosen = {"source": ["datadoghq.com"], "view_name": ["/home", "/it's"]}
    assert tried(tmp_path, scraped, with_a_value(some)) == ""
    nobody: Chosen = {"source": ["datadoghq.org"], "view_name": []}
    failed = tried(tmp_path, scraped, with_a_value(nobody))
    # All but what has no source: the daemon, the durations, the versions, and a count of 0.
    assert failed.count("exp:") == len(expressions()) - 7

    wrong = query(expressions()["Conditions of the alerts that hold now A"], everything)
    names = ("ClockSkew", "Down", "NoRun", "ViewStale", "ViewsBad")
    hold = [{"labels": f'{{condition="HeatmapEtl{n}"}}', "value": 1} for n in names]
    hold[3]["value"] = 3
    assert tried(tmp_path, scraped, {f"count by (condition) ({wrong})": hold}) == ""
    none_chosen = query(expressions()["Conditions of the alerts that hold now A"], nobody)
    down = hold[1:2]
    assert tried(tmp_path, scraped, {f"count by (condition) ({none_chosen})": down}) == ""


def test_without_metrics_something_is_wrong(tmp_path: Path) -> None:
    everything: Chosen = {"source": [], "view_name": []}
    wrong = query(expressions()["Conditions of the alerts that hold now A"], everything)
    daemon = query(expressions()["Daemon A"], everything)
    hold = [{"labels": '{condition="HeatmapEtlNoMetrics"}', "value": 1}]
    assert tried(tmp_path, [], {wrong: hold, daemon: []}) == ""

    # The daemon is reached and has no metric yet; then one that does not answer is one condition.
    up = series({})
    up[0]["values"] = f"1x{SCRAPES}"
    assert tried(tmp_path, up, {wrong: hold, daemon: [{"labels": "{}", "value": 1}]}) == ""
    counted = f"count by (condition) ({wrong})"
    hold = [{"labels": '{condition="HeatmapEtlDown"}', "value": 1}]
    down = [{"labels": "{}", "value": 0}]
    assert tried(tmp_path, series({}), {counted: hold, daemon: down}) == ""


def test_metrics_of_a_file_are_no_daemon(tmp_path: Path) -> None:
    """The node exporter has them: nothing of the job heatmap-etl."""
    daemon = panels(OPERATIONS)["Daemon"]
    (mapping,) = daemon["fieldConfig"]["defaults"]["mappings"]
    assert mapping["options"]["2"]["text"] == "none: metrics of a file"
    name = "heatmap_etl_last_run_timestamp_seconds"
    sources = [
        {"series": f'{name}{{job="node",source="{source}"}}', "values": f"1x{SCRAPES}"}
        for source in ("acme", "other")
    ]
    two = [{"labels": "{}", "value": 2}]
    assert tried(tmp_path, sources, {daemon["targets"][0]["expr"]: two}) == ""


def test_the_table_of_conditions_has_every_alert() -> None:
    text = expressions()["Conditions of the alerts that hold now A"]
    assert re.findall(r'"condition", "(\w+)"', text) == list(generator().alert_rules())
    (words,) = [
        p["value"][0]["options"]
        for o in panels(OPERATIONS)["Conditions of the alerts that hold now"]["fieldConfig"][
            "overrides"
        ]
        for p in o["properties"]
        if p["id"] == "mappings"
    ]
    assert list(words) == list(generator().alert_rules())
    # Each with the sources that are chosen; `up` has none.
    assert text.count('source=~"$source"') == text.count("heatmap_etl_")
