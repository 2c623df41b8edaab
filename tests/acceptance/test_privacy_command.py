"""The privacy setting as a person meets it: configuration, `privacy apply`, `status`, `check`."""

import json
from pathlib import Path

import pytest

from etl.cli.app import main
from etl.config.load import load_config
from etl.errors import ConfigError
from tests.support.api import Api, record

KEY = "planted-hash-key-4711"
DATADOG_KEYS = {"DD_API_KEY": "api-key", "DD_APP_KEY": "app-key"}


def write(folder: Path, api_url: str, created_by: str) -> None:
    (folder / "heatmap-etl.toml").write_text(
        'database_url = "sqlite:///x.db"\nviews = ["/home"]\n'
        f'[datadog]\napi_url = "{api_url}"\n[privacy]\ncreated_by = "{created_by}"\n'
    )


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in DATADOG_KEYS.items():
        monkeypatch.setenv(name, value)


def test_from_keep_to_hash_as_a_person_does_it(
    tmp_path: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.views["/home"] = [record("a"), record(None)]
    write(tmp_path, api.url, "keep")
    assert main(["sync"]) == 0
    write(tmp_path, api.url, "hash")
    (tmp_path / ".env").write_text(f"HEATMAP_ETL_HASH_KEY={KEY}\n")
    (tmp_path / ".env").chmod(0o600)
    capsys.readouterr()
    for command in (["sync"], ["sync", "--plan"], ["check"]):
        assert main(command) == 2
        found = capsys.readouterr()
        assert "heatmap-etl privacy apply" in found.out + found.err
    assert main(["status"]) == 0
    assert "No run starts" in capsys.readouterr().out
    assert main(["privacy", "apply"]) == 0
    found = capsys.readouterr()
    assert 'is now "hash"; rewritten: 1 row, 1 reject' in found.out
    assert KEY not in found.out + found.err
    for command in (["sync"], ["sync", "--full", "--json"], ["check"], ["privacy", "apply"]):
        assert main(command) == 0
    capsys.readouterr()
    assert main(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["privacy"] == {"configured": "hash", "stored": "hash", "problem": ""}


def test_without_a_database_there_is_nothing_to_apply(
    tmp_path: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, api.url, "drop")
    assert main(["privacy", "apply"]) == 2
    assert "\n" not in capsys.readouterr().err.rstrip("\n")
    assert not (tmp_path / "x.db").exists()


def test_it_stands_under_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "privacy" in capsys.readouterr().out.partition("More:")[2]


# --- the key ------------------------------------------------------------------------------

TEXT = 'database_url = "sqlite:///x.db"\nviews = ["/home"]\n[privacy]\ncreated_by = "hash"\n'


def problem(folder: Path, environ: dict[str, str]) -> str:
    path = folder / "heatmap-etl.toml"
    path.write_text(TEXT)
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ)
    (found,) = caught.value.problems
    return found


def test_hash_needs_a_key_of_some_length(tmp_path: Path) -> None:
    assert "set HEATMAP_ETL_HASH_KEY or" in problem(tmp_path, {})
    assert "16 characters" in problem(tmp_path, {"HEATMAP_ETL_HASH_KEY": "planted-short"})
    assert "planted" not in problem(tmp_path, {"HEATMAP_ETL_HASH_KEY": "planted-short"})
    assert "16 characters" in problem(tmp_path, {"HEATMAP_ETL_HASH_KEY": " " * 20})
    missing = {"HEATMAP_ETL_HASH_KEY_FILE": "nowhere"}
    assert "does not exist" in problem(tmp_path, missing)
    both = {"HEATMAP_ETL_HASH_KEY": KEY, "HEATMAP_ETL_HASH_KEY_FILE": "key"}
    assert "only one of" in problem(tmp_path, both)


def test_the_key_comes_from_the_environment_a_dotenv_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "heatmap-etl.toml"
    path.write_text(TEXT)
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "key").chmod(0o600)
    for environ in ({"HEATMAP_ETL_HASH_KEY": KEY}, {"HEATMAP_ETL_HASH_KEY_FILE": "key"}):
        config = load_config(path, environ)
        assert (config.created_by, config.hash_key, config.warnings) == ("hash", KEY, ())
        assert KEY not in repr(config)
    (tmp_path / ".env").write_text(f"HEATMAP_ETL_HASH_KEY={KEY}\n")
    (tmp_path / ".env").chmod(0o644)
    config = load_config(path, {})
    assert config.hash_key == KEY
    assert any("chmod 600" in warning for warning in config.warnings)


@pytest.mark.parametrize("created_by", ["keep", "drop"])
def test_others_need_no_key(tmp_path: Path, created_by: str) -> None:
    path = tmp_path / "heatmap-etl.toml"
    path.write_text(TEXT.replace("hash", created_by))
    config = load_config(path, {"HEATMAP_ETL_HASH_KEY": "x"})
    assert (config.created_by, config.hash_key) == (created_by, "")
