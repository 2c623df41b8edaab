"""Writes the findings into a Markdown file with a JSON block, to attach to a bug report.

Both are made from the same data. The file is written atomically, and never replaces another.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etl import __version__
from etl.config.model import Config, Sources
from etl.config.output_file import beside, output_beside
from etl.config.sites import SITES, hosts
from etl.config.validators import plain
from etl.config.views import View
from etl.diagnose.probe.answers import findings
from etl.diagnose.probe.data import Probe
from etl.diagnose.probe.questions import probe
from etl.errors import ConfigError, EtlError
from etl.files import whole_file
from etl.formatting import many

_THERE = "is there already and stays as it is; name another file"
_INTRODUCTION = """\
# What the live API answers

Written by `heatmap-etl check --report`; please attach it to a bug report. It holds counts, types
and names that Datadog documents. It keeps usual words of error texts, and numbers about limits:
[...] is what was left out, and [view 1] the view with the most records. So there should be no name
of a view, person or host in it, no address, id or key. Read it before you send it.
"""


def report_path(sources: Sources, file: Path | None) -> Path | None:
    """The path of the report; raises ConfigError when it is unusable."""
    if file is None:
        return None
    if sources.is_folder:
        raise ConfigError(["--report: is about one organization; name its file by --config"])
    path = beside(sources, file)
    if os.path.lexists(path):
        raise ConfigError([f"--report: {plain(path)}: {_THERE}"])
    return output_beside("--report", file, sources)


def write_report(
    config: Config, path: Path, listed: Sequence[tuple[View, int]], stop: threading.Event
) -> list[str]:
    """Ask, and write the report; returns lines for the user. When stopped, writes nothing."""
    if config.keys is None:
        return ["No report was written: there are no keys to ask with."]
    result = probe(config, listed or [(view, -1) for view in config.views], stop)
    if stop.is_set():
        return []
    report = report_data(config, result)
    _write(path, markdown(report), config.files_mode)
    answered = sum(finding["is_answered"] for finding in report["findings"])
    summary = f"{answered} of {len(report['findings'])} questions answered"
    line = f"Wrote {plain(path)}: {summary}, {many(result.requests, 'more request')}."
    return [line, "Read it, then attach it to a bug report."]


def report_data(config: Config, result: Probe) -> dict[str, Any]:
    """The content of the report: plain data for Markdown and JSON."""
    is_known = config.site in SITES and config.api_url == hosts(config.site, None, None).api_url
    return {
        "contract": 1,
        "heatmap_etl": __version__,
        "python": platform.python_version(),
        "site": config.site if is_known else "custom",
        "requests": result.requests,
        "findings": [finding.as_json() for finding in findings(result)],
    }


def markdown(report: Mapping[str, Any]) -> str:
    """Markdown for people, with the JSON block at the end."""
    lines = [_INTRODUCTION]
    about = ("heatmap_etl", "python", "site", "requests")
    lines += [f"- {name}: {report[name]}" for name in about]
    for title, is_answered in (("Answered", True), ("Not answered", False)):
        lines += ["", f"## {title}", ""]
        chosen = [f for f in report["findings"] if f["is_answered"] is is_answered]
        lines += [f"- **{f['question']}** {_escaped(f['answer'])}" for f in chosen] or ["Nothing."]
    # A backtick in a value must not end the code block.
    block = json.dumps(report, indent=1).replace("`", "\\u0060")
    return "\n".join([*lines, "", "## The same for programs", "", "```json", block, "```", ""])


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*_<>[]|" else c for c in text)


def _write(path: Path, text: str, mode: int) -> None:
    try:
        with whole_file(path, mode=mode, replaces=False) as file:
            file.write(text.encode())
    except FileExistsError:
        raise EtlError(f"--report: {plain(path)}: {_THERE}") from None
    except OSError as error:
        reason = error.strerror or "an error"
        raise EtlError(f"--report: {plain(path)}: cannot be written: {reason}") from None
