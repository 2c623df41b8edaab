"""The dashboard: a real Datasette process, asked over HTTP as a browser would."""

import hashlib
import html.parser
import json
import re
import socket
import sqlite3
import sys
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl.cli.app import main
from etl.database import schema, sql_views
from etl.database.connection import open_database
from etl.database.migrations import prepare_schema
from etl.demo.rounds import demo_config
from etl.fake_datadog import FakeDatadog, World
from etl.fake_datadog.organization import Traffic
from etl.formatting import to_install
from etl.pipeline.run import Options
from etl.pipeline.sync import sync
from etl.serve.dashboard.charts import DASHBOARD
from etl.serve.dashboard.questions import QUESTIONS, Question
from etl.serve.dashboard.server import NAME, PAGE, metadata, page
from tests.support.dashboards import Shown, dashboard
from tests.support.paths import ROOT

CHARTS, NUMBERS, LAYOUT = DASHBOARD.charts, DASHBOARD.numbers, DASHBOARD.rows
SCRIPT = "<script>alert(1)</script>"
IMAGE = "'\"><img src=x onerror=alert(2)>"
FORMULA = "=cmd|' /C calc'!A0"
HOSTILE = (SCRIPT, IMAGE, FORMULA)


def filled(file: Path) -> None:
    """Two readings of a world whose texts are hostile, and whose views have traffic."""
    start_at = datetime.now(UTC) - timedelta(hours=30)
    world = World(3, views=("/home", "/cart", SCRIPT, IMAGE), start_at=start_at)
    people = world.records("/home")
    for text in HOSTILE:
        for view in ("/old", SCRIPT):
            old = start_at - timedelta(days=200)
            world.pin(view, snapshot_name=text, created_by=text, created_at=old.isoformat())
    for record in people[:2]:  # whose replays are gone
        world.unpin(record["id"])
        gone = (start_at - timedelta(days=600)).isoformat()
        world.pin("/home", snapshot_name=SCRIPT, created_at=gone, modified_at=gone)
    applications = tuple(
        replace(item, name=f"{item.name} {text}")
        for item, text in zip(world.applications, (*HOSTILE, "", ""), strict=True)
    )
    ids = [item.application_id for item in applications]
    visited = ("/home", "/cart", "/old", SCRIPT, IMAGE)
    traffic = [Traffic(view, ids[n], 10_000 * (n + 1)) for view in visited for n in (0, 1)]
    traffic += [Traffic(f"/without {text}", ids[0], 5_000) for text in HOSTILE]
    world.organization = replace(
        world.organization, applications=applications, traffic=tuple(traffic)
    )
    with FakeDatadog(world) as datadog:
        config = demo_config(file, datadog.url, world, HEATMAP_ETL_VIEWS="discover")
        with closing(open_database(config.database_url, label="x")) as database:
            for _ in range(2):
                run = sync(config, database, Options(), stop=threading.Event())
                assert run.status == "ok", run
                ids = [record["id"] for record in world.records("/cart")]
                world.pin("/cart")
                world.repoint(ids[0])
                world.unpin(ids[1])


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    file = tmp_path_factory.mktemp("shown") / "odd #1?%20.db"
    filled(file)
    with dashboard(file) as running:
        yield running


def plain(sql: str) -> str:
    """Without the optional filters."""
    return re.sub(r"\[\[.*?\]\]", "", sql)


def colored(name: str) -> set[str]:
    """The values of a chart that have a colour of their own."""
    scale = CHARTS[name].display["encoding"]["color"]["scale"]
    assert len(scale["domain"]) == len(set(scale["range"]))
    return set(scale["domain"])


def filtered(sql: str) -> str:
    """With all of them."""
    return sql.replace("[[", "").replace("]]", "")


# --- what it shows ------------------------------------------------------------------------


def test_the_page_holds_every_chart_once(shown):
    answer = shown.get(PAGE)
    assert answer.status_code == 200
    for name in CHARTS:
        assert answer.text.count(f'id="card-{name}"') == 1
    assert sorted([*NUMBERS, *(name for row in LAYOUT for name in row)]) == sorted(CHARTS)


def test_coverage_against_traffic_comes_first():
    assert LAYOUT[0] == ("gaps", "old")


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_has_rows_and_they_are_those_of_sqlite(shown, name):
    sql = plain(CHARTS[name].query)
    rows = shown.rows(sql)
    assert rows
    assert rows == shown.ask(sql)


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("view", ["/home", SCRIPT, "none"])
def test_a_chart_answers_under_every_filter(shown, name, view):
    (application,) = shown.ask(
        "SELECT application_name FROM view_coverage WHERE view_name = '/home' LIMIT 1"
    )
    filters = {"source": "demo", "application": application["application_name"], "view": view}
    sql = filtered(CHARTS[name].query)
    used = {key: value for key, value in filters.items() if f":{key}" in sql}
    assert shown.rows(sql, **used) == shown.ask(sql, **used)


def test_the_page_hands_the_filters_to_its_charts(shown):
    text = shown.get(PAGE, view="/home", application="").text
    assert text.count('data-query="view=%2Fhome&amp;application="') == len(CHARTS) or text.count(
        'data-query="application=&amp;view=%2Fhome"'
    ) == len(CHARTS)
    assert "AND synced_view = :view" in text
    assert ":application" not in text


def value(shown: Shown, name: str) -> object:
    (row,) = shown.rows(plain(CHARTS[name].query))
    return row["value"]


def test_the_numbers_are_those_of_the_tables(shown):
    (listed,) = shown.ask("SELECT COUNT(*) AS n FROM snapshots WHERE removed_at IS NULL")
    assert value(shown, "listed") == listed["n"] > 50
    (counts,) = shown.ask("SELECT SUM(new + changed + vanished + returned) AS n FROM sync_runs")
    (first,) = shown.ask("SELECT COUNT(*) AS n FROM snapshot_versions WHERE began = 'baseline'")
    changes = counts["n"] - first["n"]
    assert value(shown, "changes") == changes > 2
    weeks = shown.rows(plain(CHARTS["weeks"].query))
    assert sum(row["snapshots"] for row in weeks) == changes
    assert {row["event"] for row in weeks} <= colored("weeks")
    devices = shown.rows(plain(CHARTS["devices"].query))
    assert sum(row["snapshots"] for row in devices) == listed["n"]
    assert {row["device"] for row in devices} <= colored("devices")
    assert value(shown, "expired") == 2
    covered = shown.ask(
        "SELECT 100.0 * SUM(d.views_30d * EXISTS (SELECT 1 FROM snapshots s"
        " WHERE s.synced_view = d.view_name AND s.application_id = d.application_id"
        " AND s.removed_at IS NULL)) / SUM(d.views_30d) AS n FROM discovered_views d"
    )
    assert value(shown, "covered") == round(covered[0]["n"])
    views = shown.ask("SELECT COUNT(*) AS n FROM view_state")[0]["n"]
    assert value(shown, "trusted") == f"{views} of {views}"


def test_a_week_begins_on_monday(shown):
    for row in shown.rows(plain(CHARTS["weeks"].query)):
        assert datetime.fromisoformat(row["week"]).weekday() == 0


def test_the_axis_of_the_weeks_spans_the_year_that_is_asked_for():
    asked = max(int(days) for days in re.findall(r"'-(\d+) days'", CHARTS["weeks"].query))
    scale = CHARTS["weeks"].display["encoding"]["x"]["scale"]
    # The first week begins on a Monday, up to six days before.
    assert scale["domainMin"] == {"expr": f"now() - {asked + 7} * 864e5"}


def test_a_baseline_is_no_change(shown):
    events = shown.ask("SELECT DISTINCT event FROM snapshot_changes")
    assert {"event": "baseline"} in events
    assert "baseline" not in {row["event"] for row in shown.rows(plain(CHARTS["latest"].query))}


def test_traffic_that_is_no_longer_counted_is_no_gap(tmp_path):
    file = tmp_path / "old.db"
    filled(file)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE discovered_views SET sampled_at = '2020-01-01 00:00:00.000000'")
    shown = Shown(file, "")
    assert shown.ask(plain(CHARTS["gaps"].query)) == []
    assert shown.ask(plain(CHARTS["covered"].query)) == [{"value": None}]


def test_links_lead_to_replays(shown):
    rows = shown.rows(plain(CHARTS["snapshots"].query))
    links = [row["replay_url"] for row in rows if row["replay_url"]]
    assert len(links) > len(rows) / 2
    for link in links:
        assert link.startswith("https://app.datadoghq.com/rum/replay/sessions/")


# --- descriptions -------------------------------------------------------------------------


def test_every_table_view_and_column_is_described():
    described = metadata()["databases"][NAME]["tables"]
    tables = {**schema.metadata.tables, **sql_views.metadata.tables}
    assert set(described) == {*tables, schema.VERSION_TABLE}
    for name, table in tables.items():
        assert described[name]["description"] == table.comment
        assert described[name]["columns"] == {c.name: c.comment for c in table.columns}
        assert all(described[name]["columns"].values())


def test_the_pages_of_datasette_show_the_descriptions(shown):
    text = shown.get(f"/{NAME}/current_snapshots").text
    assert "What is pinned now: one row for each snapshot that is not removed" in text
    assert "Id of the RUM application; NULL: not sent" in text


# --- what an analyst finds ----------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """The links, form fields, folded texts and table of a page, as a reader has them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: dict[str, str] = {}  # address by text, in the order of the page
        self.fields: dict[str, str] = {}  # value by name
        self.folded = ""
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self._address = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if tag in ("input", "select") and values.get("name"):
            self.fields[values["name"]] = values.get("value", "")
        if tag in ("a", "td", "tr", "details"):
            self._open.append(tag)
        if tag == "a":
            self._address = values.get("href", "")
        elif tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if "details" in self._open:
            self.folded += data
        if "a" in self._open:
            self.links[data.strip()] = self._address
        if "td" in self._open:
            self.rows[-1][-1] += data


def follow(shown: Shown, page: Page, link: str) -> Page:
    answer = shown.get(page.links[link])
    assert answer.status_code == 200
    return Page(answer.text)


@pytest.mark.parametrize("path", ["/", f"/{NAME}"])
def test_the_sql_views_come_first_then_the_questions_and_no_table(shown, path):
    text = shown.get(path).text
    page = Page(text)
    names = [name for name in page.links if page.links[name].startswith(f"/{NAME}/")]
    titles = [f"{n}. {q.title}" for n, q in enumerate(QUESTIONS.questions, start=1)]
    assert names == [*sql_views.NAMES, *titles]
    for view in sql_views.metadata.tables.values():
        assert str(view.comment) in html.unescape(text)


def test_the_hidden_tables_are_a_link_away(shown):
    page = Page(shown.get(f"/{NAME}").text)
    tables = {*schema.metadata.tables, schema.VERSION_TABLE}
    hidden = follow(shown, page, f"Show {len(tables)} hidden tables")
    assert tables.isdisjoint(page.links)
    assert tables <= set(hidden.links)
    assert follow(shown, hidden, "sync_runs").rows


def test_a_table_of_somebody_else_is_not_hidden(tmp_path):
    file = tmp_path / "more.db"
    with closing(open_database(f"sqlite:///{file}", label="x")) as database:
        prepare_schema(database)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE notes (words TEXT)")
        connection.execute("CREATE VIEW my_view AS SELECT * FROM notes")
    with dashboard(file) as shown:
        links = Page(shown.get(f"/{NAME}").text).links
    assert {"notes", "my_view"} <= set(links)


@pytest.mark.parametrize("view", sql_views.NAMES)
def test_only_the_rows_of_a_sql_view_are_unfolded(shown, view):
    page = Page(shown.get(f"/{NAME}/{view}").text)
    assert len(page.rows) > 2
    described = sql_views.comments(view)[1]
    for column, comment in described.items():
        assert f"{column}{comment}" in page.folded
    assert "Apply" not in page.folded  # what is an attribute is no text
    assert "_filter_column" in page.fields


@pytest.mark.parametrize("view", sql_views.NAMES)
def test_a_filter_of_a_sql_view_is_unfolded(shown, view):
    text = shown.get(f"/{NAME}/{view}", source="demo").text
    assert text.count('<details class="fold" open>') == 1
    assert Page(text).fields["_filter_value_1"] == "demo"


def test_no_question_has_the_address_of_a_table():
    tables = {*schema.metadata.tables, *sql_views.NAMES, schema.VERSION_TABLE}
    assert tables.isdisjoint(question.name for question in QUESTIONS.questions)


def answers(shown: Shown, question: Question, **chosen: str) -> list[dict]:
    answer = shown.get(f"/{NAME}/{question.name}.json", _shape="objects", **chosen)
    assert answer.status_code == 200, answer.text
    rows: list[dict] = answer.json()["rows"]
    return rows


def by_name(name: str) -> Question:
    (question,) = (q for q in QUESTIONS.questions if q.name == name)
    return question


@pytest.mark.parametrize(
    "title",
    [
        "1. Which busy views have no snapshot?",
        "2. Which busy views have only old snapshots?",
        "4. Who pins what?",
        "6. What was removed, and between which two readings?",
        "8. What was pinned at a given moment?",
        "12. Where does each application stand?",
    ],
)
def test_a_question_is_answered_without_sql_from_the_page_of_the_dashboard(shown, title):
    questions = follow(shown, Page(shown.get(PAGE).text), "Twelve questions")
    page = follow(shown, questions, title)
    assert len(page.rows) > 1
    assert len(page.rows[1]) >= 2
    assert "SELECT" in page.folded
    assert "sql" not in page.fields


@pytest.mark.parametrize("question", QUESTIONS.questions, ids=lambda question: question.name)
def test_a_filter_that_is_left_empty_is_none(shown, question):
    empty = dict.fromkeys(QUESTIONS.filters_of(question), "")
    rows = answers(shown, question)
    assert rows or question.name == "views-in-trouble"
    assert answers(shown, question, **empty) == rows
    page = Page(shown.get(f"/{NAME}/{question.name}").text)
    assert list(page.fields) == list(empty)


@pytest.mark.parametrize("view", ["/home", SCRIPT, "none"])
def test_the_filter_by_view(shown, view):
    question = by_name("pinned-at-a-moment")
    every = answers(shown, question)
    assert answers(shown, question, view=view) == [r for r in every if r["synced_view"] == view]
    chosen = shown.get(f"/{NAME}/{question.name}", view=view).text
    assert f"<option selected>{html.escape(view)}</option>" in chosen


def test_the_filter_by_application_and_source(shown):
    question = by_name("views-without-snapshot")
    every = answers(shown, question)
    name = every[0]["application_name"]
    chosen = answers(shown, question, application=name)
    assert chosen == [row for row in every if row["application_name"] == name]
    assert answers(shown, question, source="demo") == every
    assert answers(shown, question, source="another") == []


def test_the_filter_by_days(shown):
    question = by_name("views-with-old-snapshots")
    ages = [row["age_days"] for row in answers(shown, question)]
    assert min(ages) > 90
    assert answers(shown, question, days=str(max(ages))) == []
    assert len(answers(shown, question, days="0")) > len(ages)


def test_a_moment_is_written_as_people_do(shown):
    question = by_name("pinned-at-a-moment")
    (first,) = shown.ask(
        "SELECT MIN(valid_from) AS t, MAX(valid_from) AS last FROM snapshot_versions"
    )
    before = datetime.fromisoformat(first["t"]) - timedelta(days=1)
    for moment in (before.strftime("%Y-%m-%d"), before.strftime("%Y-%m-%dT%H:%M")):
        assert answers(shown, question, moment=moment) == []
    assert answers(shown, question, moment=first["last"]) == answers(shown, question)
    since = by_name("changes-by-day")
    assert answers(shown, since, since="2999-01-01 12:00") == []


@pytest.mark.parametrize("days", ["abc", "1.5", "-5", " ", "9" * 7, "٣", SCRIPT])
def test_what_is_no_number_of_days_is_refused(shown, days):
    refused_filter(
        shown,
        "views-with-old-snapshots",
        f"“{days}” is no number of days, such as 90.",
        days=days,
        source="demo",
    )


@pytest.mark.parametrize(
    "moment",
    ["2026-13-45", "2026-02-31", "2026-01-31 24:30", "nonsense", "now", "2026-01-31 ", "2461072.5"],
)
def test_what_is_no_moment_is_refused(shown, moment):
    complaint = f"“{moment}” is no moment, such as 2026-01-31."
    refused_filter(shown, "changes-by-day", complaint, since=moment)
    refused_filter(shown, "pinned-at-a-moment", complaint, moment=moment)
    refused_filter(shown, "replays-that-expire", complaint, until=moment)


def refused_filter(shown: Shown, name: str, complaint: str, **chosen: str) -> None:
    """On the page, and for a program, which must not take a wrong answer for one."""
    answer = shown.get(f"/{NAME}/{name}", **chosen)
    assert answer.status_code == 400
    assert f'<p class="message-error">{html.escape(complaint)}</p>' in answer.text
    assert Page(answer.text).rows == []
    assert "No row answers this." not in answer.text
    for ending in ("json", "csv"):
        answer = shown.get(f"/{NAME}/{name}.{ending}", **chosen)
        assert answer.status_code == 400
        assert answer.json() == {"ok": False, "error": complaint}


def test_of_a_filter_that_is_given_twice_the_one_that_is_used_is_judged(shown):
    path = f"/{NAME}/views-with-old-snapshots"
    assert shown.get(f"{path}?days=5&days=abc").status_code == 200
    assert shown.get(f"{path}?days=abc&days=5").status_code == 400


def test_the_list_of_one_dashboard_leads_to_it(shown):
    for path in ("/-/dashboards", "/-/dashboards/"):
        answer = shown.get(path)
        assert (answer.status_code, answer.headers["location"]) == (302, PAGE)


def test_the_page_of_the_database_says_what_it_is(shown):
    text = shown.get(f"/{NAME}").text
    assert "<title>SQL views and questions</title>" in text
    assert "<h1>SQL views and questions</h1>" in text
    assert f"<h1>{NAME}</h1>" not in text


def test_yes_and_no_are_for_the_booleans_of_the_catalogue(shown):
    text = shown.get(f"/{NAME}/views-without-snapshot").text
    (listed,) = re.findall(r'<script id="booleans" type="application/json">(.*?)</script>', text)
    assert json.loads(listed) == [
        "has_snapshot",
        "is_current",
        "is_device_type_selected_by_user",
        "is_trusted",
        "is_watched",
        "needs_acceptance",
    ]


def test_a_table_without_a_row_says_why(shown):
    text = shown.get(f"/{NAME}/current_snapshots", synced_view="nothing of that name").text
    assert '<p class="zero-results">No row matches this filter.</p>' in text
    assert "0 records" not in text


def test_the_choices_of_a_filter_are_those_of_the_dashboard(shown):
    text = html.unescape(shown.get(f"/{NAME}/who-pins-what").text)
    for name in ("source", "application", "view"):
        assert f'data-options="{DASHBOARD.filters[name].query}"' in text


# --- hostile text -------------------------------------------------------------------------


class Elements(html.parser.HTMLParser):
    """What a browser would make of a page: its elements, and the addresses it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        for name, address in attributes:
            if name in ("src", "srcset", "data") or (name == "href" and tag == "link"):
                self.loaded.append(address or "")

    def handle_data(self, data: str) -> None:
        if self.names and self.names[-1] == "script":
            self.scripts.append(data)


PAGES = (
    PAGE,
    *(f"{PAGE}/{name}" for name in CHARTS),
    "/",
    f"/{NAME}",
    f"/{NAME}/current_snapshots",
    f"/{NAME}/snapshot_changes?_sort_desc=noticed_at",
    f"/{NAME}/view_coverage?_facet=view_name",
    f"/{NAME}/applications",
    f"/{NAME}?_show_hidden=1",
    f"/{NAME}?sql=SELECT+*+FROM+current_snapshots",
    *(f"/{NAME}/{question.name}" for question in QUESTIONS.questions),
)


@pytest.mark.parametrize("path", PAGES)
def test_hostile_text_is_text_on_every_page(shown, path):
    answer = shown.get(path)
    assert answer.status_code == 200
    found = Elements(answer.text)
    assert "img" not in found.names
    assert found.handlers == []
    assert not any(
        "alert(1)" in script and script.strip() == "alert(1)" for script in found.scripts
    )
    assert SCRIPT not in answer.text
    assert "<img" not in answer.text


def test_the_hostile_text_is_there_to_be_shown(shown):
    text = html.unescape(shown.get(f"/{NAME}/current_snapshots?_size=max").text)
    for hostile in HOSTILE:
        assert hostile in text
    assert SCRIPT in html.unescape(shown.get(PAGE).text)  # the name of a view, in the filters


def test_the_address_of_a_filter_is_text_too(shown):
    for name in ("view", "application", "source"):
        text = shown.get(PAGE, **{name: IMAGE}).text
        assert "<img" not in text
        text = shown.get(f"{PAGE}/weeks", **{name: SCRIPT}).text
        assert SCRIPT not in text


def test_the_script_writes_no_html():
    script = (ROOT / "etl/serve/dashboard/files/static/heatmaps.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", script)
    assert "textContent" in script


@pytest.fixture(scope="module")
def loaded():
    """Addresses that were loaded: the pages share most of them."""
    return set()


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_loaded_from_elsewhere(shown, loaded, path):
    answer = shown.get(path)
    for found in Elements(answer.text).loaded:
        address = found.removeprefix(shown.url)
        assert re.match(r"/(?!/)", address), address
        if address not in loaded:
            assert shown.get(address).status_code == 200
        loaded.add(address)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "http" not in policy
    assert "*" not in policy
    assert "dashboards.js" not in answer.text  # the plugin's own, which writes HTML


# --- the file -----------------------------------------------------------------------------


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_file_is_not_written_to(tmp_path):
    file = tmp_path / "kept.db"
    filled(file)
    before = digest(file)
    with dashboard(file, "--no-open") as shown:
        for path in PAGES:
            assert shown.get(path).status_code == 200
        for name in CHARTS:
            shown.rows(plain(CHARTS[name].query))
        for sql in ("DELETE FROM snapshots", "ATTACH 'other.db' AS other", "PRAGMA user_version=1"):
            assert shown.get(f"/{NAME}.json", sql=sql).status_code == 400
    assert digest(file) == before


def test_what_is_written_meanwhile_is_shown(tmp_path):
    file = tmp_path / "live.db"
    filled(file)
    with dashboard(file) as shown, closing(sqlite3.connect(file)) as connection:
        before = value(shown, "listed")
        with connection:
            connection.execute(
                "UPDATE snapshots SET removed_at = valid_from WHERE id ="
                " (SELECT id FROM snapshots WHERE removed_at IS NULL LIMIT 1)"
            )
        assert Path(f"{file}-wal").stat().st_size > 0
        assert value(shown, "listed") == int(str(before)) - 1


def test_a_database_without_a_row(tmp_path):
    file = tmp_path / "empty.db"
    with closing(open_database(f"sqlite:///{file}", label="x")) as database:
        prepare_schema(database)
    with dashboard(file) as shown:
        assert shown.get(PAGE).status_code == 200
        for view in sql_views.NAMES:
            text = shown.get(f"/{NAME}/{view}").text
            assert "There is no row yet. Runs of heatmap-etl sync write them." in text
            assert "0 records" not in text
        assert value(shown, "trusted") == "0 of 0"
        for name, chart in CHARTS.items():
            rows = shown.rows(plain(chart.query))
            assert len(rows) == (1 if name in NUMBERS else 0)
            assert chart.empty or name in NUMBERS


# --- what it refuses ----------------------------------------------------------------------


def refused(capsys, *arguments: str) -> str:
    assert main(["dashboard", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return str(err)


def test_no_file(capsys, tmp_path):
    file = tmp_path / "no.db"
    said = refused(capsys, "--database", str(file))
    assert f"there is no file {file} yet; run: heatmap-etl sync" in said
    assert not file.exists()


def test_a_file_without_our_schema(capsys, tmp_path):
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE notes (words TEXT)")
    before = digest(file)
    assert "has no schema yet; run: heatmap-etl db upgrade" in refused(
        capsys, "--database", str(file)
    )
    assert digest(file) == before


def test_a_file_that_is_no_database(capsys, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("my notes, of more than a hundred characters" * 5)
    assert "not a SQLite database" in refused(capsys, "--database", str(file))


def test_another_database(capsys, monkeypatch, tmp_path):
    for url in ("postgresql://me:s3cret@127.0.0.1:1/x", "postgres://me:s3cret@127.0.0.1:1/x"):
        monkeypatch.setenv("HEATMAP_ETL_DATABASE_URL", url)
        monkeypatch.setenv("HEATMAP_ETL_VIEWS", '["/home"]')
        monkeypatch.chdir(tmp_path)
        said = refused(capsys)
        assert "Grafana (docs/grafana.md)" in said
        assert "Superset" in said
        assert "docs/bi.md" in said
        assert "s3cret" not in said


def test_the_file_of_the_configuration(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "heatmap-etl.toml").write_text(
        'views = ["/home"]\ndatabase_url = "sqlite:///mine.db"\n'
    )
    assert "mine.db yet" in refused(capsys)


def test_a_port_that_is_taken(capsys, tmp_path):
    file = tmp_path / "here.db"
    with closing(open_database(f"sqlite:///{file}", label="x")) as database:
        prepare_schema(database)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(capsys, "--database", str(file), "--port", str(port))
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in said
    assert "--port" in said


@pytest.mark.parametrize("module", ["datasette", "datasette_dashboards"])
def test_without_the_extra(capsys, monkeypatch, tmp_path, module):
    monkeypatch.setitem(sys.modules, module, None)
    said = refused(capsys, "--database", str(tmp_path / "x.db"))
    assert f"; run: {to_install('dashboard')}" in said


def test_the_page_is_what_the_plugin_expects():
    for name, chart in page()["charts"].items():
        assert chart["library"] in ("number", "table", "vega-lite")
        assert chart["db"] == NAME
        assert "\n" not in chart["title"]
        assert bool(chart["display"].get("encoding")) == (chart["library"] == "vega-lite"), name
