"""`deploy/` and `crontab.example`: run, and read by the programs that will read them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

import etl
from etl.config.load import load_config
from etl.config.model import require_keys
from etl.fake_datadog import API_KEY, APP_KEY, FakeDatadog, World
from etl.ledger.concerns import KINDS, NEEDS_ACCEPTANCE
from etl.monitor import metrics
from tests.support.installation import (
    INSTALLED,
    cron_lines,
    parse,
    unit_environment,
    unit_values,
)
from tests.support.paths import ROOT
from tests.support.servers import READERS, free_port

DEPLOY = ROOT / "deploy"
CRONTAB = (ROOT / "crontab.example").read_text(encoding="utf-8")
CONFIG = "/etc/heatmap-etl/heatmap-etl.toml"
LISTENING = "127.0.0.1:9102"
UNITS = ["heatmap-etl.service", "heatmap-etl-sync.service", "heatmap-etl-sync.timer"]
SERVICES = UNITS[:2]
STATE = "/var/lib/"  # what systemd means by %S
# Tenths of systemd's "exposure", of 100; one that is not hardened has 96.
EXPOSURE = 15


def reader(package: str) -> str:
    """The program of this system that reads such a file; a loud skip where there is none."""
    found = shutil.which(READERS[package])
    if found is None:
        pytest.skip(f"LOUD: not tested: {READERS[package]} was not found (Debian: {package})")
    return found


def run(*command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    defaults: dict[str, Any] = {"env": {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}, "timeout": 60}
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **{**defaults, **more},
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """`heatmap-etl` as if it was installed, however empty the environment is."""
    path = tmp_path / "bin" / "heatmap-etl"
    path.parent.mkdir()
    python = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)}"
    path.write_text(f'#!/bin/sh\n{python} -W error -m etl "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def datadog() -> Iterator[FakeDatadog]:
    world = World(4, views=["/home"])
    with FakeDatadog(world, api_key=API_KEY, app_key=APP_KEY) as server:
        yield server


def write_config(folder: Path, datadog: FakeDatadog) -> Path:
    path = folder / "heatmap-etl.toml"
    lines = ['views = ["/home"]', "[datadog]", f'api_url = "{datadog.url}"', ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


# --- cron ---------------------------------------------------------------------------------


def cron_accepts(crontab: str, tmp_path: Path) -> bool:
    program, good, asked = reader("cron"), tmp_path / "good", tmp_path / "asked"
    good.write_text("0 0 * * * true\n", encoding="utf-8")
    asked.write_text(crontab, encoding="utf-8")
    # Both only check; the one is cronie's, the other Debian's.
    (option,) = [o for o in ("-T", "-n") if run(program, o, str(good)).returncode == 0]
    return run(program, option, str(asked)).returncode == 0


def commented_jobs() -> list[str]:
    """The lines of the crontab that a reader may take the `#` from."""
    return re.findall(r"^# ?((?:[\d*/,-]+ +){5}.*)$", CRONTAB, re.MULTILINE)


def test_cron_itself_accepts_the_crontab_and_what_is_commented_out(tmp_path: Path):
    assert len(commented_jobs()) >= 2
    assert cron_accepts("\n".join([CRONTAB, *commented_jobs(), ""]), tmp_path)


@pytest.mark.parametrize("line", ["17 * * * heatmap-etl sync", "60 * * * * true", "@dayly true"])
def test_cron_would_refuse_a_wrong_line(line: str, tmp_path: Path):
    assert not cron_accepts(f"{CRONTAB}\n{line}\n", tmp_path)


def test_every_line_of_the_crontab_runs_as_cron_runs_it(
    program: Path, datadog: FakeDatadog, tmp_path: Path
):
    config = write_config(tmp_path, datadog)
    database = f"HEATMAP_ETL_DATABASE_URL=sqlite:///{tmp_path}/etl.db"
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"DD_API_KEY={API_KEY}\nDD_APP_KEY={APP_KEY}\n{database}\n", encoding="utf-8")
    dotenv.chmod(0o600)
    lines = [command for _, command in cron_lines(CRONTAB)[1]]
    hidden = [line.split(maxsplit=5)[5] for line in commented_jobs()]
    # In /etc/cron.d a user stands before the command.
    lines += [re.sub(r"^etl +", "", command) for command in hidden]
    assert len(lines) >= 3
    for line in lines:
        assert INSTALLED in line
        here = line.replace(INSTALLED, str(program)).replace(CONFIG, str(config))
        done = run(
            *("/bin/sh", "-c", here.replace("/var/lib/", f"{tmp_path}/")),
            cwd="/",
            env={"HOME": "/", "LOGNAME": "etl", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"},
        )
        assert (done.returncode, done.stderr) == (0, ""), line
        assert (done.stdout == "") is ("--quiet" in line), line


# --- systemd ------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, naming a program that is there."""
    folder = tmp_path / "system"
    shutil.copytree(DEPLOY / "systemd", folder)
    for path in folder.glob("*.service"):
        path.write_text(path.read_text("utf-8").replace(INSTALLED, "/bin/true"), "utf-8")
    return folder


@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_say_against_the_units(name: str, units: Path):
    done = run(reader("systemd"), "verify", "--man=no", str(units / name))
    # It also reads the units of this machine, and may have something to say against those.
    ours = [line for line in done.stderr.splitlines() if not line.startswith("/lib/systemd/")]
    assert (done.returncode, done.stdout, ours) == (0, "", [])


def test_systemd_would_name_a_misspelled_setting(units: Path):
    path = units / UNITS[0]
    path.write_text(path.read_text("utf-8").replace("ProtectHome=", "ProtectHomes="), "utf-8")
    done = run(reader("systemd"), "verify", "--man=no", str(path))
    assert "ProtectHomes" in done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_the_services_are_hardened(name: str, units: Path):
    audit = [reader("systemd"), "security", "--offline=true", "--no-pager"]
    done = run(*audit, f"--threshold={EXPOSURE}", str(units / name))
    assert done.returncode == 0, done.stdout
    path = units / name
    hardening = re.compile(r"^UMask.*?(^\n|\Z)", re.MULTILINE | re.DOTALL)
    path.write_text(hardening.sub("", path.read_text("utf-8")), "utf-8")
    assert run(*audit, f"--threshold={EXPOSURE}", str(path)).returncode != 0


@pytest.mark.parametrize("name", SERVICES)
def test_each_credential_is_loaded_and_used(name: str):
    text = (DEPLOY / "systemd" / name).read_text(encoding="utf-8")
    # With those that are commented out.
    lines = r"^(?:# )?LoadCredential=(\w+):/etc/heatmap-etl/\1$"
    loaded = set(re.findall(lines, text, re.MULTILINE))
    used = set(re.findall(r"_FILE=%d/(\w+)", text))
    # Not the database: what only the service is given, `heatmap-etl status` does not find.
    assert loaded == used == {"dd_api_key", "dd_app_key"}
    assert not any("DATABASE" in value for value in unit_values(name, "Environment"))
    assert "/" not in "".join(unit_values(name, "StateDirectory"))


@pytest.mark.parametrize("name", SERVICES)
def test_the_command_line_of_a_service_is_one_of_ours(name: str):
    (command,) = unit_values(name, "ExecStart")
    words = shlex.split(command)
    assert words[0] == INSTALLED
    assert parse(words[1:]) == {SERVICES[0]: "schedule", SERVICES[1]: "sync"}[name]
    assert words[words.index("--config") + 1] == CONFIG


Started = Callable[[str], tuple[list[str], dict[str, str]]]


@pytest.fixture
def started(program: Path, datadog: FakeDatadog, tmp_path: Path) -> Started:
    """`started(unit)`: command and environment of its process, as systemd would fill them in."""

    def start(name: str) -> tuple[list[str], dict[str, str]]:
        credentials, state = tmp_path / "credentials", tmp_path / "state"
        credentials.mkdir()
        (state / "heatmap-etl").mkdir(parents=True)
        (credentials / "dd_api_key").write_text(f"{API_KEY}\n", encoding="utf-8")
        (credentials / "dd_app_key").write_text(APP_KEY, encoding="utf-8")
        config = tmp_path / "heatmap-etl.toml"
        shipped = (DEPLOY / "systemd" / "heatmap-etl.toml").read_text(encoding="utf-8")
        assert shipped.count(STATE) == 1
        text = shipped.replace(STATE, f"{state}/")
        config.write_text(f'{text}\n[datadog]\napi_url = "{datadog.url}"\n', encoding="utf-8")
        (command,) = unit_values(name, "ExecStart")
        words = command.replace(INSTALLED, str(program)).replace(CONFIG, str(config)).split()
        return words, unit_environment(name, credentials=credentials, state=state)

    return start


def test_the_service_of_the_timer_runs_with_its_credentials(started: Started, tmp_path: Path):
    words, variables = started(SERVICES[1])
    done = run(*words, cwd=tmp_path, env=variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "state" / "heatmap-etl" / "heatmap-etl.db").exists()


def test_the_daemons_service_runs_with_its_credentials_is_healthy_and_ends_in_order(
    started: Started, tmp_path: Path
):
    words, variables = started(SERVICES[0])
    here = f"127.0.0.1:{free_port()}"
    words[words.index(LISTENING)] = here
    log = tmp_path / "log"
    with log.open("wb") as file:
        daemon = subprocess.Popen(words, cwd=tmp_path, env=variables, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and daemon.poll() is None and not is_healthy(here):
            time.sleep(0.2)
        assert is_healthy(here), log.read_text(encoding="utf-8")
        daemon.terminate()
        assert daemon.wait(20) == 0, log.read_text(encoding="utf-8")
        assert not is_healthy(here)
    finally:
        daemon.kill()
        daemon.wait()
    assert "next run at" in log.read_text(encoding="utf-8")


def is_healthy(address: str) -> bool:
    """By the check of the image and by that of Compose."""
    return all(check(arguments, address) == 0 for arguments in health_checks())


def check(arguments: list[str], address: str, **more: Any) -> int:
    here = [word.replace(LISTENING, address) for word in arguments]
    assert here != arguments
    return run(sys.executable, *here, **more).returncode


def test_the_exit_codes_of_the_units_are_those_of_the_program():
    """75 is another process at work, 143 an end by SIGTERM, 2 something to fix first."""
    assert unit_values(SERVICES[1], "SuccessExitStatus") == ["75 143"]
    assert unit_values(SERVICES[0], "Restart") == ["on-failure"]
    assert unit_values(SERVICES[0], "RestartPreventExitStatus") == ["2"]
    for name in SERVICES:
        assert int(unit_values(name, "TimeoutStopSec")[0]) > 10
    assert (unit_values(UNITS[2], "Persistent"), unit_values(UNITS[2], "OnCalendar")) == (
        ["yes"],
        ["*-*-* *:17:00 UTC"],
    )


# --- containers ---------------------------------------------------------------------------


DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def instructions(word: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return re.findall(rf"^{word} (.*)$", joined, re.MULTILINE)


def listed(instruction: str) -> list[str]:
    words = yaml.safe_load(instruction)
    assert isinstance(words, list)
    return words


def test_the_image_takes_nothing_but_the_lock_and_the_wheel():
    taken = [words for words in instructions("COPY") if not words.startswith("--from=build")]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert {words.split()[0] for words in taken} == allowed
    assert "*" in ignored
    assert (ROOT / "requirements.lock").is_file()


def test_the_image_runs_as_nobody_in_particular():
    (user,) = instructions("USER")
    assert int(user) >= 10000
    assert f"--uid {user} " in DOCKERFILE
    assert "--require-hashes" in DOCKERFILE


@pytest.fixture
def answering() -> Iterator[Callable[[int], int]]:
    """`answering(status)`: the port of a server that answers everything with it."""
    servers = []

    def start(status: int) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/healthz" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        port: int = server.server_address[1]
        return port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def health_checks() -> list[list[str]]:
    """Arguments of Python."""
    (image,) = instructions("HEALTHCHECK")
    compose = COMPOSE["services"]["schedule"]["healthcheck"]["test"]
    checks = [listed(image.partition("CMD ")[2]), compose[1:]]
    assert compose[0] == "CMD"
    assert {words[0] for words in checks} == {"python"}
    return [words[1:] for words in checks]


def test_the_health_checks_tell_a_living_daemon_from_others(answering: Callable[[int], int]):
    living, broken = answering(200), answering(500)
    for arguments in health_checks():
        assert check(arguments, f"127.0.0.1:{living}") == 0
        assert check(arguments, f"127.0.0.1:{broken}") != 0


def test_the_health_checks_ask_no_proxy(answering: Callable[[int], int]):
    living = answering(200)
    for arguments in health_checks():
        proxied = {"PATH": os.defpath, "http_proxy": "http://127.0.0.1:9"}
        assert check(arguments, f"127.0.0.1:{living}", env=proxied) == 0


LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
DEV_LOCK = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")


def locked(lock: str) -> dict[str, list[str]]:
    """Name -> version and hashes."""
    blocks = re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)[1:]
    words = r"(?<===)[^\s;]+|(?<=--hash=)\S+"
    return {block.partition("==")[0]: re.findall(words, block) for block in blocks}


def needed(name: str, extras: set[str], found: set[str]) -> set[str]:
    """Names of all that a package needs on any system, as far as they are installed here."""
    try:
        wanted = [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return found
    for requirement in wanted:
        marker = requirement.marker
        environments = [{"extra": extra} for extra in {"", *extras}]
        if marker and not any(marker.evaluate(environment) for environment in environments):
            continue
        other = re.sub(r"[-_.]+", "-", requirement.name.lower())
        if other not in found:
            needed(other, requirement.extras, found | {other})
            found |= {other} | needed(other, requirement.extras, found | {other})
    return found


def test_the_lock_of_the_image_holds_all_it_needs_in_the_versions_that_are_tested():
    mine, tested = locked(LOCK), locked(DEV_LOCK)
    names = needed("heatmap-etl", {"postgres", "mysql", "metrics"}, set())
    assert {"sqlalchemy", "psycopg-binary", "prometheus-client", "h11"} <= names
    assert names <= set(mine), "run: make lock"
    assert {name: tested.get(name) for name in mine} == mine, "run: make lock"
    assert not {"pytest", "pyarrow", "ruff"} & set(mine)
    assert all(len(found) > 1 for found in mine.values())


# --- Compose ------------------------------------------------------------------------------


COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def test_compose_starts_things_in_their_order():
    services = COMPOSE["services"]
    assert set(services) == {"database", "upgrade", "schedule"}
    assert services["upgrade"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert services["schedule"]["depends_on"] == {
        "database": {"condition": "service_healthy"},
        "upgrade": {"condition": "service_completed_successfully"},
    }
    assert "pg_isready" in services["database"]["healthcheck"]["test"]
    assert services["upgrade"]["restart"] == "no"
    for name in ("upgrade", "schedule"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        parse(services[name]["command"])
    published = services["schedule"]["ports"]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_gives_each_service_the_secrets_it_reads_and_no_others():
    declared = COMPOSE["secrets"]
    for name, secret in declared.items():
        assert secret == {"file": f"./secrets/{name}"}
    for service in COMPOSE["services"].values():
        files = [v for k, v in service["environment"].items() if k.endswith("_FILE")]
        assert sorted(files) == sorted(f"/run/secrets/{name}" for name in service["secrets"])
        assert set(service["secrets"]) <= set(declared)
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/deploy/secrets/" in ignored


def from_files(environment: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment of a container, its files in `folder`."""
    contents = {
        "dd_api_key": API_KEY,
        "dd_app_key": APP_KEY,
        "database_url": "postgresql://heatmap:pw@database/heatmap",
        "writer_url": "postgresql://heatmap_writer:pw@database/heatmap",
        "owner_url": "postgresql://heatmap_owner:pw@database/heatmap",
    }
    here = {}
    for name, value in environment.items():
        path = folder / Path(value).name
        path.write_text(contents[path.name], encoding="utf-8")
        path.chmod(0o440)  # as the files say
        here[name] = str(path)
    return here


def test_the_program_takes_what_compose_gives_it(tmp_path: Path):
    service = COMPOSE["services"]["schedule"]
    (mounted,) = service["configs"]
    assert mounted["target"] == CONFIG
    file = DEPLOY / COMPOSE["configs"][mounted["source"]]["file"]
    config = load_config(file, from_files(service["environment"], tmp_path))
    assert config.warnings == ()
    assert config.database_label == "postgresql+psycopg://heatmap@database/heatmap"
    assert require_keys(config).api_key == API_KEY


# --- Kubernetes ---------------------------------------------------------------------------


MANIFESTS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
}
VERSIONS = [
    version
    for version in kubernetes_validate.utils.all_versions()
    if tuple(map(int, version.split(".")[:2])) >= (1, 31)
]


def pod_of(name: str) -> dict[str, Any]:
    spec = MANIFESTS[name]["spec"]
    if name == "cronjob":
        spec = spec["jobTemplate"]["spec"]
    pod: dict[str, Any] = spec["template"]["spec"]
    return pod


WORKLOADS = {
    "cronjob": "sync",
    "deployment": "schedule",
    "status": "status",
    "upgrade": "db upgrade",
}


@pytest.mark.parametrize("name", sorted(MANIFESTS))
def test_the_manifests_fit_the_schema_of_kubernetes(name: str):
    assert len(VERSIONS) >= 5
    for version in VERSIONS:
        kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_a_misspelled_field_would_be_found():
    wrong = {**MANIFESTS["cronjob"], "spec": {**MANIFESTS["cronjob"]["spec"], "timezone": "UTC"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_the_cronjob_runs_once_and_ends():
    spec = MANIFESTS["cronjob"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 0
    assert 0 < job["activeDeadlineSeconds"] < 3600
    assert pod_of("cronjob")["restartPolicy"] == "Never"


def test_the_deployment_is_one_daemon_that_is_watched():
    spec = MANIFESTS["deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    pod = pod_of("deployment")
    assert pod["terminationGracePeriodSeconds"] > 10
    (container,) = pod["containers"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert container["args"][-1] == f"0.0.0.0:{ports['http']}"
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_the_workloads_may_do_little(name: str):
    pod = pod_of(name)
    (user,) = instructions("USER")
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert pod["securityContext"]["runAsNonRoot"] is True
    # Variables of a Service named heatmap-etl would look like settings.
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert parse(container["args"]) == WORKLOADS[name]
    assert container["image"] == f"heatmap-etl:{etl.__version__}"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} == set(container["resources"])


def secret_files(pod: dict[str, Any]) -> set[str]:
    (projected,) = [v["projected"] for v in pod["volumes"] if "projected" in v]
    sources = [source["secret"] for source in projected["sources"]]
    told = (DEPLOY / "kubernetes" / "config.yaml").read_text(encoding="utf-8")
    for secret in sources:
        made = re.search(rf"secret generic {secret['name']} \\\n# +(.*)$", told, re.MULTILINE)
        assert made
        for item in secret["items"]:
            assert f"--from-file={item['key']}" in made[1].split()
    return {item["path"] for secret in sources for item in secret["items"]}


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_the_program_takes_what_a_pod_gives_it(name: str, tmp_path: Path):
    pod = pod_of(name)
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    assert given.pop("HEATMAP_ETL_STARTED_BY", "") == ("cron" if name == "cronjob" else "")
    assert set(given.values()) == {f"{mounts['secrets']}/{file}" for file in secret_files(pod)}
    (file,) = MANIFESTS["config"]["data"]
    # Where the image says that the configuration is.
    assert f"{mounts['config']}/{file}" == CONFIG
    assert f"HEATMAP_ETL_CONFIG={CONFIG}" in DOCKERFILE
    path = tmp_path / file
    path.write_text(MANIFESTS["config"]["data"][file], encoding="utf-8")
    config = load_config(path, from_files(given, tmp_path))
    assert config.warnings == ()
    role = "owner" if name == "upgrade" else "writer"
    assert config.database_label == f"postgresql+psycopg://heatmap_{role}@database/heatmap"
    assert (config.keys is None) is (name in ("status", "upgrade"))


def test_the_containers_run_with_one_configuration():
    def plain(text: str) -> list[str]:
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    (in_kubernetes,) = MANIFESTS["config"]["data"].values()
    in_compose = (DEPLOY / "heatmap-etl.toml").read_text(encoding="utf-8")
    assert plain(in_kubernetes) == plain(in_compose)


# --- alerts -------------------------------------------------------------------------------


def test_the_alerts_name_metrics_and_labels_that_exist():
    text = (DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8")
    (group,) = yaml.safe_load(text)["groups"]
    expressions = " ".join(rule["expr"] for rule in group["rules"])
    samples = {"heatmap_etl_" + name for name, *_ in metrics._FAMILIES}
    assert set(re.findall(r"heatmap_etl_\w+", expressions)) <= samples
    assert len(group["rules"]) >= 4
    (verdicts,) = re.findall(r'verdict=~"(.*?)"', expressions)
    assert set(verdicts.split("|")) <= set(metrics._VERDICTS)
    kinds = "|".join(re.findall(r'kind=~?"(.*?)"', expressions)).split("|")
    assert {*kinds, NEEDS_ACCEPTANCE} == set(KINDS)
    for name in re.findall(r"`heatmap-etl ([a-z ]+)`|: heatmap-etl ([a-z]+)\"", text):
        parse("".join(name).split())


def test_each_alert_fires_when_it_should_and_is_silent_else():
    """By `alerts.test.yaml`, which must speak of every rule in both ways."""
    promtool, folder = reader("prometheus"), DEPLOY / "prometheus"
    done = run(promtool, "test", "rules", "alerts.test.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = yaml.safe_load((folder / "alerts.test.yaml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    (group,) = yaml.safe_load((folder / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    names = {rule["alert"] for rule in group["rules"]}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_every_file_says_how_it_was_tried():
    paths = [path for path in DEPLOY.rglob("*.yaml") if not path.name.endswith("test.yaml")]
    paths += DEPLOY.rglob("*.service")
    for path in [*paths, DEPLOY / "Dockerfile"]:
        head = path.read_text(encoding="utf-8").partition("\n\n")[0]
        assert re.search(r"[Nn]ot (built|run|applied|loaded)", head), path.name
