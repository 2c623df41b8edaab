"""Nothing comes from an index by our name, without a hash, or under a licence not looked at."""

import re
import subprocess
from collections.abc import Collection, Iterator
from importlib.metadata import PackageMetadata, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from etl.formatting import EXTRAS
from tests.support.paths import ROOT

# Until the name is ours on the index, whoever registers it there runs code at our users.
BY_NAME = re.compile(
    r"\b(?:pip3?|pipx|uvx|uv|poetry|pdm|conda)\b(?:[ \t]+(?!#)[^\s`;&|]+)*?"
    r"[ \t]+['\"]?heatmap[-_]etl(?:\[[^\]]*\])?['\"]?(?=[\s`;&|)<>=~]|$)"
)
LOCKED = re.compile(r"--require-hashes|--no-index|--no-deps --no-build-isolation -e \.")


def texts() -> Iterator[tuple[str, str]]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = listed.stdout.splitlines() or [
        str(path.relative_to(ROOT))
        for top in ("etl", "docs", "deploy", "scripts", "dashboards")
        for path in (ROOT / top).rglob("*")
    ]
    for name in names:
        path = ROOT / name
        if path.suffix not in {".png", ".lock"} and path.is_file() and "tests" not in path.parts:
            yield name, path.read_text(encoding="utf-8", errors="replace")


def test_a_command_by_our_name_would_be_found() -> None:
    for command in (
        "pip install heatmap-etl",
        "pip install 'heatmap-etl[postgres]'",
        "python -m pip install -U heatmap_etl>=1",
        "`uvx heatmap-etl`",
        "pipx install heatmap-etl",
    ):
        assert BY_NAME.search(command), command
    for command in ("pip install .", "pip install dist/heatmap_etl-1.0-py3-none-any.whl"):
        assert not BY_NAME.search(command), command


def test_nobody_is_told_to_install_us_from_an_index() -> None:
    found = [name for name, text in texts() if BY_NAME.search(text)]
    assert found == []


def test_our_own_scripts_install_only_what_a_lock_names() -> None:
    """Each call of pip in a script, in the image and in the Makefile; uv makes the locks."""
    loose = []
    for path in (*(ROOT / "scripts").iterdir(), ROOT / "deploy/Dockerfile", ROOT / "Makefile"):
        if path.is_file() and path.suffix != ".py":
            lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
            calls = [line for line in lines if re.search(r"\binstall -?-[qn]", line)]
            calls = [line for line in calls if "apt" not in line and not line.endswith(" uv")]
            loose += [f"{path.name}: {line.strip()}" for line in calls if not LOCKED.search(line)]
    assert loose == []


# --- licences -----------------------------------------------------------------------------

ALLOWED = {
    *("MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD", "ISC", "PSF-2.0"),
    *("0BSD", "Zlib", "Unlicense", "CNRI-Python"),
    # Files that change stay free: we change none.
    "MPL-2.0",
    # psycopg: it is imported as it is, and may be replaced, which is all that the LGPL asks.
    "LGPL-3.0-only",
    # click-default-group, of the dashboard.
    "Public Domain",
}
_WORDS = {
    "mit license": "MIT",
    "mit": "MIT",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "bsd license": "BSD",
    "bsd": "BSD",
    "new bsd": "BSD",
    "isc license (iscl)": "ISC",
    "python software foundation license": "PSF-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "the unlicense (unlicense)": "Unlicense",
}


def _one(metadata: PackageMetadata, name: str) -> str:
    return str(metadata[name] or "")


def licences(metadata: PackageMetadata) -> set[str]:
    """What a package says, as SPDX names: all of them, whether joined by AND or by OR."""
    if expression := _one(metadata, "License-Expression"):
        return {name for name in re.split(r"\s+(?:AND|OR|WITH)\s+|[()\s]+", expression) if name}
    classifiers = [c for c in metadata.get_all("Classifier", []) if c.startswith("License ::")]
    said = [c.rpartition(" :: ")[2] for c in classifiers if not c.endswith("OSI Approved")]
    said = said or [_one(metadata, "License") or "none"]
    return {_WORDS.get(word.lower(), word.splitlines()[0][:60]) for word in said}


def needed(name: str, extras: Collection[str]) -> dict[str, PackageMetadata]:
    """The metadata of a package and of all that it needs here, by the plain name of each."""
    found: dict[str, PackageMetadata] = {}
    waiting, asked = [(name, frozenset(extras))], set()
    while waiting:
        asked.add(one := waiting.pop())
        package = distribution(one[0])
        found[canonicalize_name(one[0])] = package.metadata
        for text in package.requires or []:
            requirement = Requirement(text)
            marker, more = requirement.marker, frozenset(requirement.extras)
            if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *one[1])):
                other = (canonicalize_name(requirement.name), more)
                waiting += [other] if other not in asked else []
    return found


def test_every_package_of_an_installation_has_a_licence_that_was_looked_at() -> None:
    found = needed("heatmap-etl", EXTRAS)
    assert {"psycopg", "pymysql", "datasette", "pyarrow", "socksio"} <= found.keys()
    bad = {name: licences(data) - ALLOWED for name, data in found.items()}
    assert {name: other for name, other in bad.items() if other} == {}
    lesser = {name for name, data in found.items() if "LGPL-3.0-only" in licences(data)}
    assert lesser <= {"psycopg", "psycopg-binary"}
