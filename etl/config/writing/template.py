"""The commented `heatmap-etl.toml` that `heatmap-etl init` writes.

First the required settings, then every other one of the catalogue, commented out with its default.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from etl.config.credentials import BEARER, PERMISSIONS
from etl.config.database_url import parse_database, sqlite_file
from etl.config.files import DEFAULT_FILE, dotenv_files
from etl.config.output_file import Kind, files_of_sqlite, output_file
from etl.config.settings import DATABASE_URL, SECTIONS, Setting, settings_table
from etl.config.sites import DEFAULT_SITE, hosts
from etl.config.validators import BadValue, is_secret_name, plain
from etl.config.views import DISCOVER, parse_views
from etl.errors import ConfigError
from etl.files import rights_of, whole_file

_THERE = "is there already and stays as it is; --force overwrites it"
DEFAULT_DATABASE_URL = "sqlite:///heatmap-etl.db"
_NOT_ALONE = f"{DISCOVER} stands for every view in RUM; use either the word alone, or names"

_DOTENV = """\
# The keys of Datadog, in place of the dots. Only you should be able to read this file (chmod 600).
DD_API_KEY=...
DD_APP_KEY=...
"""

_HEAD = """\
# heatmap-etl: which views to copy, and where to.
# Keys do not belong here: set DD_API_KEY and DD_APP_KEY in the environment, or in a file
# named .env next to this one (chmod 600). `heatmap-etl check` says whether all is well.
# The keys need two permissions: probably rum_session_replay_read, to list snapshots (Datadog
# documents none for that), and rum_apps_read, to discover views and to name applications.

# SQLite (a path relative to this file), or PostgreSQL, MariaDB, MySQL.
#   "postgresql://user:password@host/database", "mariadb://...", "mysql://..."
# Do not write a password here: set HEATMAP_ETL_DATABASE_URL instead.
database_url = {database_url}
# On PostgreSQL, database_schema puts the tables into a schema of their own.

# The view names exactly as RUM shows them. A table narrows a view down.
#   {{ name = "/checkout", device_type = "mobile", application_id = "..." }}
# With accept_truncated = true in it you accept that Datadog cuts this listing short.
# "discover" instead of the list: every view with page views in RUM, see [discover].
views = {views}
"""


def config_template(
    database_url: str = DEFAULT_DATABASE_URL,
    views: Sequence[str] = ("/",),
    site: str = "",
    files_mode: str = "",
) -> str:
    """The text of a configuration file that works as it is.

    `site` and `files_mode`: set, and not only shown.
    """
    listed = ", ".join(quoted(view) for view in views)
    written = quoted(DISCOVER) if is_discover(views) else f"[{listed}]"
    head = _HEAD.format(database_url=quoted(database_url), views=written)
    chosen = {"datadog.site": site, "files.mode": files_mode}
    return head + "".join(_section(name, chosen) for name in SECTIONS)


def is_discover(views: Sequence[str]) -> bool:
    """Whether the one word is given in place of names."""
    return list(views) == [DISCOVER]


def _section(name: str, chosen: Mapping[str, str]) -> str:
    settings = [s for s in settings_table() if s.key.startswith(f"{name}.")]
    return f"\n[{name}]\n" + "\n".join(_lines(s, chosen) for s in settings)


def _lines(setting: Setting, all_chosen: Mapping[str, str]) -> str:
    """A comment with what the setting is for, and its value, or its default as a comment."""
    name = setting.key.rpartition(".")[2]
    value = setting.example if setting.default is None else setting.default
    chosen, site = all_chosen.get(setting.key, ""), all_chosen["datadog.site"]
    if site and setting.default is None and isinstance(value, str):
        value = _of_site(value, site)
    text = f"{setting.description}. {setting.hint}".strip()
    if chosen:
        text, line = text[0].upper() + text[1:], f"{name} = {quoted(chosen)}\n"
    elif value is None:
        text, line = f"{name}: {text}", ""
    else:
        text, line = text[0].upper() + text[1:], f"# {name} = {json.dumps(value)}\n"
    comment = textwrap.fill(
        text, 92, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
    return f"{comment}\n{line}"


def _of_site(example: str, site: str) -> str:
    """An example that holds the default site, as it is for the chosen one."""
    usual, other = hosts(DEFAULT_SITE, None, None), hosts(site, None, None)
    pairs = ((usual.api_url, other.api_url), (usual.app_url, other.app_url), (DEFAULT_SITE, site))
    return next((new for old, new in pairs if example == old), example)


def quoted(text: str) -> str:
    """A text as a TOML string, with everything escaped that does not print."""
    # JSON's escapes are TOML's, except for what lies beyond four hex digits.
    text = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else _escaped(ord(c)) for c in text)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def require_options(database_url: str, views: Sequence[str], folder: Path) -> None:
    """Raise ConfigError with what is wrong with the options of `init`; their defaults are right."""
    problems: list[str] = []
    if DISCOVER in views and not is_discover(views):
        problems.append(f"--view: {_NOT_ALONE}")
    elif views:
        parse_views(list(views), lambda p: problems.append(f"--view: {p}"), lambda _: None)
    if problem := database_problem(database_url, folder):
        problems.append(f"--database-url: {problem}")
    if problems:
        raise ConfigError(problems)


def require_absent(path: Path) -> None:
    """Raise ConfigError where there is such a file already."""
    if os.path.lexists(path):
        raise ConfigError([f"{plain(path)}: {_THERE}"])


def write_template(
    path: Path,
    *,
    database_url: str = "",
    views: Sequence[str] = (),
    site: str = "",
    is_forced: bool = False,
) -> None:
    """Write `config_template` to `path`; raises ConfigError when it cannot or should not be."""
    require_options(database_url, views, path.parent)
    database_url = database_url or DEFAULT_DATABASE_URL
    database = sqlite_file(parse_database(database_url, path.parent).url)
    if not is_forced:
        require_absent(path)
    kind = Kind("a configuration", partial(_holds_a_configuration, path)) if is_forced else None
    protected = files_of_sqlite(database) if database else []
    path = output_file("init", path, protected=protected, kind=kind)
    text = config_template(database_url, views or ("/",), site)
    try:
        mode, owner = rights_of(path)
        with whole_file(path, mode=mode, owner=owner, replaces=is_forced) as file:
            file.write(text.encode())
    except FileExistsError:
        problem = _THERE
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
    else:
        return
    raise ConfigError([f"{plain(path)}: {problem}"])


def write_dotenv(config: Path, environ: Mapping[str, str]) -> tuple[Path | None, bool]:
    """Make the `.env` beside a configuration, to fill in: its path, and whether it is new.

    One that is there stays as it is. None: the keys are in the environment, and none is needed.
    Raises ConfigError.
    """
    if any(map(environ.get, (BEARER, f"{BEARER}_FILE"))) or all(
        environ.get(name) or environ.get(f"{name}_FILE") for name in ("DD_API_KEY", "DD_APP_KEY")
    ):
        return None, False
    paths = dotenv_files(config, config.parent)
    for path in paths:
        if os.path.lexists(path):
            return path, False
    # In a folder of sources each has keys of its own.
    path = paths[0] if config.name == DEFAULT_FILE else paths[-1]
    try:
        with whole_file(path, mode=0o600, owner=None, replaces=False) as file:
            file.write(_DOTENV.encode())
    except FileExistsError:
        return path, False
    except OSError as error:
        raise ConfigError([f"{plain(path)}: cannot be written: {error.strerror}"]) from None
    return path, True


def _holds_a_configuration(path: Path, file: BinaryIO) -> bool:
    """Whether a file is one of ours, or one that would be but for a slip in it."""
    try:
        text = file.read().decode("utf-8-sig")
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return path.suffix == ".toml" and "\0" not in text
    except (ValueError, RecursionError):
        return False
    return not document or not {*SECTIONS, *(s.key for s in settings_table())}.isdisjoint(document)


def views_problem(names: Sequence[str]) -> str:
    """What is wrong with the last of these view names; "" for nothing."""
    if names[-1] == DISCOVER and len(names) > 1:
        return _NOT_ALONE
    problems: list[str] = []
    parse_views(list(names), problems.append, lambda _: None)
    return problems[-1].removeprefix(f"entry {len(names)}: ") if problems else ""


def url_of(text: str) -> str:
    """The URL of a database; the path of a SQLite file will do, as on every command line."""
    is_plain = not re.search(r"[?#%@=;:~]|//", text)
    is_path = re.search(r"/[^/]+$|\.(db|sqlite3?)$", text)
    return f"sqlite:///{text}" if is_plain and is_path else text


def database_problem(url: str, folder: Path) -> str:
    """Why a URL cannot be in a file that others may read; "" for no reason."""
    if not url:
        return ""
    try:
        parsed = parse_database(url, folder)
    except BadValue as error:
        return str(error)
    from sqlalchemy.engine import make_url

    parts = make_url(parsed.url)
    names = [name for name in parts.query if is_secret_name(name) or "pass" in name.lower()]
    if parts.password is None and not names:
        return ""
    return f"holds a password, and only .env should hold one; set {DATABASE_URL} there instead"


def next_steps(
    path: Path, *, views: Sequence[str], dotenv: Path | None, is_new: bool = False
) -> list[str]:
    """Lines for people: what to do after `init`. `dotenv`: where the keys are, and `is_new`."""
    name = plain(path)
    config = "" if name == DEFAULT_FILE else f" --config {shlex.quote(name)}"
    steps = []
    if not views:
        steps.append(f"List your views in {name}, exactly as RUM shows their names.")
    if dotenv is None:
        what = "The keys are in the environment, and no .env is needed."
    elif is_new:
        what = f"Put the keys into {plain(path.parent / dotenv.name)}, in place of the dots."
    else:
        keys = plain(path.parent / dotenv.name)
        what = f"{keys} stays as it was. See that it holds DD_API_KEY and DD_APP_KEY."
    steps.append(f"{what}\n     " + "\n     ".join(PERMISSIONS))
    steps += [f"heatmap-etl check{config}", f"heatmap-etl sync{config}"]
    text = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, start=1))
    made = f"{name} and {plain(path.parent / dotenv.name)}" if dotenv and is_new else name
    lines = [f"Wrote {made}. Next:", "", *text.split("\n")]
    if is_discover(views):
        lines[:0] = ['views = "discover": a run reads every view that has page views in RUM.', ""]
    return lines
