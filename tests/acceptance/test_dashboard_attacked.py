"""The dashboard, asked by those who mean it ill: a real process, its memory, and its answers."""

import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest

from etl.database.connection import open_database
from etl.database.migrations import prepare_schema
from etl.serve.dashboard.connections import MOST, REQUEST_S
from etl.serve.dashboard.server import NAME, PAGE
from tests.support.dashboards import TLS, Shown, dashboard

pytestmark = pytest.mark.slow

MEGABYTES = 500
"""Seen were 175 to 360. Without bounds, the first attack alone takes more than 1,000."""
"""All that the process may take, under each attack."""

ENDLESS = "WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k) "
KEYS = (
    "(SELECT '{' || group_concat('\"' || i || '\":1') || '}' FROM"
    " (WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < 30000)"
    " SELECT i FROM k))"
)
ZEROS = "hex(zeroblob(120000))"


def ctes(step: str) -> str:
    """Each table uses the one before several times: without a limit, as many as 4^29 parts."""
    steps = ", ".join(f"a{n} AS ({step.format(f'a{n - 1}')})" for n in range(1, 30))
    return f"WITH a0 AS (SELECT 1 x UNION ALL SELECT 2), {steps} SELECT count(*) FROM a29"


ATTACKS = {
    "one large value": "SELECT zeroblob(1e9)",
    "one large text": "SELECT hex(zeroblob(4e8))",
    "large rows": f"{ENDLESS}SELECT zeroblob(499999) FROM k",
    "a wide row": f"SELECT {','.join(['randomblob(499999)'] * 290)}",
    "many columns": f"SELECT {','.join(['1'] * 1000)}",
    "much text to escape": f"{ENDLESS}SELECT substr(quote(zeroblob(9)),1,1) || char(1,1,1) FROM k",
    "a table for the page": f"{ENDLESS}SELECT {','.join(['i'] * 230)} FROM k",
    "printf": "SELECT printf('%.*c', 1000000000, 'x')",
    "format": "SELECT format('%.1000000000c', 'x')",
    "replace": f"SELECT replace({ZEROS}, '0', {ZEROS})",
    "instr": f"WITH t AS MATERIALIZED (SELECT {ZEROS} a, hex(zeroblob(60000)) || '1' b) SELECT "
    + "+".join(["instr(a, b)"] * 400)
    + " FROM t",
    "like": f"WITH t AS MATERIALIZED (SELECT {ZEROS} a, '%' || substr({ZEROS}, 1, 490) || '1' b)"
    f" SELECT {'+'.join(['(a LIKE b)'] * 400)} FROM t",
    "like of many": f"SELECT {ZEROS} LIKE '{'%0_' * 160}1'",
    "like, as often as fits": "WITH t AS MATERIALIZED (SELECT hex(zeroblob(6000)) a,"
    " '%' || hex(zeroblob(200)) || '1' b)"
    f" SELECT {','.join(['+'.join(['(a LIKE b)'] * 10)] * 280)} FROM t",
    "glob": f"SELECT {ZEROS} GLOB '{'*0' * 240}1'",
    "trim": f"SELECT trim({ZEROS}, hex(randomblob(120000)))",
    "json_patch": f"SELECT length(json_patch({KEYS}, {KEYS}))",
    "json in itself": f"SELECT json_array_length(replace({ZEROS}, '0', '['))",
    "json of all": f"{ENDLESS}SELECT json_group_array(hex(zeroblob(1000))) FROM k",
    "group_concat": f"{ENDLESS}SELECT group_concat(zeroblob(1000)) FROM k",
    "recursion": f"{ENDLESS}SELECT count(*) FROM k",
    "recursion that remembers": f"{ENDLESS.replace('ALL ', '')}SELECT count(*) FROM k",
    "a sort": f"{ENDLESS}SELECT i FROM (SELECT randomblob(99999) b, i FROM k ORDER BY b)",
    "distinct": f"{ENDLESS}SELECT count(DISTINCT randomblob(99999)) FROM k",
    "tables of tables": ctes(" UNION ALL ".join(["SELECT * FROM {0}"] * 4)),
    "joins of joins": ctes("SELECT p.x FROM {0} p, {0} q, {0} r"),
    "terms of terms": ctes("SELECT x+x+x+x+x+x+x+x AS x FROM {0}"),
}

REFUSALS = {
    "one large value": "a value has more than 500 kB",
    "large rows": "the answer has more than 4 MB",
    "joins of joins": "needs more than the 64 MB",
    "many columns": "too many columns",
    "printf": "printf() is not answered",
    "like": "like() is not answered",
}
"""Of attacks that must not be ended by their time before."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    file = tmp_path_factory.mktemp("attacked") / "heatmap.db"
    with closing(open_database(f"sqlite:///{file}", label="x")) as database:
        prepare_schema(database)
    with dashboard(file, "--allow-host", "heatmaps.example") as running:
        yield running


@contextmanager
def memory_bounded(shown: Shown) -> Iterator[None]:
    """Fails when the process takes more than it may, even for a moment."""
    Path(f"/proc/{shown.pid}/clear_refs").write_text("5")  # what was before does not count
    yield
    status = Path(f"/proc/{shown.pid}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert int(peak) < MEGABYTES * 1024


def is_well(shown: Shown) -> bool:
    answer = shown.get(f"/{NAME}.json", sql="SELECT 1", _shape="arrayfirst")
    return bool(answer.json() == [1])


def test_no_query_takes_all_memory_or_all_time(shown: Shown) -> None:
    """Four run at once, as many as have a thread."""

    def ask(attack: tuple[str, str]) -> tuple[str, httpx.Response]:
        name, sql = attack
        limit = {} if name in REFUSALS else {"_timelimit": "300"}
        ending = "" if name == "a table for the page" else ".json"
        return name, shown.get(f"/{NAME}{ending}", sql=sql, **limit)

    with memory_bounded(shown), ThreadPoolExecutor(4) as pool:
        begun_at = time.monotonic()
        answers = dict(pool.map(ask, ATTACKS.items()))
    assert time.monotonic() - begun_at < 300  # without bounds, one takes minutes
    for name, response in answers.items():
        assert response.status_code in (200, 400), (name, response.text)
        assert len(response.content) < 40_000_000
    answers.pop("a table for the page")  # it says it in HTML
    refused = {name: r.json()["error"] for name, r in answers.items() if r.status_code == 400}
    for name, reason in REFUSALS.items():
        assert reason in refused[name]
    for name in ("recursion", "like, as often as fits"):
        assert "SQL query took too long" in refused[name]
    assert is_well(shown)


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'other.db' AS other",
        "SELECT load_extension('/tmp/x.so')",
        "PRAGMA hard_heap_limit=0",
        "SELECT * FROM pragma_hard_heap_limit(0)",
        "SELECT writefile('/tmp/x', 'x')",
        "SELECT readfile('/etc/passwd')",
        "SELECT edit('x')",
        "VACUUM INTO '/tmp/x.db'",
        "WITH x AS (SELECT 1) DELETE FROM snapshots",
        "WITH x AS (SELECT 1) INSERT INTO sync_runs SELECT * FROM sync_runs",
        "CREATE TEMP TABLE t AS SELECT 1",
        "SELECT 1; DELETE FROM snapshots",
        "EXPLAIN SELECT 1; ATTACH 'x' AS y",
    ],
)
def test_sql_that_does_more_than_read_is_refused(shown: Shown, sql: str) -> None:
    response = shown.get(f"/{NAME}.json", sql=sql)
    assert response.status_code == 400
    assert response.json()["ok"] is False


@pytest.mark.parametrize(
    "path",
    [
        f"/{NAME}.db",
        f"/{NAME}-wal",
        "/heatmap.db",
        "/assets/../../server.py",
        "/assets/%2e%2e/%2e%2e/server.py",
    ],
)
def test_files_are_not_handed_out(shown: Shown, path: str) -> None:
    head, body = raw(shown, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert int(head.split()[1]) in (302, 403, 404)
    assert b"SQLite format" not in body


def test_functions_that_are_bounded_answer_as_sqlite_does(shown: Shown) -> None:
    sql = (
        "SELECT printf('%.2f|%5d|%s|%,d', 1.005, 7, NULL, 1234567) a, format('%08.3f', 3.14159) b,"
        " trim('xxaxx', 'x') c, ltrim('xa', 'x') d, rtrim('ax', 'x') e, trim('  a ') f,"
        " replace('a-b', '-', NULL) g, replace(12.50, '.', ',') h, instr('äbc', 'c') i,"
        " instr(x'0102', x'02') j, 'ABC' LIKE 'a_c' k, 'a%' LIKE 'a!%' ESCAPE '!' l,"
        " 'abc' GLOB 'a*' m, NULL LIKE 'a' n, 1 LIKE '1' o, json_patch('{\"a\":1}', '{\"b\":2}') p"
    )
    assert shown.rows(sql) == shown.ask(sql)


# --- who asks -----------------------------------------------------------------------------


def raw(shown: Shown, text: str) -> tuple[str, bytes]:
    """Head and body of the answer to bytes that no client would send."""
    with connected(shown) as client:
        client.sendall(text.encode("latin-1"))
        pieces = []
        while piece := client.recv(65_536):
            pieces.append(piece)
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


def connected(shown: Shown, buffer: int = 0) -> socket.socket:
    found = urlsplit(shown.url)
    client = socket.socket()
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(60)
    client.connect((found.hostname or "", found.port or 0))
    return client


@pytest.mark.parametrize(
    "path", ["/", PAGE, f"/{NAME}.json?sql=SELECT+1", "/-/versions.json", "/assets/heatmaps.js"]
)
def test_a_foreign_host_is_refused_on_every_path(shown: Shown, path: str) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-Host": "localhost"}
    response = httpx.get(shown.url + path, headers=headers, timeout=60, verify=TLS)
    assert response.status_code == 421
    assert "--allow-host NAME" in response.text
    assert "evil" not in response.text
    assert response.text.count("\n") == 1
    for host in ("localhost:1", "[::1]", "heatmaps.example", "HEATMAPS.example:443"):
        headers = {"Host": host}
        response = httpx.get(shown.url + path, headers=headers, timeout=60, verify=TLS)
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GET / HTTP/1.1", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example", 400),
        ("GET / HTTP/1.0\r\nHost: evil.example", 421),
        ("GET / HTTP/1.1\r\nHost: localhost:80:80", 421),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost", 400),
        ("GET http://localhost/ HTTP/1.1\r\nHost: evil.example", 421),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost", 405),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade", 200),
    ],
)
def test_requests_that_no_browser_sends(shown: Shown, text: str, status: int) -> None:
    head, body = raw(shown, f"{text}\r\nConnection: close\r\n\r\n")
    assert int(head.split()[1]) == status
    assert b"evil" not in body


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("none", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("cross-site", "navigate", "document", 200),
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "no-cors", "script", 403),
        ("cross-site", "cors", "empty", 403),
        ("same-site", "no-cors", "image", 403),
    ],
)
def test_a_page_of_another_site_can_only_link(
    shown: Shown, site: str, mode: str, dest: str, status: int
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    headers |= {"Origin": "https://evil.example"}
    url = f"{shown.url}{PAGE}?_callback=x"
    response = httpx.get(url, headers=headers, timeout=60, verify=TLS)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    policy = response.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy


# --- connections --------------------------------------------------------------------------


def test_hundreds_of_slow_clients_keep_nobody_from_an_answer(shown: Shown) -> None:
    with memory_bounded(shown), ExitStack() as stack:
        for number in range(400):
            client = stack.enter_context(connected(shown))
            client.sendall(b"GET / HTTP/1.1\r\nHost: ")
            if number % 100 == 99:
                assert is_well(shown)
        opened = len(list(Path(f"/proc/{shown.pid}/fd").iterdir()))
        assert opened < MOST + 40


def test_clients_that_do_not_read_take_little_memory(shown: Shown) -> None:
    """Each asks for 960,000 characters that take six bytes each in JSON."""
    sql = f"{ENDLESS}SELECT replace(hex(zeroblob(120000)), '0', char(1)) FROM k LIMIT 4"
    path = f"/{NAME}.json?sql={quote(sql)}"
    with memory_bounded(shown), ExitStack() as stack:
        clients = [stack.enter_context(connected(shown)) for _ in range(MOST - 2)]
        for client in clients:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert is_well(shown)


def test_clients_that_do_not_read_a_stream_make_room(shown: Shown) -> None:
    """A CSV is sent row by row, and each row waits for its client."""
    path = f"/{NAME}.csv?sql={quote(f'{ENDLESS}SELECT {ZEROS} FROM k LIMIT 16')}"
    with memory_bounded(shown), ExitStack() as stack:
        clients = [stack.enter_context(connected(shown, buffer=4096)) for _ in range(MOST)]
        for client in clients:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        for client in clients:
            with suppress(ConnectionError):  # others made it go
                client.recv(1)  # its answer has begun
        assert is_well(shown)


def test_what_sets_no_limit_has_one(shown: Shown) -> None:
    """A request that drips, and meanwhile a query without an end: both have ten seconds."""
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(shown.get, f"/{NAME}.json", sql=ATTACKS["recursion"])
        drip(shown)
        assert "SQL query took too long" in query.result().json()["error"]
    assert is_well(shown)


def drip(shown: Shown) -> None:
    """Until the server ends the connection."""
    begun_at = time.monotonic()
    with connected(shown) as client:
        client.settimeout(0.2)
        while time.monotonic() - begun_at < REQUEST_S + 50:
            try:
                client.sendall(b"X")
                if not client.recv(10):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("it was never ended")
