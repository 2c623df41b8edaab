"""Try the promises of the program some thousand times, and count what was found.

    python -m benchmarks.prove                  # about an hour; writes benchmarks/PROOF.md
    python -m benchmarks.prove --quick          # some minutes; prints the page, writes nothing
    python -m benchmarks.prove --part kills --seed 7

Each part is a module of `benchmarks.prove.parts` and runs in a process of its own. The exit code is
1 when a promise did not hold, and 2 when a part itself broke.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.prove import page
from benchmarks.prove.part import Effort, Findings, Part, Result

PARTS = Path(__file__).parent / "parts"
ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = {True: 15 * 60, False: 90 * 60}
"""Of one part, quick or whole: one that hangs is a finding, too."""


def part(name: str) -> Part:
    module: Part = importlib.import_module(f"benchmarks.prove.parts.{name}")
    return module


def names() -> list[str]:
    """Of all parts, the longest first: the machine has work to the end."""
    found = [file.stem for file in PARTS.glob("[a-z]*.py")]
    return sorted(found, key=lambda name: -part(name).QUICK_S)


def prove_here(name: str, effort: Effort) -> Result:
    began = time.monotonic()
    findings: Findings = part(name).prove(effort)
    return Result(
        name,
        effort.seed,
        effort.is_quick,
        round(time.monotonic() - began, 1),
        dict(findings.tried),
        findings.measured,
        findings.versions,
        findings.broken,
    )


def prove_apart(name: str, seed: int, is_quick: bool, folder: Path) -> Result:
    """In a process of its own. What it said stands in its log, and the end of it in an error."""
    result, log = folder / f"{name}.json", folder / f"{name}.log"
    command = [sys.executable, "-m", "benchmarks.prove", "--part", name, "--seed", str(seed)]
    command += ["--result", str(result), *(["--quick"] if is_quick else [])]
    with log.open("wb") as output:
        try:
            subprocess.run(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=DEADLINE_S[is_quick],
                check=True,
            )
        except subprocess.SubprocessError as error:
            said = log.read_text(encoding="utf-8", errors="replace").strip()[-4000:]
            raise RuntimeError(f"the part {name} broke (--seed {seed}): {error}\n{said}") from None
    return msgspec.json.decode(result.read_bytes(), type=Result)


def main() -> int:
    arguments = parsed()
    seed = random.SystemRandom().randrange(10**9) if arguments.seed is None else arguments.seed
    if arguments.result:
        with tempfile.TemporaryDirectory(prefix="prove-") as folder:
            result = prove_here(arguments.part[0], Effort(arguments.quick, seed, Path(folder)))
        Path(arguments.result).write_bytes(msgspec.json.encode(result))
        return 0
    with tempfile.TemporaryDirectory(prefix="prove-") as folder:

        def prove(name: str) -> Result | RuntimeError:
            try:
                result = prove_apart(name, seed, arguments.quick, Path(folder))
            except RuntimeError as error:
                return error
            finally:
                print(f"  {name}: done", file=sys.stderr, flush=True)
            return result

        with ThreadPoolExecutor(arguments.jobs) as pool:
            outcomes = list(pool.map(prove, arguments.part or names()))
    done = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    text = page.written(
        [(part(result.name).TITLE, promise(result.name), result) for result in done],
        at=datetime.now(UTC),
    )
    print(text)
    errors = [outcome for outcome in outcomes if isinstance(outcome, RuntimeError)]
    for error in errors:
        print(error, file=sys.stderr)
    if errors:
        return 2
    if not (arguments.quick or arguments.part):
        page.FILE.write_text(text, encoding="utf-8")
    return int(any(result.broken for result in done))


def promise(name: str) -> str:
    return (part(name).__doc__ or "").strip().splitlines()[0]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prove", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="a few minutes instead of an hour")
    parser.add_argument("--part", action="append", help="only this part; can be repeated")
    parser.add_argument("--seed", type=int, help="repeat what a run with this seed tried")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="parts at once")
    parser.add_argument("--result", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in arguments.part or []:
        if name not in names():
            parser.error(f"no part is called {name}; there are {', '.join(sorted(names()))}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
