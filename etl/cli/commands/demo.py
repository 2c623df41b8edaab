"""`demo`: the program at work, without a Datadog account."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from etl.cli.options import CONSOLE, PathType
from etl.errors import EtlError
from etl.runtime.console import print_results

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option(
    "--large",
    "is_large",
    is_flag=True,
    help="A year of history for dashboards: twenty views, read once a week, in the last four "
    "weeks once a day (about half a minute).",
)
@click.argument("folder", type=PathType(of_sqlite=True, file_okay=False), default=".")
def demo(folder: Path, is_large: bool) -> int:
    """See it work, without an account.

    It takes a few seconds and needs no keys. It starts a fake Datadog on 127.0.0.1 and copies four
    of its views in four rounds: at first everything is new, then twice something has changed, then
    nothing has. After each round SQL shows that the tables hold just that. Five questions with
    their SQL follow.

    Nothing leaves the machine. What stays is one file, heatmap-demo.db, in FOLDER (by default the
    current one). The next demo replaces it.
    """
    from etl.demo.rounds import run_demo
    from etl.demo.year import run_year

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EtlError(f"cannot make the folder {folder}: {error.strerror}") from None
    _require_writable(folder)
    if is_large:
        from etl.runtime import logs

        logs.set_up(CONSOLE, "ERROR")  # some of its runs fail on purpose
    run = run_year if is_large else run_demo
    run(folder, lambda text: print_results(text.split("\n")))
    return 0


def _require_writable(folder: Path) -> None:
    """Raises `EtlError` for a folder that takes no file, whatever its rights say, such as /proc."""
    import errno
    import tempfile

    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # the database says what to do then
            reason = f"{error.strerror}; name another folder"
            raise EtlError(f"cannot write into the folder {folder}: {reason}") from None
