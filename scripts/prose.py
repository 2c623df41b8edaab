"""Says where a text for people is hard to read, and what to say instead. Its rules: prose.toml.

    python -m scripts.prose              everything that people read
    python -m scripts.prose FILES        these alone
    python -m scripts.prose --count      how many findings in each file

Exit code 1 with findings. The checks are proselint's; the rules of our own are fed to it.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from proselint.checks import __register__ as CHECKS  # noqa: N812
from proselint.registry.checks import Check
from proselint.registry.checks.engine import Fancy, RegexOptions
from proselint.registry.checks.types import ExistenceSimple

from scripts.prose_texts import CODE, Text, texts_of

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "prose.toml"

_OPTIONS = RegexOptions(case_insensitive=True, multi_line=True)
_WORD = re.compile(r"\S*\w\S*")


@dataclass(frozen=True)
class Finding:
    """What is wrong in one place."""

    name: str
    line: int
    found: str
    advice: str

    def __str__(self) -> str:
        found = re.sub(f"{CODE}{{2,}}", "`...`", self.found)
        return f"{self.name}:{self.line}: {shorten(found, 60, placeholder=' ...')}: {self.advice}"


class Rules:
    """The rules of `prose.toml` as checks of proselint, with those of its own that are wanted."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.words: list[dict[str, Any]] = content["word"]
        self.patterns: list[dict[str, str]] = content["pattern"]
        self.longest: dict[str, int] = content["longest_sentence"]
        self.files: list[str] = content["files"]
        self.allowed: list[str] = content["allowed"]
        self._checks = [*self._of_words(), *_proselint(content["proselint"])]
        self._of_patterns = [
            (_check(pattern["find"], pattern["say"]), pattern.get("only", ""))
            for pattern in self.patterns
        ]
        self._unless_after = {
            pattern["say"]: re.compile(rf"(?:{pattern['unless_after']})$")
            for pattern in self.patterns
            if "unless_after" in pattern
        }

    def _of_words(self) -> Iterator[Check]:
        for word in self.words:
            # Between words the text may have any space; code and longer words are not meant.
            either = "|".join(re.escape(form).replace(r"\ ", r" +") for form in word["avoid"])
            yield _check(rf"(?<![\w/.-])(?:{either})(?![\w/]|-\w)", f"say {word['say']}")

    def _checks_of(self, name: str) -> Iterator[Check]:
        yield from self._checks
        yield from (check for check, ending in self._of_patterns if name.endswith(ending))

    def findings(self, text: Text) -> list[Finding]:
        found: dict[tuple[int, str], Finding] = {}
        for finding in [*self._matches(text), *self._long_sentences(text)]:
            # Of several rules for one word that of our own comes first, and says what to say.
            found.setdefault((finding.line, finding.found), finding)
        return sorted(found.values(), key=lambda finding: (finding.line, finding.found))

    def _matches(self, text: Text) -> Iterator[Finding]:
        for check in self._checks_of(text.name):
            for result in check.check_with_flags(text.flat):
                begin, end = result.span
                found = text.flat[begin:end].strip()
                excuse = self._unless_after.get(result.message)
                if found.lower() in self.allowed or (excuse and excuse.search(text.flat[:begin])):
                    continue
                begin += len(text.flat[begin:end]) - len(text.flat[begin:end].lstrip())
                line = text.line(begin, max(found.split(), key=len, default=""))
                yield Finding(text.name, line, found, result.message)

    def _long_sentences(self, text: Text) -> Iterator[Finding]:
        longest = self.longest.get(Path(text.name).suffix, self.longest["other"])
        for position, sentence in text.sentences():
            clauses = [sentence] if text.name.endswith(".md") else re.split(r"[;:] ", sentence)
            words = max(len(_WORD.findall(clause)) for clause in clauses)
            is_list = not re.search(r"[.,;:!?]", sentence)  # of names, in code
            if words > longest and not is_list:
                beginning = " ".join(sentence.split()[:4])
                line = text.line(position, beginning.partition(CODE)[0])
                advice = f"{words} words in one sentence, at most {longest}: make it two"
                yield Finding(text.name, line, f"{beginning} ...", advice)


def _check(pattern: str, advice: str) -> Check:
    escaped = advice.replace("{", "{{").replace("}", "}}")
    return Check(ExistenceSimple(pattern), Fancy(_OPTIONS), "house", escaped)


def _proselint(wanted: Mapping[str, bool]) -> Iterator[Check]:
    """Its own checks; the longest name of a group or check in the table decides."""
    by_length = sorted(wanted, key=len, reverse=True)
    for check in CHECKS:
        if wanted[next(name for name in by_length if check.matches_partial(name))]:
            yield check


def read_rules(path: Path = RULES) -> Rules:
    return Rules(tomllib.loads(path.read_text(encoding="utf-8")))


def files_of(rules: Rules, root: Path = ROOT) -> list[Path]:
    """Every file that the rules name; each name must find something."""
    found = []
    for pattern in rules.files:
        files = sorted(path for path in root.glob(pattern) if path.is_file())
        if not files:
            sys.exit(f"prose.toml: files has {pattern}, and there is none")
        found += files
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.prose")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--count", action="store_true", help="only the number for each file")
    options = parser.parse_args(arguments)
    rules = read_rules()
    paths = [path.resolve() for path in options.files] or files_of(rules)
    findings = [found for text in texts_of(paths, ROOT) for found in rules.findings(text)]
    if options.count:
        counted = Counter(finding.name for finding in findings)
        for name, number in counted.most_common():
            print(f"{number:5}  {name}")
    else:
        print(*findings, sep="\n", end="\n" if findings else "")
    if findings:
        print(f"{len(findings)} findings; the rules are in prose.toml", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
