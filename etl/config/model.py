"""The configuration of a run: frozen data, which `load` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from etl.config.credentials import Keys
from etl.config.database_url import Database
from etl.config.files import INIT_WRITES_ONE
from etl.config.settings import DATABASE_URL, default_of
from etl.config.views import View
from etl.errors import ConfigError


def setting(key: str, **options: Any) -> Any:
    """A field for the value of a setting; its default is that of the catalogue."""
    return field(default=default_of(key), metadata={"setting": key}, **options)


@dataclass(frozen=True, slots=True)
class Config:
    """What one run needs to know. Paths are absolute, URLs carry a driver."""

    path: Path | None  # the file it was read from; None: environment only
    database_url: str = field(repr=False)  # with the password; print `database_label`
    database_label: str  # the same without password, for people
    database_schema: str | None
    views: tuple[View, ...]
    source: str
    site: str
    api_url: str  # without a slash at the end
    app_url: str
    keys: Keys | None  # None: not found; `keys_problem` says what to do
    keys_problem: str
    page_limit: int = setting("datadog.page_limit")
    concurrency: int = setting("datadog.concurrency")
    timeout_s: float = setting("datadog.timeout_s")
    max_wait_s: float = setting("datadog.max_wait_s")
    max_body_mb: int = setting("datadog.max_body_mb")
    shortcut: bool = setting("datadog.shortcut")
    accept_wrong_clock: bool = setting("datadog.accept_wrong_clock")
    cron: str = setting("schedule.cron")
    every_s: float | None = setting("schedule.every")  # when set, `cron` is not used
    timezone: str = setting("schedule.timezone")
    heartbeat_url: str = setting("schedule.heartbeat_url", repr=False)
    hold_above: float = setting("removals.hold_above")
    hold_min: int = setting("removals.hold_min")
    discovers: bool = False  # views = "discover"; `views` is empty then
    discover_include: tuple[str, ...] = setting("discover.include")
    discover_exclude: tuple[str, ...] = setting("discover.exclude")
    discover_every_s: float = setting("discover.every")
    discover_max_views: int = setting("discover.max_views")
    created_by: str = setting("privacy.created_by")  # keep, hash or drop
    person_attributes: tuple[str, ...] = setting("privacy.person_attributes")
    hash_key: str = field(default="", repr=False)  # for "hash"; never printed
    keep_runs_s: float = setting("keep.runs")
    files_mode: int = setting("files.mode")
    lease_s: float = setting("lease.seconds")
    database_origin: str = field(default_factory=str)  # where the URL was found, for people
    has_views: bool = (
        True  # False: for somebody who only reads; the tables say which views there are
    )
    has_source: bool = True  # False: as above, and the tables say which sources there are
    unread: tuple[str, ...] = ()  # files that could not be read, in a command that needs no key
    warnings: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()  # sources of the other files in the folder, see load_configs


def require_keys(config: Config) -> Keys:
    """The keys. Raises ConfigError saying what to do when there are none."""
    if config.keys is None:
        raise ConfigError([config.keys_problem])
    return config.keys


@dataclass(frozen=True, slots=True)
class Needs:
    """What a command needs of a configuration besides a database.

    `keys`: those of Datadog, and that of the hashes. `database`: one that was named on the command
    line; it is used instead of the configured one.
    """

    keys: bool = True
    views: bool = True
    database: Database | None = None

    @property
    def advice(self) -> str:
        """What to do where there is no configuration."""
        if self.views:
            return INIT_WRITES_ONE
        return f"name the one that `sync` uses with --config, or its database in {DATABASE_URL}"


ALL = Needs()
ON_COMMAND_LINE = "--database"  # where such a URL was found


class Sources(NamedTuple):
    """The configuration: one file, or every file of a folder."""

    configs: tuple[Config, ...]
    is_folder: bool

    @property
    def warnings(self) -> list[str]:
        """The warnings of all files."""
        return [warning for config in self.configs for warning in config.warnings]

    def by_database(self) -> Sources:
        """The first configuration of each database."""
        first: dict[tuple[str, str | None], Config] = {}
        for config in self.configs:
            first.setdefault((config.database_url, config.database_schema), config)
        return self._replace(configs=tuple(first.values()))
