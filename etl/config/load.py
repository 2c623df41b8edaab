"""TOML + environment -> one frozen Config.

`HEATMAP_ETL_*` wins over the file, the file over the ambient variables; `.env` next to the file
counts as environment. Nothing here opens a connection, and SQLAlchemy is imported only to parse a
database URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from etl.config.credentials import (
    BEARER,
    HASH_KEY,
    KeyLookup,
    find_hash_key,
    find_keys,
    read_secret,
)
from etl.config.database_url import EXPECTED, Database, parse_database
from etl.config.files import (
    DEFAULT_FILE,
    SYSTEM_FILE,
    destinations,
    dotenv_files,
    find_file,
    merge,
    read_dotenv,
    read_toml,
    warn_of_open_dotenv,
)
from etl.config.folder import (
    conflicts,
    files_of,
    is_folder,
    shared_identity_problems,
    with_file_name,
    without_repeats,
)
from etl.config.model import ALL, ON_COMMAND_LINE, Config, Needs
from etl.config.settings import (
    DATABASE_URL,
    Findings,
    Settings,
    read_settings,
    warn_of_unknown_variables,
)
from etl.config.sites import DEFAULT_SITE, Hosts, hosts, sends_keys_in_clear, site_warning
from etl.config.trust import exposure, open_folder
from etl.config.validators import BadValue, plain
from etl.config.views import DISCOVER, View, parse_views
from etl.config.views import EXPECTED as EXPECTED_VIEWS
from etl.errors import ConfigError

_SOURCE = {"datadog.source", "datadog.site"}  # each names a source
_PASSWORD = re.compile(r"//[^:/]*:[^@]+@|[?&]pass(word|wd)?=")  # as SQLAlchemy reads a URL
_SETTINGS = {
    field.name: field.metadata["setting"] for field in fields(Config) if "setting" in field.metadata
}


def load_config(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    needs: Needs = ALL,
) -> Config:
    """Read the configuration file and the environment into a Config.

    Without `path`: `HEATMAP_ETL_CONFIG`, else `heatmap-etl.toml` in `cwd`, else only the
    environment. Missing keys are no error here, see `require_keys`; a `.env` that this user may
    not read is one only where `needs` has keys. Raises ConfigError with every problem at once; no
    message holds a secret.
    """
    environ = os.environ if environ is None else environ
    here = _absolute(cwd)
    file = find_file(path, environ, here)
    document = read_toml(file, needs.advice) if file else {}
    folder = file.parent if file else here
    findings = Findings()
    dotenvs = {path: read_dotenv(path, findings) for path in dotenv_files(file, folder)}
    if findings.refused and needs.database is None:
        raise ConfigError(findings.refused)  # what else is missing may be in it
    findings.unread += findings.refused  # nothing of it is needed
    if file is None:
        dotenvs = {p: _kept_here(p, d, environ, findings, needs) for p, d in dotenvs.items()}
    if needs.keys:
        findings.problems += findings.unread
    environment = _merged(dotenvs, environ)
    if needs.database is None:
        environment = _with_database_file(environment, folder, findings)
    settings = read_settings(document, environment, findings)
    is_named = needs.database is not None or {"views", "database_url"} & settings.chosen
    if file is None and not is_named:
        advice = needs.advice
        if os.path.lexists(SYSTEM_FILE):
            advice += f", or use that of this machine: --config {SYSTEM_FILE}"
        findings.problem(DEFAULT_FILE, f"there is none in {plain(here)}; {advice}")
        raise ConfigError(_with_unread(findings, needs))  # init writes what else is missing
    keys = _keys(settings, environment, folder, _origins(dotenvs, environ), findings)
    _warn_of_environment(settings, environment, dotenvs, findings)
    _warn_of_exposure(settings, document, file, environment, folder, findings)
    hash_key = _hash_key(settings, environment, folder, findings, needs)
    database = needs.database or _database(settings, folder, findings, needs)
    views = _views(settings, findings, needs)
    addresses = _hosts(settings, findings)
    _check_pairs(settings, None if needs.database else database, findings)
    if findings.problems or database is None:
        raise ConfigError(_with_unread(findings, needs))
    has_views = settings["views"] is not None
    return Config(
        path=file,
        database_url=database.url,
        database_label=database.label,
        database_schema=settings["database_schema"] if database.is_postgresql else None,
        database_origin=_database_origin(file, dotenvs, environ, findings, needs),
        has_views=has_views,
        has_source=has_views or not _SOURCE.isdisjoint({*settings.chosen, *findings.variables}),
        unread=tuple(_unread_lines(findings, needs)),
        views=views,
        source=settings["datadog.source"] or settings["datadog.site"],
        site=settings["datadog.site"],
        api_url=addresses.api_url,
        app_url=addresses.app_url,
        keys=keys.keys,
        keys_problem=keys.problem,
        discovers=settings["views"] == DISCOVER,
        hash_key=hash_key,
        warnings=tuple(findings.warnings),
        **{name: settings[key] for name, key in _SETTINGS.items()},
    )


def load_configs(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    needs: Needs = ALL,
) -> list[Config]:
    """As `load_config`; where that is a folder, one Config for each `*.toml` in it, by name.

    Raises ConfigError with every problem of every file at once, each with its file.
    """
    environ = os.environ if environ is None else environ
    file = find_file(path, environ, _absolute(cwd))
    if file is None or not is_folder(file):
        return [load_config(path, environ, cwd=cwd, needs=needs)]
    configs, problems = [], []
    files = files_of(file)
    for inner in files:
        try:
            configs.append(load_config(inner, environ, cwd=cwd, needs=needs))
        except ConfigError as error:
            problems += with_file_name(inner, error.problems)
    if len(files) > 1:
        shared = merge(read_dotenv(file / ".env", Findings()), environ)
        problems = shared_identity_problems(shared) + problems
    # Shared variables would put each pair in conflict.
    if not problems and needs.database is None:
        problems = conflicts(configs)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return _with_neighbours(configs, file)


def _with_neighbours(configs: list[Config], folder: Path) -> list[Config]:
    """The configurations, each with the sources of the others, and its file in its warnings."""
    warnings = without_repeats([(config.path or folder, config.warnings) for config in configs])
    warnings[0] += filter(None, [open_folder(folder)])
    return [
        replace(
            config,
            warnings=tuple(texts),
            neighbours=tuple(c.source for c in configs if c is not config),
        )
        for config, texts in zip(configs, warnings, strict=True)
    ]


def _absolute(cwd: Path | None) -> Path:
    try:
        return (cwd or Path()).absolute()
    except OSError:
        raise ConfigError(
            ["the current folder does not exist any more; change to another"]
        ) from None


def _merged(
    dotenvs: Mapping[Path, Mapping[str, str]], environ: Mapping[str, str]
) -> dict[str, str]:
    dotenv: Mapping[str, str] = {}
    for later in dotenvs.values():
        dotenv = merge(dotenv, later)
    return merge(dotenv, environ)


def _kept_here(
    path: Path,
    dotenv: Mapping[str, str],
    environ: Mapping[str, str],
    findings: Findings,
    needs: Needs,
) -> dict[str, str]:
    """The variables of a `.env` without a configuration file that stay in this folder."""
    names = destinations(dotenv, environ)
    if names and needs.database is None:
        findings.problem(
            plain(path),
            f"{' and '.join(names)} would send data elsewhere, which a .env may only say beside a "
            "configuration file; run `heatmap-etl init` to write one, or set it in the environment",
        )
    return {name: value for name, value in dotenv.items() if name not in names}


def _origins(
    dotenvs: Mapping[Path, Mapping[str, str]], environ: Mapping[str, str]
) -> dict[str, str]:
    """The name of the `.env` that sets each variable; the one that wins if two do."""
    return {
        name: plain(path.name)
        for path, values in dotenvs.items()
        for name in values
        if not environ.get(name)
    }


def _with_database_file(
    environment: dict[str, str], folder: Path, findings: Findings
) -> dict[str, str]:
    name = f"{DATABASE_URL}_FILE"
    if name not in environment:
        return environment
    try:
        return {**environment, DATABASE_URL: read_secret(DATABASE_URL, environment, folder)}
    except BadValue as error:
        findings.problem("database_url", str(error))
        return environment


def _keys(
    settings: Settings,
    environment: Mapping[str, str],
    folder: Path,
    origins: Mapping[str, str],
    findings: Findings,
) -> KeyLookup:
    api_name, app_name = settings["datadog.api_key_env"], settings["datadog.app_key_env"]
    if api_name is None or app_name is None:  # reported already
        return KeyLookup(None)
    if api_name == app_name:
        findings.problem(
            "datadog.app_key_env", "names the same variable as datadog.api_key_env; name another"
        )
    keys = find_keys(environment, api_name, app_name, folder, origins)
    if keys.warning:
        findings.warnings.append(keys.warning)
    return keys


def _hash_key(
    settings: Settings,
    environment: Mapping[str, str],
    folder: Path,
    findings: Findings,
    needs: Needs,
) -> str:
    if settings["privacy.created_by"] != "hash":
        return ""
    try:
        return find_hash_key(environment, folder)
    except BadValue as error:
        if needs.keys:
            findings.problem("privacy.created_by", str(error))
        return ""


def _warn_of_environment(
    settings: Settings,
    environment: Mapping[str, str],
    dotenvs: Mapping[Path, Mapping[str, str]],
    findings: Findings,
) -> None:
    names = (settings["datadog.api_key_env"], settings["datadog.app_key_env"], BEARER)
    known = tuple(name + suffix for name in names if name for suffix in ("", "_FILE"))
    warn_of_unknown_variables(environment, known, findings)
    for path, dotenv in dotenvs.items():
        warn_of_open_dotenv(path, dotenv, [*filter(None, names), HASH_KEY], findings)


def _warn_of_exposure(
    settings: Settings,
    document: Mapping[str, object],
    file: Path | None,
    environment: Mapping[str, str],
    folder: Path,
    findings: Findings,
) -> None:
    """Warn of a configuration, and of files with secrets, that others may change or read."""
    if file:
        has_password = bool(_PASSWORD.search(str(document.get("database_url", ""))))
        findings.warnings += exposure(file, "a password" * has_password)
    names = (settings["datadog.api_key_env"], settings["datadog.app_key_env"])
    for name in filter(None, (*names, BEARER, HASH_KEY, DATABASE_URL)):
        if named := environment.get(f"{name}_FILE"):
            findings.warnings += exposure(folder / named, "a secret")
    findings.warnings = list(dict.fromkeys(findings.warnings))


def _database(
    settings: Settings, folder: Path, findings: Findings, needs: Needs
) -> Database | None:
    value = settings["database_url"]
    if value is None:
        if not any(problem.startswith("database_url:") for problem in findings.problems):
            findings.problem("database_url", _advice_on_database(findings, needs))
        return None
    try:
        return parse_database(value, folder)
    except BadValue as error:
        findings.problem("database_url", str(error))
        return None


def _advice_on_database(findings: Findings, needs: Needs) -> str:
    """What to do without a URL; somebody who only looks must not begin a second database."""
    if findings.unread:
        return (
            "is neither in the file nor in the environment; the .env that cannot be read may hold "
            "it. Do not write another one: run this as the user who runs `sync`, or as root"
        )
    if needs.views:
        return f"is missing; write one here or in {DATABASE_URL}: {EXPECTED}"
    return f"is missing; name the database that `sync` uses, for example in {DATABASE_URL}"


def _with_unread(findings: Findings, needs: Needs) -> list[str]:
    """All problems; what could not be read may be the cause of them."""
    return [*([] if needs.keys else findings.unread), *findings.problems]


def _unread_lines(findings: Findings, needs: Needs) -> list[str]:
    if needs.database:
        return findings.unread
    return [
        f"{text}; this command needs no key, but a database URL in it is not used either"
        for text in findings.unread
    ]


def _database_origin(
    file: Path | None,
    dotenvs: Mapping[Path, Mapping[str, str]],
    environ: Mapping[str, str],
    findings: Findings,
    needs: Needs,
) -> str:
    """Where the URL was found."""
    if needs.database:
        return ON_COMMAND_LINE
    name = findings.variables.get("database_url")
    if name is None:
        return f"database_url of {plain(file)}"
    names = (name, f"{name}_FILE") if name == DATABASE_URL else (name,)
    for used in names:
        if environ.get(used):
            return f"{used} of the environment"
    for path, values in reversed(list(dotenvs.items())):
        for used in names:
            if used in values:
                return f"{used} in {plain(path)}"
    return name


def _views(settings: Settings, findings: Findings, needs: Needs) -> tuple[View, ...]:
    value = settings["views"]
    if value is None:
        if needs.views and not any(problem.startswith("views:") for problem in findings.problems):
            findings.problem("views", f"are missing; {EXPECTED_VIEWS}")
        return ()
    return parse_views(
        value,
        lambda text: findings.problem("views", text),
        lambda text: findings.warn("views", text),
    )


def _hosts(settings: Settings, findings: Findings) -> Hosts:
    # None was reported already; go on, to find what else is wrong.
    site, api_url = settings["datadog.site"] or DEFAULT_SITE, settings["datadog.api_url"]
    addresses = hosts(site, api_url, settings["datadog.app_url"])
    warning = site_warning(site)
    if warning and not api_url:
        findings.warn("datadog.site", warning)
    if sends_keys_in_clear(addresses.api_url):
        findings.warn("datadog.api_url", "is plain http: keys would travel unencrypted; use https")
    ambient = api_url and "datadog.api_url" not in settings.chosen
    if ambient and "datadog.site" in settings.chosen and api_url != hosts(site, None, None).api_url:
        findings.warn(
            "datadog.api_url", f"DD_API_URL of the environment is used, not the site {site}"
        )
    return addresses


def _check_pairs(settings: Settings, database: Database | None, findings: Findings) -> None:
    if {"schedule.cron", "schedule.every"} <= settings.chosen:
        findings.problem(
            "schedule.every", "cannot be used together with schedule.cron; remove one of them"
        )
    if settings["database_schema"] and database and not database.is_postgresql:
        findings.problem("database_schema", "only PostgreSQL has schemas; remove it")
