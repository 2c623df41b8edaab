"""`init`: its options, what it asks on a terminal, and the configuration of a machine."""

import fcntl
import os
import pty
import select
import shutil
import signal
import stat
import subprocess
import sys
import termios
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl.config.files import SYSTEM_FILE
from etl.config.settings import DATABASE_URL
from etl.config.sites import SITES, site, site_warning
from etl.config.system import find_system_file
from etl.config.validators import BadValue
from etl.config.writing.install import KEY_FILES, install_system
from etl.errors import ConfigError
from tests.support.command_line import PASSWORD, Cli
from tests.support.installation import CONFIGURED
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

PERMISSIONS = ("rum_session_replay_read", "rum_apps_read", "probably")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    folder = tmp_path / "here"
    folder.mkdir()
    return Cli(folder, {"CI": ""})


def written(cli: Cli) -> dict[str, Any]:
    return tomllib.loads((cli.folder / "heatmap-etl.toml").read_text(encoding="utf-8"))


# --- options ------------------------------------------------------------------------------


def test_the_site_stands_in_the_file_that_is_written(cli: Cli) -> None:
    done = cli("init", "--site", "US5.datadoghq.com", "--view", "/home")
    assert (done.code, done.err) == (0, "")
    assert written(cli)["datadog"] == {"site": "us5.datadoghq.com"}
    assert "DD_SITE" not in (cli.folder / "heatmap-etl.toml").read_text(encoding="utf-8")


def test_without_a_site_none_is_set(cli: Cli) -> None:
    assert cli("init").code == 0
    assert written(cli)["datadog"] == {}


def test_both_permissions_are_named_in_the_file_and_in_the_next_steps(cli: Cli) -> None:
    said = cli("init").out
    text = (cli.folder / "heatmap-etl.toml").read_text(encoding="utf-8")
    for word in PERMISSIONS:
        assert word in said
        assert word in text


def test_an_unknown_site_is_a_warning(cli: Cli) -> None:
    done = cli("init", "--site", "datadog.eu")
    assert (done.code, done.is_one_line()) == (0, True)
    assert "did you mean datadoghq.eu?" in done.err
    assert written(cli)["datadog"] == {"site": "datadog.eu"}


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("https://app.datadoghq.eu/rum/explorer", "datadoghq.eu"),
        ("https://app.datadog.eu", "datadoghq.eu"),
        ("us5.datadoghq.com/rum", "us5.datadoghq.com"),
        ("https://acme.us5.datadoghq.com/", "us5.datadoghq.com"),
        ("https://api.observability.test", "observability.test"),
        ("eu", "datadoghq.eu"),
    ],
)
def test_a_url_in_place_of_a_site_is_answered_with_the_site(wrong: str, meant: str) -> None:
    with pytest.raises(BadValue, match=f'write "{meant}"$'):
        site(wrong)


def test_a_name_of_an_organization_before_its_site_is_seen_through() -> None:
    assert "(did you mean us3.datadoghq.com?)" in (site_warning("acme.us3.datadoghq.com") or "")
    assert [name for name in SITES if site_warning(name)] == []


def test_a_url_as_site_is_refused_in_one_line_and_nothing_is_written(cli: Cli) -> None:
    done = cli("init", "--site", "https://app.datadoghq.eu")
    assert (done.code, done.out, done.is_one_line()) == (2, "", True)
    assert 'write "datadoghq.eu"' in done.err
    assert cli.files() == set()


# --- questions ----------------------------------------------------------------------------


class Terminal:
    """The program on a terminal of its own, and what a person sees and types there."""

    def __init__(self, cli: Cli, *arguments: str, **changes: str) -> None:
        self.ours, theirs = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            cli.command(*arguments),
            cwd=cli.folder,
            env=cli.environment({"TERM": "xterm", "LC_ALL": "C.UTF-8", **changes}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - no thread of ours runs here
        )
        os.close(theirs)

    def read(self, until: str = "") -> str:
        """What it prints up to a text, or to its end."""
        begin, deadline = len(self.seen), time.monotonic() + 60
        while not until or until not in self.seen[begin:]:
            assert select.select([self.ours], [], [], deadline - time.monotonic())[0], self.seen
            try:
                chunk = os.read(self.ours, 65536)
            except OSError:  # Linux: everybody else closed it
                chunk = b""
            if not chunk:
                assert not until, f"no {until!r} in {self.seen}"
                break
            self.seen += chunk.decode().replace("\r\n", "\n")
        return self.seen[begin:]

    def type(self, answer: bytes) -> None:
        os.write(self.ours, answer)

    def settle(self) -> None:
        """Wait until it waits: Python's readline misses a signal between prompt and wait."""
        stat_file = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: stat_file.read_text().rpartition(")")[2].split()[0] == "S")

    def end(self) -> tuple[int, str]:
        said = self.read()
        return self.process.wait(30), said


def _take_terminal() -> None:
    """Let Ctrl-C on standard input be a signal for this process."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(cli: Cli, *arguments: str, **changes: str) -> Iterator[Terminal]:
    opened = Terminal(cli, *arguments, **changes)
    try:
        yield opened
    finally:
        opened.process.kill()
        opened.process.wait()
        os.close(opened.ours)
    assert "Traceback" not in opened.seen


def answered(cli: Cli, answers: Sequence[tuple[str, str]], **changes: str) -> tuple[int, str]:
    """Wait for each question, then type its answer."""
    with terminal(cli, "init", **changes) as screen:
        for question, answer in answers:
            screen.read(question)
            screen.type(f"{answer}\n".encode())
        code, _ = screen.end()
        return code, screen.seen


def test_on_a_terminal_it_asks_for_site_views_and_database(cli: Cli) -> None:
    answers = [
        ("site of the keys [datadoghq.com]: ", "datadoghq.eu"),
        ("list them later): ", "/home"),
        ("no more): ", "discover"),
        ("no more): ", "/a, b"),
        ("no more): ", "/ü"),
        ("no more): ", ""),
        ("Database [sqlite:///heatmap-etl.db]: ", "sqlite:///other.db"),
    ]
    code, seen = answered(cli, answers)
    assert code == 0, seen
    assert "Wrote heatmap-etl.toml. Next:" in seen  # the keys are in the environment
    assert "List your views" not in seen
    assert "\n  discover stands for every view in RUM;" in seen
    assert written(cli)["datadog"] == {"site": "datadoghq.eu"}
    assert written(cli)["views"] == ["/home", "/a, b", "/ü"]
    assert written(cli)["database_url"] == "sqlite:///other.db"


def test_enter_accepts_what_is_in_brackets(cli: Cli) -> None:
    answers = [("[us3.datadoghq.com]: ", ""), ("list them later): ", ""), (".db]: ", "")]
    code, seen = answered(cli, answers, DD_SITE="us3.datadoghq.com")
    assert code == 0, seen
    assert written(cli)["datadog"] == {"site": "us3.datadoghq.com"}
    assert (written(cli)["views"], written(cli)["database_url"]) == (
        ["/"],
        "sqlite:///heatmap-etl.db",
    )
    assert "1. List your views in heatmap-etl.toml" in seen


def test_discover_in_place_of_a_name_is_the_word_of_the_settings(cli: Cli) -> None:
    answers = [("keys [", ""), ("list them later): ", "discover"), (".db]: ", "data/x.db")]
    code, seen = answered(cli, answers)
    assert code == 0, seen
    assert (written(cli)["views"], written(cli)["database_url"]) == (
        "discover",
        "sqlite:///data/x.db",
    )
    assert 'views = "discover": a run reads every view' in seen
    assert "List your views" not in seen


def test_discover_and_a_path_as_options(cli: Cli) -> None:
    file = cli.folder / "x.db"
    done = cli("init", "--view", "discover", "--database-url", str(file), "--site", "datadoghq.eu")
    assert (done.code, done.err) == (0, "")
    assert 'views = "discover": a run reads every view' in done.out
    assert (written(cli)["views"], written(cli)["database_url"]) == (
        "discover",
        f"sqlite:///{file}",
    )
    assert '# source = "datadoghq.eu"' in (cli.folder / "heatmap-etl.toml").read_text("utf-8")
    done = cli("init", "--force", "--view", "discover", "--view", "/a")
    assert (done.code, done.is_one_line()) == (2, True)
    assert "--view: discover stands for every view" in done.err


# --- keys ---------------------------------------------------------------------------------

NO_KEYS = {"DD_API_KEY": None, "DD_APP_KEY": None}


def test_it_makes_the_file_for_the_keys_and_check_names_what_is_missing_in_it(cli: Cli) -> None:
    done = cli("init", "--view", "/home", **NO_KEYS)
    assert (done.code, done.err) == (0, "")
    assert "Wrote heatmap-etl.toml and .env. Next:" in done.out
    assert "1. Put the keys into .env" in done.out
    dotenv = cli.folder / ".env"
    assert stat.S_IMODE(dotenv.stat().st_mode) == 0o600
    assert dotenv.read_text("utf-8").splitlines()[1:] == ["DD_API_KEY=...", "DD_APP_KEY=..."]
    checked = cli("check", **NO_KEYS)
    assert checked.code == 2
    assert "DD_API_KEY: holds a placeholder" in checked.out


def test_a_file_with_keys_stays_as_it_is(cli: Cli) -> None:
    (cli.folder / ".env").write_text("DD_API_KEY=real\n", encoding="utf-8")
    for arguments in ((), ("--force",), ("--config", "acme.toml")):
        done = cli("init", *arguments, **NO_KEYS)
        assert (done.code, done.err) == (0, "")
        assert ".env stays as it was" in done.out
    assert (cli.folder / ".env").read_text("utf-8") == "DD_API_KEY=real\n"
    assert cli.files() == {".env", "acme.toml", "heatmap-etl.toml"}


def test_a_source_of_a_folder_gets_a_file_of_its_own(cli: Cli) -> None:
    assert cli("init", "--config", "acme.toml", **NO_KEYS).code == 0
    assert cli.files() == {"acme.toml", "acme.env"}


def test_a_wrong_answer_is_asked_again_with_the_reason(cli: Cli) -> None:
    answers = [
        ("site of the keys [datadoghq.com]: ", "https://app.datadog.eu"),
        ("site of the keys [datadoghq.com]: ", "datadog.eu"),
        ("site of the keys [datadoghq.com]: ", "datadoghq.eu"),
        ("list them later): ", "/a"),
        ("no more): ", "/a"),
        ("no more): ", ""),
        ("Database [", "postgresql://u:typed@h/d"),
        ("Database [", "heatmap:5432"),
        ("Database [", ""),
    ]
    code, seen = answered(cli, answers)
    assert code == 0, seen
    reasons = (
        'expected the bare site, not a URL or host; write "datadoghq.eu"',
        "datadog.eu is not a known Datadog site (did you mean datadoghq.eu?)",
        "'/a' is listed twice",
        f"holds a password, and only .env should hold one; set {DATABASE_URL} there instead",
        "is not a database URL",
    )
    for reason in reasons:
        assert f"\n  {reason}" in seen, reason
    assert written(cli)["datadog"] == {"site": "datadoghq.eu"}
    assert (written(cli)["views"], "typed" in str(written(cli))) == (["/a"], False)


def test_an_unknown_site_is_kept_when_it_is_entered_twice(cli: Cli) -> None:
    own = "datadog.example.com"
    answers = [("keys [", own), ("keys [", own), ("later): ", ""), ("base [", "")]
    code, seen = answered(cli, answers)
    assert code == 0, seen
    assert "To keep it, enter it once more." in seen
    assert written(cli)["datadog"] == {"site": own}


@pytest.mark.parametrize(
    ("key", "number"),
    [(b"\x03", 0), (b"\x04", 1), (b"\x03", 2), (b"\x04", 3)],
    ids=["Ctrl-C, first", "Ctrl-D, second", "Ctrl-C, third", "Ctrl-D, last"],
)
def test_who_ends_it_at_a_question_has_written_nothing(cli: Cli, key: bytes, number: int) -> None:
    questions = ["keys [", "later): ", "more): ", "Database ["]
    with terminal(cli, "init") as screen:
        for question in questions[:number]:
            screen.read(question)
            screen.type(b"/x\n" if question == "later): " else b"\n")
        screen.read(questions[number])
        screen.settle()
        screen.type(key)
        code, said = screen.end()
    assert code == 130
    assert said.strip().strip("^CD\b ") == ""
    assert cli.files() == set()


def test_a_signal_at_a_question_ends_it_too(cli: Cli) -> None:
    with terminal(cli, "init") as screen:
        screen.read("keys [")
        screen.settle()
        screen.process.send_signal(signal.SIGTERM)
        code, _ = screen.end()
    assert code in (143, -signal.SIGTERM)
    assert cli.files() == set()


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (("init", "--view", "/home"), {}),
        (("init", "--site", "datadoghq.eu"), {}),
        (("--config", "heatmap-etl.toml", "init"), {}),
        (("init", "--force"), {}),
        (("init", "-v"), {}),
        (("init",), {"CI": "true"}),
    ],
)
def test_with_an_option_or_in_ci_nothing_is_asked(
    cli: Cli, arguments: tuple[str, ...], changes: dict[str, str]
) -> None:
    with terminal(cli, *arguments, **changes) as screen:
        code, said = screen.end()
    assert code == 0
    assert "Wrote heatmap-etl.toml" in said
    assert "Enter accepts" not in said


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_where_one_stream_is_no_terminal_nothing_is_asked(cli: Cli, closed: str) -> None:
    ours, theirs = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs) | {closed: subprocess.DEVNULL}
    done = subprocess.run(
        cli.command("init"),
        cwd=cli.folder,
        env=cli.environment({"TERM": "xterm"}),
        stdin=streams["stdin"],
        stdout=streams["stdout"],
        stderr=streams["stderr"],
        timeout=60,
        check=False,
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 0
    assert written(cli)["views"] == ["/"]


def test_where_a_file_is_there_nothing_is_asked_either(cli: Cli) -> None:
    cli.configure("views = []\n")
    with terminal(cli, "init") as screen:
        code, said = screen.end()
    assert code == 2
    assert "is there already" in said
    assert "Enter accepts" not in said


# --- the configuration of a machine -------------------------------------------------------


def modes(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode)
        for path in sorted(root.rglob("*"))
        if "heatmap-etl" in str(path)
    }


MODES = {
    "etc/heatmap-etl": 0o755,
    "etc/heatmap-etl/.env": 0o644,
    "etc/heatmap-etl/dd_api_key": 0o600,
    "etc/heatmap-etl/dd_app_key": 0o600,
    "etc/heatmap-etl/heatmap-etl.toml": 0o644,
    "var/lib/heatmap-etl": 0o750,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_system_makes_what_cron_and_the_units_name(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        install_system(root=root, site="datadoghq.eu", views=["/home"])
    finally:
        os.umask(before)
    assert modes(root) == MODES
    config = tomllib.loads((root / "etc/heatmap-etl/heatmap-etl.toml").read_text(encoding="utf-8"))
    assert config["database_url"] == "sqlite:////var/lib/heatmap-etl/heatmap-etl.db"
    assert (config["views"], config["datadog"]) == (["/home"], {"site": "datadoghq.eu"})
    assert [(root / "etc/heatmap-etl" / name).read_bytes() for name in KEY_FILES] == [b"", b""]
    assert str(SYSTEM_FILE) == CONFIGURED
    # The paths of the units and of the crontab, in their own words.
    for unit in ("heatmap-etl.service", "heatmap-etl-sync.service"):
        text = (ROOT / "deploy" / "systemd" / unit).read_text(encoding="utf-8")
        assert f"--config {SYSTEM_FILE}" in text
        assert "StateDirectory=heatmap-etl\nStateDirectoryMode=0750\n" in text
        for name in KEY_FILES:
            assert f"LoadCredential={name}:/etc/heatmap-etl/{name}\n" in text
    assert f"--config {SYSTEM_FILE}" in (ROOT / "crontab.example").read_text(encoding="utf-8")


def test_run_twice_it_overwrites_nothing(root: Path) -> None:
    install_system(root=root, views=["/home"])
    folder = root / "etc/heatmap-etl"
    for path in folder.iterdir():
        path.write_text(f"mine: {path.name}", encoding="utf-8")
    (folder / KEY_FILES[0]).unlink()
    (folder / "heatmap-etl.toml").chmod(0o640)
    said = "\n".join(install_system(root=root, views=["/other"], database_url="sqlite:///x.db"))
    for path in folder.iterdir():
        expected = "" if path.name == KEY_FILES[0] else f"mine: {path.name}"
        assert path.read_text(encoding="utf-8") == expected
    assert modes(root) == {**MODES, "etc/heatmap-etl/heatmap-etl.toml": 0o640}
    assert said.count("is there already, left as it is") == 5
    assert said.count("made ") == 1
    ignored = "--view /other, --database-url sqlite:///x.db"
    assert f"not applied: {ignored} ({folder}/heatmap-etl.toml stays as it is)" in said
    assert "mine" not in said


def test_it_says_which_key_is_empty_and_asks_for_that_one_alone(root: Path) -> None:
    first = "\n".join(install_system(root=root, views=["/home"]))
    folder = root / "etc/heatmap-etl"
    assert first.count("(a key, still empty)") == 2
    assert f"Write the API key into {folder / KEY_FILES[0]}\n     and the application" in first
    assert "not applied" not in first
    (folder / KEY_FILES[0]).write_text("0123", encoding="utf-8")
    (folder / KEY_FILES[1]).write_text("\n", encoding="utf-8")
    again = "\n".join(install_system(root=root))
    assert "(a key, filled in; belongs to " in again
    assert "(a key, still empty; belongs to " in again
    assert f"Write the application key into {folder / KEY_FILES[1]}." in again
    assert ("0123" in again, "API key into" in again, "List your views" in again) == (False,) * 3
    (folder / KEY_FILES[1]).write_text("4567", encoding="utf-8")
    assert "Write the" not in "\n".join(install_system(root=root))


def test_the_next_step_names_program_and_configuration(root: Path) -> None:
    said = "\n".join(install_system(root=root, program="/opt/x/heatmap-etl"))
    assert f". /opt/x/heatmap-etl check --config {root}/etc/heatmap-etl/heatmap-etl.toml\n" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="LOUD: only root can give a file away")
def test_a_user_is_not_claimed_for_what_belongs_to_another(root: Path) -> None:
    install_system(root=root)
    said = "\n".join(install_system(root=root, user="nobody"))
    assert "For the user root:" in said
    assert "not applied: --user nobody (what is there belongs to root, and stays so)" in said
    assert "For the user nobody" not in said


@pytest.mark.parametrize("name", [*KEY_FILES, ".env", "heatmap-etl.toml"])
def test_a_link_that_leads_nowhere_is_refused(root: Path, tmp_path: Path, name: str) -> None:
    folder = root / "etc/heatmap-etl"
    folder.mkdir(parents=True)
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=f"/{name}: is a link that leads nowhere; move it away"):
        install_system(root=root)
    assert not (tmp_path / "elsewhere").exists()
    assert [path.name for path in folder.iterdir()] == [name]
    (tmp_path / "elsewhere").write_text("mine", encoding="utf-8")
    install_system(root=root)
    assert (tmp_path / "elsewhere").read_text("utf-8") == "mine"
    assert (folder / name).is_symlink()


@pytest.mark.parametrize(
    ("name", "is_folder"), [("var/lib/heatmap-etl", True), ("etc/heatmap-etl/dd_api_key", False)]
)
def test_another_kind_of_file_in_its_place_is_refused(
    root: Path, name: str, *, is_folder: bool
) -> None:
    path = root / name
    path.parent.mkdir(parents=True)
    if is_folder:
        path.touch()
    else:
        path.mkdir()
    kind = "folder" if is_folder else "file"
    with pytest.raises(ConfigError, match=f"{name}: is not a {kind}; move it away"):
        install_system(root=root)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"user": "no-such-user"}, "--user: there is no user no-such-user"),
        ({"views": ["/a", "/a"]}, "--view: .*listed twice"),
        ({"database_url": f"mysql://u:{PASSWORD}@h/d"}, "--database-url: holds a password"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(
    root: Path, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        install_system(root=root, **options)
    assert PASSWORD not in str(caught.value)
    assert not root.exists()


@pytest.mark.parametrize("arguments", [("--force",), ("--config", "x.toml")])
def test_system_goes_with_neither_force_nor_a_path(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli("init", "--system", *arguments)
    assert (done.code, done.out, done.is_one_line()) == (2, "", True)
    assert "--system" in done.err
    done = cli("init", "--user", "somebody")
    assert (done.code, done.is_one_line()) == (2, True)


# --- found by who only looks --------------------------------------------------------------


@pytest.fixture
def file(root: Path) -> Path:
    install_system(root=root)
    return root / "etc/heatmap-etl/heatmap-etl.toml"


def test_it_is_found_where_nothing_else_is_named(file: Path, tmp_path: Path) -> None:
    assert find_system_file({}, tmp_path, file) == file
    assert find_system_file({}, tmp_path, file.with_name("missing.toml")) is None
    for name in ("HEATMAP_ETL_DATABASE_URL", "HEATMAP_ETL_DATABASE_URL_FILE", "HEATMAP_ETL_VIEWS"):
        assert find_system_file({name: "x"}, tmp_path, file) is None
        (tmp_path / ".env").write_text(f"{name}=x\n", encoding="utf-8")
        assert find_system_file({}, tmp_path, file) is None
    (tmp_path / ".env").write_text("OTHER=x\n", encoding="utf-8")
    assert find_system_file({}, tmp_path, file) == file


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
@pytest.mark.parametrize("is_folder", [False, True])
def test_one_that_others_can_write_is_not_used(
    file: Path, tmp_path: Path, mode: int, is_folder: bool
) -> None:
    path = file.parent if is_folder else file
    path.chmod(mode | 0o111 * is_folder)
    with pytest.raises(ConfigError, match="is not used: others can write it"):
        find_system_file({}, tmp_path, file)


@pytest.mark.parametrize("name", [".env", "heatmap-etl.env", KEY_FILES[0], "url", "ca.pem"])
def test_what_it_is_read_with_is_not_used_either_if_others_can_write_it(
    file: Path, tmp_path: Path, name: str
) -> None:
    """A `.env` redirects requests, and so does what its `..._FILE` names."""
    dotenv, path = file.with_name(".env"), file.with_name(name)
    with dotenv.open("a", encoding="utf-8") as lines:
        lines.write(f"HEATMAP_ETL_DATABASE_URL_FILE=url\nSSL_CERT_FILE={file.parent}/ca.pem\n")
    path.touch()
    assert find_system_file({}, tmp_path, file) == file
    path.chmod(0o666)
    with pytest.raises(ConfigError, match=rf"/{name}: is not used: others can write it"):
        find_system_file({}, tmp_path, file)
    path.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
        with pytest.raises(ConfigError, match=rf"/{name}: is not used: it belongs to another user"):
            find_system_file({}, tmp_path, file)
        # The user of the database may own the files with the keys: `init --system` makes it so.
        os.chown(file.parents[2] / "var/lib/heatmap-etl", 12345, 12345)
        if not name.endswith(".env"):
            assert find_system_file({}, tmp_path, file) == file


@pytest.mark.skipif(os.geteuid() != 0, reason="LOUD: only root can give a file away")
def test_one_of_another_user_is_not_used(file: Path, tmp_path: Path) -> None:
    os.chown(file, 12345, 12345)
    with pytest.raises(ConfigError, match="is not used: it belongs to another user"):
        find_system_file({}, tmp_path, file)


# In a mount namespace /etc is a copy and /var/lib empty: what is tried there is on no real path.
PREPARE = """\
set -e; exec 2>&1
cp -a /etc "$1/etc"; mkdir "$1/lib"; rm -rf "$1/etc/heatmap-etl"
sed -i '/^heatmap-etl:/d' "$1/etc/passwd"
mount --bind "$1/etc" /etc; mount --bind "$1/lib" /var/lib
"""
UNSHARE = ("unshare", "--mount", "--propagation", "private", "sh", "-c")


def has_namespaces() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    tried = 'mount --bind "$(mktemp -d)" /mnt'
    return subprocess.run([*UNSHARE, tried], capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not has_namespaces(),
    reason="LOUD: init --system is not tried on /etc: needs root, unshare and mounts",
)


def in_namespace(cli: Cli, script: str) -> str:
    """Run a script where $H is the program; what it prints on both streams."""
    (cli.folder.parent / "disk").mkdir(exist_ok=True)
    program = f"H='{sys.executable} -W error -m etl'\n"
    done = subprocess.run(
        [*UNSHARE, PREPARE + program + script, "sh", str(cli.folder.parent / "disk")],
        cwd=cli.folder,
        env=cli.environment({"DD_API_KEY": None, "DD_APP_KEY": None}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout
    return done.stdout


@needs_namespaces
def test_status_finds_what_init_system_made_and_sync_wants_it_named(cli: Cli) -> None:
    said = in_namespace(
        cli,
        """
        echo "== first"; $H init --system --view /home
        echo "== again"; $H init --system
        echo "== upgrade"; $H db upgrade --config /etc/heatmap-etl/heatmap-etl.toml
        echo "== status"; $H status
        echo "== json"; $H status --json | cut -c1
        echo "== check"; $H check || true
        echo "== sync"; $H sync || echo "exit $?"
        echo "== other"; $H status --database /var/lib/heatmap-etl/heatmap-etl.db | head -n 1
        chmod 0666 /etc/heatmap-etl/heatmap-etl.toml
        echo "== open"; $H status || echo "exit $?"
        mkdir gone; cd gone; rmdir ../gone
        echo "== gone"; $H status || echo "exit $?"
        """,
    )
    _, first, again, _, status, as_json, check, sync, other, opened, gone = said.split("== ")
    assert "For the user root; name another with --user:" in first
    assert " check --config /etc/heatmap-etl/heatmap-etl.toml\n" in first
    assert first.count("made /") == 6
    assert again.count("is there already, left as it is: /") == 6
    assert "Configuration of this machine: /etc/heatmap-etl/heatmap-etl.toml" in status
    assert "/home" in status
    assert as_json.strip() == "json\n{"
    assert "/etc/heatmap-etl/heatmap-etl.toml: 1 view" in check
    assert "/etc/heatmap-etl/dd_api_key is empty" in check
    assert "exit 2" in sync
    assert "--config /etc/heatmap-etl/heatmap-etl.toml" in sync
    assert "Configuration of this machine" not in other
    assert "exit 2" in opened
    assert "is not used: others can write it (mode 0666)" in opened
    assert gone.splitlines()[1:] == [
        "heatmap-etl: the current folder does not exist any more; change to another",
        "exit 2",
    ]


@needs_namespaces
def test_system_for_the_user_of_the_units_and_without_rights(cli: Cli) -> None:
    said = in_namespace(
        cli,
        """
        chmod 0755 "$1" "$1/etc" "$1/lib"
        sync_as() { setpriv --reuid 4711 --regid 4711 --clear-groups "$@"; }
        echo "== refused"; sync_as $H init --system || echo "exit $?"
        ls -d /etc/heatmap-etl /var/lib/heatmap-etl 2>/dev/null || echo nothing
        echo "heatmap-etl:x:4711:4711::/:/bin/sh" >> /etc/passwd
        echo "== made"; $H init --system
        find /etc/heatmap-etl /var/lib/heatmap-etl -printf '%p %U %G\\n'
        echo "== other"; $H init --system --user nobody
        """,
    )
    _, refused, made, other = said.split("== ")
    assert refused.count("\nheatmap-etl: ") == 1
    assert "only root can make it; run: sudo heatmap-etl init --system" in refused
    assert "exit 2\nnothing\n" in refused
    assert "For the user heatmap-etl:" in made
    command = f"{sys.executable} -m etl check --config /etc/heatmap-etl/heatmap-etl.toml"
    assert f"sudo -u heatmap-etl {command}\n" in made
    owners = dict(line.split(" ", 1) for line in made.splitlines() if line.startswith("/"))
    assert {path for path, owner in owners.items() if owner == "4711 4711"} == {
        "/etc/heatmap-etl/dd_api_key",
        "/etc/heatmap-etl/dd_app_key",
        "/var/lib/heatmap-etl",
    }
    assert set(owners.values()) == {"4711 4711", "0 0"}
    assert "For the user heatmap-etl:" in other
    assert "not applied: --user nobody" in other
