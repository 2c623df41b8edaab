"""What `make test` installs beside `.venv`, and what it says of that which it cannot install."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.environments import Environment
from tests.support.paths import ROOT

# Names what is missing, and installs nothing.
PYTHON = """#!/bin/sh
[ "$2" = tests.support.servers ] && echo postgresql18 dbt pgbouncer
"""


def test_what_could_not_be_installed_is_named_and_nothing_else(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    # Of a machine without apt-get.
    for name in ("sh", "rm", "sed", "id", "cmp"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    python = programs / "python"
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    done = subprocess.run(
        ["sh", "scripts/install-for-tests", python],
        cwd=tmp_path,
        env={"PATH": str(programs)},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if "SKIPPED" in line]
    assert [line.split("SKIPPED: ")[1].split(".")[0] for line in lines] == [
        "postgresql18",
        "dbt",
        "pgbouncer",
    ]


def test_no_gigabyte_of_clients_is_installed_for_sqlite_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nothing = Environment(tmp_path, tmp_path / "lock")
    for name in ("DBT", "CLIENTS"):
        monkeypatch.setattr(servers, name, nothing)
    monkeypatch.setattr(servers, "missing_packages", lambda: ["odbc"])
    assert servers.missing_clients({"sqlite"}) == []
    assert servers.missing_clients({"sqlite", "mariadb"}) == ["odbc", "clients"]
    assert servers.missing_clients({"postgresql"}) == ["odbc", "clients", "dbt"]


def test_an_environment_of_another_lock_file_is_made_anew(tmp_path: Path) -> None:
    environment = Environment(tmp_path, tmp_path / "lock")
    assert not environment.is_there()
    environment.lock.write_text("a", encoding="utf-8")
    (tmp_path / "installed.lock").write_text("a", encoding="utf-8")
    assert environment.is_there()
    environment.lock.write_text("b", encoding="utf-8")
    assert not environment.is_there()
