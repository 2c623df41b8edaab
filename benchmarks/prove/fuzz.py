"""One fuzzing session in a process of its own: `python -m benchmarks.prove.fuzz NAME CPU_S ...`.

It needs Atheris in the import path; what follows are options and folders of libFuzzer. It ends by
itself once it has used its CPU time, and says on stdout how many inputs it tried.
"""

from __future__ import annotations

import logging
import os
import sys
import time

import atheris

with atheris.instrument_imports(include=["etl", "httpcore", "h11", "tomllib", "dotenv"]):
    from benchmarks.prove.fuzz_targets import TARGETS


def main() -> None:
    name, cpu_s = sys.argv[1], float(sys.argv[2])
    logging.disable(logging.CRITICAL)
    target, tried = TARGETS[name], 0

    def one_input(data: bytes) -> None:
        nonlocal tried
        tried += 1
        target(data)
        if time.process_time() > cpu_s:
            print(f"tried {tried}", flush=True)
            os._exit(0)

    atheris.Setup([sys.argv[0], *sys.argv[3:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
