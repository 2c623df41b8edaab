"""The rows of other views for W6: ten for each that is watched, and twenty-five of history.

Made inside the database from the rows that are there. Their ids differ at the end only, so that
in every index they stand between the ids that a run looks for, as random ids would. They belong
to ten times as many views, each of the size of the one it is made from.
"""

from benchmarks.data import Size
from benchmarks.databases import Databases
from benchmarks.truth import WrongContent
from etl.database.schema import snapshot_history, snapshots

ROWS = 10  # for each row
VERSIONS = (10, 10, 5)  # so many of these have a first, a second, a third version in the history
MARK = "the crowd "
NOT_THE_CROWD = f"substr(synced_view, 1, {len(MARK)}) <> '{MARK}'"
THE_CROWD = NOT_THE_CROWD.replace("<>", "=")


def crowd(databases: Databases, url: str, size: Size) -> None:
    """Raises `ValueError` when the rows of `size` are not in the database, or not alone."""
    ((found,),) = databases.rows(url, "SELECT count(*) FROM snapshots")
    if found != sum(size.counts()):
        raise ValueError(f"{found} rows to copy, {sum(size.counts())} expected")
    for number in range(ROWS):
        databases.run(url, _rows(databases.dialect, number))
    for version, rows in enumerate(VERSIONS, 1):
        for number in range(rows):
            databases.run(url, _history(databases.dialect, number, version))
    databases.settle(url)


def require_crowd(databases: Databases, url: str, size: Size) -> None:
    """Raises `WrongContent` when a row of it is gone, or was written by a run."""
    of_each = {"snapshots": [1 + len(VERSIONS)] * ROWS, "snapshot_history": _versions()}
    for table, versions in of_each.items():
        expected = sum(size.counts()) * len(versions), sum(size.counts()) * sum(versions)
        counted = f"SELECT count(*), coalesce(sum(version), 0) FROM {table} WHERE {THE_CROWD}"
        if table == "snapshots":
            counted += " AND removed_at IS NULL AND missing_since IS NULL"
        (found,) = databases.rows(url, counted)
        if tuple(map(int, found)) != expected:
            made = f"{expected} were made (rows, sum of their versions)"
            raise WrongContent(f"of the crowd in {table} there are {tuple(found)}, {made}")


def _versions() -> list[int]:
    return [version for version, rows in enumerate(VERSIONS, 1) for _ in range(rows)]


def _rows(dialect: str, number: int) -> str:
    names = [column.name for column in snapshots.columns]
    values = _values(dialect, number) | {"version": str(1 + len(VERSIONS))}
    return _insert("snapshots", names, values)


def _history(dialect: str, number: int, version: int) -> str:
    names = [column.name for column in snapshot_history.columns]
    values = _values(dialect, number)
    values |= {"snapshot_id": values["id"], "version": str(version)}
    values |= {"valid_to": "valid_from", "ended": "'changed'"}
    return _insert("snapshot_history", names, values)


def _values(dialect: str, number: int) -> dict[str, str]:
    def ending(name: str, length: int) -> str:
        # No hexadecimal digit at its beginning: it is the end of no other id.
        return joined(f"substr({name}, 1, {length - 4})", f"'x{number:03d}'")

    def joined(*texts: str) -> str:
        return f"concat({', '.join(texts)})" if dialect == "mariadb" else " || ".join(texts)

    return {
        "id": ending("id", 36),
        "view_key": ending("view_key", 32),
        "synced_view": joined(f"'{MARK}{number:03d} '", "synced_view"),
    }


def _insert(table: str, names: list[str], values: dict[str, str]) -> str:
    selected = ", ".join(values.get(name, name) for name in names)
    return (
        f"INSERT INTO {table} ({', '.join(names)}) SELECT {selected} FROM snapshots"
        f" WHERE {NOT_THE_CROWD} ORDER BY id"
    )
