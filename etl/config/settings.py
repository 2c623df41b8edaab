"""The catalogue of settings: key, default, check, what it is for.

The loader, the defaults of Config, the file that `init` writes and the table in
`docs/configuration.md` follow it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from etl.config import validators as v
from etl.config.sites import DEFAULT_SITE, hosts, site
from etl.config.validators import BadValue, Check, is_secret_name, nearest, plain, type_name

PREFIX = "HEATMAP_ETL_"
# Known names besides those of settings: read by the command line, or reserved.
OTHER_VARIABLES = (
    "HEATMAP_ETL_CONFIG",
    "HEATMAP_ETL_COPY_TO_URL",
    "HEATMAP_ETL_COPY_TO_URL_FILE",
    "HEATMAP_ETL_HASH_KEY",
    "HEATMAP_ETL_HASH_KEY_FILE",
    "HEATMAP_ETL_LOG_FORMAT",
    "HEATMAP_ETL_STARTED_BY",
    "HEATMAP_ETL_TMPDIR",
)
DATABASE_URL = "HEATMAP_ETL_DATABASE_URL"

_FLAGS = {"true": True, "yes": True, "on": True, "1": True}
_FLAGS |= {"false": False, "no": False, "off": False, "0": False}


class Setting(msgspec.Struct, frozen=True):
    """One setting. `default` is as written in TOML; None: it is required, derived, or has none.

    The file that `init` writes shows `example` where there is no default, and `hint` after the
    description.
    """

    key: str
    default: object
    description: str
    check: Check
    ambient: str = ""  # a variable that is read where nothing else sets it
    example: str | None = None  # what is derived where it is not set
    hint: str = ""  # whole sentences

    @property
    def environment(self) -> str:
        """The variable that sets it: `HEATMAP_ETL_DATADOG_PAGE_LIMIT`."""
        return PREFIX + self.key.upper().replace(".", "_")


SETTINGS = (
    Setting(
        "database_url",
        None,
        "where the tables are: SQLite, PostgreSQL, MariaDB or MySQL; required",
        v.anything,
        ambient="DATABASE_URL",
    ),
    Setting("database_schema", None, "schema of the tables, PostgreSQL only", v.identifier),
    Setting(
        "views",
        None,
        'the views to copy: names, tables with filters, or `"discover"`; required',
        v.anything,
    ),
    Setting(
        "datadog.source",
        None,
        "label of this organization in the tables; default: the site",
        v.text,
        example=DEFAULT_SITE,
    ),
    Setting(
        "datadog.site",
        DEFAULT_SITE,
        "Datadog site of the keys",
        site,
        ambient="DD_SITE",
        hint="Others are datadoghq.eu, us3.datadoghq.com, ...",
    ),
    Setting(
        "datadog.api_url",
        None,
        "where requests go, for proxies and tests; default: https://api. and the site",
        v.web_url,
        ambient="DD_API_URL",
        example=hosts(DEFAULT_SITE, None, None).api_url,
    ),
    Setting(
        "datadog.app_url",
        None,
        "where links to replays go; default: by site",
        v.web_url,
        example=hosts(DEFAULT_SITE, None, None).app_url,
    ),
    Setting(
        "datadog.api_key_env", "DD_API_KEY", "variable that holds the API key", v.variable_name
    ),
    Setting(
        "datadog.app_key_env",
        "DD_APP_KEY",
        "variable that holds the application key",
        v.variable_name,
    ),
    Setting(
        "datadog.page_limit",
        1000,
        "records asked for in one request; the server may send fewer",
        v.whole(1, 1_000_000),
    ),
    Setting("datadog.concurrency", 4, "requests at the same time", v.whole(1, 64)),
    Setting(
        "datadog.timeout_s", 30, "seconds within which an answer must begin", v.number(0.1, 3600)
    ),
    Setting(
        "datadog.max_wait_s",
        120,
        "seconds of waiting per view; after that this run gives up the view",
        v.number(0, 86400),
    ),
    Setting(
        "datadog.max_body_mb",
        256,
        "the largest answer in MB, unpacked; a view with a larger one fails",
        v.whole(1, 4096),
    ),
    Setting(
        "datadog.shortcut", True, "skip a view whose answer is byte for byte the last one", v.flag
    ),
    Setting(
        "datadog.accept_wrong_clock",
        False,
        "run even when this machine's clock is more than an hour ahead of Datadog's",
        v.flag,
        hint="All instants that such a run stores are wrong by as much; `heatmap-etl db "
        "repair-clock` corrects them later.",
    ),
    Setting(
        "schedule.cron",
        "17 * * * *",
        "when `schedule` runs: a cron line",
        v.cron,
        hint="0 and 7 are Sunday. Only `heatmap-etl schedule` needs it; cron has its own line.",
    ),
    Setting(
        "schedule.every",
        None,
        'an interval such as "15m", instead of cron',
        v.duration("1m", "52w"),
    ),
    Setting("schedule.timezone", "UTC", "time zone of cron", v.timezone),
    Setting(
        "schedule.heartbeat_url",
        "",
        "URL to call after each good run",
        v.optional_secret_url,
        hint="`sync` calls it too. A service behind it can raise an alarm when the calls stop. "
        "It is a secret: better set HEATMAP_ETL_SCHEDULE_HEARTBEAT_URL.",
    ),
    Setting(
        "removals.hold_above",
        0.3,
        "hold removals of more than this share of a view's rows, and of more than `hold_min` "
        "rows, until the next reading confirms them",
        v.number(0, 1),
    ),
    Setting(
        "removals.hold_min",
        20,
        "`hold_above` does not hold removals of this many rows or fewer",
        v.whole(0, 1_000_000_000),
    ),
    Setting(
        "discover.include",
        ["*"],
        "patterns of the view names to read; `*`, `?` and `[...]` as in a shell, case matters",
        v.patterns,
        hint='For `views = "discover"`, and for `heatmap-etl views discover --write`.',
    ),
    Setting("discover.exclude", [], "patterns of the view names to leave out", v.patterns),
    Setting(
        "discover.every", "1d", 'how often `views = "discover"` asks RUM', v.duration("1m", "52w")
    ),
    Setting(
        "discover.max_views",
        1000,
        "no view is added beyond this number; views that were read once stay",
        v.whole(1, 100_000),
    ),
    Setting(
        "privacy.created_by",
        "keep",
        "who created a snapshot: keep, hash (needs HEATMAP_ETL_HASH_KEY) or drop",
        v.one_of("keep", "hash", "drop"),
        hint="The key has 16 characters or more; keep it. To change this later: "
        "`heatmap-etl privacy apply`.",
    ),
    Setting(
        "privacy.person_attributes",
        [],
        "more attributes that hold a person, for hash and drop",
        v.attribute_names,
        hint="Known are `created_by`, `modified_by`, `updated_by`, `creator`, `owner` and `user`, "
        "also as `owner_email`. To change this later: `heatmap-etl privacy apply`.",
    ),
    Setting(
        "keep.runs",
        "90d",
        "how long ledger rows are kept",
        v.duration("1h", "5200w"),
        hint="Snapshots and their history are never pruned.",
    ),
    Setting(
        "files.mode",
        "0600",
        "permissions of new files: a SQLite file, exports, reports; an old file keeps its own",
        v.file_mode,
        hint='"0640" lets the group read them.',
    ),
    Setting(
        "lease.seconds",
        60,
        "how long a silent process keeps its lease",
        v.number(1, 86400),
        hint="Then another one may take over.",
    ),
)
_BY_KEY = {setting.key: setting for setting in SETTINGS}
SECTIONS = tuple(dict.fromkeys(s.key.partition(".")[0] for s in SETTINGS if "." in s.key))


def default_of(key: str) -> Any:
    """The default of a setting as a checked value: seconds for "90d"; None for none."""
    setting = _BY_KEY[key]
    return None if setting.default is None else setting.check(setting.default)


def settings_table() -> list[Setting]:
    """Every setting, in the order of the file."""
    return list(SETTINGS)


class Findings(msgspec.Struct):
    """Problems and warnings, collected so that all are reported at once."""

    problems: list[str] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)
    unread: list[str] = msgspec.field(default_factory=list)  # files that this user may not read
    refused: list[str] = msgspec.field(default_factory=list)  # files that others could have written
    variables: dict[str, str] = msgspec.field(default_factory=dict)  # key -> variable that set it

    def problem(self, key: str, text: str) -> None:
        """Add a problem of `key`, with the variable that caused it."""
        origin = f" (set by {self.variables[key]})" if key in self.variables else ""
        self.problems.append(f"{key}: {text}{origin}")

    def warn(self, key: str, text: str) -> None:
        """Add a warning about `key`."""
        self.warnings.append(f"{key}: {text}")


class Settings:
    """The value of every key, and which keys the file or `HEATMAP_ETL_*` set."""

    def __init__(self, values: Mapping[str, Any], chosen: frozenset[str]) -> None:
        self.values = values
        self.chosen = chosen

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


def read_settings(
    document: Mapping[str, object], environment: Mapping[str, str], findings: Findings
) -> Settings:
    """The checked value of each key, from environment, file, ambient variable or default."""
    _report_secrets(document, findings)
    chosen = dict(_from_file(document, findings))
    for setting in SETTINGS:
        if raw := environment.get(setting.environment):
            chosen[setting.key] = from_variable(setting, raw)
            findings.variables[setting.key] = setting.environment
    given = {**_from_ambient(environment, chosen, findings), **chosen}
    values = {s.key: _checked(s, given.get(s.key, s.default), findings) for s in SETTINGS}
    return Settings(values, frozenset(chosen))


def _checked(setting: Setting, value: object, findings: Findings) -> object:
    if value is None:
        return None
    try:
        if isinstance(value, BadValue):
            raise value
        return setting.check(value)
    except BadValue as error:
        findings.problem(setting.key, str(error))
        return None


def _from_ambient(
    environment: Mapping[str, str], chosen: Mapping[str, object], findings: Findings
) -> dict[str, object]:
    ambient: dict[str, object] = {}
    for setting in SETTINGS:
        raw = environment.get(setting.ambient, "") if setting.ambient else ""
        if raw and setting.key not in chosen:
            ambient[setting.key] = raw
            findings.variables[setting.key] = setting.ambient
    return ambient


def from_variable(setting: Setting, raw: str) -> object:
    """The text of a variable as a value of TOML's types; a BadValue where it is none.

    The default tells the type: a text stays a text, everything else is written as in JSON.
    """
    if isinstance(setting.default, bool):
        return _FLAGS.get(raw.strip().lower(), raw)
    if isinstance(setting.default, int | float | list):
        return _literal(raw)
    if setting.key == "views" and raw.strip() != "discover":
        return _literal(raw)
    return raw.strip() if setting.key == "views" else raw


def _literal(raw: str) -> object:
    try:
        value: object = json.loads(raw)
    except (ValueError, RecursionError):
        if raw.lstrip().startswith("["):
            return BadValue('is not valid JSON; expected an array such as ["/home"]')
        return raw
    # TOML has no null; the checks take None for "not set".
    return raw if value is None else value


def _from_file(document: Mapping[str, object], findings: Findings) -> Iterator[tuple[str, object]]:
    for key, value in _flat(document, findings):
        if key in _BY_KEY:
            yield key, value
        elif not is_secret_name(key.rpartition(".")[2]):
            findings.problem(plain(key), _unknown(key))


def _flat(document: Mapping[str, object], findings: Findings) -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if name not in SECTIONS:
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            findings.problem(name, f"expected a section [{name}], found {type_name(value)}")


def _unknown(key: str) -> str:
    section, _, name = key.rpartition(".")
    close = nearest(key, (*_BY_KEY, *SECTIONS))
    if close is None:
        return "is not a known key; see docs/configuration.md"
    if close in SECTIONS:
        return f"is not a known key; did you mean the section [{close}]?"
    # In TOML every key after a [section] line belongs to the section: a usual slip.
    moved = section and close == name and "." not in close
    hint = " Write it above the first [section]." if moved else ""
    return f"is not a known key; did you mean {close}?{hint}"


def _report_secrets(document: Mapping[str, object], findings: Findings) -> None:
    # Not recursive: a dotted key may nest deeper than Python's stack.
    waiting: deque[tuple[str, object]] = deque(document.items())
    while waiting:
        path, value = waiting.popleft()
        if is_secret_name(path.rpartition(".")[2]):
            findings.problem(
                plain(path),
                "keys do not belong in the file; put them in the environment or in .env "
                "next to it (mode 0600)",
            )
        elif isinstance(value, Mapping):
            waiting.extend((f"{path}.{name}", inner) for name, inner in value.items())
        elif isinstance(value, list):
            waiting.extend((f"{path}[{n}]", inner) for n, inner in enumerate(value, start=1))


def warn_of_unknown_variables(
    environment: Mapping[str, str], others: tuple[str, ...], findings: Findings
) -> None:
    """Warn of `HEATMAP_ETL_*` variables nothing reads; environments carry other things too."""
    settings = {s.environment for s in SETTINGS}
    known = settings.union(others, OTHER_VARIABLES, [f"{DATABASE_URL}_FILE"])
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and environment[name]:
            close = nearest(name.removeprefix(PREFIX).lower(), _BY_KEY)
            hint = f"; did you mean {_BY_KEY[close].environment}?" if close else ""
            findings.warn(plain(name), f"is not a known variable and not used{hint}")
