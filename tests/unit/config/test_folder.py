"""A folder of configurations, one for each source."""

from pathlib import Path

import pytest

from etl.config.credentials import Keys
from etl.config.load import load_config, load_configs
from etl.config.model import Config
from etl.errors import ConfigError


def write(folder: Path, name: str, *, source: str | None = None, text: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    label = source if source is not None else name
    lines = ['database_url = "sqlite:///x.db"', 'views = ["/home"]', text, "[datadog]"]
    lines += [f'source = "{label}"'] if label else []
    lines += [f'api_key_env = "{name.upper()}_API_KEY"', f'app_key_env = "{name.upper()}_APP_KEY"']
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def plain(folder: Path, name: str, text: str = "") -> Path:
    """A file that names no variables of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.toml"
    base = 'database_url = "sqlite:///x.db"\nviews = ["/home"]\n'
    path.write_text(f'{base}[datadog]\nsource = "{name}"\n{text}', encoding="utf-8")
    return path


def dotenv(folder: Path, name: str, **values: str) -> None:
    path = folder / name
    path.write_text("".join(f"{n}={v}\n" for n, v in values.items()), encoding="utf-8")
    path.chmod(0o600)


def load(folder: Path, **environ: str) -> list[Config]:
    return load_configs(folder, environ, cwd=folder.parent)


def problems(folder: Path, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, **environ)
    assert all("\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


def test_each_file_of_a_folder_is_a_source(tmp_path: Path) -> None:
    folder = tmp_path / "orgs"
    for name in ("b", "a"):
        write(folder, name)
    for other in (".hidden.toml", "c.toml.bak", "notes.txt"):
        (folder / other).write_text("broken = [")
    configs = load(folder)
    assert [c.source for c in configs] == ["a", "b"]
    assert [c.neighbours for c in configs] == [("b",), ("a",)]
    assert {c.database_label for c in configs} == {f"sqlite:///{folder}/x.db"}
    named = {"HEATMAP_ETL_CONFIG": "orgs"}
    assert load_configs(None, named, cwd=tmp_path) == configs


def test_a_file_is_one_source(tmp_path: Path) -> None:
    path = write(tmp_path, "a")
    assert load_configs(path, {}) == [load_config(path, {})]
    assert load(tmp_path) == [load_config(path, {})]


def test_where_one_file_is_wanted_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; name one of the files in it"):
        load_config(tmp_path, {})


def test_a_folder_without_files_says_so(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path)
    assert problem.startswith(f"{tmp_path}: holds no *.toml; ")


def test_all_problems_of_all_files_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a", text="colour = 1")
    write(tmp_path, "b", text="[lease]\nseconds = 0")
    (tmp_path / "c.toml").write_text("broken = [")
    write(tmp_path, "d")
    found = problems(tmp_path)
    assert [p.split(": ")[0] for p in found] == [str(tmp_path / f"{n}.toml") for n in "abc"]
    assert "colour" in found[0]
    assert "lease.seconds" in found[1]


@pytest.mark.parametrize("label", ["same", ""])
def test_one_label_twice_in_a_database_is_refused(tmp_path: Path, label: str) -> None:
    write(tmp_path, "a", source=label)
    write(tmp_path, "b", source=label)
    (problem,) = problems(tmp_path)
    wanted = (str(tmp_path / "a.toml"), str(tmp_path / "b.toml"), 'datadog.source = "..."')
    assert all(text in problem for text in wanted)


def test_one_label_in_two_databases_is_fine(tmp_path: Path) -> None:
    write(tmp_path, "a", source="same")
    path = write(tmp_path, "b", source="same")
    path.write_text(path.read_text().replace("x.db", "y.db"))
    assert [c.source for c in load(tmp_path)] == ["same", "same"]


def test_keys_by_variables_of_each_file(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    dotenv(tmp_path, ".env", A_API_KEY="1", A_APP_KEY="2", B_API_KEY="3")
    found = load(tmp_path, B_APP_KEY="4", B_API_KEY="5")
    assert [c.keys for c in found] == [Keys("1", "2"), Keys("5", "4")]


def test_keys_by_a_dotenv_of_each_file(tmp_path: Path) -> None:
    for name in "ab":
        plain(tmp_path, name)
    dotenv(tmp_path, ".env", DD_API_KEY="shared", DD_APP_KEY="shared")
    dotenv(tmp_path, "b.env", DD_API_KEY="b", DD_APP_KEY="b")
    assert [c.keys for c in load(tmp_path)] == [Keys("shared", "shared"), Keys("b", "b")]
    assert load_config(tmp_path / "b.toml", {}).keys == Keys("b", "b")


def test_a_dotenv_of_a_file_hides_a_key_file_of_the_shared_one(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    dotenv(tmp_path, ".env", DD_API_KEY_FILE="none", DD_APP_KEY="shared")
    dotenv(tmp_path, "a.env", DD_API_KEY="mine")
    assert load(tmp_path)[0].keys == Keys("mine", "shared")


def test_an_open_dotenv_of_a_file_warns(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    dotenv(tmp_path, "a.env", DD_API_KEY="mine")
    (tmp_path / "a.env").chmod(0o644)
    (warning,) = load(tmp_path)[0].warnings
    assert "chmod 600" in warning
    assert "a.env" in warning


def test_two_sources_with_the_same_keys_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        plain(tmp_path, name)
        dotenv(tmp_path, f"{name}.env", DD_API_KEY=name, DD_APP_KEY=name)
    assert len(load(tmp_path)) == 2
    (problem,) = problems(tmp_path, DD_API_KEY="secret-1", DD_APP_KEY="secret-2")
    assert all(text in problem for text in ("a.toml", "b.toml", "same keys", "a.env and b.env"))
    assert "secret" not in problem
    (problem,) = problems(tmp_path, DD_BEARER_TOKEN="secret-3")
    assert "secret" not in problem


def test_the_same_keys_at_another_api_are_others(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    plain(tmp_path, "b", 'site = "datadoghq.eu"\n')
    assert len(load(tmp_path, DD_API_KEY="1", DD_APP_KEY="2")) == 2


@pytest.mark.parametrize("name", ["SOURCE", "SITE", "API_URL", "API_KEY_ENV"])
def test_a_variable_that_makes_all_sources_the_same_is_refused(tmp_path: Path, name: str) -> None:
    values = {"SOURCE": "s", "SITE": "datadoghq.eu", "API_URL": "https://a.example"}
    environ = {f"HEATMAP_ETL_DATADOG_{name}": values.get(name, "SOME_NAME")}
    write(tmp_path, "a")
    assert len(load(tmp_path, **environ)) == 1
    write(tmp_path, "b")
    found = problems(tmp_path, **environ)
    assert found[0].startswith(f"HEATMAP_ETL_DATADOG_{name}: would make every source")
    dotenv(tmp_path, ".env", **environ)
    assert problems(tmp_path)[0] == found[0]
    (tmp_path / ".env").unlink()
    dotenv(tmp_path, "a.env", **environ)
    assert len(load(tmp_path)) == 2


def test_one_variable_for_the_database_of_all(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    found = load(tmp_path, HEATMAP_ETL_DATABASE_URL="sqlite:///z.db")
    assert {c.database_label for c in found} == {f"sqlite:///{tmp_path}/z.db"}


def test_warnings_name_their_file_or_are_said_once(tmp_path: Path) -> None:
    write(tmp_path, "a", text='views = ["/home"]'.replace("views", "#"))
    path = write(tmp_path, "b")
    path.write_text(path.read_text() + 'site = "datadog.example"\n')
    first, second = load(tmp_path, HEATMAP_ETL_COLOUR="1")
    assert [w.split(":")[0] for w in first.warnings] == ["HEATMAP_ETL_COLOUR"]
    assert [w.startswith(f"{path}: datadog.site: ") for w in second.warnings] == [True]
