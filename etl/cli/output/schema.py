"""The lines of `db upgrade` and `db status`."""

from __future__ import annotations

from etl.database import schema
from etl.database.migrations import SchemaState
from etl.formatting import many


def upgrade_line(database: str, before: SchemaState, comments: int) -> str:
    """What an upgrade did; `before`: the schema it began with; `comments`: how many it changed."""
    if before.state == "current":
        updated = f"; {many(comments, 'comment')} brought up to date" if comments else ""
        return f"{database}: already current, revision {before.revision}{updated}"
    if before.state == "unfinished":
        return f"{database}: finished an interrupted upgrade, now at revision {schema.HEAD}"
    origin = f"from revision {before.revision}" if before.revision else "from nothing"
    return f"{database}: upgraded {origin} to revision {schema.HEAD}"


def status_line(database: str, schema_state: SchemaState, detail: str) -> str:
    """The state of the schema; `detail`: what is missing, or what to do."""
    if schema_state.state == "current":
        return f"{database}: current, revision {schema_state.revision}"
    if schema_state.state == "absent":
        advice = "`heatmap-etl sync` or `heatmap-etl db upgrade` creates the schema"
        return f"{database}: absent, {detail}; {advice}"
    return f"{schema_state.state}: {detail}"
