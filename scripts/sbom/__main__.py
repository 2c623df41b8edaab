"""Writes what an installation holds, as CycloneDX 1.6: sbom LOCK PACKAGES.

LOCK names what is installed. PACKAGES is the folder whose metadata says under which licence. It
needs what the `requirements.lock` beside it names, and nothing of ours. The list names no index and
no path.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

_OWN = "heatmap-etl"
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)([^\n]*(?:\n[ \t]+[^\n]*)*)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _one(metadata: PackageMetadata, name: str) -> str:
    return str(metadata[name]) if name in metadata else ""


def licences(package: Distribution | None) -> list[License]:
    """What its metadata says; nothing where it is installed on other systems only."""
    if package is None:
        return []
    make, metadata = LicenseFactory(), package.metadata
    if expression := _one(metadata, "License-Expression"):
        return [make.make_from_string(expression)]
    said = [
        classifier.rpartition(" :: ")[2]
        for classifier in metadata.get_all("Classifier", [])
        if classifier.startswith("License ::") and not classifier.endswith("OSI Approved")
    ]
    said = said or [_one(metadata, "License").partition("\n")[0]]
    return [make.make_with_name(name) for name in said if name]


def listed(lock: str, installed: dict[str, Distribution]) -> Bom:
    """The packages of a lock file, each with its hashes and licences."""
    bom, version = Bom(), installed[_OWN].version
    own = Component(
        name=_OWN, version=version, type=ComponentType.APPLICATION, bom_ref=f"{_OWN}=={version}"
    )
    own.licenses.update(licences(installed[_OWN]))
    bom.metadata.component = own
    found = {}
    for match in _PINNED.finditer(lock):
        name, number = plain(match[1]), match[2]
        found[name] = Component(
            name=name,
            version=number,
            type=ComponentType.LIBRARY,
            bom_ref=f"{name}=={number}",
            purl=PackageURL("pypi", None, name, number),
            hashes=[
                HashType(alg=HashAlgorithm.SHA_256, content=h) for h in _HASH.findall(match[3])
            ],
            licenses=licences(installed.get(name)),
        )
    bom.components.update(found.values())
    for name, component in [(_OWN, own), *found.items()]:
        package = installed.get(name)
        needs = {
            plain(re.split(r"[ ;\[<>=!~(]", text)[0])
            for text in (package and package.requires) or []
        }
        bom.register_dependency(component, [found[other] for other in sorted(needs & found.keys())])
    return bom


def main() -> int:
    lock, packages = sys.argv[1:]
    installed = {plain(d.metadata["Name"]): d for d in distributions(path=[packages])}
    bom = listed(Path(lock).read_text(encoding="utf-8"), installed)
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.stderr.write(f"sbom: not as the schema says: {error}\n")
        return 1
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
