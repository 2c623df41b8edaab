"""The official client with an ORM: each record becomes an object that is merged.

python official.py API_URL DATABASE_URL VIEWS.json
"""

import json
import sys
from datetime import datetime
from pathlib import Path

from datadog_api_client import ApiClient, Configuration
from datadog_api_client.v2.api.rum_replay_heatmaps_api import RumReplayHeatmapsApi
from sqlalchemy import BigInteger, DateTime, String, Text, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True), int: BigInteger, str: Text}  # noqa: RUF012


class Snapshot(Base):
    __tablename__ = "snapshots"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    application_id: Mapped[str | None]
    created_at: Mapped[datetime | None]
    created_by: Mapped[str | None]
    created_by_handle: Mapped[str | None]
    created_by_user_id: Mapped[int | None]
    device_type: Mapped[str | None]
    event_id: Mapped[str | None]
    is_device_type_selected_by_user: Mapped[bool | None]
    modified_at: Mapped[datetime | None]
    org_id: Mapped[int | None]
    session_id: Mapped[str | None]
    snapshot_name: Mapped[str | None]
    start: Mapped[int | None]
    view_id: Mapped[str | None]
    view_name: Mapped[str | None]


NAMES = [name for name in Snapshot.__table__.columns.keys() if name != "id"]  # noqa: SIM118


def main(api_url: str, database_url: str, views: list[str]) -> None:
    engine = create_engine(database_url)
    Base.metadata.create_all(engine)
    configuration = Configuration(host=api_url)
    configuration.api_key = {"apiKeyAuth": "api", "appKeyAuth": "app"}
    with ApiClient(configuration) as client, Session(engine) as session:
        api = RumReplayHeatmapsApi(client)
        for view in views:
            for record in api.list_replay_heatmap_snapshots(view, page_limit=5000).data:
                values = {name: record.attributes.get(name) for name in NAMES}
                session.merge(Snapshot(id=record.id, **values))
            session.commit()


main(sys.argv[1], sys.argv[2], json.loads(Path(sys.argv[3]).read_text(encoding="utf-8")))
