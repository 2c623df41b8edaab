"""A folder of configuration files, one for each source: which they are, and conflicts of them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from etl.config.credentials import Keys
from etl.config.settings import SETTINGS
from etl.config.validators import plain
from etl.errors import ConfigError

# Each of these identifies a source: set for all files at once it would make them the same.
_OF_ONE_SOURCE = ("source", "site", "api_url", "app_url", "api_key_env", "app_key_env")


class Member(Protocol):
    """The part of one file's configuration that can conflict with another's."""

    @property
    def path(self) -> Path | None: ...
    @property
    def source(self) -> str: ...
    @property
    def database_url(self) -> str: ...
    @property
    def database_schema(self) -> str | None: ...
    @property
    def api_url(self) -> str: ...
    @property
    def keys(self) -> Keys | None: ...


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; False where that cannot be known: reading it then says why."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a folder above is closed


def files_of(folder: Path) -> list[Path]:
    """The `*.toml` of a folder, by name, without hidden ones. Raises ConfigError without any."""
    try:
        # Not glob: it takes a folder that cannot be read for an empty one.
        files = [path for path in folder.iterdir() if _is_configuration(path.name)]
    except OSError as error:
        problem = f"cannot be read: {error.strerror or 'unknown error'}"
        raise ConfigError([f"{plain(folder)}: {problem}"]) from None
    if not files:
        advice = "it needs one file for each source; run `heatmap-etl init --config FILE`"
        raise ConfigError([f"{plain(folder)}: holds no *.toml; {advice}"])
    return sorted(files)


def _is_configuration(name: str) -> bool:
    return name.endswith(".toml") and not name.startswith(".")


def shared_identity_problems(environment: Mapping[str, str]) -> list[str]:
    """Problems of variables that would give every file of a folder the same source."""
    names = {s.environment for s in SETTINGS if s.key.removeprefix("datadog.") in _OF_ONE_SOURCE}
    return [
        f"{name}: would make every source of the folder the same; write it into each file instead"
        for name in sorted(names & {n for n, value in environment.items() if value})
    ]


def with_file_name(file: Path, texts: Iterable[str]) -> list[str]:
    """Each text with the name of its file before it, unless it begins with a path of its own."""
    name, folder = plain(file), plain(file.parent)
    return [t if t.startswith(folder) else f"{name}: {t}" for t in texts]


def without_repeats(warnings: Sequence[tuple[Path, Sequence[str]]]) -> list[list[str]]:
    """The warnings of each file, with its name; one that all files share only with the first."""
    shared = (
        set.intersection(*(set(texts) for _, texts in warnings)) if len(warnings) > 1 else set()
    )
    return [
        [
            *(text for text in texts if text in shared and number == 0),
            *with_file_name(file, (text for text in texts if text not in shared)),
        ]
        for number, (file, texts) in enumerate(warnings)
    ]


def conflicts(members: Sequence[Member]) -> list[str]:
    """Problems between the files: one label or one organization twice in a database."""
    return [
        text
        for one, other in itertools.combinations(members, 2)
        for text in _conflicts_of(one, other)
    ]


def _conflicts_of(one: Member, other: Member) -> Iterator[str]:
    tables = (one.database_url, one.database_schema)
    if tables != (other.database_url, other.database_schema):
        return
    names = f"{_name(one)} and {_name(other)}"
    if one.source == other.source:
        yield (
            f'{names}: both are source "{one.source}" in one database; give each organization '
            'a label of its own: datadog.source = "..."'
        )
    elif _is_one_organization(one, other):
        yield (
            f"{names}: both have the same keys, and one organization is one source; "
            "list all of its views in one file, or give each file its own keys. For that name "
            "other variables with datadog.api_key_env and app_key_env, or write the files "
            f"{_dotenv(one)} and {_dotenv(other)} (the environment wins over both)"
        )


def _is_one_organization(one: Member, other: Member) -> bool:
    if one.keys is None or other.keys is None or one.api_url != other.api_url:
        return False
    if one.keys.bearer_token or other.keys.bearer_token:
        return one.keys.bearer_token == other.keys.bearer_token
    return one.keys.api_key == other.keys.api_key


def _name(member: Member) -> str:
    return plain(member.path)


def _dotenv(member: Member) -> str:
    return plain(member.path.with_suffix(".env").name) if member.path else ".env"
