"""What comes from outside and is no text, key or host: one clear line each, no traceback."""

import os
from pathlib import Path

import click
import pytest

from etl.cli.app import cli as program
from tests.support.command_line import Cli, Result

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
        ("export", "current_snapshots", "--view-name", BYTES),
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
