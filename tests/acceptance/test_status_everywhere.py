"""The commands of docs/running.md that say how it stands: each is run, by each way to run it.

There is no engine and no cluster here: what stands after `docker exec` and its like is run with the
environment, the user and the files that the shipped file gives the container.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog, World
from tests.support.installation import (
    CONFIGURED,
    INSTALLED,
    cron_lines,
    parse,
    unit_environment,
    unit_values,
)
from tests.support.paths import ROOT
from tests.support.people import (
    MEMBER,
    OPERATOR,
    ROOT_USER,
    STRANGER,
    Done,
    Person,
    give,
    open_place,
)

DEPLOY = ROOT / "deploy"
KEYS = {"dd_api_key": API_KEY, "dd_app_key": APP_KEY}
CONTAINER = Person(10001)  # as the image and the pods say, see test_deploy
WAYS = (
    "cron",
    "systemd, a daemon",
    "systemd, a timer",
    "Docker",
    "Docker Compose",
    "Docker Compose, while `schedule` does not run",
    "Kubernetes, a daemon",
    "Kubernetes, once an hour",
)


def documented() -> dict[str, list[str]]:
    """The commands for each way to run it."""
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    _, _, section = text.partition("## Ask how it stands\n")
    section = re.split(r"^#", section, maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| ([^|]*) \| ([^|]*) \|$", section, re.MULTILINE)
    return {way: re.findall(r"`(.*?)`", commands) for way, commands in rows if "`" in commands}


COMMANDS = documented()


def words_of(way: str) -> list[str]:
    (command,) = COMMANDS[way]
    return shlex.split(command)


def test_there_is_one_for_each_way_to_run_it() -> None:
    assert tuple(COMMANDS) == WAYS
    for way, commands in COMMANDS.items():
        inside = [word for command in commands for word in [*shlex.split(command), ""]]
        if "heatmap-etl" in inside:  # in a container
            assert parse(inside[inside.index("heatmap-etl") + 1 : -1]) == "status", way


@pytest.fixture
def datadog() -> Iterator[FakeDatadog]:
    with FakeDatadog(World(4, views=["/home"]), api_key=API_KEY, app_key=APP_KEY) as server:
        yield server


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as place:
        yield place


def config_file(place: Path, shipped: str, datadog: FakeDatadog) -> Path:
    """A configuration as it is shipped, its state in `place`, and asking the fake."""
    text = shipped.replace("/var/lib/", f"{place}/state/")
    text += f'\n[datadog]\napi_url = "{datadog.url}"\n'
    return give(place / "etc" / "heatmap-etl.toml", ROOT_USER, 0o644, text)


def assert_shown(done: Done, place: Path) -> None:
    """It is the database that the run wrote, and there is no other."""
    assert (done.code, done.err) == (0, "")
    (database,) = place.rglob("*.db")
    assert f"{database}, source datadoghq.com" in done.out
    assert re.search(r"^/home +complete ", done.out, re.MULTILINE)


def assert_owned(folder: Path, person: Person) -> None:
    assert {path.stat().st_uid for path in folder.iterdir()} == {person.uid}


# --- on the machine -----------------------------------------------------------------------


def on_the_machine(way: str, config: Path) -> list[str]:
    words = words_of(way)
    assert words[0] == INSTALLED
    assert parse(words[1:]) == "status"
    assert words.count(CONFIGURED) == 1
    return [str(config) if word == CONFIGURED else word for word in words[1:]]


def test_under_cron(place: Path, datadog: FakeDatadog) -> None:
    database = f"{place}/state/heatmap-etl.db"
    give(place / "state", OPERATOR, 0o755)
    shipped = f'database_url = "sqlite:///{database}"\nviews = ["/home"]\nfiles.mode = "0644"\n'
    config = config_file(place, shipped, datadog)
    keys = f"DD_API_KEY={API_KEY}\nDD_APP_KEY={APP_KEY}\n"
    give(place / "etc" / ".env", OPERATOR, 0o600, keys)
    ((_, line),) = cron_lines((ROOT / "crontab.example").read_text(encoding="utf-8"))[1]
    words = line.replace(CONFIGURED, str(config)).split()
    done = OPERATOR.run(words[1:], cwd=Path("/"))
    assert (done.code, done.out, done.err) == (0, "", "")
    status = on_the_machine("cron", config)
    assert_shown(OPERATOR.run(status, cwd=Path("/")), place)
    # Who may not read the keys is told so, and answered.
    done = STRANGER.run(status, cwd=Path("/"))
    assert done.err.count("\n") == 1
    assert f"{place}/etc/.env: cannot be read" in done.err
    assert_shown(Done(done.code, done.out, ""), place)


UNITS = {
    "systemd, a daemon": "heatmap-etl.service",
    "systemd, a timer": "heatmap-etl-sync.service",
}


class Unit:
    """A service as systemd starts it: its user, folder, credentials and environment."""

    def __init__(self, name: str, place: Path, config: Path) -> None:
        for setting in ("User", "Group", "StateDirectory"):
            assert unit_values(name, setting) == ["heatmap-etl"]
        assert unit_values(name, "DynamicUser") == []
        sysusers = (DEPLOY / "systemd" / "heatmap-etl.sysusers.conf").read_text("utf-8")
        assert re.search(r"^u heatmap-etl ", sysusers, re.MULTILINE)
        (mode,), (umask,) = unit_values(name, "StateDirectoryMode"), unit_values(name, "UMask")
        self.state = give(place / "state" / "heatmap-etl", OPERATOR, int(mode, 8))
        self._umask = int(umask, 8)
        credentials = give(place / "credentials", OPERATOR, 0o700)
        for key, value in KEYS.items():
            give(credentials / key, OPERATOR, 0o400, value)
        state = place / "state"
        self._environment = unit_environment(name, credentials=credentials, state=state)
        self._config = config

    def sync(self) -> None:
        """One run, of the timer or as the daemon begins it."""
        arguments = ["sync", "--quiet", "--config", str(self._config)]
        done = OPERATOR.run(arguments, cwd=self.state, env=self._environment, umask=self._umask)
        assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize("way", UNITS)
def test_under_systemd(way: str, place: Path, datadog: FakeDatadog) -> None:
    shipped = (DEPLOY / "systemd" / "heatmap-etl.toml").read_text(encoding="utf-8")
    config = config_file(place, shipped, datadog)
    unit = Unit(UNITS[way], place, config)
    unit.sync()
    status = on_the_machine(way, config)
    for person in (ROOT_USER, MEMBER):
        assert_shown(person.run(status, cwd=place), place)
        assert_owned(unit.state, OPERATOR)
    done = STRANGER.run(status, cwd=place)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"(database_url of {config}): this user may not enter its folder" in done.err
    # Root left nothing behind that shuts the service out, even where it was killed as it read.
    done = ROOT_USER.python(["-c", KILLED, str(config)], cwd=place)
    assert done.code == -9
    assert sorted(path.suffix for path in unit.state.iterdir()) == [".db", ".db-shm", ".db-wal"]
    assert_owned(unit.state, OPERATOR)
    assert_shown(MEMBER.run(status, cwd=place), place)
    unit.sync()


KILLED = """\
import os, sys
from pathlib import Path
from sqlalchemy import text
from etl.config.load import load_config
from etl.database.connection import opened
with opened(load_config(Path(sys.argv[1]))) as database, database.connect(write=False) as reader:
    reader.execute(text("SELECT * FROM sources")).all()
    os.kill(os.getpid(), 9)
"""


def test_under_systemd_with_the_url_of_a_server(place: Path, datadog: FakeDatadog) -> None:
    """It has a password: what the unit says to do keeps it from strangers, not from the group."""
    text = (DEPLOY / "systemd" / UNITS["systemd, a daemon"]).read_text(encoding="utf-8")
    (mode,) = re.findall(r"install -m (\d+) -g heatmap-etl /dev/null (?:\S+)/database_url", text)
    (line,) = re.findall(r"^#   echo (\S+) >> /etc/heatmap-etl/\.env$", text, re.MULTILINE)
    config = config_file(place, 'views = ["/home"]\nfiles.mode = "0640"\n', datadog)
    url = f"sqlite:///{place}/state/heatmap-etl/server.db\n"
    give(place / "etc" / "database_url", ROOT_USER, int(mode, 8), url, group=OPERATOR.uid)
    give(place / "etc" / ".env", ROOT_USER, 0o644, f"{line}\n")
    unit = Unit(UNITS["systemd, a daemon"], place, config)
    unit.sync()
    status = on_the_machine("systemd, a daemon", config)
    for person in (ROOT_USER, MEMBER):
        assert_shown(person.run(status, cwd=place), place)
    done = STRANGER.run(status, cwd=place)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "database_url cannot be read: Permission denied" in done.err


# --- in containers ------------------------------------------------------------------------


def image_environment() -> dict[str, str]:
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    (words,) = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
    return dict(word.split("=", 1) for word in words.split() if not word.startswith("PATH="))


class Container:
    """What the shipped file gives a container: environment, user and files, all in `place`."""

    def __init__(self, place: Path, environment: Mapping[str, str], config: Path) -> None:
        give(place / "state", CONTAINER, 0o700)
        given = {**image_environment(), **environment}
        assert given["HEATMAP_ETL_CONFIG"] == CONFIGURED
        self._environment = {**given, "HEATMAP_ETL_CONFIG": str(config)}
        self._cwd = place / "state"
        url = f"sqlite:///{place}/state/heatmap-etl.db"
        for name, path in environment.items():
            if name.endswith("_FILE"):
                content = KEYS.get(Path(path).name, url)
                secret = give(place / "secrets" / Path(path).name, CONTAINER, 0o400, content)
                self._environment[name] = str(secret)

    def run(self, *arguments: str) -> Done:
        return CONTAINER.run(arguments, cwd=self._cwd, env=self._environment)

    def entered(self, words: list[str]) -> Done:
        """What `exec` runs: no entry point, but the PATH of the image."""
        assert words[0] == "heatmap-etl"
        return self.run(*words[1:])

    def sync(self) -> None:
        done = self.run("sync", "--quiet")
        assert (done.code, done.err) == (0, "")


def pod_environment(name: str) -> dict[str, str]:
    text = (DEPLOY / "kubernetes" / f"{name}.yaml").read_text(encoding="utf-8")
    return {v["name"]: v["value"] for v in container_of(yaml.safe_load(text))["env"]}


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"].get("jobTemplate", manifest)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def test_in_docker(place: Path, datadog: FakeDatadog) -> None:
    config = config_file(place, (DEPLOY / "heatmap-etl.toml").read_text("utf-8"), datadog)
    names = {f"{name.upper()}_FILE": f"/run/secrets/{name}" for name in KEYS}
    names["HEATMAP_ETL_DATABASE_URL_FILE"] = "/run/secrets/database_url"
    container = Container(place, names, config)
    container.sync()
    words = words_of("Docker")
    assert words[:3] == ["docker", "exec", "CONTAINER"]
    assert_shown(container.entered(words[3:]), place)


def test_in_compose(place: Path, datadog: FakeDatadog) -> None:
    config = config_file(place, (DEPLOY / "heatmap-etl.toml").read_text("utf-8"), datadog)
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    container = Container(place, services["schedule"]["environment"], config)
    container.sync()
    words = words_of("Docker Compose")
    assert words[:4] == ["docker", "compose", "exec", "schedule"]
    assert_shown(container.entered(words[4:]), place)
    words = words_of("Docker Compose, while `schedule` does not run")
    assert words[:6] == ["docker", "compose", "run", "--rm", "--no-deps", "schedule"]
    assert_shown(container.run(*words[6:]), place)


def test_outside_of_the_containers_nobody_is_led_to_a_second_database(
    place: Path, datadog: FakeDatadog
) -> None:
    config = config_file(place, (DEPLOY / "heatmap-etl.toml").read_text("utf-8"), datadog)
    done = STRANGER.run(["status"], cwd=config.parent)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "database_url: is missing; name the database that `sync` uses" in done.err
    assert "write one" not in done.err


def test_in_a_deployment(place: Path, datadog: FakeDatadog) -> None:
    config = config_file(place, (DEPLOY / "heatmap-etl.toml").read_text("utf-8"), datadog)
    container = Container(place, pod_environment("deployment"), config)
    container.sync()
    words = words_of("Kubernetes, a daemon")
    assert words[:4] == ["kubectl", "exec", "deploy/heatmap-etl", "--"]
    assert_shown(container.entered(words[4:]), place)


def test_beside_a_cronjob(place: Path, datadog: FakeDatadog) -> None:
    """The commands are those that the file names; its pod reads what the CronJob wrote."""
    config = config_file(place, (DEPLOY / "heatmap-etl.toml").read_text("utf-8"), datadog)
    Container(place, pod_environment("cronjob"), config).sync()
    commands = COMMANDS["Kubernetes, once an hour"]
    text = (DEPLOY / "kubernetes" / "status.yaml").read_text(encoding="utf-8")
    assert commands == re.findall(r"^#   (kubectl .*)$", text, re.MULTILINE)
    job = yaml.safe_load(text)
    assert job["metadata"]["name"] == "heatmap-etl-status"
    assert all("job/heatmap-etl-status" in c or "-f status.yaml" in c for c in commands)
    pod = Container(place, pod_environment("status"), config)
    assert_shown(pod.run(*container_of(job)["args"]), place)
