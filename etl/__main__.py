"""`python -m etl` is `heatmap-etl`; both begin here.

A signal while the modules are still being loaded ends it like one at any other time.
"""

from __future__ import annotations

import gc
import os
import signal
import sys


def run() -> int:
    """Load the program, then run a command; returns its exit code."""
    caught = _end_on_signals()
    from etl.runtime import streams

    streams.open_missing()
    try:
        if sys.argv[1:] == ["--version"] and _print_version():
            return 0
        # Modules and records are no garbage. With a look at them every 700 objects, that look would
        # take a tenth of a run.
        gc.set_threshold(20_000, 20, 20)
        from etl.cli.app import main

        for number, handler in caught.items():
            signal.signal(number, handler)
        return main()
    except KeyboardInterrupt:
        return 130
    finally:
        streams.flush_last()
        # The interpreter would look through all that was loaded, several times, before it ends.
        gc.freeze()


def _end_on_signals() -> dict[int, signal._HANDLER]:
    """End at once on a signal: what is not loaded yet has nothing to clean up.

    Returns the handlers for the time after. In a container the program is PID 1, which the kernel's
    default handlers do not end: there this one stays, for commands that have no other.
    """
    later: dict[int, signal._HANDLER] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: _end if os.getpid() == 1 else signal.SIG_DFL,
    }
    usual = (signal.default_int_handler, signal.SIG_DFL)
    # Ignored (nohup), a signal stays so.
    caught = {n: handler for n, handler in later.items() if signal.getsignal(n) in usual}
    for number in caught:
        signal.signal(number, _end)
    # The image starts us with both blocked: one sent before there was a handler comes now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, later)
    return caught


def _end(number: int, _frame: object) -> None:
    os._exit(128 + number)


def _print_version() -> bool:
    """Without click, which takes most of the time; False where it cannot be written."""
    from etl import __version__

    try:
        print(f"heatmap-etl {__version__}", flush=True)  # noqa: T201 - the console would load more
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(run())
