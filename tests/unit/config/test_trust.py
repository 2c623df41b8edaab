"""Whose file it is: what others could have written is refused, and what they may read is said."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.config import trust
from etl.config.database_url import parse_database
from etl.config.load import load_config, load_configs
from etl.config.model import Needs
from etl.config.output_file import output_file
from etl.config.trust import distrust, exposure, planted
from etl.errors import ConfigError

STRANGER = 20003
MINIMAL = 'database_url = "sqlite:///x.db"\nviews = ["/home"]\n'
KEYS = "DD_API_KEY=planted\nDD_APP_KEY=planted\n"

pytestmark = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0,
    reason="LOUD: whose a file is, is not tested: only root can give a file away",
)


@pytest.fixture(autouse=True)
def no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A project, in a folder that is ours; each test spoils one thing."""
    folder = tmp_path / "project"
    folder.mkdir(mode=0o755)
    (folder / "heatmap-etl.toml").write_text(MINIMAL, encoding="utf-8")
    (folder / ".env").write_text(KEYS, encoding="utf-8")
    (folder / ".env").chmod(0o600)
    yield folder
    os.chown(folder, 0, 0)


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {}, cwd=folder)
    (line,) = caught.value.problems
    assert "planted" not in line
    return line


def is_used(folder: Path) -> bool:
    return load_config(None, {}, cwd=folder).keys is not None


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o440, 0o644, 0o444])
def test_one_of_root_or_of_this_user_is_used(folder: Path, mode: int) -> None:
    os.chown(folder / ".env", 0, STRANGER)  # as for a group that may look
    (folder / ".env").chmod(mode)
    assert is_used(folder)


@pytest.mark.parametrize("mode", [0o660, 0o620, 0o602, 0o606, 0o664, 0o666])
def test_one_that_others_may_write_is_refused(folder: Path, mode: int) -> None:
    path = folder / ".env"
    path.chmod(mode)
    assert refused(folder) == (
        f"{path}: is not used: others can write it (mode {mode:04o}); run: chmod go-w {path}"
    )


def test_one_of_another_user_is_refused(folder: Path) -> None:
    path = folder / ".env"
    os.chown(path, STRANGER, STRANGER)
    assert refused(folder) == (
        f"{path}: is not used: it belongs to another user (uid {STRANGER}); "
        f"run this as that user, or look into it and run: chown root {path}"
    )


def test_one_of_another_user_is_refused_before_it_is_read(folder: Path) -> None:
    """Nobody would ever write into the pipe, and the device never ends."""
    path = folder / ".env"
    path.unlink()
    os.mkfifo(path)
    os.chown(path, STRANGER, STRANGER)
    assert "it belongs to another user" in refused(folder)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "others can write it (mode 0666)" in refused(folder)


def test_a_dotenv_that_is_covered_or_empty_holds_nothing_to_refuse(folder: Path) -> None:
    path = folder / ".env"
    path.unlink()
    path.symlink_to(os.devnull)
    assert not is_used(folder)
    path.unlink()
    path.touch()
    os.chown(path, STRANGER, STRANGER)
    assert not is_used(folder)


def test_with_sudo_that_of_the_caller_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (folder, folder / ".env"):
        os.chown(path, STRANGER, STRANGER)
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    assert is_used(folder)
    monkeypatch.setenv("SUDO_UID", str(STRANGER + 1))
    assert "it belongs to another user" in refused(folder)
    # Who is not root has not called himself by sudo.
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER + 1)
    assert f"look into it and run: sudo chown {STRANGER + 1} " in refused(folder)


def test_who_names_a_database_is_told_that_it_is_not_used(folder: Path) -> None:
    (folder / ".env").chmod(0o666)
    needs = Needs(keys=False, views=False, database=parse_database("sqlite:///x.db", folder))
    config = load_config(None, {}, cwd=folder, needs=needs)
    assert config.keys is None
    (line,) = config.unread
    assert "others can write it" in line


def test_that_of_a_source_is_refused_too(folder: Path) -> None:
    path = folder / "heatmap-etl.env"
    path.write_text(KEYS, encoding="utf-8")
    path.chmod(0o666)
    assert refused(folder).startswith(f"{path}: is not used: others can write it")


def test_in_a_folder_of_sources_it_is_said_once(folder: Path) -> None:
    (folder / "b.toml").write_text(MINIMAL, encoding="utf-8")
    (folder / ".env").chmod(0o666)
    with pytest.raises(ConfigError) as caught:
        load_configs(folder, {})
    (line,) = caught.value.problems
    assert "others can write it" in line


# --- folders and links on the way ---------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "owner", "words"),
    [
        (0o777, 0, "others can write its folder {} (mode 0777) and replace it"),
        (0o775, 0, "others can write its folder {} (mode 0775) and replace it"),
        (0o755, STRANGER, f"its folder {{}} belongs to another user (uid {STRANGER})"),
        (0o1777, STRANGER, f"its folder {{}} belongs to another user (uid {STRANGER})"),
        (0o1777, 0, ""),
        (0o3777, 0, ""),  # a volume of Kubernetes with fsGroup
        (0o700, 0, ""),
    ],
)
@pytest.mark.parametrize("depth", [0, 1])
def test_a_folder_in_which_others_could_replace_it_counts_like_the_file(
    folder: Path, mode: int, owner: int, words: str, depth: int
) -> None:
    path = folder / "inner" / ".env" if depth else folder / ".env"
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    os.chown(folder, owner, owner)
    folder.chmod(mode)
    found = distrust(path)
    assert (found.reason if found else "") == words.format(folder)


def test_a_link_counts_by_its_target_and_by_its_own_folder(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text(KEYS, encoding="utf-8")
    (folder / ".env").unlink()
    (folder / ".env").symlink_to(target)
    assert is_used(folder)
    target.chmod(0o666)
    assert "others can write it (mode 0666)" in refused(folder)
    target.chmod(0o600)
    folder.chmod(0o777)
    assert f"others can write its folder {folder}" in refused(folder)
    # In a folder such as /tmp a link is its owner's to change.
    folder.chmod(0o1777)
    assert is_used(folder)
    os.chown(folder / ".env", STRANGER, STRANGER, follow_symlinks=False)
    assert f"{folder}/.env belongs to another user" in refused(folder)


def test_links_on_links_are_followed_as_the_system_does(folder: Path, tmp_path: Path) -> None:
    """As in a volume of Kubernetes: the file is a link through a link to a folder."""
    real = tmp_path / "..2026"
    real.mkdir()
    (real / "key").write_text("k", encoding="utf-8")
    (tmp_path / "..data").symlink_to("..2026")
    (folder / "key").symlink_to("../..data/key")
    assert distrust(folder / "key") is None
    real.chmod(0o777)
    assert f"its folder {real} " in str(distrust(folder / "key"))
    (folder / "loop").symlink_to("loop")
    assert "it cannot be read" in str(distrust(folder / "loop"))
    assert "it cannot be read" in str(distrust(folder / "none"))


def test_the_private_group_of_a_user_is_nobody_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp
    import pwd

    def user(number: int) -> pwd.struct_passwd:
        return pwd.struct_passwd(("ann", "x", number, number, "", "/", ""))

    def group(*members: str) -> grp.struct_group:
        return grp.struct_group(("ann", "x", STRANGER, list(members)))

    os.chown(folder / ".env", STRANGER, STRANGER)
    (folder / ".env").chmod(0o664)
    monkeypatch.setattr(pwd, "getpwuid", user)
    monkeypatch.setattr(grp, "getgrgid", lambda _: group())
    assert distrust(folder / ".env", {STRANGER}) is None
    monkeypatch.setattr(grp, "getgrgid", lambda _: group("ann", "bob"))
    assert "others can write it" in str(distrust(folder / ".env", {STRANGER}))


def test_in_a_sandbox_the_root_of_the_machine_has_no_number(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There `/` belongs to nobody, as does a file of any other user."""
    for name, number in (("_NUMBERS", "0 1000 1\n1 100000 65536\n"), ("_NO_NUMBER", STRANGER)):
        (tmp_path / name).write_text(f"{number}\n", encoding="utf-8")
    os.chown(folder, STRANGER, STRANGER)
    (folder / "link").symlink_to(tmp_path)
    os.chown(folder / "link", STRANGER, STRANGER, follow_symlinks=False)
    assert "its folder" in refused(folder)
    assert "is a link of another user" in planted(folder / "link" / "x")
    for name in ("_NUMBERS", "_NO_NUMBER"):
        monkeypatch.setattr(trust, name, tmp_path / name)
    assert is_used(folder)
    assert planted(folder / "link" / "x") == ""
    folder.chmod(0o1777)  # anybody may have put the link there
    assert "is a link of another user" in planted(folder / "link" / "x")
    os.chown(folder / ".env", STRANGER, STRANGER)
    assert "it belongs to another user" in refused(folder)


def make_read_only(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    found = os.statvfs(path)
    read_only = os.statvfs_result((*found[:8], found.f_flag | os.ST_RDONLY, found[9]))
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)


def test_a_dotenv_of_a_config_map_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes makes its folder 0777, and what is in it 0644, and mounts it read-only."""
    (folder / ".env").chmod(0o644)
    folder.chmod(0o777)
    assert "others can write its folder" in refused(folder)
    make_read_only(monkeypatch, folder)
    assert is_used(folder)
    assert load_configs(folder, {})[0].warnings == ()
    os.chown(folder / ".env", STRANGER, STRANGER)
    assert "it belongs to another user" in refused(folder)


# --- without a configuration file ---------------------------------------------------------

ENOUGH = {"HEATMAP_ETL_VIEWS": '["/a"]', "HEATMAP_ETL_DATABASE_URL": "sqlite:///x.db"}
DESTINATIONS = (
    *("DD_SITE", "DD_API_URL", "HEATMAP_ETL_DATADOG_SITE", "HEATMAP_ETL_DATADOG_API_URL"),
    *("HEATMAP_ETL_DATADOG_APP_URL", "HEATMAP_ETL_SCHEDULE_HEARTBEAT_URL", "DATABASE_URL"),
    *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)


@pytest.mark.parametrize("name", DESTINATIONS)
def test_without_a_configuration_no_dotenv_says_where_to_send(tmp_path: Path, name: str) -> None:
    value = "datadoghq.eu" if "SITE" in name else "https://evil.example"
    (tmp_path / ".env").write_text(f"{name}={value}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(None, ENOUGH, cwd=tmp_path)
    (line,) = caught.value.problems
    assert line.startswith(f"{tmp_path}/.env: {name} would send data elsewhere")
    assert "evil" not in line
    # What the environment says wins anyway.
    own = "datadoghq.com" if "SITE" in name else "https://own.example"
    load_config(None, {**ENOUGH, name: own}, cwd=tmp_path)
    # Beside a configuration it counts.
    (tmp_path / "heatmap-etl.toml").write_text(MINIMAL, encoding="utf-8")
    load_config(None, {}, cwd=tmp_path)


# --- what is warned of --------------------------------------------------------------------


def warnings(folder: Path, **environ: str) -> tuple[str, ...]:
    return load_config(None, environ, cwd=folder).warnings


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_configuration_that_others_may_write_is_warned_of(folder: Path, mode: int) -> None:
    path = folder / "heatmap-etl.toml"
    path.chmod(mode)
    assert warnings(folder) == (
        f"{path}: can be written by others (mode {mode:04o}); run: chmod go-w {path}",
    )


def test_a_configuration_that_anybody_may_have_put_there_is_warned_of(folder: Path) -> None:
    path = folder / "heatmap-etl.toml"
    os.chown(path, STRANGER, STRANGER)
    assert warnings(folder) == ()  # of the user who runs the job; this one looks
    folder.chmod(0o1777)
    (line,) = warnings(folder)
    assert line.startswith(f"{path}: belongs to another user (uid {STRANGER}), who can change it; ")


def test_its_folder_is_warned_of_once_for_all_in_it(folder: Path) -> None:
    (folder / ".env").unlink()
    (folder / "b.toml").write_text(f'{MINIMAL}datadog.source = "b"\n', encoding="utf-8")
    folder.chmod(0o777)
    found = [warning for config in load_configs(folder, {}) for warning in config.warnings]
    assert len(found) == 1
    assert found[0].startswith(f"{folder}: can be written by others (mode 0777), who could replace")


@pytest.mark.parametrize(
    ("url", "mode", "is_warned"),
    [
        ("postgresql://u:planted@h/d", 0o644, True),
        ("postgresql://u:plan/ted@h/d", 0o644, True),
        ("postgresql://h/d?user=u&password=planted", 0o644, True),
        ("postgresql://u:planted@h/d", 0o640, False),
        ("postgresql://u@h/d", 0o644, False),
        ("sqlite:///a@b:c.db", 0o644, False),
    ],
)
def test_a_password_that_others_may_read_is_warned_of(
    folder: Path, url: str, mode: int, *, is_warned: bool
) -> None:
    path = folder / "heatmap-etl.toml"
    path.write_text(f'database_url = "{url}"\nviews = ["/a"]\n', encoding="utf-8")
    path.chmod(mode)
    line = f"{path}: holds a password and can be read by others (mode 0644); run: chmod o-r {path}"
    assert warnings(folder) == ((line,) if is_warned else ())


@pytest.mark.parametrize(
    "name", ["DD_API_KEY", "DD_APP_KEY", "DD_BEARER_TOKEN", "HEATMAP_ETL_DATABASE_URL"]
)
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o600, ""),
        (0o640, ""),  # as the group that may look reads the URL of a server
        (0o440, ""),
        (0o644, "holds a secret and can be read by others (mode 0644); run: chmod o-r "),
        (0o660, "can be written by others (mode 0660); run: chmod go-w "),
    ],
)
def test_a_file_of_a_secret_is_warned_of(folder: Path, name: str, mode: int, words: str) -> None:
    (folder / ".env").unlink()
    path = folder / "secret"
    path.write_text("sqlite:///x.db", encoding="utf-8")
    path.chmod(mode)
    assert warnings(folder, **{f"{name}_FILE": "secret"}) == (
        (f"{path}: {words}{path}",) if words else ()
    )


def test_what_nobody_can_change_there_is_not_warned_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As secrets of Docker and Kubernetes, which are 0444 or 0644 on a mount that is read-only."""
    path = folder / "secret"
    path.touch(mode=0o600)
    path.chmod(0o444)
    assert exposure(path, "a secret")
    make_read_only(monkeypatch, path)
    assert exposure(path, "a secret") == []
    for other in ("/dev/null", "none", "a\0b"):
        assert exposure(folder / other, "a secret") == []


# --- what is written ----------------------------------------------------------------------


def test_no_output_goes_through_a_link_of_another_user(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.csv"
    link = folder / "x.csv"
    link.symlink_to(target)
    folder.chmod(0o1777)
    assert output_file("--output", link) == target  # our own
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(
        ConfigError, match=r"x\.csv is a link of another user \(uid 20003\); remove"
    ):
        output_file("--output", link)
    (folder / "sub").symlink_to(tmp_path)
    os.chown(folder / "sub", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(ConfigError, match="sub is a link of another user"):
        output_file("--output", folder / "sub" / "y.csv")


def test_no_output_becomes_the_file_that_another_user_has_put_there(folder: Path) -> None:
    path = folder / "x.csv"
    path.touch()
    os.chown(path, STRANGER, STRANGER)
    assert output_file("--output", path) == path  # in a folder of ours it is no trap
    folder.chmod(0o1777)
    with pytest.raises(ConfigError, match=r"x\.csv belongs to another user \(uid 20003\)"):
        output_file("--output", path)
    assert planted(Path("/dev/stdout")) == planted(Path("/proc/self/fd/1")) == ""
