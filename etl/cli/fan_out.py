"""One command over several sources at the same time; one that fails does not stop the others.

A command makes one `CommandResult` for a configuration. `run_for_each` calls it for the file, or
for every file of the folder; `print_outcomes` prints the results together.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from etl.causes import MOST_LINES, NAMES_SHOWN, Told, grouped, line_of, omitted_causes
from etl.config.model import Config, Sources
from etl.errors import ConfigError, EtlError
from etl.runtime.console import print_errors, print_results
from etl.runtime.refusals import refusal_of

log = logging.getLogger(__name__)

# Each keeps its own responses in memory, and one or two connections to its database.
_MAX_THREADS = 16


class CommandResult(msgspec.Struct, frozen=True):
    """What a command prints for one source: lines or an object on stdout, problems on stderr.

    `complaints`: why a person should look at its views; on stderr, too, one line for each cause.
    """

    code: int = 0
    lines: Sequence[str] = ()
    as_json: Any = None
    problems: Sequence[str] = ()
    complaints: Sequence[Told] = ()


class Outcome(msgspec.Struct):
    """The result of one source, or the error or bug that prevented it."""

    config: Config
    result: CommandResult | None = None
    error: EtlError | None = None
    bug: BaseException | None = None

    @property
    def code(self) -> int:
        if self.result:
            return self.result.code
        return self.error.exit_code if self.error else 1


class OutputStyle(msgspec.Struct, frozen=True):
    """How outcomes are printed. No headings where each line names its source already.

    For a folder, `common_code` combines the exit codes of all sources. `json_without_result` makes
    the object of a source that has no result; its error is added to it. Where more than
    `lines_of_a_cause` sources have one problem, one line names the first of them.
    """

    is_folder: bool
    as_json: bool = False
    has_headings: bool = True
    lines_of_a_cause: int = NAMES_SHOWN
    common_code: Callable[[Sequence[int]], int] = max
    json_without_result: Callable[[Config], dict[str, Any]] = lambda config: {
        "source": config.source
    }


def run_for_each(sources: Sources, run_one: Callable[[Config], CommandResult]) -> list[Outcome]:
    """Call `run_one` for every source. For a single file its `EtlError` or bug is raised."""
    if not sources.is_folder:
        (config,) = sources.configs
        return [Outcome(config, run_one(config))]
    with ThreadPoolExecutor(_MAX_THREADS, "source") as pool:
        return list(pool.map(lambda config: _try(config, run_one), sources.configs))


def print_outcomes(
    outcomes: Sequence[Outcome], style: OutputStyle, closing: Sequence[str] = ()
) -> int:
    """Print all outcomes; returns the exit code.

    For a folder each source has a heading, the closing lines follow the last one, and JSON is a
    list. A line on stderr begins with the source, or with the first of many that it is about.
    """
    objects = [_json(outcome, style) for outcome in outcomes]
    if style.as_json:
        print_results([json.dumps(objects if style.is_folder else objects[0])])
    elif lines := [*_sections(outcomes, style), *closing]:
        print_results(lines)
    print_errors(_problem_lines(outcomes, style))
    codes = [outcome.code for outcome in outcomes]
    return style.common_code(codes) if style.is_folder else codes[0]


def code_of_runs(codes: Sequence[int]) -> int:
    """The exit code of a run over several sources, as if it were one run over all their views.

    0: every source is complete. 75: another process works on some, the rest are complete.
    2: none wrote a snapshot row. 1: some failed, what the others read is stored.
    """
    distinct = set(codes)
    if distinct <= {0, 75}:
        return 75 if 75 in distinct else 0
    return 2 if distinct <= {2, 75} else 1


def _try(config: Config, run_one: Callable[[Config], CommandResult]) -> Outcome:
    try:
        return Outcome(config, run_one(config))
    except EtlError as error:
        return Outcome(config, error=error)
    except BaseException as bug:  # noqa: BLE001 - `_problems` logs it when all sources are done
        if refusal := refusal_of(bug):
            return Outcome(config, error=refusal)
        return Outcome(config, bug=bug)


def _json(outcome: Outcome, style: OutputStyle) -> Any:
    if outcome.result:
        return outcome.result.as_json
    error = str(outcome.error or "a bug, see stderr")
    return {**style.json_without_result(outcome.config), "error": error}


def _sections(outcomes: Sequence[Outcome], style: OutputStyle) -> Iterator[str]:
    is_first = True
    for outcome in outcomes:
        lines = outcome.result.lines if outcome.result else ()
        if lines and style.is_folder and style.has_headings:
            yield from [] if is_first else [""]
            yield f"== {outcome.config.source} =="
            is_first = False
        yield from lines


def _problem_lines(outcomes: Sequence[Outcome], style: OutputStyle) -> list[str]:
    told = [told for outcome in outcomes for told in _problems(outcome, style)]
    lines, of_views = [], 0
    for group in grouped(told, lambda one: one):
        has_views = any(told.view for told in group)
        of_views += has_views
        if has_views and of_views > MOST_LINES:
            continue
        if has_views or len({told.source for told in group}) > style.lines_of_a_cause:
            lines.append(line_of(group))
        else:
            lines += [line_of([told]) for told in group]
    return lines + omitted_causes(of_views - MOST_LINES)


def _problems(outcome: Outcome, style: OutputStyle) -> Iterator[Told]:
    config, result = outcome.config, outcome.result
    if outcome.bug:
        text = "%s: a bug; please report it with what follows"
        log.critical(text, config.source, exc_info=outcome.bug)
    lines: Sequence[str] = result.problems if result else ()
    if isinstance(outcome.error, ConfigError):
        lines = outcome.error.problems
    elif outcome.error:
        lines = [str(outcome.error)]
    told = [*map(Told, lines), *(result.complaints if result else ())]
    if style.is_folder:
        own = (config.database_label,)
        told = [one._replace(source=config.source, own=own) for one in told]
    yield from told
