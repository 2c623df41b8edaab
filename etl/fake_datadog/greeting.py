"""What the fake prints in a terminal: address, keys, commands to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from etl.fake_datadog.api import API_KEY, APP_KEY, BEARER_TOKEN
from etl.fake_datadog.faults import Fault


def greeting(
    url: str, view_names: Sequence[str], faults: Sequence[Fault] = (), program: str = "heatmap-etl"
) -> list[str]:
    """Lines for a person; the commands use a database of their own.

    A shell in parentheses forgets the variables: they would win over a `.env` with real keys.
    `program`: the words that start ours in any terminal.
    """
    views = shlex.quote(json.dumps(list(view_names), ensure_ascii=False))
    return [
        f"fake Datadog at {url} (Ctrl-C ends it)",
        f"keys: DD_API_KEY={API_KEY} DD_APP_KEY={APP_KEY} (or DD_BEARER_TOKEN={BEARER_TOKEN})",
        *(f"fault: {fault}" for fault in faults),
        "",
        "In another terminal, in an empty folder, paste this. Nothing stays set after it:",
        "",
        "(",
        f"export DD_API_KEY={API_KEY} DD_APP_KEY={APP_KEY}",
        f"export HEATMAP_ETL_DATADOG_API_URL={url} HEATMAP_ETL_DATADOG_SOURCE=fake",
        "export HEATMAP_ETL_DATABASE_URL=sqlite:///fake.db",
        f"export HEATMAP_ETL_VIEWS={views}",
        *(f"{program} {command}" for command in ("check", "sync", "status")),
        ")",
        "",
    ]
