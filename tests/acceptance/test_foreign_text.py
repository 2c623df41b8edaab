"""What comes from outside and is no text, key or host: one clear line each, no traceback."""

import json
import os
from pathlib import Path

import click
import pytest

from etl.cli.app import cli as program
from etl.fake_datadog import FakeDatadog, World
from tests.support.command_line import SECRETS, Cli, Result

BYTES = os.fsdecode(b"/caf\xe9\xff")  # as Python hands an argument over that is not UTF-8


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    cli = Cli(tmp_path)
    cli.configure(
        'database_url = "sqlite:///heatmap-etl.db"\nviews = ["/home"]\n'
        '[datadog]\napi_url = "http://127.0.0.1:9"\nmax_wait_s = 0\n'
    )
    return cli


def is_refused(done: Result, *words: str) -> bool:
    assert (done.code, done.out, done.is_one_line()) == (2, "", True), done
    assert all(word in done.err for word in words), done.err
    return True


# --- arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("sync", "--view", BYTES),
        ("sync", "--plan", "--view", BYTES),
        ("export", "current_snapshots", "--view", BYTES),
        ("export", "current_snapshots", "--since", BYTES),
        ("status", "--max-age", BYTES),
        ("init", "--force", "--view", BYTES),
        ("init", "--force", "--database-url", BYTES),
        ("schedule", "--listen", f"{BYTES}:9"),
        ("db", "rename-source", BYTES, "x"),
        ("db", "rename-source", "x", BYTES),
        ("dashboard", "--host", BYTES),
        ("dashboard", "--database", BYTES),
        ("fake-datadog", "--host", BYTES),
        ("demo", BYTES),
    ],
    ids=lambda arguments: " ".join(arguments[:-1]),
)
def test_an_argument_that_is_not_utf8_is_refused(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert is_refused(cli(*arguments), "is not UTF-8")


@pytest.mark.parametrize(
    "arguments",
    [
        (BYTES,),
        ("sync", BYTES),
        ("sync", f"--{BYTES}"),
        ("sync", "--config", BYTES),
        ("sync", "--log-format", BYTES),
        ("export", BYTES),
        ("dashboard", "--port", BYTES),
        ("fake-datadog", "--tick", BYTES),
    ],
    ids=repr,
)
def test_what_is_not_known_or_not_there_is_refused_in_any_bytes(
    cli: Cli, arguments: tuple[str, ...]
) -> None:
    assert is_refused(cli(*arguments))


def test_a_file_may_have_any_name(cli: Cli) -> None:
    assert cli("db", "upgrade").code == 0
    done = cli("export", "current_snapshots", "--output", BYTES.lstrip("/"))
    assert (done.code, done.err) == (0, "")
    assert BYTES.lstrip("/") in cli.files()


def test_every_option_that_takes_text_takes_only_text() -> None:
    """A new one of click's own type would let the bytes through."""
    waiting: list[click.Command] = [program]
    seen = 0
    while waiting:
        command = waiting.pop()
        if isinstance(command, click.Group):
            waiting += command.commands.values()
        for parameter in command.params:
            assert type(parameter.type) is not click.types.StringParamType, parameter.name
            seen += 1
    assert seen > 40


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "ü..x", "☃", "1.2.3.999", "a b"])
@pytest.mark.parametrize(
    "command", ["dashboard --host", "fake-datadog --host", "schedule --listen"]
)
def test_a_host_to_listen_on_that_is_none_is_refused(cli: Cli, command: str, host: str) -> None:
    end = ":9102" if "listen" in command else ""
    assert is_refused(cli(*command.split(), host + end), "is not a host")


def test_a_port_of_thousands_of_digits_is_refused(cli: Cli) -> None:
    assert is_refused(cli("schedule", "--listen", f"127.0.0.1:{'9' * 5000}"), "HOST:PORT")


def test_a_dotenv_with_a_nul_is_refused(cli: Cli) -> None:
    """An editor's UTF-16, for example; it was a traceback where it named a proxy."""
    (cli.folder / ".env").write_bytes(b"HTTP_PROXY=http://x\0:1\n")
    assert is_refused(cli("sync"), ".env", "holds a NUL character")


# --- names of views -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/a\rb", "/\x01\x0b\x1b[31m\x7f\x85z", '/"\\\n.'], ids=ascii)
def test_a_view_name_may_hold_control_characters(cli: Cli, name: str) -> None:
    api_key, app_key = SECRETS.values()
    with FakeDatadog(World(views=[name]), api_key=api_key, app_key=app_key) as datadog:
        cli.environ["HEATMAP_ETL_DATADOG_API_URL"] = datadog.url
        cli.environ["HEATMAP_ETL_VIEWS"] = json.dumps([name])
        for number in (1, 2):
            done = cli("sync", "--metrics-file", "x.prom", "--json", "--view", name)
            assert (done.code, done.err) == (0, "")
            (view,) = done.json["views"]
            assert (view["view_name"], view["verdict"]) == (name, "complete")
            metrics = (cli.folder / "x.prom").read_bytes().decode()
            assert f'runs_total{{source="datadoghq.com",status="ok"}} {number}.0\n' in metrics
        found = cli("export", "current_snapshots", "--view-name", name, "--format", "jsonl")
        rows = [json.loads(line) for line in found.out.split("\n") if line]
        assert rows
        assert {row["view_name"] for row in rows} == {name}
        for command in (("sync",), ("check",), ("status",), ("views", "list")):
            printed = cli(*command)
            assert printed.code == 0
            assert all(c == "\n" or c.isprintable() for c in printed.out + printed.err)
