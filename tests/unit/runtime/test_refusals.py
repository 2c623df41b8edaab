"""What the system refuses is a line; what a program does wrong keeps its traceback."""

import errno
import logging
import os

import pytest

from etl.errors import SystemRefused
from etl.runtime.refusals import refusal_of, refusals_told


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EMFILE, "Too many open files", "/x"), "Too many open files: /x; raise"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room"),
        (PermissionError(errno.EACCES, "Permission denied", "/a\nb"), r"denied: /a\nb"),
        (RuntimeError("can't start new thread"), "no thread can be started; raise the limit"),
        (MemoryError(), "there is no memory left; give this process more"),
    ],
    ids=str,
)
def test_what_the_system_refuses_is_one_line(
    error: Exception, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "etl"):
        refusal = refusal_of(error)
    assert refusal is not None
    assert line in str(refusal)
    assert ("\n" in str(refusal), refusal.exit_code) == (False, 1)
    assert caplog.records[0].exc_info  # with --verbose one sees where


@pytest.mark.parametrize(
    "error",
    [
        OSError("ours"),
        OSError(errno.EBADF, os.strerror(errno.EBADF)),
        OSError(errno.EINVAL, os.strerror(errno.EINVAL)),
        RuntimeError("x"),
        ValueError("x"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_a_bug_stays_a_bug(error: BaseException) -> None:
    assert refusal_of(error) is None
    with pytest.raises(type(error)) as caught, refusals_told():
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "line"),
    [(OSError(errno.EMFILE, "Too many open files"), "Too many"), (MemoryError(), "no memory left")],
)
def test_a_refusal_is_raised_in_its_place(error: Exception, line: str) -> None:
    with pytest.raises(SystemRefused, match=line), refusals_told():
        raise error
