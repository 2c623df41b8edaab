"""What `db upgrade` and `db status` do and say."""

from __future__ import annotations

from etl.database import schema
from etl.database.connection import Database, is_there
from etl.database.migrations import found_schema, require_schema, upgrade
from etl.errors import DatabaseUnreachable, SchemaMismatch


def upgraded(database: Database) -> str:
    """Upgrade the schema; says from which revision to which."""
    before = found_schema(database)
    if before.state in ("newer", "foreign"):
        require_schema(database)
    if before.state == "current":
        return f"{database.label}: already current, revision {before.revision}"
    upgrade(database)
    if before.state == "unfinished":
        return f"{database.label}: finished what was cut short, now at revision {schema.HEAD}"
    was = f"from revision {before.revision}" if before.revision else "from nothing"
    return f"{database.label}: upgraded {was} to revision {schema.HEAD}"


def schema_line(database: Database) -> tuple[str, int]:
    """What stands in the database, and 0 (current), 1 (to be upgraded) or 2 (not to be used)."""
    found = found_schema(database)
    if found.state == "current":
        return f"{database.label}: current, revision {found.revision}", 0
    if found.state == "absent":
        _require_folder(database)
        there = "no tables of ours" if is_there(database) else "no such file yet"
        advice = "`heatmap-etl sync` or `heatmap-etl db upgrade` creates the schema"
        return f"{database.label}: absent, {there}; {advice}", 1
    try:
        require_schema(database)
    except SchemaMismatch as error:
        return f"{found.state}: {error}", 2 if found.state in ("newer", "foreign") else 1
    return f"{database.label}: current", 0


def _require_folder(database: Database) -> None:
    """A SQLite file that is not there can be made only in a folder that is."""
    if database.file and not database.file.parent.is_dir():
        advice = f"the folder {database.file.parent} does not exist; make it"
        raise DatabaseUnreachable(f"cannot open the database {database.label}: {advice}")
