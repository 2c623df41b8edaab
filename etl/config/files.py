"""The sources of settings: the TOML file, the `.env` next to it, the environment."""

from __future__ import annotations

import io
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from etl.config.settings import Findings
from etl.config.trust import distrust, is_read_only
from etl.config.validators import is_secret_name, plain
from etl.errors import ConfigError
from etl.library_faults import name_of

DEFAULT_FILE = "heatmap-etl.toml"
SYSTEM_FILE = Path("/etc/heatmap-etl", DEFAULT_FILE)
"""The configuration of this machine, which `init --system` writes."""
INIT_WRITES_ONE = "run `heatmap-etl init` to write one"
# httpx, ssl and the logs look for these in the environment of the process, not in ours.
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
LOG_FORMAT = "HEATMAP_ETL_LOG_FORMAT"
TMPDIR = "HEATMAP_ETL_TMPDIR"
# They say where requests, links and calls go; the last is a database that other programs share.
_DESTINATIONS = {
    *("DD_SITE", "HEATMAP_ETL_DATADOG_SITE", "DD_API_URL", "HEATMAP_ETL_DATADOG_API_URL"),
    *("HEATMAP_ETL_DATADOG_APP_URL", "HEATMAP_ETL_SCHEDULE_HEARTBEAT_URL", "DATABASE_URL"),
    *CERTIFICATES,
}


def find_file(path: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The configuration file as an absolute path, or None for the environment alone."""
    if path is not None:
        return cwd / path
    if named := environ.get("HEATMAP_ETL_CONFIG"):
        return cwd / named
    default = cwd / DEFAULT_FILE
    # A dangling link is a mistake to report, not a missing file.
    return default if os.path.lexists(default) else None


def read_toml(path: Path, if_missing: str = INIT_WRITES_ONE) -> dict[str, object]:
    """The parsed file. Raises ConfigError with one line that says where and what to do.

    `if_missing`: what to do where there is no such file.
    """
    where = plain(path)
    try:
        # Some editors put a byte order mark first; TOML does not know it.
        return tomllib.loads(_read_bytes(path, if_missing).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text (byte {error.start + 1}); save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        problem = _syntax_problem(str(error))
    except RecursionError:
        problem = "is nested too deeply to be a configuration"
    except ValueError:  # tomllib lets those of int() and datetime through
        problem = "holds a number or date that cannot be read"
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - of a parser, for the text of anybody
        problem = f"cannot be read: {name_of(error)}"
    raise ConfigError([f"{where}: {problem}"])


def _read_bytes(path: Path, if_missing: str) -> bytes:
    where = plain(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        problem = f"does not exist; {if_missing}"
    except IsADirectoryError:
        problem = "is a folder; name one of the files in it"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or 'unknown error'}"
    except ValueError:  # NUL or a lone surrogate in the name
        problem = "is not a usable file name"
    except Exception as error:  # noqa: BLE001 - such as a file that has no room in memory
        problem = f"cannot be read: {name_of(error)}"
    raise ConfigError([f"{where}: {problem}"])


def _syntax_problem(message: str) -> str:
    match = re.fullmatch(r"(.*) \(at (.*)\)", message, flags=re.DOTALL)
    what, position = match.groups() if match else (message, "an unknown place")
    return (
        f"is not valid TOML at {position}: {plain(what)}; check quotes, brackets and commas there"
    )


def dotenv_files(file: Path | None, folder: Path) -> list[Path]:
    """`.env` in the folder, and `acme.env` next to `acme.toml`, which wins."""
    own = [file.with_suffix(".env")] if file and file.suffix == ".toml" else []
    return [folder / ".env", *own]


def read_dotenv(path: Path, findings: Findings) -> dict[str, str]:
    """The non-empty variables of a `.env` file; nothing is expanded in them.

    One that this user may not read is no problem yet: a command that needs no key goes on. One that
    somebody else could have written is refused, and nothing in it is used: it says where the keys
    of the environment are sent.
    """
    # Before it is read: it may be a pipe into which nobody writes, or not fit into memory.
    found = distrust(path) if _may_hold_text(path) else None
    text = "" if found else _dotenv_text(path, findings)
    if not text and not found:
        return {}
    if found := found or distrust(path):
        findings.refused.append(f"{plain(path)}: is not used: {found.reason}; {found.advice}")
        return {}
    # Most installations under cron have no .env. Its parser alone: the rest logs in its own words.
    from dotenv.parser import parse_stream

    try:
        lines = list(parse_stream(io.StringIO(text)))
    except Exception as error:  # noqa: BLE001 - of a parser, for the text of anybody
        findings.problem(plain(path), f"cannot be read: {name_of(error)}")
        return {}
    values = {}
    for line in lines:
        # A name alone is common: `export X`, or what a container takes over.
        if line.error or (
            line.value is None and not re.fullmatch(r"([A-Za-z_]\w*)?", line.key or "")
        ):
            findings.problem(plain(path), _bad_line(line.original.string, line.original.line))
        elif line.key and line.value:
            values[line.key] = line.value
    return values


def _may_hold_text(path: Path) -> bool:
    """Whether this user can read something there; not from /dev/null, which may cover a `.env`."""
    try:
        status = path.stat()
        is_empty = stat.S_ISREG(status.st_mode) and not status.st_size
        is_usable = not is_empty and not stat.S_ISDIR(status.st_mode) and os.access(path, os.R_OK)
        return is_usable and not os.path.samestat(status, Path(os.devnull).stat())
    except (OSError, ValueError):
        return False


def _dotenv_text(path: Path, findings: Findings) -> str:
    """The text of a `.env` file; "" where there is none, or it is a problem."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""  # a virtual environment may be a folder of this name
    except PermissionError as error:
        findings.unread.append(f"{plain(path)}: cannot be read: {error.strerror}")
        return ""
    except OSError as error:
        problem = f"cannot be read: {error.strerror or 'unknown error'}"
    except ValueError:
        problem = "is not UTF-8 text; save it as UTF-8"
    except Exception as error:  # noqa: BLE001 - such as a file that has no room in memory
        problem = f"cannot be read: {name_of(error)}"
    else:
        if "\0" not in text:
            return text
        problem = "holds a NUL character; save it as plain text"  # no variable can hold one
    findings.problem(plain(path), problem)
    return ""


def _bad_line(text: str, number: int) -> str:
    """The problem of a line, without its text: that may hold a key."""
    number += len(re.findall(r"\r\n|\n|\r", text[: len(text) - len(text.lstrip())]))
    return f"line {number} cannot be read; write NAME=value, close the quotes, or put # before it"


def merge(dotenv: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """`.env` under the environment; empty values count as not set.

    `X` in the environment also hides `X_FILE` of `.env`, and the other way round.
    """
    merged = {name: value for name, value in environ.items() if value}
    for name, value in dotenv.items():
        other = name.removesuffix("_FILE") if name.endswith("_FILE") else f"{name}_FILE"
        if not environ.get(name) and not environ.get(other):
            merged[name] = value
    return merged


def destinations(dotenv: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """The variables of a `.env` that say where something is sent, as far as they count.

    They must not without a configuration file: the `.env` of a folder that somebody happens to be
    in would say where the keys of the environment go.
    """
    return [
        name
        for name in dotenv
        if (name in _DESTINATIONS or name.upper() in PROXIES)
        and not any(environ.get(n) for n in (name, name.upper(), name.lower()))
    ]


def process_variables(
    dotenv: Mapping[str, str], environ: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """The variables of `.env` in `folder` that the process lacks; paths are absolute."""
    variables = {}
    for name, value in dotenv.items():
        is_proxy = name.upper() in PROXIES  # httpx looks for them in lower case too
        names = {name.upper(), name.lower()} if is_proxy else {name}
        is_path = name in (*CERTIFICATES, TMPDIR)
        if (is_proxy or is_path or name == LOG_FORMAT) and not names & environ.keys():
            variables[name] = str(folder / value) if is_path else value
    return variables


def warn_of_open_dotenv(
    path: Path, dotenv: Mapping[str, str], secrets: Iterable[str], findings: Findings
) -> None:
    """Warn when others may read a `.env` that holds a secret, where that can be changed."""
    names = set(secrets)
    if os.name != "posix" or not any(
        n in names or is_secret_name(n) or ("://" in value and "@" in value)
        for n, value in dotenv.items()
    ):
        return
    try:
        if is_read_only(path):
            return
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:  # deleted since it was read
        return
    if mode & 0o077:
        findings.warn(
            plain(path),
            f"holds keys and can be read by others (mode {mode:04o}); run: chmod 600 {plain(path)}",
        )
