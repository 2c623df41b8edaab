"""`Organization` for a caller that keeps its state in `OtherViews`."""

from __future__ import annotations

from sqlalchemy import Connection

from etl.load.diff import OtherViews
from etl.source import identity
from etl.source.identity import Organization
from etl.transform.snapshot import Decoded


def bind(connection: Connection, source: str, decoded: Decoded, others: OtherViews) -> None:
    """`recognise`, and bind the source to the organization where it was not yet."""
    was_bound = others.org_id is not None
    recognise(source, decoded, others)
    if not was_bound and others.org_id is not None:
        identity.bind(connection, source, others.org_id)


def recognise(source: str, decoded: Decoded, others: OtherViews) -> None:
    """Keep in `others` what `Organization.recognise` found; raises `SourceMismatch`."""
    organization = Organization(others.org_id, others.is_organization_seen)
    organization.recognise(source, decoded)
    others.org_id = organization.org_id
    others.is_organization_seen = organization.is_seen
