"""The sentences that people read, out of Markdown, comments and Python, each with its line."""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

Lines = Sequence[tuple[int, str]]
"""Lines that belong together, each with its number: a paragraph, an item, a cell, a message."""

CODE = "X"
"""Stands for each character of code, and for a value in a message: a word that no rule knows."""
NUMBER = "#"
"""Stands for a number in a message, which may be 1."""

_SENTENCE_ENDS = re.compile(r"(?<=[.!?])(?:[\"')*_]*)(\s+)(?=[\"'(*_`]*[A-Z])")
_NO_END = re.compile(r"(?:\b(?:e\.g|i\.e|vs|cf|etc|No|St)\.|\b[A-Z]\.)[\"')]*$")


@dataclass
class Text:
    """All sentences of one file, one on each line of `flat`; an empty line between paragraphs."""

    name: str
    flat: str = ""
    source: Sequence[str] = ()
    _starts: list[int] = field(default_factory=list)
    _places: list[tuple[int, int]] = field(default_factory=list)

    def add(self, paragraph: Lines, until: int = 0) -> None:
        """`until`: the last line of a string; which line of it a word is in is seen when asked."""
        joined = ""
        marks = []
        for number, line in paragraph:
            joined += " " if joined else ""
            marks.append((len(joined), number))
            joined += " ".join(line.split())
        if not joined.strip():
            return
        self._starts += [len(self.flat) + at for at, _ in marks]
        self._places += [(number, max(until, number)) for _, number in marks]
        self.flat += f"{_one_sentence_a_line(joined)}\n\n"

    def line(self, position: int, found: str) -> int:
        """The number of the line in the file that holds what was found at a position in `flat`."""
        first, last = self._places[max(bisect_right(self._starts, position) - 1, 0)]
        numbers = range(first, last + 1)
        return next((n for n in numbers if self.source and found in self.source[n - 1]), first)

    def sentences(self) -> Iterator[tuple[int, str]]:
        """Each with its position in `flat`."""
        position = 0
        for sentence in self.flat.split("\n"):
            if sentence:
                yield position, sentence
            position += len(sentence) + 1


def _one_sentence_a_line(text: str) -> str:
    text = _masked(text, _INLINE_CODE, CODE)
    text = _masked(text, _LINK_TARGET, " ")
    characters = list(text)
    for end in _SENTENCE_ENDS.finditer(text):
        if not _NO_END.search(text, 0, end.start(1)):
            characters[end.start(1)] = "\n"
    return "".join(characters)


_INLINE_CODE = re.compile(r"(`+)(?!`)(?:.*?[^`])?\1(?!`)")
_LINK_TARGET = re.compile(r"(?<=\])\([^()\s]*\)|<https?://[^>\s]*>|https?://\S+|</?\w[^<>]*>")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def _masked(text: str, pattern: re.Pattern[str], character: str) -> str:
    """The same text, of the same length, without what the pattern finds; lines stay lines."""

    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", character, found[0])

    return pattern.sub(blank, text)


# --- Markdown -----------------------------------------------------------------------------

_FENCE = re.compile(r"^\s*(```+|~~~+)")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
_HEADING = re.compile(r"^#{1,6}\s+")
_TABLE_RULE = re.compile(r"^\s*\|?[\s:|-]+\|[\s:|-]*$")


def of_markdown(name: str, text: str) -> Text:
    """Without code, pictures' addresses and comments. Of a changelog only what is not released."""
    if Path(name).name == "CHANGELOG.md":
        text = _unreleased(text)
    result = Text(name)
    for paragraph in _markdown_paragraphs(_masked(text, _COMMENT, " ")):
        result.add(paragraph)
    return result


def _unreleased(text: str) -> str:
    """The text up to the second heading of a version."""
    versions = [found.start() for found in re.finditer(r"^## \[", text, re.MULTILINE)]
    return text[: versions[1]] if len(versions) > 1 else text


def _markdown_paragraphs(text: str) -> Iterator[Lines]:
    paragraph: list[tuple[int, str]] = []
    for number, line in _outside_of_blocks(text):
        content = re.sub(r"^\s*(?:>\s?)+", "", line)
        is_row = content.lstrip().startswith("|")
        if not content.strip() or is_row or _ITEM.match(content) or _HEADING.match(content):
            yield paragraph
            paragraph = []
        if is_row:
            yield from _cells(number, content)
        elif _HEADING.match(content):
            yield [(number, _HEADING.sub("", content))]
        else:
            paragraph.append((number, _ITEM.sub("", content)))
    yield paragraph


def _cells(number: int, row: str) -> Iterator[Lines]:
    if not _TABLE_RULE.match(row):
        for cell in re.split(r"(?<!\\)\|", row):
            yield [(number, cell)]


def _outside_of_blocks(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are no code: an indented block begins after an empty line, outside of a list."""
    fence = ""
    in_list = is_indented = was_empty = False
    for number, line in enumerate(text.splitlines(), start=1):
        found = _FENCE.match(line)
        if fence or found:
            if not fence and found:
                fence = found[1]
            elif found and found[1].startswith(fence):
                fence = ""
            yield number, ""
            continue
        if _ITEM.match(line):
            in_list = True
        elif line.strip() and not line[0].isspace():
            in_list = False
        deep = line.startswith("        " if in_list else "    ")
        is_indented = bool(deep and (was_empty or is_indented) and not _ITEM.match(line))
        was_empty = not line.strip()
        yield number, "" if is_indented else line


# --- comments -----------------------------------------------------------------------------

_HASH = re.compile(r"(?:^|\s)#(?!!)\s?(.*)$")
_DESCRIPTION = re.compile(r"^(?:Description=|\s*(?:summary|description):\s*)(.*)$")


def of_comments(name: str, text: str) -> Text:
    """What stands after `#`, and descriptions; lines without either end a paragraph."""
    result = Text(name)
    for paragraph in _commented(text):
        result.add(paragraph)
    return result


def _commented(text: str) -> Iterator[Lines]:
    paragraph: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        comment = _HASH.search(line)
        is_alone = comment is not None and not line[: comment.start()].strip()
        # An indented line is an example of what to type.
        is_example = comment is not None and comment[1].startswith("  ")
        if not is_alone or is_example:
            yield paragraph
            paragraph = []
        if description := _DESCRIPTION.match(line):
            yield [(number, description[1])]
        elif comment and not is_alone:
            yield [(number, comment[1])]
        elif comment and not is_example:
            paragraph.append((number, comment[1]))
            if not comment[1].strip():
                yield paragraph
                paragraph = []
    yield paragraph


# --- Python -------------------------------------------------------------------------------

_PROSE = re.compile(rf"(?:[A-Za-z]{{2,}}|[{CODE}{NUMBER}])[,:;]? (?:[a-z]{{2,}}|{CODE} [a-z])")
_SQL = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WHERE|JOIN|PRAGMA)\b")


def of_python(name: str, text: str) -> Text:
    """Strings that are prose, docstrings and comments."""
    result = Text(name, source=text.splitlines())
    for start, end, value in sorted(_strings(ast.parse(text))):
        if _PROSE.search(value) and not _SQL.search(value):
            for paragraph in _paragraphs(value):
                result.add([(start, paragraph)], until=end)
    for comment in _comments(text):
        result.add(comment)
    return result


def _strings(tree: ast.AST) -> Iterator[tuple[int, int, str]]:
    """First line, last line and value of each string; of an f-string its constant parts."""
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, node.end_lineno or node.lineno, "".join(map(_part, node.values))
            todo += [part for part in node.values if isinstance(part, ast.FormattedValue)]
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                yield node.lineno, node.end_lineno or node.lineno, node.value
        else:
            todo += ast.iter_child_nodes(node)


def _part(node: ast.expr) -> str:
    """A constant part as it is; of a value whether it is a number that changes."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if not isinstance(node, ast.FormattedValue):
        return CODE
    written = ast.unparse(node.value)
    is_length = written.startswith("len(")
    is_grouped = node.format_spec is not None and "," in ast.unparse(node.format_spec)
    return NUMBER if (is_length or is_grouped) and not written.isupper() else CODE


def _paragraphs(value: str) -> Iterator[str]:
    """What is indented deeper than the rest is an example; after click's mark, lines stay lines."""
    if value.startswith("#"):
        yield from (" ".join(line for _, line in lines) for lines in _commented(value))
        return
    lines = inspect.cleandoc(value).splitlines()
    for is_text, group in groupby(lines, lambda line: bool(line) and not line.startswith("    ")):
        if is_text:
            first, *rest = group
            starts = r"\n" if first == "\b" else r"\n(?=\s*[-*] )"
            yield from re.split(starts, "\n".join([first, *rest]))


def _comments(text: str) -> Iterator[Lines]:
    paragraph: list[tuple[int, str]] = []
    last = (-1, -1)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or re.match(r"#\s*(?:noqa|type:|---|!)", token.string):
            continue
        row, column = token.start
        if (row - 1, column) != last:
            yield paragraph
            paragraph = []
        paragraph.append((row, token.string.lstrip("# ")))
        last = (row, column)
    yield paragraph


def text_of(path: Path, name: str) -> Text:
    """The sentences of a file, read as its kind asks."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return of_markdown(name, content)
    if path.suffix == ".py":
        return of_python(name, content)
    return of_comments(name, content)


def texts_of(paths: Iterable[Path], root: Path) -> Iterator[Text]:
    for path in paths:
        inside = path.is_relative_to(root)
        yield text_of(path, str(path.relative_to(root) if inside else path))
