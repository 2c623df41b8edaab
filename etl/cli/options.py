"""Shared by every command: global options, help, loading of the configuration.

Imports click only; a command imports the rest when it runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from etl.errors import ConfigError, EtlError
from etl.runtime.console import write_error

if TYPE_CHECKING:
    from pathlib import Path

    from etl.config.database_url import Database
    from etl.config.model import Config, Sources

F = TypeVar("F", bound=Callable[..., Any])

HELP_WIDTH = 100
CONSOLE, JSON = "console", "json"
_FORMAT = click.Choice([CONSOLE, JSON])
_RARE = frozenset({"dashboard", "export", "fake-datadog", "privacy"})


class TextType(click.types.StringParamType):
    """Text that can be stored and sent: the bytes of an argument may be no text."""

    def convert(self, value: Any, *args: Any) -> Any:
        if not is_utf8(value):
            self.fail("is not UTF-8 text; is the terminal set to another encoding?", *args)
        return value


class HostType(TextType):
    """A host to listen on, in ASCII; "" for every address of the machine."""

    def convert(self, value: Any, *args: Any) -> Any:
        from etl.config.host_name import ascii_host

        try:
            return ascii_host(super().convert(value, *args)) if value else value
        except ValueError as error:
            self.fail(f"is not a host: it {error}", *args)


class PathType(click.Path):
    """A `Path`; pathlib is loaded only when a path is given. `of_sqlite`: SQLite opens it."""

    def __init__(self, *, of_sqlite: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self._of_sqlite = of_sqlite

    def convert(self, value: Any, *args: Any) -> Any:
        from pathlib import Path

        path = os.fsdecode(super().convert(value, *args))
        if self._of_sqlite and not is_utf8(os.path.abspath(path)):  # noqa: PTH100 - not yet one
            self.fail("is not UTF-8; SQLite cannot open a file with such a name", *args)
        return Path(path)


def is_utf8(text: str) -> bool:
    """Whether an argument was UTF-8; Python keeps other bytes as surrogates."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


TEXT, HOST = TextType(), HostType()
PATH = PathType()  # shared: each instance of click.Path looks for a translation on disk


class GlobalOptions:
    """What every command takes, before or after its name."""

    config: Path | None = None
    log_format: str = CONSOLE
    verbose: bool = False
    is_format_chosen: bool = False
    is_system: bool = False  # `config` is that of this machine: nobody named another


class CommandGroup(click.Group):
    """Lists its commands in the order of use, the rare ones in a section of their own."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(self.commands)

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        settings.setdefault("terminal_width", _help_width(HELP_WIDTH))
        return super().make_context(*args, **settings)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            write_error(f"{ctx.get_help()}\n")
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, is_rare in (("Commands", False), ("More", True)):
            names = [name for name in self.commands if (name in _RARE) is is_rare]
            if names:
                rows = [(name, self.commands[name].get_short_help_str(60)) for name in names]
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=14)


def _help_width(maximum: int) -> int:
    """The width click would find; without shutil, which loads every compression library."""
    width = 0
    with contextlib.suppress(ValueError):
        width = max(0, int(os.environ.get("COLUMNS", "0")))
    with contextlib.suppress(AttributeError, ValueError, OSError):  # stdout closed, or no terminal
        width = width or os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
    return max(min(width or 80, maximum) - 2, 50)


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        setattr(ctx.ensure_object(GlobalOptions), parameter.name or "", value)
        ctx.ensure_object(GlobalOptions).is_format_chosen |= parameter.name == "log_format"


def address_options(*, port: int) -> Callable[[F], F]:
    """Add `--host` and `--port`, for commands that serve something; `port` is the default."""
    host = click.option(
        "--host",
        type=HOST,
        metavar="HOST",
        default="127.0.0.1",
        show_default=True,
        help="The address to listen on.",
    )
    number = click.option(
        "--port",
        default=port,
        show_default=True,
        type=click.IntRange(0, 65535),
        help="The port to listen on; 0 takes a free one.",
    )
    return lambda command: host(number(command))


def allow_host_option(command: F) -> F:
    """Add `--allow-host`, for commands that serve something."""
    return click.option(
        "--allow-host",
        "allowed_names",
        type=HOST,
        metavar="NAME",
        multiple=True,
        help="Also answer requests for this host name, such as that of a reverse proxy. Can be "
        "given several times. Loopback names and the address to listen on need none.",
    )(command)


def database_option(command: F) -> F:
    """Add `--database`, for commands that only read."""
    return click.option(
        "--database",
        "named",
        type=TEXT,
        metavar="URL|FILE",
        help="Read this database, without a configuration. Other users can see arguments: set a "
        "URL with a password as HEATMAP_ETL_DATABASE_URL.",
    )(command)


def looking_options(command: F) -> F:
    """As `global_options`, for who only looks: see `finds_system` of `load_sources`."""
    return global_options(command, default="heatmap-etl.toml, else that of `init --system` in /etc")


def global_options(command: F, *, default: str = "heatmap-etl.toml") -> F:
    """Add `--config`, `--log-format` and `--verbose`; the last one given wins."""
    common: dict[str, Any] = {"callback": _remember, "expose_value": False}
    options = [
        click.option(
            "--config",
            type=PATH,
            metavar="PATH",
            help="The configuration: a file, or a folder with one file for each source. Default: "
            f"HEATMAP_ETL_CONFIG, else {default}.",
            **common,
        ),
        click.option(
            "--log-format",
            type=_FORMAT,
            help="Format of the log on stderr. Default: HEATMAP_ETL_LOG_FORMAT, else console.",
            **common,
        ),
        click.option(
            "-v", "--verbose", is_flag=True, help="Log each request and each wait.", **common
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _apply_dotenv(options: GlobalOptions) -> None:
    """Set proxies, certificates and log format from `.env`, before anything reads them."""
    from pathlib import Path

    from etl.config.files import (
        LOG_FORMAT,
        destinations,
        dotenv_files,
        process_variables,
        read_dotenv,
    )
    from etl.config.folder import is_folder
    from etl.config.settings import Findings

    file = _named_file(options)
    folder = (file if is_folder(file) else file.parent) if file else Path()
    for path in reversed(dotenv_files(file, folder)):  # the first one belongs to the file, and wins
        found = read_dotenv(path, Findings())
        if file is None:
            left_out = destinations(found, os.environ)
            found = {name: value for name, value in found.items() if name not in left_out}
        os.environ.update(process_variables(found, os.environ, folder))
    name = os.environ.get(LOG_FORMAT)
    if name and not options.is_format_chosen:
        if name not in (CONSOLE, JSON):
            raise click.UsageError(f"{LOG_FORMAT}: expected {CONSOLE} or {JSON}")
        options.log_format = name


def load_sources(
    options: GlobalOptions,
    level: str = "WARNING",
    *,
    needs_keys: bool = True,
    needs_views: bool = True,
    finds_system: bool = False,
    database: str | None = None,
) -> Sources:
    """The configuration of every source, with logging set up; raises `ConfigError`.

    Where no key is needed, a file that this user may not read is a warning. `finds_system`: for who
    only looks, the one of this machine will do where nothing else is named. `database`: the URL or
    file that `--database` names.
    """
    import logging

    from etl.config.folder import is_folder
    from etl.config.load import load_configs
    from etl.config.model import Needs, Sources
    from etl.runtime import logs

    if finds_system and database is None:
        _choose_system_file(options)
    _apply_dotenv(options)
    logs.set_up(options.log_format, "DEBUG" if options.verbose else level)
    named = None if database is None else _named_database(database)
    file = _named_file(options)
    try:
        needs = Needs(needs_keys, needs_views, named)
        configs = tuple(load_configs(options.config, needs=needs))
    except ConfigError as error:
        raise ConfigError(_under_file_name(file, error.problems)) from None
    for text in dict.fromkeys(text for config in configs for text in config.unread):
        logging.getLogger(__name__).warning("%s", text)
    return Sources(configs, is_folder=file is not None and is_folder(file))


def _choose_system_file(options: GlobalOptions) -> None:
    """Choose the configuration of this machine where there is no other."""
    from pathlib import Path

    from etl.config.files import SYSTEM_FILE

    # Most machines have none: nothing more is loaded then, and nothing read.
    if _named_file(options) is None and os.path.lexists(SYSTEM_FILE):
        from etl.config.system import find_system_file

        try:
            here = Path.cwd()
        except OSError:  # it is gone; loading the configuration reports it
            return
        options.config = find_system_file(os.environ, here)
        options.is_system = options.config is not None


def _named_database(value: str) -> Database:
    """What `--database` names; a file must be there. Raises `ConfigError`."""
    from pathlib import Path

    from etl.config.database_url import parse_named
    from etl.config.validators import BadValue

    try:
        return parse_named(value, Path.cwd())
    except BadValue as error:
        problem = str(error)
    except OSError:
        problem = "the current folder does not exist any more; change to another"
    raise ConfigError([f"--database: {problem}"])


def require_single_database(sources: Sources, advice: str = "name one file") -> Config:
    """The configuration of the one database that all sources name; raises `EtlError` for more."""
    configs = sources.by_database().configs
    if len(configs) > 1:
        raise EtlError(f"the files of the folder name several databases; {advice}")
    return configs[0]


def _named_file(options: GlobalOptions) -> Path | None:
    from pathlib import Path

    from etl.config.files import find_file

    try:
        return find_file(options.config, os.environ, Path.cwd())
    except OSError:  # the current folder is gone; loading the configuration reports it
        return None


def _under_file_name(file: Path | None, problems: Sequence[str]) -> list[str]:
    """Put the name of the file before its problems; those of a folder name their file already."""
    from etl.config.folder import is_folder

    if file is None or is_folder(file) or problems[0].startswith(str(file)):
        return list(problems)
    if len(problems) == 1:
        return [f"{file}: {problems[0]}"]
    return [f"{file}: {len(problems)} problems", *(f"  {problem}" for problem in problems)]
