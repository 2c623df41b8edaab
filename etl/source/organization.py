"""A source is one organization: the first one whose records were seen (rule 8)."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, update

from etl.database.schema import sources
from etl.errors import SourceMismatch
from etl.load.diff import OtherViews
from etl.transform.snapshot import Decoded


def bind(connection: Connection, source: str, decoded: Decoded, others: OtherViews) -> None:
    """`recognise`, and bind the source to the organization where it was not yet."""
    was_bound = others.org_id is not None
    recognise(source, decoded, others)
    if not was_bound and others.org_id is not None:
        connection.execute(
            update(sources).where(sources.c.source == source).values(org_id=others.org_id)
        )


def recognise(source: str, decoded: Decoded, others: OtherViews) -> None:
    """Take note of the organization of a listing, or hold the listing against it.

    Raises `SourceMismatch` when the records name organizations, and none of
    them is the one the source is bound to. A single odd record proves nothing.
    """
    named = Counter(s.org_id for s in decoded.snapshots if s.org_id is not None)
    if not named:
        return
    if others.org_id is None:
        others.org_id = max(named, key=lambda org_id: (named[org_id], -org_id))
    elif others.org_id not in named:
        raise SourceMismatch(
            f"these keys belong to another organization: the API listed records of org_id"
            f" {min(named)}, the rows of source {source} are of org_id {others.org_id};"
            " use that organization's keys, or another datadog.source for these"
        )
    others.is_organization_seen = True
