"""Wheel and sdist: what is in them, what they need, and that the wheel works on its own."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from contextlib import closing
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest

import etl
from etl.config.database_url import parse_database
from etl.database import schema
from etl.database.connection import open_database
from etl.database.migrations import schema_state
from tests.support.paths import ROOT

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
REVISIONS = {path.name for path in (ROOT / "migrations" / "versions").glob("*.py")}
# A letter in brackets, so that this file names none itself.
REGISTRIES = re.compile(
    r"[p]ypi\.(org|io)|[p]ypi\.python\.org|[p]ythonhosted|/[s]imple\b|--(extra-)?[i]ndex-url"
    r"|--[t]rusted-host|[a]rtifactory|[a]naconda\.org"
)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "-d",
            str(folder),
            "-t",
            "sdist",
            "-t",
            "wheel",
        ],
        cwd=ROOT,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (wheel,) = dist.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def sdist(dist: Path) -> set[str]:
    """Its files, without the folder that holds them all."""
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        return {name.partition("/")[2] for name in opened.getnames()}


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel by pip, in a folder of its own."""
    target = tmp_path_factory.mktemp("installed")
    pip = ["-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--quiet"]
    done = run(sys.executable, *pip, "--target", str(target), str(wheel))
    assert done.returncode == 0, done.stderr
    return target


def installed_python(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python that sees the installed wheel and this environment's packages, not the checkout."""
    packages = sysconfig.get_path("purelib")
    # Without `site` no .pth file is read, and an editable install of the checkout is one.
    path = os.pathsep.join([str(installed), packages])
    return run(sys.executable, "-S", "-P", "-W", "error", *arguments, PYTHONPATH=path)


def content(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as opened:
        return opened.namelist()


def metadata(wheel: Path) -> Any:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_string(opened.read(name).decode())


def test_the_wheel_has_nothing_but_etl_at_its_top_level(wheel: Path):
    top = {name.partition("/")[0] for name in content(wheel)}
    assert top == {"etl", f"heatmap_etl-{etl.__version__}.dist-info"}


PAGES = ROOT / "etl" / "serve" / "dashboard" / "files"


def test_the_wheel_holds_every_module_and_the_migrations(wheel: Path):
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "etl").rglob("*.py")}
    migrations = {f"etl/migrations/versions/{name}" for name in REVISIONS}
    more = {"etl/alembic.ini", "etl/migrations/env.py", "etl/migrations/script.py.mako"}
    files = {name for name in content(wheel) if name.startswith("etl/")}
    pages = {f"etl/{p.relative_to(ROOT / 'etl')}" for p in PAGES.rglob("*") if p.is_file()}
    assert len(pages) >= 5
    assert files == code | migrations | more | pages


def test_the_sdist_can_be_built_and_tested_and_holds_no_leftovers(sdist: set[str]):
    needed = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "alembic.ini", "PKG-INFO"}
    needed |= {"etl/__init__.py", "tests/conftest.py", "migrations/env.py", "requirements-dev.lock"}
    assert needed - sdist == set()
    leftovers = re.compile(r"__pycache__|\.pyc$|\.db$|(^|/)\.(env|coverage|venv|git/)|(^|/)dist/")
    assert [name for name in sdist if leftovers.search(name)] == []


def test_the_wheel_says_what_it_is(wheel: Path):
    found = metadata(wheel)
    assert (found["Name"], found["Version"]) == ("heatmap-etl", etl.__version__)
    assert found["Requires-Python"] == ">=3.11"
    assert found["License-Expression"] == "Apache-2.0"
    assert {"postgres", "mysql"} <= set(found.get_all("Provides-Extra"))
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith("entry_points.txt")]
        assert "heatmap-etl = etl.__main__:run" in opened.read(name).decode()


REPOSITORY = "https://github.com/heatmap-etl/heatmap-etl"


def test_the_wheel_says_where_everything_else_is(wheel: Path):
    urls = dict(line.split(", ", 1) for line in metadata(wheel).get_all("Project-URL"))
    assert urls == {
        "Homepage": REPOSITORY,
        "Documentation": etl.DOCUMENTATION,
        "Repository": REPOSITORY,
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    }


# Of Markdown, of its HTML, and of a reference at the end; code is no link.
LINK = re.compile(
    r"""\]\(<?([^)>\s]+)|\b(?:src|href)=["']([^"']+)|^ {0,3}\[[^\]]+\]: +(\S+)""", re.MULTILINE
)


def links(text: str) -> list[str]:
    prose = re.sub(r"^```.*?^```$|`[^`\n]+`", "", text, flags=re.DOTALL | re.MULTILINE)
    return [next(filter(None, found)) for found in LINK.findall(prose)]


def test_no_link_on_the_page_of_the_package_is_relative(wheel: Path):
    """There no file stands beside the README."""
    page = metadata(wheel)
    assert page["Description-Content-Type"] == "text/markdown"
    here = (ROOT / "README.md").read_text(encoding="utf-8")
    found, written = links(page.get_payload()), links(here)
    assert len(found) == len(written) >= 10
    assert [link for link in found if not link.startswith("https://")] == []
    for absolute, relative in zip(found, written, strict=True):
        if "://" in relative:
            assert absolute == relative
            continue
        # Each leads to what it led to.
        assert re.fullmatch(rf"{REPOSITORY}/(blob|raw)/main/.+", absolute), absolute
        assert absolute.endswith(relative)
        assert (ROOT / absolute.split("/main/")[1].partition("#")[0]).exists(), absolute
    pictures = [link for link in found if link.endswith((".png", ".svg"))]
    assert [link for link in pictures if "/raw/main/" not in link] == []


@pytest.mark.parametrize(
    "text",
    ["[a](docs/a.md)", "![a](a.png)", "[a](#a)", '<img src="a.png">', "[a]: a.md", "[a](<a.md>)"],
)
def test_a_relative_link_would_be_found(text: str):
    (link,) = links(text)
    assert not link.startswith("https://")


def test_the_default_install_has_at_most_ten_direct_dependencies(wheel: Path):
    requires = [line for line in metadata(wheel).get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(map(package, requires)) == sorted(
        package(line) for line in PYPROJECT["project"]["dependencies"]
    )
    assert 0 < len(requires) <= 10


def package(requirement: str) -> str:
    """`SQLAlchemy>=2.1` -> `sqlalchemy`."""
    return re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0].lower()


def test_every_dependency_is_imported_somewhere():
    modules = {"python-dotenv": "dotenv", "python-json-logger": "pythonjsonlogger"}
    # Comes with the schedule; and zone data for a system that has none.
    not_yet = {"apscheduler", "tzdata"}
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "etl").rglob("*.py"))
    for name in map(package, PYPROJECT["project"]["dependencies"]):
        module = modules.get(name, name)
        is_imported = re.search(rf"^\s*(from|import) {module}\b", code, re.MULTILINE)
        assert is_imported or name in not_yet, name


def test_the_installed_wheel_migrates_with_the_migrations_inside_it(
    installed: Path, tmp_path: Path
):
    script = (
        "import sys, etl.database.migrations as d; d.upgrade_url(sys.argv[1]);"
        "print(etl.__file__ if (etl := sys.modules['etl']) else '');"
        "print(d.alembic_config().get_main_option('script_location'));"
        "print(*[p for p in sys.path if p.endswith('/etl')])"
    )
    done = installed_python(installed, "-c", script, f"sqlite:///{tmp_path}/x.db")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(installed / "etl" / "__init__.py"),
        str(installed / "etl" / "migrations"),
        "",
    ]
    parsed = parse_database(f"sqlite:///{tmp_path}/x.db", tmp_path)
    with closing(open_database(parsed.url, label=parsed.label)) as database:
        assert schema_state(database).revision == schema.HEAD


def test_the_installed_program_says_its_version(installed: Path):
    done = installed_python(installed, "-m", "etl", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert etl.__version__ in done.stdout


def test_the_installed_program_upgrades_a_database(installed: Path, tmp_path: Path):
    config = tmp_path / "heatmap-etl.toml"
    config.write_text('database_url = "sqlite:///x.db"\nviews = ["/home"]\n', encoding="utf-8")
    done = installed_python(installed, "-m", "etl", "--config", str(config), "db", "upgrade")
    assert done.returncode == 0, done.stderr
    done = installed_python(installed, "-m", "etl", "--config", str(config), "db", "status")
    assert done.returncode == 0, done.stderr
    assert f"current, revision {schema.HEAD}" in done.stdout + done.stderr


def test_the_lock_holds_every_direct_dependency_pinned_and_hashed():
    pinned = re.findall(r"^([\w.-]+)==\S+(?: ; [^\\]+)? \\$", LOCK, re.MULTILINE)
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    named = [*project["dependencies"], *(line for lines in extras for line in lines)]
    wanted = {package(line.replace("[binary]", "")) for line in named} - {"heatmap-etl"}
    assert wanted - set(pinned) == set()
    blocks = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pinned) == len(set(pinned))
    assert all("--hash=sha256:" in block for block in blocks)


def committed_files() -> list[Path]:
    """What git knows or would take; in an unpacked sdist there is no git, and all files count."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = done.stdout.split("\0") if done.returncode == 0 else []
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_no_file_names_the_host_of_a_package_registry():
    files = committed_files()
    if not files:
        files = [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    assert len(files) > 50
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        assert not REGISTRIES.search(text), path.relative_to(ROOT)


@pytest.mark.parametrize("line", ["--INDEX-URL HTTPS://X/Y", "HTTPS://PYPI.ORG/P/X", "/SIMPLE/"])
def test_a_registrys_host_would_be_found(line: str):
    assert REGISTRIES.search(line.lower())
