"""Several sources at the same time, a thread for each: what befalls one never stops another.

A command says what it found for one configuration (`Told`); `gather` lets it do
so for the file or for every file of the folder, `tell` prints one summary.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from etl.config.model import Config, Sources
from etl.errors import ConfigError, EtlError
from etl.runtime.console import complain, say

log = logging.getLogger(__name__)

# Each holds its own answers in memory, and a connection or two to its database.
_MOST_AT_ONCE = 16


class Told(msgspec.Struct, frozen=True):
    """What a command found for one source; `complaints` go to stderr."""

    code: int = 0
    lines: Sequence[str] = ()
    as_json: Any = None
    complaints: Sequence[str] = ()


class Outcome(msgspec.Struct):
    """What became of one source: `told`, or the error or bug that kept it from that."""

    config: Config
    told: Told | None = None
    error: EtlError | None = None
    bug: BaseException | None = None

    @property
    def code(self) -> int:
        if self.told:
            return self.told.code
        return self.error.exit_code if self.error else 1


class Style(msgspec.Struct, frozen=True):
    """How results are told. No headings where the lines name what they are about."""

    is_folder: bool
    as_json: bool = False
    has_headings: bool = True
    worst: Callable[[Sequence[int]], int] = max
    not_told: Callable[[Config], dict[str, Any]] = lambda config: {"source": config.source}


def gather(sources: Sources, work: Callable[[Config], Told]) -> list[Outcome]:
    """Do the work for every source. For one file its `EtlError` or its bug is raised."""
    if not sources.is_folder:
        (config,) = sources.configs
        return [Outcome(config, told=work(config))]
    with ThreadPoolExecutor(_MOST_AT_ONCE, "source") as pool:
        return list(pool.map(lambda config: _try(config, work), sources.configs))


def tell(outcomes: Sequence[Outcome], style: Style, closing: Sequence[str] = ()) -> int:
    """Print what was found; the exit code.

    Of a folder each source stands under its name, with the closing lines below all; JSON is a
    list, and a line on stderr begins with the source.
    """
    results = [_json(outcome, style) for outcome in outcomes]
    if style.as_json:
        say([json.dumps(results if style.is_folder else results[0])])
    elif lines := [*_sections(outcomes, style), *closing]:
        say(lines)
    complain(line for outcome in outcomes for line in _complaints(outcome, style))
    codes = [outcome.code for outcome in outcomes]
    return style.worst(codes) if style.is_folder else codes[0]


def run_code(codes: Sequence[int]) -> int:
    """The exit code of a run over several sources.

    As of one run over all their views: 0 every one is well; 75 the others are; 2 none wrote a
    snapshot row; 1 some are bad, what the others read is stored.
    """
    found = set(codes)
    if found <= {0, 75}:
        return 75 if 75 in found else 0
    return 2 if found <= {2, 75} else 1


def _try(config: Config, work: Callable[[Config], Told]) -> Outcome:
    try:
        return Outcome(config, told=work(config))
    except EtlError as error:
        return Outcome(config, error=error)
    except BaseException as bug:  # noqa: BLE001 - told by `_complaints`, when the others are done
        return Outcome(config, bug=bug)


def _json(outcome: Outcome, style: Style) -> Any:
    if outcome.told:
        return outcome.told.as_json
    return {**style.not_told(outcome.config), "error": str(outcome.error or "a bug, see stderr")}


def _sections(outcomes: Sequence[Outcome], style: Style) -> Iterator[str]:
    is_first = True
    for outcome in outcomes:
        lines = outcome.told.lines if outcome.told else ()
        if lines and style.is_folder and style.has_headings:
            yield from [] if is_first else [""]
            yield f"== {outcome.config.source} =="
            is_first = False
        yield from lines


def _complaints(outcome: Outcome, style: Style) -> Iterator[str]:
    if outcome.bug:
        name = outcome.config.source
        log.critical("%s: a bug; please report it with what follows", name, exc_info=outcome.bug)
    lines: Sequence[str] = outcome.told.complaints if outcome.told else ()
    if isinstance(outcome.error, ConfigError):
        lines = outcome.error.problems
    elif outcome.error:
        lines = [str(outcome.error)]
    yield from (f"{outcome.config.source}: {line}" if style.is_folder else line for line in lines)
