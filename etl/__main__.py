"""`python -m etl` is `heatmap-etl`; both begin here.

Ctrl-C while the modules are still being loaded ends it like Ctrl-C at any other time.
"""

import gc
import os
import signal
import sys


def run() -> int:
    """Load the program, then run a command; returns its exit code."""
    # Ignored (nohup), it stays so. What is not loaded yet has nothing to clean up.
    is_caught = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_caught:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    if sys.argv[1:] == ["--version"] and _print_version():
        return 0
    # Modules and records are no garbage: looked at every 700 objects, they take a tenth of a run.
    gc.set_threshold(20_000, 20, 20)
    from etl.cli.app import main

    try:
        if is_caught:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return main()
    except KeyboardInterrupt:
        return 130
    finally:
        # The interpreter would look through all that was loaded, several times, before it ends.
        gc.freeze()


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
