"""What `make test` installs beside `.venv`, and what it says of that which it cannot install."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from etl import __version__
from tests.support import servers
from tests.support.environments import Environment
from tests.support.paths import ROOT

# Names what is missing, and installs nothing.
PYTHON = """#!/bin/sh
[ "$2" = tests.support.servers ] && echo {}
"""


# Of a system without pgpool-II.
APT_GET = """#!/bin/sh
for word in "$@"; do [ "$word" = pgpool2 ] && exit 100; done
echo "$@" >> installed
"""


def write_program(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def skipped(folder: Path, missing: str) -> list[str]:
    """What `install-for-tests` says will be skipped, with the programs of `folder`/bin alone."""
    programs = folder / "bin"
    for name in ("sh", "rm", "sed", "cmp", "mktemp", "tail"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    write_program(programs / "id", "#!/bin/sh\necho 0\n")
    python = write_program(programs / "python", PYTHON.format(missing))
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    done = subprocess.run(
        ["sh", "scripts/install-for-tests", python],
        cwd=folder,
        env={"PATH": str(programs)},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if "SKIPPED" in line]
    return [line.split("SKIPPED: ")[1].split(".")[0] for line in lines]


def test_what_could_not_be_installed_is_named_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    expected = ["postgresql18", "dbt", "site", "pgbouncer"]
    assert skipped(tmp_path, "postgresql18 dbt site pgbouncer") == expected


def test_a_package_that_the_system_lacks_keeps_no_other_away(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / "apt-get", APT_GET)
    assert skipped(tmp_path, "postgresql pgpool2 cron") == ["pgpool2"]
    installed = (tmp_path / "installed").read_text(encoding="utf-8").splitlines()
    assert [line.split()[-1] for line in installed if " install " in line] == ["postgresql", "cron"]


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


def test_grafanas_types_are_light_and_installed_for_every_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = tmp_path / "10.1.lock"
    lock.write_text("package==2\n", encoding="utf-8")
    monkeypatch.setattr(servers, "GRAFANA", {"10.1": Environment(tmp_path, lock)})
    assert servers.missing_types() == ["grafana"]
    (tmp_path / "installed.lock").write_text("package==1\n", encoding="utf-8")
    assert servers.missing_types() == ["grafana"]
    (tmp_path / "installed.lock").write_text("package==2\n", encoding="utf-8")
    assert servers.missing_types() == []


def test_an_environment_of_another_lock_file_is_made_anew(tmp_path: Path) -> None:
    environment = Environment(tmp_path, tmp_path / "lock")
    assert not environment.is_there()
    environment.lock.write_text("a", encoding="utf-8")
    (tmp_path / "installed.lock").write_text("a", encoding="utf-8")
    assert environment.is_there()
    environment.lock.write_text("b", encoding="utf-8")
    assert not environment.is_there()


# --- make demo ----------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts and the program in a folder with a blank in its name."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / "etl").symlink_to(ROOT / "etl")
    return folder


def test_the_demo_needs_no_developer_tools(checkout: Path) -> None:
    done = subprocess.run(
        ["make", "-n", "demo"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert "scripts/demo-environment" in done.stdout
    assert ".venv" not in done.stdout
    names = re.findall(
        r"^([\w.-]+)==", (checkout / "requirements.lock").read_text("utf-8"), re.MULTILINE
    )
    assert "sqlalchemy" in names
    assert {"pytest", "ruff", "mypy", "hypothesis", "datasette"}.isdisjoint(names)


def test_the_environment_of_the_demo_runs_the_checkout(checkout: Path) -> None:
    """Where it holds the packages of the lock already, as the second time."""
    demo = checkout / "build" / "demo"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(demo)], check=True)
    shutil.copy(checkout / "requirements.lock", demo / "installed.lock")
    command = ["sh", "scripts/demo-environment", sys.executable]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for program in ("build/demo/bin/heatmap-etl", str(demo / "bin" / "heatmap-etl")):
        found = subprocess.run(
            [program, "--version"],
            cwd=checkout,
            env={"PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (found.returncode, found.stdout) == (0, f"heatmap-etl {__version__}\n"), found.stderr


@pytest.mark.parametrize(
    ("python", "word"),
    [("/nowhere/python", "is not installed"), ("./old", "3.11 or newer is needed")],
)
def test_an_interpreter_that_will_not_do_is_named_in_one_line(
    checkout: Path, python: str, word: str
) -> None:
    write_program(
        checkout / "old", '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9 || exit 1\n'
    )
    command = ["sh", "scripts/demo-environment", python]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("make demo: ")
    assert word in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (checkout / "build").exists()
