"""Who may read the configuration, but not the keys, may look; who needs them is told."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.api import Api, record
from tests.support.people import OPERATOR, ROOT_USER, STRANGER, Done, Person, give, open_place

KEYS = "DD_API_KEY=planted-api-key-8f21\nDD_APP_KEY=planted-app-key-93c7\n"
LOOKING = [
    ["status"],
    ["status", "--max-age", "3h"],
    ["views", "list"],
    ["export", "sync_health"],
    ["db", "status"],
    ["db", "upgrade"],
]
WORKING = [["sync"], ["check"], ["schedule"], ["views", "discover"], ["sync", "--plan"]]


@pytest.fixture
def place(api: Api) -> Iterator[Path]:
    """/etc for one; the operator has read /home once into a file that everybody may read."""
    api.views["/home"] = [record("a")]
    with open_place() as place:
        give(place, OPERATOR, 0o755)
        give(place / "heatmap-etl.toml", OPERATOR, 0o644, config(api))
        give(place / ".env", OPERATOR, 0o600, KEYS)
        done = OPERATOR.run(["sync"], cwd=place)
        assert (done.code, done.err) == (0, "")
        yield place


def config(api: Api, database_url: str = 'database_url = "sqlite:///heatmap-etl.db"\n') -> str:
    return (
        f'{database_url}views = ["/home"]\nfiles.mode = "0644"\n[datadog]\napi_url = "{api.url}"\n'
    )


def looks(place: Path, arguments: Sequence[str], **env: str) -> Done:
    done = STRANGER.run(arguments, cwd=place, env=env)
    assert "planted" not in done.out + done.err
    return done


def test_a_dotenv_that_cannot_be_read_is_a_warning_where_no_key_is_needed(place: Path) -> None:
    for arguments in LOOKING:
        done = looks(place, arguments)
        assert done.code == 0, done.err
        assert done.err.count("\n") == 1
        assert f"{place}/.env: cannot be read: Permission denied" in done.err
        assert done.out, arguments


def test_it_is_an_error_where_keys_are_needed(place: Path) -> None:
    before = sorted(place.iterdir())
    for arguments in WORKING:
        done = looks(place, arguments)
        assert done.code == 2
        assert done.err.endswith(f" {place}/.env: cannot be read: Permission denied\n"), arguments
        assert done.err.count("\n") == 1
    assert sorted(place.iterdir()) == before


def test_a_monitor_is_told_nothing_that_needs_nobody(place: Path) -> None:
    done = looks(place, ["status", "--quiet", "--max-age", "3h"])
    assert (done.code, done.out, done.err) == (0, "", "")


def test_in_a_folder_of_sources_it_is_said_once(place: Path, api: Api) -> None:
    folder = give(place / "orgs", OPERATOR, 0o755)
    url = f'database_url = "sqlite:///{place}/heatmap-etl.db"\n'
    for name, source in (("a", "datadoghq.com"), ("b", "b")):  # the first has rows already
        text = config(api, url) + f'source = "{source}"\n'
        give(folder / f"{name}.toml", OPERATOR, 0o644, text)
    give(folder / ".env", OPERATOR, 0o600, KEYS)
    give(folder / "b.env", OPERATOR, 0o600, KEYS)
    for arguments in (["status"], ["export", "sync_health"]):
        done = looks(place, [*arguments, "--config", "orgs"])
        assert done.code == 0, done.err

        assert done.err.count("cannot be read") == 2


def test_a_key_file_that_cannot_be_read_concerns_only_who_needs_it(place: Path) -> None:
    (place / ".env").unlink()
    key = give(place / "dd_api_key", OPERATOR, 0o600, "planted-api-key-8f21")
    env = {"DD_API_KEY_FILE": str(key), "DD_APP_KEY": "planted-app-key-93c7"}
    for arguments in (["status"], ["views", "list"], ["db", "status"]):
        done = looks(place, arguments, **env)
        assert (done.code, done.err) == (0, ""), arguments
    for arguments in (["check"], ["views", "discover"]):
        done = looks(place, arguments, **env)
        assert done.code == 2
        assert f"DD_API_KEY_FILE: {key} cannot be read: Permission denied" in done.out + done.err


def test_who_looks_needs_no_key_of_the_hashes(place: Path, api: Api) -> None:
    hashed = config(api, 'database_url = "sqlite:///hashed.db"\n')
    hashed += '[privacy]\ncreated_by = "hash"\n'
    give(place / "heatmap-etl.toml", OPERATOR, 0o644, hashed)
    give(place / ".env", OPERATOR, 0o600, f"{KEYS}HEATMAP_ETL_HASH_KEY={'k' * 32}\n")
    assert OPERATOR.run(["sync"], cwd=place).code == 0
    for arguments in (["status"], ["views", "list"], ["db", "status"]):
        done = looks(place, arguments)
        assert done.code == 0, done.err
        assert "HASH_KEY" not in done.out + done.err, arguments
        assert "No run starts" not in done.out
    (place / ".env").unlink()
    assert "HEATMAP_ETL_HASH_KEY" in looks(place, ["sync"]).err


def test_where_the_url_may_stand_in_it_nobody_is_told_to_write_another(
    place: Path, api: Api
) -> None:
    give(place / "heatmap-etl.toml", OPERATOR, 0o644, config(api, ""))
    url = f"HEATMAP_ETL_DATABASE_URL=sqlite:///{place}/heatmap-etl.db\n"
    give(place / ".env", OPERATOR, 0o600, KEYS + url)
    assert OPERATOR.run(["status"], cwd=place).code == 0
    for arguments in (["status"], ["db", "upgrade"], ["sync"]):
        done = looks(place, arguments)
        assert done.code == 2
        assert "cannot be read: Permission denied" in done.err
        assert "the .env that cannot be read may hold it. Do not write another one" in done.err
        assert "write one" not in done.err


def test_a_line_that_cannot_be_read_stays_an_error(place: Path) -> None:
    """It may be that of the database: nobody shall look at another one."""
    give(place / ".env", OPERATOR, 0o644, 'HEATMAP_ETL_DATABASE_URL="sqlite:///x.db\n')
    done = OPERATOR.run(["status"], cwd=place)
    assert done.code == 2
    assert "line 1 cannot be read" in done.err
    # Another user does not look into it at all.
    done = looks(place, ["status"])
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{place}/.env: is not used: it belongs to another user (uid 20001)" in done.err


@pytest.mark.parametrize("person", [OPERATOR, ROOT_USER], ids=["user", "root"])
def test_no_folder_of_another_sends_the_keys_of_the_environment_elsewhere(
    place: Path, api: Api, person: Person
) -> None:
    """Who has the keys in the environment happens to be there; the stranger waits for them."""
    before = len(api.requests)
    keys = {"DD_API_KEY": "planted-api-key-8f21", "DD_APP_KEY": "planted-app-key-93c7"}
    keys["HEATMAP_ETL_VIEWS"], keys["DATABASE_URL"] = '["/home"]', "sqlite:////nowhere/x.db"
    trap = give(place / "trap", STRANGER, 0o777)
    for line in (f"DD_API_URL={api.url}", f"HTTPS_PROXY={api.url}", "SSL_CERT_FILE=x"):
        dotenv = give(trap / ".env", STRANGER, 0o666, f"{line}\n")
        for command in (["check"], ["sync"], ["views", "discover"]):
            done = person.run(command, cwd=trap, env=keys)
            assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
            assert f"{dotenv}: is not used: it belongs to another user" in done.err
    # Also where he took what is his: a copy of somebody's project.
    own = give(place / "own", person, 0o755)
    give(own / ".env", person, 0o600, f"DD_API_URL={api.url}\nHTTPS_PROXY={api.url}\n")
    os.chown(place, person.uid, person.uid)
    done = person.run(["check"], cwd=own, env=keys)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "DD_API_URL and HTTPS_PROXY would send data elsewhere" in done.err
    assert len(api.requests) == before


def test_a_configuration_in_a_closed_folder_is_one_line(place: Path, api: Api) -> None:
    give(place / "closed", OPERATOR, 0o700)
    give(place / "closed" / "heatmap-etl.toml", OPERATOR, 0o644, config(api))
    for path, reason in (
        ("closed/heatmap-etl.toml", f"{place}/closed/heatmap-etl.toml: cannot be read: Permission"),
        ("closed", "Path 'closed' is not readable"),
    ):
        done = looks(place, ["status", "--config", path])
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert reason in done.err


def test_a_database_in_a_closed_folder_is_not_taken_for_missing(place: Path, api: Api) -> None:
    give(place / "state", OPERATOR, 0o700)
    url = 'database_url = "sqlite:///state/heatmap-etl.db"\n'
    give(place / "heatmap-etl.toml", OPERATOR, 0o644, config(api, url))
    assert OPERATOR.run(["sync"], cwd=place).code == 0
    for arguments in (["status"], ["db", "status"], ["export", "sync_health"]):
        done = looks(place, arguments)
        assert done.code == 2
        last = done.err.splitlines()[-1]
        assert (
            f"(database_url of {place}/heatmap-etl.toml): this user may not enter its folder"
            in last
        )
