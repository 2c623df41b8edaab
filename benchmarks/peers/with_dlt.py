"""dlt as its documentation has it: the REST client, one resource, merge on id.

python with_dlt.py API_URL DATABASE_URL VIEWS.json FOLDER
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
from dlt.sources.helpers.rest_client import RESTClient

api_url, database_url, views, folder = sys.argv[1:5]
is_sqlite = database_url.startswith("sqlite")
# "upsert" is not slower on PostgreSQL; the SQLAlchemy destination has only delete-insert.
merge = {"disposition": "merge", "strategy": "delete-insert" if is_sqlite else "upsert"}


@dlt.resource(name="snapshots", primary_key="id", write_disposition=merge)
def snapshots() -> Iterator[list[dict[str, Any]]]:
    api = RESTClient(api_url, headers={"DD-API-KEY": "api", "DD-APPLICATION-KEY": "app"})
    for view in json.loads(Path(views).read_text(encoding="utf-8")):
        query = {"filter[view_name]": view, "page[limit]": 5000}
        answer = api.get("/api/v2/replay/heatmap/snapshots", params=query)
        yield [{"id": r["id"], **r["attributes"]} for r in answer.json()["data"]]


destination: Any = (
    dlt.destinations.sqlalchemy(credentials=database_url, create_primary_keys=True)
    if is_sqlite
    else dlt.destinations.postgres(credentials=database_url)
)
pipeline = dlt.pipeline(
    "bench",
    pipelines_dir=folder,
    destination=destination,
    # On SQLite any other name is a file of its own.
    dataset_name="main" if is_sqlite else "bench",
)
pipeline.run(snapshots())
