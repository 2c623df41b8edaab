"""Prints what `--help` says, of every command, as Markdown: for `make readability`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from etl.cli.app import cli


def help_texts(
    command: click.Command = cli, name: str = "heatmap-etl"
) -> Iterator[tuple[str, str]]:
    """The name of each command with its help, and with that of each of its options."""
    yield name, inspect.cleandoc(command.help or "")
    for option in command.params:
        if isinstance(option, click.Option) and option.help:
            yield f"{name} {option.opts[0]}", option.help
    if isinstance(command, click.Group):
        for inner, subcommand in command.commands.items():
            yield from help_texts(subcommand, f"{name} {inner}")


if __name__ == "__main__":
    # Most commands have some options in common; each text counts once.
    for text in dict.fromkeys(text.replace("\b", "") for _, text in help_texts()):
        print(f"{text}\n")
