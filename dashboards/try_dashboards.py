"""Tries the dashboards: python dashboards/try_dashboards.py datasette|superset FILE [PICTURES]

Shows FILE, which `demo --large` made, compares what is shown with SQL, looks at the page in
Chromium, also with texts that a browser would run, and takes pictures into the folder PICTURES
when one is named. Called by `make superset` and `make pictures`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE), str(HERE / "superset")]

import sources  # noqa: E402 - the two folders must be on the path first
from expected import CHARTS, expected  # noqa: E402
from server import Api, Superset  # noqa: E402
from sqlalchemy import create_engine  # noqa: E402
from sqlalchemy.engine import URL, make_url  # noqa: E402

from etl.database import schema, sql_views  # noqa: E402
from tests.support.servers import PostgreSQL, ServerMissing  # noqa: E402

BIN = HERE / ".venv" / "bin"
# Superset's own page asks for a pixel of its maker, whatever is configured; nothing of ours does.
TELEMETRY = "https://apachesuperset.gateway.scarf.sh/"
Seen = dict[str, Any]


def main(what: str, made: str, pictures: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "year.db"
        shutil.copyfile(made, file)
        {"datasette": try_datasette, "superset": try_superset}[what](file, pictures)


def say(words: str) -> None:
    print(f"==> {words}", flush=True)


def look(what: str, url: str, picture: Path | None = None, password: str = "") -> Seen:
    """What Chromium sees of the page."""
    command = [str(BIN / "python"), str(HERE / "look.py"), what, url]
    command += [str(picture)] if picture else []
    environment = {**os.environ, "SUPERSET_TRY_PASSWORD": password}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    seen: Seen = json.loads(done.stdout)
    return seen


def require(holds: object, what: str) -> None:
    if not holds:
        raise SystemExit(f"not as it must be: {what}")


def require_text_only(seen: Seen, shown: str) -> None:
    """Hostile text is there, as text, and did nothing."""
    require("hacked" not in seen["title"], f"a script ran, the title is {seen['title']!r}")
    require(not seen["made"], "an element was made of the hostile name")
    require(shown in seen["text"], "the hostile name is not shown as text")


# --- Datasette ----------------------------------------------------------------------------


def try_datasette(file: Path, pictures: str) -> None:
    """The shipped pages; what their queries answer is for tests/acceptance/test_dashboard.py."""
    with datasette(file) as url:
        say("Datasette: looking at the dashboard")
        page = f"{url}/-/dashboards/heatmaps"
        seen = look("datasette", page, Path(pictures) / "datasette.png" if pictures else None)
        require_quiet(seen)
        say("Datasette: looking at the other pages, at three sizes")
        seen = look("pages", url, Path(pictures) if pictures else None)
        require_quiet(seen)
        require(seen["answer"] == ["/cart"], f"a chosen view answers {seen['answer']}")
        require_readable(seen["pages"])
    with datasette(sources.hostile(file)) as url:
        say("Datasette: with hostile text")
        seen = look("datasette", f"{url}/-/dashboards/heatmaps")
        require_quiet(seen)
        require_text_only(seen, sources.HOSTILE)
        seen = look("pages", url)
        require_quiet(seen)
        for page in seen["pages"]:
            shown = sources.HOSTILE if "snapshot_" in page["path"] else ""
            require_text_only(page, shown)
            # A name of thousands of letters is cut, so the rows below it stay on the screen.
            is_low = page["tallest"] < 250 or page["screen"][0] == 390
            require(is_low, f"{page['path']}: a row is {page['tallest']} high")
    say("Datasette is good: nothing asked of anybody else, hostile text is text")


def require_readable(pages: list[Seen]) -> None:
    """Each page at each size: what is first, what fits, and how values are written."""
    for page in pages:
        where = f"{page['path']} at {page['screen']}"
        width = page["screen"][0]
        require(page["width"] == width, f"{where} is {page['width']} wide")
        require(page["per_line"] > 12, f"{where}: {page['per_line']} characters a line")
        require(width != 390 or not page["unnamed"], f"{where}: values without their column")
        require(width != 390 or not page["cut"], f"{where} cuts {page['cut'][:3]}")
        require(set(page["booleans"]) <= {"yes", "no"}, f"{where}: {page['booleans']}")
        require(not page["clipped"], f"{where} clips {page['clipped'][:3]} in a chart")
        for instant in page["instants"]:
            plain = re.fullmatch(r"\d{4}-\d\d-\d\d( \d\d:\d\d)?", instant)
            require(plain, f"{where} writes an instant as {instant}")
        for number in page["numbers"]:
            plain = re.fullmatch(r"-?\d{1,3}(,\d{3})*(\.\d+)?", number)
            require(plain, f"{where} writes a number as {number}")
        for text, address in page["links"]:
            replay = address.startswith("https://app.datadoghq.com/rum/replay/")
            require(text == "open" and replay, f"{where}: a link {text} to {address}")
    at = {(page["path"], page["screen"][0]): page for page in pages}
    rows = [path for path, width in at if at[path, width]["first_row"] and width == 1280]
    for path in rows:
        lowest = 720 if path != "/-/dashboards/heatmaps" else 10_000  # its charts come first
        bottom = at[path, 1280]["first_row"]
        require(bottom <= lowest, f"{path}: the first row ends at {bottom}, below the screen")
    require(len(rows) == 10, f"pages with rows: {rows}")
    require_order(at["/", 1280]["text"])
    require_order(at["/heatmaps", 1280]["text"])
    coverage = at["/heatmaps/view_coverage", 1280]
    require(any("," in number for number in coverage["numbers"]), "no thousands are apart")
    require(coverage["booleans"], "no boolean is shown as yes or no")
    require(coverage["number_align"] == "right", "numbers are not on the right")
    for path in ("/heatmaps/current_snapshots", "/-/dashboards/heatmaps"):
        require(at[path, 1280]["links"], f"{path} has no link to a replay")
        require(at[path, 1280]["instants"], f"{path} has no instant")


def require_order(text: str) -> None:
    """The SQL views, then the questions, and no table."""
    first = [text.find(word) for word in (*sql_views.NAMES, *(f"{n}. W" for n in range(1, 13)))]
    require(-1 not in first and first == sorted(first), f"what comes first: {first}")
    hidden = [
        name for name in schema.metadata.tables if re.search(rf"^{name}\b", text, re.MULTILINE)
    ]
    require(not hidden, f"tables that are not hidden: {hidden}")


def require_quiet(seen: Seen) -> None:
    require(not seen["outside"], f"requests leave this machine: {seen['outside']}")
    require(not seen["complaints"], f"the console complains: {seen['complaints']}")
    require(not seen["errors"], f"charts fail: {seen['errors']}")


@contextmanager
def datasette(file: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "etl", "dashboard", "--database", str(file), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            found = re.search(r"http://[^/\s]+", process.stdout.readline())
            require(found, "heatmap-etl dashboard did not say where it is")
            assert found
            yield found.group()
        finally:
            process.terminate()


# --- Superset -----------------------------------------------------------------------------


def try_superset(file: Path, pictures: str) -> None:
    """The bundle on SQLite and PostgreSQL: import, each chart's data, the page."""
    superset = Superset(BIN, file.parent)
    say("Superset: metadata, administrator, roles (a minute or two)")
    superset.set_up()
    with superset.running() as api:
        for kind, url in databases(file):
            say(f"Superset on {kind}: import, and a look at the page")
            api.import_bundle(url)
            picture = Path(pictures) / "superset.png" if pictures and kind == "SQLite" else None
            seen = look("superset", superset.url, picture, superset.password)
            require_known(seen)
            compare(api, seen["asked"], url, kind)
        say("Superset: with hostile text")
        api.import_bundle(f"sqlite:///{sources.hostile(file)}")
        seen = look("superset", superset.url, None, superset.password)
        require_known(seen)
        # Superset takes what looks like a script out of a text before it shows the rest as text.
        require_text_only(seen, "<img src")
    say("Superset is good: every chart holds what SQL says, hostile text is text")


def require_known(seen: Seen) -> None:
    strangers = [url for url in seen["outside"] if not url.startswith(TELEMETRY)]
    require(not strangers, f"requests leave this machine: {strangers}")
    require("Unexpected error" not in seen["text"], "a chart shows an error")


def databases(file: Path) -> Iterator[tuple[str, str]]:
    """Kind and address, for Superset, of each database with the same rows."""
    yield "SQLite", f"sqlite:///{file}"
    try:
        server = PostgreSQL.launch()
    except ServerMissing as error:
        raise SystemExit(f"{error}; as root, `make databases` installs PostgreSQL") from None
    try:
        url = make_url(server.url(server.create_database()))
        sources.copied(file, with_driver(url, "psycopg"))
        # Superset compares with instants that name no zone: the session's is to be UTC.
        in_utc = url.update_query_dict({"options": "-ctimezone=UTC"})
        yield "PostgreSQL", with_driver(in_utc, "psycopg2")
    finally:
        server.stop()


def with_driver(url: URL, driver: str) -> str:
    return url.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)


def compare(api: Api, asked: list[dict[str, Any]], url: str, kind: str) -> None:
    """What the page asked for, asked again over the API, against SQL."""
    started_at = datetime.now(UTC)
    instants = {
        "now": started_at,
        "month_ago": started_at - timedelta(days=30),
        "year_ago": started_at - timedelta(days=365),
        "in_90_days": started_at + timedelta(days=90),
    }
    titles = api.chart_titles()
    of_charts = [q for q in asked if q["form_data"].get("slice_id") in titles]  # not of filters
    queries = {titles[query["form_data"]["slice_id"]]: query for query in of_charts}
    require(set(queries) == set(CHARTS), f"charts that ask: {set(queries) ^ set(CHARTS)} differ")
    engine = create_engine(url.replace("+psycopg2:", "+psycopg:"))
    for title, query in queries.items():
        rows = api.chart_data(query)
        found, wanted = CHARTS[title][1](rows), expected(engine, title, instants)
        require(wanted, f"{title}: nothing is expected, so nothing is compared")
        require(found == wanted, f"{title} on {kind}: {found} shown, {wanted} by SQL")
        print(f"  {title}: {len(rows)} rows, as SQL says")
    engine.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])
