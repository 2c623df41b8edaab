"""Runs one command and prints what it took, as JSON. A process of its own, and a small one.

A child's peak memory begins with that of the process it was made by: measured from the harness,
every peer would seem as large as the harness.

    python -I -S stopwatch.py CHANNEL SECONDS COMMAND...

CHANNEL: the file descriptor to print to.
"""

import json
import os
import signal
import sys
import time


def main() -> None:
    channel, limit, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    os.set_inheritable(channel, False)
    started = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ, setpgroup=0)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, limit)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    seconds = time.perf_counter() - started
    signal.setitimer(signal.ITIMER_REAL, 0)
    written = _written(child)
    _, status, usage = os.wait4(child, 0)
    measured = {
        "seconds": seconds,
        "exit": os.waitstatus_to_exitcode(status),
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
        "written_mb": written / 1e6,
    }
    os.write(channel, json.dumps(measured).encode())


def _written(child: int) -> int:
    """Bytes it gave to write(), into whatever; of a process that ended and was not waited for."""
    try:
        with open(f"/proc/{child}/io", encoding="ascii") as lines:  # noqa: PTH123 - a small process
            fields = dict(line.split(": ") for line in lines)
    except OSError:
        return 0
    return int(fields["wchar"])


if __name__ == "__main__":
    main()
