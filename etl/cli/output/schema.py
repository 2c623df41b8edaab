"""What `db upgrade` and `db status` found, for people."""

from __future__ import annotations

from etl.database import schema
from etl.database.migrations import SchemaState


def upgrade_line(database: str, before: SchemaState) -> str:
    """From which revision to which; `before`: what was there."""
    if before.state == "current":
        return f"{database}: already current, revision {before.revision}"
    if before.state == "unfinished":
        return f"{database}: finished what was cut short, now at revision {schema.HEAD}"
    was = f"from revision {before.revision}" if before.revision else "from nothing"
    return f"{database}: upgraded {was} to revision {schema.HEAD}"


def status_line(database: str, found: SchemaState, detail: str) -> str:
    """What is there; `detail`: what is missing, or what to do."""
    if found.state == "current":
        return f"{database}: current, revision {found.revision}"
    if found.state == "absent":
        advice = "`heatmap-etl sync` or `heatmap-etl db upgrade` creates the schema"
        return f"{database}: absent, {detail}; {advice}"
    return f"{found.state}: {detail}"
