"""What `--help` says: no text is cut, and none is missing."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from etl.cli.app import cli


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command, with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


COMMANDS = dict(commands(cli))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_line_of_a_help_is_cut(path: tuple[str, ...]) -> None:
    text = COMMANDS[path].get_help(click.Context(COMMANDS[path]))
    assert "..." not in text.replace("COMMAND [ARGS]...", "")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_does(path: tuple[str, ...]) -> None:
    options = [option for option in COMMANDS[path].params if isinstance(option, click.Option)]
    assert [option.opts for option in options if not option.help] == []


def test_the_export_of_a_view_has_one_name_for_its_option() -> None:
    """`--view-name` is what the option was called before: scripts may still use it."""
    export = COMMANDS[("export",)]
    assert "--view-name" not in export.get_help(click.Context(export))
    for option in ("--view", "--view-name"):
        context = export.make_context("export", ["sync_health", option, "/home"])
        assert context.params["view_name"] == "/home"
