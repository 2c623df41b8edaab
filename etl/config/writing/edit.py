"""Adds views to `heatmap-etl.toml`, and keeps every comment and every other line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from etl.config.files import read_toml
from etl.config.output_file import output_file
from etl.config.validators import plain
from etl.config.views import DISCOVER, View, parse_views
from etl.config.writing.template import quoted
from etl.errors import ConfigError
from etl.files import rights_of, whole_file

_MARK = "\ufeff"  # some editors begin a file with it
_INDENT = " " * 4
_PASTE = "`heatmap-etl views discover --toml` prints the lines to paste"


def add_views(path: Path | None, configured: Sequence[View], names: Sequence[str]) -> None:
    """Add view names to the list in the file; raises ConfigError, and then nothing is written.

    `configured`: the views in use, which the environment may have set instead of the file.
    """
    if path is None:
        raise ConfigError(
            ["there is no configuration file to write to; `heatmap-etl init` writes one"]
        )
    document = read_toml(path)
    listed = document.get("views")
    if listed == DISCOVER:
        raise ConfigError(
            [f'{plain(path)}: views = "discover" reads every discovered view already']
        )
    if not isinstance(listed, list) or _parsed(listed) != tuple(configured):
        problem = "the views in use come from the environment; change HEATMAP_ETL_VIEWS"
        raise ConfigError([f"{plain(path)}: {problem}"])
    text = path.read_bytes().decode()
    try:
        new = with_views(text, names)
        is_right = tomllib.loads(new.removeprefix(_MARK)) == document | {"views": [*listed, *names]}
    except (ValueError, TypeError):  # tomlkit's errors and tomllib's are ValueErrors
        is_right = False
    if not is_right:
        raise ConfigError([f"{plain(path)}: is written in a way that cannot be edited; {_PASTE}"])
    path = output_file("--write", path)  # a link stays a link
    try:
        mode, owner = rights_of(path)
        with whole_file(path, mode=mode, owner=owner) as file:
            file.write(new.encode())
    except OSError as error:
        raise ConfigError([f"{plain(path)}: cannot be written: {error.strerror}"]) from None


def _parsed(listed: list[object]) -> tuple[View, ...]:
    return parse_views(listed, lambda _: None, lambda _: None)


def with_views(text: str, names: Sequence[str]) -> str:
    """The text of a configuration file with these names at the end of `views`."""
    import tomlkit
    from tomlkit.items import Array

    is_windows = text.count("\n") == text.count("\r\n") > 0
    document = tomlkit.parse(text.removeprefix(_MARK).replace("\r\n", "\n"))
    views = document["views"]
    if not isinstance(views, Array):
        raise TypeError(views)
    if "\n" not in views.as_string():
        views.multiline(multiline=True)
    indent = re.search(r"\n([ \t]+)[^\s\]]", views.as_string())
    for name in names:
        views.add_line(tomlkit.value(quoted(name)), indent=indent[1] if indent else _INDENT)
    new = tomlkit.dumps(document)
    is_marked = text.startswith(_MARK)
    return _MARK * is_marked + (new.replace("\n", "\r\n") if is_windows else new)
