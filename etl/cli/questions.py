"""The questions that `init` asks on a terminal, where nobody said anything on the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from etl.cli.options import is_utf8
from etl.config.sites import DEFAULT_SITE, site, site_warning
from etl.config.validators import BadValue
from etl.config.writing.template import (
    DEFAULT_DATABASE_URL,
    database_problem,
    is_discover,
    url_of,
    views_problem,
)
from etl.formatting import clean
from etl.runtime.console import is_terminal, print_results


class Answers(NamedTuple):
    """What `init` would otherwise be told by options."""

    site: str
    views: tuple[str, ...]
    database_url: str


def can_ask() -> bool:
    """Whether a person is there to answer, and no program that only looks like one."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(map(is_terminal, streams)) and not os.environ.get("CI")


def ask(folder: Path) -> Answers:
    """Ask for site, views and database. A wrong answer is asked again; Ctrl-C raises click.Abort.

    `folder`: where the file will be, and so a SQLite file of a relative path.
    """
    print_results(
        ["Enter accepts what is in brackets. Ctrl-C ends it, and nothing is written.", ""]
    )
    named = os.environ.get("DD_SITE") or DEFAULT_SITE
    found = _ask("Datadog site of the keys", named, _Site())
    views = _views()
    database_url = _ask("Database", DEFAULT_DATABASE_URL, lambda text: _database(text, folder))
    print_results([""])
    return Answers(found, views, database_url)


def _ask(question: str, default: str, accept: Callable[[str], str], *, shows: bool = True) -> str:
    while True:
        answer = click.prompt(question, default=default, show_default=shows, type=str).strip()
        try:
            return accept(_text(answer))
        except BadValue as error:
            print_results([f"  {clean(str(error))}"])


def _text(answer: str) -> str:
    if not is_utf8(answer):
        raise BadValue("is not UTF-8 text; is the terminal set to another encoding?")
    return answer


class _Site:
    """Accepts a site; one that is not known only when it is given twice."""

    def __init__(self) -> None:
        self._doubtful = ""

    def __call__(self, text: str) -> str:
        name = site(text)
        if (warning := site_warning(name)) and name != self._doubtful:
            self._doubtful = name
            raise BadValue(f"{warning}. To keep it, enter it once more.")
        return name


def _views() -> tuple[str, ...]:
    """The names, one at a time: a name may hold a comma."""
    names: list[str] = []

    def accept(text: str) -> str:
        if text and (problem := views_problem([*names, text])):
            raise BadValue(problem)
        return text

    first = "View to copy, exactly as RUM shows its name, or discover (Enter: list them later)"
    while not is_discover(names) and (
        name := _ask("Another view (Enter: no more)" if names else first, "", accept, shows=False)
    ):
        names.append(name)
    return tuple(names)


def _database(text: str, folder: Path) -> str:
    url = url_of(text)
    if problem := database_problem(url, folder):
        raise BadValue(problem)
    return url
