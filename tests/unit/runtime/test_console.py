"""What is written to stdout and stderr, and what happens when it cannot be."""

import errno
import io
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from etl.errors import OutputError
from etl.formatting import Styled
from etl.runtime import console
from etl.runtime.console import (
    as_called,
    prepare_streams,
    print_errors,
    print_results,
    shows_colours,
)


class Broken(io.StringIO):
    """A stream that fails with an error of the system."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, _text: str) -> int:
        raise OSError(self._number, "No space left on device")


def test_the_program_names_itself_as_a_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "heatmap-etl"
    program.touch(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    for called, expected in (
        (str(program), str(program)),
        ("heatmap-etl", "heatmap-etl"),
        ("/site-packages/etl/__main__.py", f"{shlex.quote(sys.executable)} -m etl"),
        ("/bin/pytest", "heatmap-etl"),
    ):
        monkeypatch.setattr("sys.argv", [called])
        assert as_called() == expected
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(program)])
    assert as_called() == "heatmap-etl"


def test_only_a_styled_line_keeps_its_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(["a\x1b[31m", Styled("\x1b[31mb\x1b[0m")])
    print_errors(["c\x1b", "  belongs to it"])
    found = capsys.readouterr()
    assert found.out == "a\\x1b[31m\n\x1b[31mb\x1b[0m\n"
    assert found.err == "heatmap-etl: c\\x1b\n  belongs to it\n"


@pytest.mark.parametrize("write", [print_results, print_errors])
def test_a_stream_that_is_closed_takes_nothing(
    monkeypatch: pytest.MonkeyPatch, write: Callable[[Iterable[str]], None]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    write(["a"])


def test_a_full_disk_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))
    with pytest.raises(OutputError, match="cannot write the result: No space left") as caught:
        print_results(["a"])
    assert caught.value.exit_code == 1


def test_a_reader_that_went_away_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(errno.EPIPE))
    print_results(["a"])


def test_errors_that_nobody_can_read_raise_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Broken(errno.ENOSPC))
    print_errors(["a"])


def test_what_an_encoding_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    prepare_streams()
    print_results(["ä"])
    assert written.getvalue() == b"\\xe4\n"


def test_no_colours_where_there_is_no_terminal() -> None:
    assert not shows_colours()


def test_a_result_in_bytes_is_cleaned_for_a_terminal_and_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = 'id,name\r\n1,"\x1b[31mred\x9b\u202e"\r\n'.encode()
    for is_terminal, expected in (
        (False, data),
        (True, b'id,name\n1,"\\x1b[31mred\\x9b\\u202e"\n'),
    ):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8"))
        monkeypatch.setattr(console, "is_terminal", lambda _, answer=is_terminal: answer)
        with console.result_stream() as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
            text.write(data.decode())
            text.detach()
        assert written.getvalue() == expected
