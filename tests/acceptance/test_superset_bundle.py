"""The bundle for Superset: whole, of one piece, and about columns that exist."""

import importlib.util
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.database.sql_views import metadata
from tests.support.paths import ROOT

HERE = ROOT / "dashboards" / "superset"
BUNDLE = HERE / "bundle"


def load(name: str) -> Any:
    """A module beside the bundle, which is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCUMENTS = {
    file.relative_to(BUNDLE).as_posix(): yaml.safe_load(file.read_text(encoding="utf-8"))
    for file in sorted(BUNDLE.rglob("*.yaml"))
}


def of(folder: str) -> dict[str, dict]:
    return {
        Path(name).stem: document
        for name, document in DOCUMENTS.items()
        if name.startswith(f"{folder}/")
    }


DATASETS, CHARTS = of("datasets"), of("charts")
(DASHBOARD,) = of("dashboards").values()
(DATABASE,) = of("databases").values()
NAMES_OF = {document["uuid"]: name for name, document in DATASETS.items()}


def test_it_holds_what_an_import_needs():
    assert DOCUMENTS["metadata.yaml"]["type"] == "assets"
    assert {document["version"] for document in DOCUMENTS.values()} == {"1.0.0"}
    assert len(CHARTS) >= 10
    assert set(DATASETS) == set(metadata.tables)


def test_every_uuid_is_there_once():
    uuids = [d["uuid"] for name, d in DOCUMENTS.items() if name != "metadata.yaml"]
    assert len(set(uuids)) == len(uuids) == len(DOCUMENTS) - 1


def test_titles_are_unique():
    titles = [chart["slice_name"] for chart in CHARTS.values()]
    assert len(set(titles)) == len(titles)


def test_a_dataset_stands_on_the_database_and_a_chart_on_a_dataset():
    assert {document["database_uuid"] for document in DATASETS.values()} == {DATABASE["uuid"]}
    assert {chart["dataset_uuid"] for chart in CHARTS.values()} <= set(NAMES_OF)


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_is_what_the_catalogue_says(name):
    """`make docs` writes them anew."""
    written = (BUNDLE / "datasets" / f"{name}.yaml").read_text(encoding="utf-8")
    assert written == load("datasets").text_of(metadata.tables[name])
    columns = {c["column_name"]: c for c in DATASETS[name]["columns"]}
    assert list(columns) == list(metadata.tables[name].columns.keys())
    assert all(column["description"] for column in columns.values())
    assert columns[DATASETS[name]["main_dttm_col"]]["is_dttm"]


def used_columns(params: dict[str, Any]) -> set[str]:
    found = set(params.get("all_columns", []))
    groups = params.get("groupby", [])
    found |= {groups} if isinstance(groups, str) else set(groups)
    found |= {params["x_axis"]} if "x_axis" in params else set()
    found |= {f["subject"] for f in params["adhoc_filters"] if f["expressionType"] == "SIMPLE"}
    return found | {yaml.safe_load(order)[0] for order in params.get("order_by_cols", [])}


def used_metrics(params: dict[str, Any]) -> set[str]:
    found = set(params.get("metrics", []))
    found |= {params[key] for key in ("metric", "timeseries_limit_metric") if key in params}
    return found


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_uses_columns_and_metrics_that_exist(name):
    params = CHARTS[name]["params"]
    assert params["viz_type"] == CHARTS[name]["viz_type"]
    view = NAMES_OF[CHARTS[name]["dataset_uuid"]]
    columns = set(metadata.tables[view].columns.keys())
    metrics = {metric["metric_name"] for metric in DATASETS[view]["metrics"]}
    assert used_columns(params) | used_metrics(params)
    assert used_columns(params) <= columns
    assert used_metrics(params) <= metrics
    assert set(params.get("column_config", {})) <= columns | metrics


def test_no_chart_renders_text_of_the_database_as_html():
    tables = [chart["params"] for chart in CHARTS.values() if chart["viz_type"] == "table"]
    assert tables
    assert all(params["allow_render_html"] is False for params in tables)
    assert {chart["viz_type"] for chart in CHARTS.values()} <= {
        "big_number_total",
        "echarts_timeseries_bar",
        "heatmap_v2",
        "table",
    }


def test_the_page_holds_each_chart_once_under_its_title():
    position = DASHBOARD["position"]
    placed = [item for item in position.values() if isinstance(item, dict)]
    boxes = [item for item in placed if item["type"] == "CHART"]
    titles = {chart["uuid"]: chart["slice_name"] for chart in CHARTS.values()}
    assert sorted(box["meta"]["uuid"] for box in boxes) == sorted(titles)
    assert all(box["meta"]["sliceName"] == titles[box["meta"]["uuid"]] for box in boxes)
    numbers = [box["meta"]["chartId"] for box in boxes]
    assert len(set(numbers)) == len(numbers)
    for row in (item for item in placed if item["type"] == "ROW"):
        assert sum(position[child]["meta"]["width"] for child in row["children"]) == 12
    children = [child for item in placed for child in item.get("children", [])]
    inside = [item["id"] for item in placed if item["type"] not in ("ROOT", "HEADER")]
    assert sorted(children) == sorted(inside)


def test_coverage_against_traffic_comes_right_below_the_numbers():
    position = DASHBOARD["position"]
    second = position[position["GRID_ID"]["children"][1]]
    titles = [position[child]["meta"]["sliceName"] for child in second["children"]]
    assert titles == [
        "Busiest views without a snapshot",
        "Busiest views whose newest snapshot is older than 90 days",
    ]


def test_a_filter_is_about_a_column_of_its_dataset():
    filters = DASHBOARD["metadata"]["native_filter_configuration"]
    assert filters
    for each in filters:
        for target in each["targets"]:
            view = metadata.tables[NAMES_OF[target["datasetUuid"]]]
            assert target["column"]["name"] in view.columns


def test_devices_and_events_have_colours_of_their_own():
    colours = DASHBOARD["metadata"]["label_colors"]
    for names in (("desktop", "mobile", "tablet"), ("added", "changed", "removed", "returned")):
        assert len({colours[name] for name in names}) == len(names)


def test_every_chart_is_compared_with_sql():
    compared = load("expected").CHARTS
    assert set(compared) == {chart["slice_name"] for chart in CHARTS.values()}


def test_the_database_is_to_be_named_by_whoever_imports_it():
    assert DATABASE["sqlalchemy_uri"].startswith("sqlite:////path/to/")
    assert "password" not in str(DATABASE)


def test_the_lock_names_versions_and_hashes_and_no_host():
    lock = (HERE / "requirements.lock").read_text(encoding="utf-8")
    packages = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(packages) > 100
    assert all("==" in line for line in packages)
    assert lock.count("--hash=sha256:") > len(packages)
    assert "://" not in lock
    assert "apache-superset==6.1.0" in lock


def test_the_bundle_is_packed_with_the_address_of_the_database():
    packed = load("server").bundle("postgresql+psycopg2://me@db/heatmaps")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        names = set(archive.namelist())
        database = yaml.safe_load(archive.read("heatmaps/databases/heatmaps.yaml"))
    assert names == {f"heatmaps/{name}" for name in DOCUMENTS}
    assert database["sqlalchemy_uri"] == "postgresql+psycopg2://me@db/heatmaps"
    assert database["uuid"] == DATABASE["uuid"]
