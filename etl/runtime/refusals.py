"""What the operating system refuses wherever it is asked: one line, unlike a bug."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from etl.errors import SystemRefused
from etl.formatting import clean
from etl.library_faults import said_of

log = logging.getLogger(__name__)

# What a program does wrong itself: no operator can fix it, and the traceback is wanted.
_BUGS = {
    errno.EALREADY,
    errno.EBADF,
    errno.EDESTADDRREQ,
    errno.EDOM,
    errno.EFAULT,
    errno.EINVAL,
    errno.EISCONN,
    errno.ENOTSOCK,
    errno.ENOTTY,
    errno.ESPIPE,
}
_ADVICE = {
    errno.EMFILE: "; raise the limit on open files (ulimit -n)",
    errno.ENFILE: "; too many files are open on this machine",
    errno.ENOSPC: "; make room there",
    errno.EDQUOT: "; make room there, or raise the quota",
}
_NO_THREAD = "can't start new thread"  # Python has no error of its own for it


def refusal_of(error: BaseException) -> SystemRefused | None:
    """The error as one line; None: it is none of the system, and may be a bug.

    With `--verbose` the log says where it came from.
    """
    if isinstance(error, RuntimeError) and _NO_THREAD in said_of(error):
        text = "no thread can be started; raise the limit on processes (ulimit -u, TasksMax, pids)"
    elif isinstance(error, MemoryError):
        text = (
            "there is no memory left; give this process more (ulimit -v, MemoryMax, a container's)"
        )
    elif isinstance(error, OSError) and error.errno is not None and error.errno not in _BUGS:
        where = f": {clean(str(error.filename))}" if error.filename is not None else ""
        text = f"{error.strerror or type(error).__name__}{where}{_ADVICE.get(error.errno, '')}"
    else:
        return None
    log.debug("the system refused something, here:", exc_info=error)
    return SystemRefused(f"the operating system refused: {text}")


@contextmanager
def refusals_told() -> Iterator[None]:
    """Raises `SystemRefused` in place of what the system refuses inside."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        if refusal := refusal_of(error):
            raise refusal from error
        raise
