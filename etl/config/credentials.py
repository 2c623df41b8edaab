"""Datadog keys: environment and key files -> Keys, or one line that says what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from etl.config.validators import BadValue, plain
from etl.library_faults import name_of

BEARER = "DD_BEARER_TOKEN"
HASH_KEY = "HEATMAP_ETL_HASH_KEY"
# Datadog documents the second one; of the first its role and its name alone are known.
LIST_PERMISSION, RUM_PERMISSION = "rum_session_replay_read", "rum_apps_read"
PERMISSIONS = (
    f"They need {LIST_PERMISSION} (probably), to list snapshots,",
    f"and {RUM_PERMISSION}, to discover views and to name applications.",
)
"""Two lines about the keys, for people."""
_MIN_HASH_KEY = 16


@dataclass(frozen=True, slots=True)
class Keys:
    """Either an API key with an application key, or a bearer token. Never printed.

    `api_key_from` and so on: the variable that it came from, for people.
    """

    api_key: str = field(default="", repr=False)
    app_key: str = field(default="", repr=False)
    bearer_token: str = field(default="", repr=False)
    api_key_from: str = field(default="DD_API_KEY", compare=False)
    app_key_from: str = field(default="DD_APP_KEY", compare=False)
    bearer_token_from: str = field(default=BEARER, compare=False)


class KeyLookup(msgspec.Struct, frozen=True):
    """The keys; None: there are none, and `problem` says what to do."""

    keys: Keys | None
    problem: str = ""
    warning: str = ""


def find_keys(
    environment: Mapping[str, str],
    api_name: str,
    app_name: str,
    folder: Path,
    origins: Mapping[str, str] | None = None,
) -> KeyLookup:
    """Look up keys under the given variable names and their `_FILE` forms. Never raises.

    A relative path in a `_FILE` variable is one in `folder`. `origins`: the file that sets a
    variable, by name, where it is not set in the environment itself.
    """
    origins = origins or {}

    def variable(name: str) -> str:
        used = name if environment.get(name) else f"{name}_FILE"
        return f"{used} in {origins[used]}" if used in origins else used

    values, problems = {}, {}
    for name in (BEARER, api_name, app_name):
        try:
            values[name] = read_secret(name, environment, folder)
            _require_key(f"{name}_FILE" if environment.get(f"{name}_FILE") else name, values[name])
        except BadValue as error:
            problems[name] = str(error)
    token, api_key, app_key = (values.get(name, "") for name in (BEARER, api_name, app_name))
    if token and BEARER not in problems:
        unused = " and ".join(n for n in (api_name, app_name) if values.get(n) or n in problems)
        warning = (
            f"{BEARER}: is used instead of {unused}; remove what you do not use" if unused else ""
        )
        keys = Keys(bearer_token=token, bearer_token_from=variable(BEARER))
        return KeyLookup(keys, warning=warning)
    if problems:
        return KeyLookup(None, "; ".join(problems.values()))
    if api_key and app_key:
        api_from, app_from = variable(api_name), variable(app_name)
        return KeyLookup(Keys(api_key, app_key, api_key_from=api_from, app_key_from=app_from))
    return KeyLookup(None, _missing(api_name, app_name, api_key, app_key, folder))


def read_secret(name: str, environment: Mapping[str, str], folder: Path) -> str:
    """The value of `name`, or the content of the file that `<name>_FILE` names; "" for neither.

    Raises BadValue, without the value, when both are set or the file cannot be used.
    """
    value, file = environment.get(name, ""), environment.get(f"{name}_FILE", "")
    if not file:
        return value
    if value:
        raise BadValue(f"{name}: set only one of {name} and {name}_FILE")
    if _looks_like_a_secret(file):
        raise BadValue(f"{name}_FILE: expected the path of a file, not the value; use {name}")
    return _read_secret_file(f"{name}_FILE", folder / file)


def find_hash_key(environment: Mapping[str, str], folder: Path) -> str:
    """The key that hides who created a snapshot. Raises BadValue, without the key."""
    key = read_secret(HASH_KEY, environment, folder)
    if not key:
        raise BadValue(
            f'"hash" needs a key: set {HASH_KEY} or {HASH_KEY}_FILE, such as to the output of '
            "`openssl rand -hex 32`, and keep it"
        )
    if problem := _placeholder_problem(key):
        raise BadValue(f"{HASH_KEY}: {problem}")
    if len(key) < _MIN_HASH_KEY or not key.strip():
        raise BadValue(f"{HASH_KEY}: is too short; expected {_MIN_HASH_KEY} characters or more")
    return key


def _looks_like_a_secret(path: str) -> bool:
    return "://" in path or bool(
        re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|dd(app|pat|sat)_\S+", path)
    )


def _read_secret_file(name: str, path: Path) -> str:
    where = f"{name}: {plain(path)}"
    try:
        content = path.read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:
        raise BadValue(f"{where} does not exist") from None
    except OSError as error:
        raise BadValue(f"{where} cannot be read: {error.strerror}") from None
    except ValueError:  # not UTF-8, or a path with NUL
        raise BadValue(f"{where} is not a text file") from None
    except Exception as error:  # noqa: BLE001 - such as a file that has no room in memory
        raise BadValue(f"{where} cannot be read: {name_of(error)}") from None
    if not content.strip():
        raise BadValue(f"{where} is empty")
    return content


def _require_key(variable: str, value: str) -> None:
    """Raises BadValue, without the value, for what cannot be a key of Datadog."""
    problem = _placeholder_problem(value)
    if not problem and re.search(r"""^["'`]|["'`]$""", value):
        problem = "has quotes around the key; write it without them"
    if not problem and not re.fullmatch(r"[!-~]*", value):
        problem = "holds a space, a line break or a character outside ASCII; expected the bare key"
    if problem:
        raise BadValue(f"{variable}: {problem}")


def _placeholder_problem(value: str) -> str:
    """What is wrong with a value that somebody had to replace; "" for nothing."""
    bare = value.strip().strip("\"'`")
    unexpanded = r"\$\{.*\}|\$\(.*\)|\{\{.*\}\}|\$[A-Za-z_]\w*|%[A-Za-z_]\w*%"
    if re.fullmatch(unexpanded, bare, re.DOTALL):
        return "holds the name of a variable or command that nothing has replaced; write the key"
    if re.fullmatch(r"<.*>|\[.*\]|\.{2,}|\u2026", bare, re.DOTALL):
        return "holds a placeholder; write the key itself there"
    return ""


def _missing(api_name: str, app_name: str, api_key: str, app_key: str, folder: Path) -> str:
    if api_key or app_key:
        present, absent = (api_name, app_name) if api_key else (app_name, api_name)
        problem = f"not set, but {present} is; Datadog needs both"
        return f"{absent}: {problem}. Set {absent} or {absent}_FILE"
    return (
        f"{api_name}: no Datadog keys found; set {api_name} and {app_name} in the environment "
        f"or in {plain(folder / '.env')} (or {api_name}_FILE and {app_name}_FILE, or {BEARER})"
    )
