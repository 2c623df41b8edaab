"""No bytes make the decoder, the HTTP boundary or the configuration fail in a way of their own.

Each target runs on the kept corpus, and then under Atheris, which follows the lines that an input
reaches: only our own errors come out, the same each time, in bounded time and memory, and without
a key in their text.
"""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.prove.fuzz_targets import LONGEST, TARGETS
from benchmarks.prove.part import Effort, Findings

TITLE = "Fuzzing"
QUICK_S = 45
ROOT = Path(__file__).resolve().parents[3]
CORPUS = ROOT / "benchmarks/prove/corpus"
ATHERIS = ROOT / "build/fuzz"
CPU_S = {True: 5, False: 600}
PATIENCE_S = {True: 300, False: 5000}
MEMORY_MB = 1500


def prove(effort: Effort) -> Findings:
    findings = Findings()
    for name in TARGETS:
        replay(name, findings)
    if not (ATHERIS / "atheris").is_dir():
        findings.measured["new inputs"] = "none: Atheris is not in build/fuzz"
        if not effort.is_quick:
            findings.broken.append("nothing new was tried: `make prove` installs Atheris")
        return findings
    versions = [path.name for path in ATHERIS.glob("atheris-*.dist-info")]
    findings.versions["Atheris"] = versions[0].split("-")[1].removesuffix(".dist")
    for name in TARGETS:
        fuzz(name, effort, findings)
    return findings


def replay(name: str, findings: Findings) -> None:
    """The kept corpus, in this process."""
    logging.disable(logging.CRITICAL)
    for file in sorted((CORPUS / name).iterdir()):
        with findings.trial(f"kept inputs of the {name} target", again=f"{name}/{file.name}"):
            try:
                TARGETS[name](file.read_bytes())
            except Exception as error:
                raise AssertionError(f"{type(error).__name__}: {error}") from error


def fuzz(name: str, effort: Effort, findings: Findings) -> None:
    found = effort.folder / name
    found.mkdir()
    command = [sys.executable, "-m", "benchmarks.prove.fuzz", name, str(CPU_S[effort.is_quick])]
    options = [f"-seed={effort.seed}", f"-max_len={LONGEST}", f"-rss_limit_mb={MEMORY_MB}"]
    options += ["-timeout=60", "-use_value_profile=1", f"-artifact_prefix={effort.folder}/"]
    done = subprocess.run(
        [*command, *options, f"-dict={CORPUS / name}.dict", str(found), str(CORPUS / name)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ATHERIS}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE_S[effort.is_quick],
        check=False,
    )
    tried = [int(line[6:]) for line in done.stdout.splitlines() if line.startswith("tried ")]
    findings.tried[f"invented inputs of the {name} target"] = sum(tried)
    findings.measured[f"new inputs of the {name} target that reach something new"] = str(
        len([*found.iterdir()])
    )
    if not tried:
        findings.broken.append(f"{name} (seed {effort.seed}): {_why(done.stderr, effort.folder)}")


def _why(said: str, folder: Path) -> str:
    """The exception, and the input that repeats it."""
    lines = said.splitlines()
    told = [n for n, line in enumerate(lines) if "Uncaught Python exception" in line]
    error = lines[told[0] + 1] if told else next(iter(lines[-1:]), "it said nothing")
    inputs = [
        f"{file.name}: {base64.b64encode(file.read_bytes()[:3000]).decode()}"
        for kind in ("crash", "timeout", "oom")
        for file in folder.glob(f"{kind}-*")
    ]
    return f"{error[:300]}; input in base64: {'; '.join(inputs) or 'not kept'}"
