"""Reads the twelve questions from `files/questions.toml`.

Their SQL is written once, with filters: the docs get it for any database, Datasette for SQLite.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from etl.serve.dashboard.charts import FILES, read_toml

_OPTIONAL = re.compile(r"\[\[ (WHERE|AND) (.+?) = :(\w+) \]\]")
_OPTIONAL_LINE = re.compile(r"^ *\[\[.*\]\]\n", re.MULTILINE)
_NAMED = re.compile(r":(\w+)")
MOMENT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?)?"
"""How a reader writes a moment; the form in the browser has it too."""


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a reader can choose; `empty` says what is meant when nothing is chosen."""

    label: str
    kind: Literal["choice", "number", "moment"]
    default: str = ""  # of a moment: SQLite's modifier of now
    empty: str = "all"
    example: str = ""  # the value in the docs

    def literal(self) -> str:
        """The example in SQL."""
        return f"'{self.example}'" if self.kind == "moment" else self.example

    def complaint(self, written: str) -> str:
        """What is wrong with what a reader wrote; "" for nothing. An empty filter is none."""
        if not written or self.kind == "choice":
            return ""
        if self.kind == "number":
            is_good = re.fullmatch("[0-9]{1,6}", written)
            return "" if is_good else f"“{written}” is no number of days, such as {self.default}."
        return "" if _is_moment(written) else f"“{written}” is no moment, such as 2026-01-31."

    def value(self, name: str) -> str:
        """SQLite's SQL for the chosen value, or else the default."""
        if self.kind == "number":
            return f"CAST(COALESCE(NULLIF(:{name}, ''), {self.default}) AS INTEGER)"
        chosen = f"COALESCE(NULLIF(:{name}, ''), datetime('now', '{self.default}'))"
        return f"strftime('%Y-%m-%d %H:%M:%f000', {chosen})"  # as SQLite holds an instant


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`name` is the last part of its page's address."""

    name: str
    title: str
    sql: str
    note: str = ""


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`instants` are columns of the answers that the SQL views call by another name."""

    instants: tuple[str, ...]
    filters: dict[str, Filter]
    questions: tuple[Question, ...]

    def portable_sql(self, question: Question) -> str:
        """The SQL for every database, with examples and without optional filters."""
        without = _OPTIONAL_LINE.sub("", question.sql)
        return _NAMED.sub(lambda found: self.filters[found[1]].literal(), without)

    def filters_of(self, question: Question) -> dict[str, Filter]:
        """Those of this question, in the order of the catalogue."""
        used = set(_NAMED.findall(question.sql))
        return {name: f for name, f in self.filters.items() if name in used}

    def complaints(self, question: Question, written: Mapping[str, str]) -> list[str]:
        """What is wrong with the filters that a reader filled in."""
        filters = self.filters_of(question)
        found = (f.complaint(written.get(name, "")) for name, f in filters.items())
        return [complaint for complaint in found if complaint]

    def sqlite_sql(self, question: Question) -> str:
        """The SQL with a named parameter for each filter; an empty one is as good as none."""

        def value(found: re.Match[str]) -> str:
            chosen = self.filters[found[1]]
            return found[0] if chosen.kind == "choice" else chosen.value(found[1])

        with_filters = _OPTIONAL.sub(r"\1 (:\3 = '' OR \2 = :\3)", question.sql)
        return _NAMED.sub(value, with_filters).removesuffix(";")


def _is_moment(written: str) -> bool:
    """Whether it is written as one, and its day is in the calendar."""
    if not re.fullmatch(MOMENT, written):
        return False
    try:
        datetime.fromisoformat(written)
    except ValueError:
        return False
    return True


def read_questions() -> Catalogue:
    """The catalogue; raises `msgspec.ValidationError` when the file does not match the classes."""
    return msgspec.convert(read_toml(FILES / "questions.toml"), Catalogue)


QUESTIONS = read_questions()
