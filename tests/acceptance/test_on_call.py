"""docs/on-call.md, played: each cause is staged, and each command of the page is run as it stands.

An entry of the page has a symptom (its title), commands that show it, and commands to run once the
cause is mended. A test plays one entry. It stages the cause: the symptom stands in what the
commands print. It mends the cause: the commands to run succeed, and `status` is good again.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from etl.config.database_url import parse_database
from etl.database.connection import open_database
from etl.database.migrations import downgrade
from etl.database.schema import HEAD
from etl.fake_datadog.faults import KINDS
from etl.source.copy_database import copy_database
from tests.support.api import Api, record
from tests.support.certificates import make_certificate, server_tls
from tests.support.installation import parse
from tests.support.paths import ROOT
from tests.support.raw_server import RawServer, answer
from tests.support.servers import Servers, free_port
from tests.support.waiting import wait_until

PAGE = (ROOT / "docs" / "on-call.md").read_text(encoding="utf-8")
FAKE = "heatmap-etl fake-datadog"
NOBODY = "http://127.0.0.1:9"
LONG_AGO = "2025-01-01 00:00:00.000000"
VIEWS = '["/checkout/?", "/a b/ü"]'
"""Of the fake, without anything unusual in their records."""
GOOD = "heatmap-etl status --max-age 1h"
STAMPED = {
    "sync_runs": "started_at finished_at",
    "sync_run_views": "read_at",
    "view_state": "first_read_at last_read_at last_trusted_at last_complete_at last_run_at",
    "snapshots": "valid_from first_seen_at",
}
"""What a run under a clock of the year 2099 would have stamped."""
EXPLAINED = {"Cause", "Do"}
COMMANDS = {"Seen in", "Run", "Rehearse"}


@dataclass(frozen=True)
class Entry:
    """One entry: its symptom, and what stands under each of its headings."""

    symptom: str
    parts: dict[str, str]

    def commands(self, part: str) -> list[str]:
        return re.findall(r"`(heatmap-etl [^`]+)`", self.parts.get(part, ""))


def read_page() -> dict[str, Entry]:
    found = {}
    for section in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        if symptom := re.fullmatch(r"`(.+)`", title):
            parts = re.findall(r"^- \*\*([^*:]+?):?\*\*(.*(?:\n {2}.*)*)", text, flags=re.MULTILINE)
            found[symptom[1]] = Entry(symptom[1], dict(parts))
    return found


ENTRIES = read_page()
PLAYED: list[str] = []


def plays(symptom: str) -> Callable[..., Any]:
    """The test plays this entry of the page, and takes it as `entry`."""
    PLAYED.append(symptom)
    return pytest.mark.parametrize("entry", [ENTRIES.get(symptom)], ids=[symptom])


# --- on call ------------------------------------------------------------------------------


@dataclass
class Done:
    code: int
    said: str


@dataclass
class Shift:
    """A shell in a folder of its own where the job runs: `shift("heatmap-etl sync")`."""

    folder: Path
    port: int
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        program = self.folder / "bin" / "heatmap-etl"
        program.parent.mkdir(parents=True)
        program.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -W error -m etl "$@"\n', "utf-8"
        )
        program.chmod(0o755)
        self.environ = {
            "PATH": os.pathsep.join([str(program.parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C.UTF-8",
            "DD_API_KEY": "fake-api-key",
            "DD_APP_KEY": "fake-app-key",
            "HEATMAP_ETL_DATADOG_API_URL": f"http://127.0.0.1:{self.port}",
            "HEATMAP_ETL_DATABASE_URL": "sqlite:///on-call.db",
            "HEATMAP_ETL_VIEWS": VIEWS,
            "HEATMAP_ETL_DATADOG_MAX_WAIT_S": "1",
            "HEATMAP_ETL_DATADOG_TIMEOUT_S": "3",
        }

    def set(self, **changes: str) -> None:
        """Environment variables, without `HEATMAP_ETL_` where they are settings."""
        for name, value in changes.items():
            is_ours = name.startswith(("DATA", "VIEWS"))
            self.environ[f"HEATMAP_ETL_{name}" if is_ours else name] = value

    def start(self, command: str, *before: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, "sh", "-c", command],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __call__(self, command: str, *before: str) -> Done:
        with self.start(command, *before) as process:
            said, _ = process.communicate(timeout=60)
        assert "Traceback" not in said, said
        return Done(process.returncode, said)

    @contextlib.contextmanager
    def datadog(self, command: str = FAKE) -> Iterator[None]:
        """What listens where the job asks; `command` as the page writes it."""
        with self.start(f"exec {command} --port {self.port}") as process:
            assert process.stdout
            said = [process.stdout.readline() for _ in range(3)]
            assert said[0].startswith("fake Datadog at "), said
            faults = re.findall(r"--fault (\w+)", command)
            assert [line.startswith(f"fault: {kind} ") for kind in faults for line in said[2:]] == (
                [True] * len(faults)
            )
            try:
                yield
            finally:
                process.terminate()
                process.wait(10)

    def good_run(self) -> None:
        with self.datadog():
            assert self("heatmap-etl sync --quiet").code == 0

    def sees(self, entry: Entry) -> None:
        """Each command that the page names shows the symptom."""
        assert entry.commands("Seen in")
        for command in entry.commands("Seen in"):
            done = self(command)
            assert entry.symptom in " ".join(done.said.split()), (command, done)

    def mends(self, entry: Entry) -> None:
        """The cause is gone: the page's commands succeed, and after a run `status` is good."""
        assert entry.commands("Run")
        for command in entry.commands("Run"):
            done = self(command)
            assert done.code == 0, (command, done)
        if not any(command.startswith("heatmap-etl sync") for command in entry.commands("Run")):
            assert self("heatmap-etl sync --quiet") == Done(0, "")
        done = self(GOOD)
        assert (done.code, ", 0 to look at" in done.said) == (0, True), done


@pytest.fixture
def shift(tmp_path: Path) -> Shift:
    return Shift(tmp_path / "job", free_port())


@pytest.fixture
def scripted(shift: Shift, api: Api) -> Api:
    """An API that answers what the test says; one good run of `/home` was made."""
    api.views["/home"] = [record(str(number)) for number in range(7)]
    shift.set(DATADOG_API_URL=api.url, VIEWS='["/home"]')
    assert shift("heatmap-etl sync --quiet").code == 0
    return api


# --- the page -----------------------------------------------------------------------------


def test_each_entry_is_played_and_each_play_has_its_entry():
    assert sorted(PLAYED) == sorted(ENTRIES)
    assert len(set(PLAYED)) == len(PLAYED) > 25


def test_each_entry_says_where_why_and_what_to_do():
    for entry in ENTRIES.values():
        assert {*EXPLAINED, "Seen in", "Run"} <= entry.parts.keys(), entry.symptom
        assert entry.parts.keys() <= {*EXPLAINED, *COMMANDS, "Nothing to do"}, entry.symptom
        for command in (c for part in COMMANDS for c in entry.commands(part)):
            parse(shlex.split(command)[1:])


def test_each_kind_of_fault_can_be_rehearsed():
    text = PAGE.partition("## Rehearse")[0]
    rehearsed = re.findall(r"`heatmap-etl fake-datadog --fault (\w+)`", text)
    assert sorted(rehearsed) == sorted(KINDS)


def test_the_rehearsal_goes_as_it_is_written(shift: Shift):
    (script,) = re.findall(
        r"^```sh\n(.*?)^```$", PAGE.partition("## Rehearse")[2], re.MULTILINE | re.DOTALL
    )
    assert script.count(FAKE) == 3
    here = script.replace(FAKE, f"{FAKE} --port {shift.port}").replace(":8321", f":{shift.port}")
    good, fault, well = shift(here).said.split("fake Datadog at ")[1:]
    assert "records listed" in good
    assert "500:" not in good
    assert fault.count("500: Internal Server Error") >= 2
    assert ", 0 to look at" in well
    assert "Look at:" not in well


# --- Datadog, and the way to it -----------------------------------------------------------


REHEARSED = [entry for entry in ENTRIES.values() if "Rehearse" in entry.parts]
PLAYED.extend(entry.symptom for entry in REHEARSED)


@pytest.mark.parametrize("entry", REHEARSED, ids=[entry.symptom for entry in REHEARSED])
def test_what_can_be_rehearsed_is_what_the_page_says(shift: Shift, entry: Entry):
    shift.good_run()
    (command,) = entry.commands("Rehearse")
    with shift.datadog(command):
        shift.sees(entry)
        found = " ".join(shift("heatmap-etl status").said.split())
        # Where a person looks first, and not in the table of runs.
        assert entry.symptom in found.partition("Look at:")[2].partition("run started")[0]
    with shift.datadog():
        shift.mends(entry)


@plays("no answer: no connection to")
def test_nobody_listens(shift: Shift, entry: Entry):
    shift.good_run()
    shift.sees(entry)
    with shift.datadog():
        shift.mends(entry)


@plays("no TLS with")
def test_plain_http_where_tls_is_asked(shift: Shift, entry: Entry):
    shift.good_run()
    there = shift.environ["HEATMAP_ETL_DATADOG_API_URL"]
    with shift.datadog():
        shift.set(DATADOG_API_URL=there.replace("http://", "https://"))
        shift.sees(entry)
        shift.set(DATADOG_API_URL=there)
        shift.mends(entry)


@plays("the proxy")
def test_the_proxy_is_down(shift: Shift, entry: Entry):
    shift.good_run()
    there = shift.environ["HEATMAP_ETL_DATADOG_API_URL"]
    shift.set(DATADOG_API_URL="http://api.invalid", HTTP_PROXY=NOBODY)
    shift.sees(entry)
    shift.set(DATADOG_API_URL=there, HTTP_PROXY="")
    with shift.datadog():
        shift.mends(entry)


@plays("check SSL_CERT_FILE")
def test_the_certificate_is_not_trusted(shift: Shift, entry: Entry, tmp_path: Path):
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    with RawServer(otherwise=answer("/home", 7), tls=server_tls(certificate)) as server:
        shift.set(DATADOG_API_URL=server.url, VIEWS='["/home"]')
        shift.sees(entry)
        shift.set(SSL_CERT_FILE=str(certificate))
        shift.mends(entry)


# --- what Datadog answered ----------------------------------------------------------------


@plays("held until the next reading confirms them")
def test_much_of_a_view_is_gone(shift: Shift, scripted: Api, entry: Entry):
    scripted.views["/home"] = [record(str(number)) for number in range(91)]
    assert shift("heatmap-etl sync --quiet").code == 0
    scripted.views["/home"] = [record(str(number)) for number in range(7)]
    shift.sees(entry)
    shift.mends(entry)


@plays("truncated")
def test_the_list_is_cut(shift: Shift, scripted: Api, entry: Entry):
    shift.set(DATADOG_PAGE_LIMIT="3")
    shift.sees(entry)
    shift.set(DATADOG_PAGE_LIMIT="1000")
    shift.mends(entry)
    shift.set(DATADOG_PAGE_LIMIT="3", VIEWS='[{"name": "/home", "accept_truncated": true}]')
    shift("heatmap-etl sync")
    assert ", 0 to look at" in shift(GOOD).said


@plays("unproven")
def test_a_round_number(shift: Shift, scripted: Api, entry: Entry):
    scripted.views["/home"] = [record(str(number)) for number in range(100)]
    assert shift("heatmap-etl sync --quiet").code == 0
    shift.sees(entry)
    scripted.views["/home"] += [record("100")]
    shift.mends(entry)


@plays("the answer says that it is not whole")
def test_there_is_more(shift: Shift, scripted: Api, entry: Entry):
    whole = scripted.views["/home"]
    more = {"Link": '</more>; rel="next"'}
    scripted.views["/home"] = (200, more, json.dumps({"data": whole}).encode())
    shift.sees(entry)
    scripted.views["/home"] = whole
    shift.mends(entry)


@plays("the answer comes from a cache")
def test_a_cache(shift: Shift, scripted: Api, entry: Entry):
    whole = scripted.views["/home"]
    scripted.views["/home"] = (200, {"Age": "60"}, json.dumps({"data": whole}).encode())
    shift.sees(entry)
    scripted.views["/home"] = whole
    shift.mends(entry)


@plays("the answer is for another view")
def test_another_view(shift: Shift, scripted: Api, entry: Entry):
    whole = scripted.views["/home"]
    other = [record(f"o{number}", view_name="/other") for number in range(5)]
    scripted.views |= {"/home": other, "/other": other}
    shift.set(VIEWS='["/home", "/other"]')
    shift.sees(entry)
    scripted.views["/home"] = whole
    shift.mends(entry)


@plays("the answer is larger than datadog.max_body_mb")
def test_a_large_answer(shift: Shift, scripted: Api, entry: Entry):
    whole = scripted.views["/home"]
    shift.set(DATADOG_MAX_BODY_MB="1")
    scripted.views["/home"] = b'{"data":[' + b" " * 2_000_000 + b"]}"
    shift.sees(entry)
    scripted.views["/home"] = whole
    shift.mends(entry)


@plays("Not known")
def test_a_side_question_without_an_answer(shift: Shift, scripted: Api, entry: Entry):
    scripted.views["/home"] = [record(str(number)) for number in range(100)]
    assert shift("heatmap-etl sync --quiet").code == 0
    shift.sees(entry)
    assert ", 0 to look at" in shift(GOOD).said
    shift.mends(entry)


@plays("rejected_records")
def test_a_record_that_cannot_be_a_row(shift: Shift, scripted: Api, entry: Entry):
    scripted.views["/home"] += [{"id": None, "type": "snapshots", "attributes": {}}]
    shift.sees(entry)
    assert shift(GOOD).code == 1
    sql(shift, "UPDATE rejected_records SET first_seen_at = ?", LONG_AGO)
    shift.mends(entry)


@plays("schema_drift")
def test_a_new_attribute(shift: Shift, scripted: Api, entry: Entry):
    scripted.views["/home"] = [record("new", zoom=2), *scripted.views["/home"]]
    shift.sees(entry)
    assert shift(GOOD).code == 1
    sql(shift, "UPDATE schema_drift SET first_seen_at = ?", LONG_AGO)
    shift.mends(entry)


# --- keys ---------------------------------------------------------------------------------


@plays("the answer holds one of our keys")
def test_a_server_that_repeats_the_keys(shift: Shift, scripted: Api, entry: Entry):
    whole = scripted.views["/home"]
    repeated = shift.environ["DD_API_KEY"].upper()
    scripted.views["/home"] = [record(f"r{number}", snapshot_name=repeated) for number in range(5)]
    shift.sees(entry)
    scripted.views["/home"] = whole
    shift.mends(entry)


@plays("these keys belong to another organization")
def test_swapped_keys(shift: Shift, scripted: Api, entry: Entry):
    ours = scripted.views["/home"]
    scripted.views["/home"] = [record(f"x{number}", org_id=43) for number in range(5)]
    shift.sees(entry)
    scripted.views["/home"] = ours
    shift.mends(entry)


@plays(".env: cannot be read")
def test_keys_that_this_user_may_not_read(shift: Shift, entry: Entry):
    shift.good_run()
    file = shift.folder / ".env"
    file.write_text("DD_API_KEY=fake-api-key\nDD_APP_KEY=fake-app-key\n", "utf-8")
    del shift.environ["DD_API_KEY"], shift.environ["DD_APP_KEY"]
    file.chmod(0)
    # Without capabilities root may read no more than others.
    before = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    for command in entry.commands("Seen in"):
        done = shift(command, *before)
        assert (done.code, entry.symptom in done.said) == (2, True), done
    file.chmod(0o600)
    with shift.datadog():
        shift.mends(entry)


# --- the database -------------------------------------------------------------------------


@plays("cannot open the database")
def test_the_database_is_down(shift: Shift, entry: Entry, require_server: Callable[[str], None]):
    require_server("postgresql")
    servers = Servers()
    try:
        server = servers.get("postgresql")
        shift.set(DATABASE_URL=server.url(server.create_database()))
        shift.good_run()
        server.go_down()
        with shift.datadog():
            shift.sees(entry)
            server.come_back()
            shift.mends(entry)
    finally:
        servers.stop()


@plays("does not exist")
def test_another_folder_than_that_of_the_job(shift: Shift, entry: Entry):
    shift.good_run()
    there = shift.environ["HEATMAP_ETL_DATABASE_URL"]
    shift.set(DATABASE_URL="sqlite:///elsewhere.db")
    shift.sees(entry)
    assert not (shift.folder / "elsewhere.db").exists()
    shift.set(DATABASE_URL=there)
    with shift.datadog():
        shift.mends(entry)


@plays("run: heatmap-etl db upgrade")
def test_an_old_schema(shift: Shift, entry: Entry):
    shift.good_run()
    parsed = parse_database("sqlite:///on-call.db", shift.folder)
    with contextlib.closing(open_database(parsed.url, label=parsed.label)) as database:
        downgrade(database, "-1")
    with shift.datadog():
        shift.sees(entry)
        shift.mends(entry)


@plays("newer than this program knows")
def test_an_old_program(shift: Shift, entry: Entry):
    shift.good_run()
    with shift.datadog():
        set_revision(shift, "9999")
        shift.sees(entry)
        set_revision(shift, HEAD)
        shift.mends(entry)


@plays("is an unfinished copy of another one")
def test_a_copy_that_was_interrupted(shift: Shift, entry: Entry):
    shift.good_run()

    def interrupt(_what: str, _rows: int) -> None:
        raise InterruptedError

    with contextlib.ExitStack() as stack:
        old, new = (
            stack.enter_context(contextlib.closing(open_database(url, label=name)))
            for name in ("on-call.db", "new.db")
            for url in [parse_database(f"sqlite:///{name}", shift.folder).url]
        )
        with pytest.raises(InterruptedError):
            copy_database(old, new, lease_s=60, on_rows=interrupt)
    with shift.datadog():
        shift.set(DATABASE_URL="sqlite:///new.db")
        shift.sees(entry)
        shift.set(DATABASE_URL="sqlite:///on-call.db", HEATMAP_ETL_COPY_TO_URL="sqlite:///new.db")
        shift.mends(entry)
        shift.set(DATABASE_URL="sqlite:///new.db")
        assert shift(GOOD).code == 0


@plays("lie in the future")
def test_a_run_under_a_wrong_clock(shift: Shift, entry: Entry):
    shift.good_run()
    for table, columns in STAMPED.items():
        moved = ", ".join(f"{column} = '2099' || substr({column}, 5)" for column in columns.split())
        sql(shift, f"UPDATE {table} SET {moved}")
    sql(shift, "UPDATE sync_runs SET clock_skew_s = NULL")  # as before it was measured
    with shift.datadog():
        shift.sees(entry)
        assert shift(GOOD).code == 1
        shift.mends(entry)


def set_revision(shift: Shift, revision: str) -> None:
    sql(shift, "UPDATE heatmap_etl_version SET version_num = ?", revision)


def sql(shift: Shift, statement: str, *values: str) -> None:
    file = shift.folder / "on-call.db"
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement, values)


@plays("heatmap-etl db rename-source")
def test_another_name_for_the_source(shift: Shift, entry: Entry):
    shift.good_run()
    with shift.datadog():
        shift.set(DATADOG_SOURCE="shop")
        shift.sees(entry)
        (advice,) = re.findall(
            r"(heatmap-etl db rename-source \S+ shop);", shift("heatmap-etl sync").said
        )
        assert shift(advice).code == 0
        shift.mends(entry)


@plays("MB free in")
def test_a_full_disk(shift: Shift, scripted: Api, entry: Entry, tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("LOUD: a full disk is not tested: this user may mount none")
    try:
        shift.set(DATABASE_URL=f"sqlite:///{disk}/on-call.db")
        assert shift("heatmap-etl sync --quiet").code == 0
        scripted.views["/home"] = [
            record(f"{number}", snapshot_name="x" * 4000) for number in range(999)
        ]
        shift.sees(entry)
        scripted.views["/home"] = [record(str(number)) for number in range(8)]
        shift.mends(entry)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- this machine, and its runs -----------------------------------------------------------


@contextlib.contextmanager
def run_under_way(shift: Shift) -> Iterator[subprocess.Popen[str]]:
    """A `sync` that waits for an answer and holds the lease."""
    patient = "HEATMAP_ETL_DATADOG_TIMEOUT_S=30 HEATMAP_ETL_DATADOG_MAX_WAIT_S=60"
    with shift.datadog(f"{FAKE} --fault slow"):
        process = shift.start(f"{patient} exec heatmap-etl sync")
        try:
            wait_until(lambda: "A run is under way" in shift("heatmap-etl status").said, 30)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=10)


@plays("its lease lasts until")
def test_two_runs(shift: Shift, entry: Entry):
    shift.good_run()
    with run_under_way(shift):
        for command in entry.commands("Seen in"):
            done = shift(command)
            assert (done.code, entry.symptom in done.said) == (75, True), done
    with shift.datadog():
        shift.mends(entry)


@plays("died")
def test_a_killed_run(shift: Shift, entry: Entry):
    shift.good_run()
    with run_under_way(shift) as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    shift.sees(entry)
    with shift.datadog():
        shift.mends(entry)


@plays("It hangs")
def test_a_run_that_goes_on_for_too_long(shift: Shift, entry: Entry):
    shift.good_run()
    with run_under_way(shift) as process:
        sql(
            shift,
            "UPDATE sync_runs SET started_at = '2025-01-01 00:00:00.000000' WHERE status = ?",
            "running",
        )
        shift.sees(entry)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    with shift.datadog():
        shift.mends(entry)


@plays("older than --max-age")
def test_nothing_runs(shift: Shift, entry: Entry):
    shift.good_run()
    time.sleep(1.1)
    shift.sees(entry)
    (command,) = entry.commands("Seen in")
    assert shift(command).code == 1
    with shift.datadog():
        shift.mends(entry)


@plays("A run has been due since")
def test_the_daemon_is_down(shift: Shift, entry: Entry):
    shift.good_run()
    sql(
        shift,
        "UPDATE sync_runs SET started_by = 'schedule', slot_at = ?",
        "2025-01-01 00:00:00.000000",
    )
    shift.sees(entry)
    with shift.datadog():
        shift.mends(entry)
