"""One upgrade at a time in a Galera cluster, where a lock of GET_LOCK is known to one node only.

A row says who upgrades. Two nodes that write it at once conflict when they commit, and one of them
has to repeat: it finds the row of the other. The table is there as long as an upgrade.
"""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from etl.database import upgrade_wait

_TABLE = "heatmap_etl_upgrade_lock"
_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {_TABLE} (id INT NOT NULL PRIMARY KEY, node VARCHAR(64) NOT NULL,"
    " session BIGINT NOT NULL, expires_at DATETIME(6) NOT NULL) ENGINE=InnoDB"
)
_READ = f"SELECT node, session, expires_at <= UTC_TIMESTAMP(6) FROM {_TABLE} WHERE id = 1"  # noqa: S608
_EXPIRY = f"UTC_TIMESTAMP(6) + INTERVAL {upgrade_wait.WAIT_S} SECOND"
_INSERT = text(f"INSERT INTO {_TABLE} VALUES (1, :node, :session, {_EXPIRY})")  # noqa: S608
_REPLACE = text(
    f"UPDATE {_TABLE} SET node = :node, session = :session, expires_at = {_EXPIRY}"  # noqa: S608
    " WHERE id = 1 AND node = :of_node AND session = :of_session"
)
_CONFLICTS = {1213, 1205}
_LOST_RACES = {*_CONFLICTS, 1062, 1146, 1050}


def is_cluster(connection: Connection) -> bool:
    """Whether other nodes write, too; asked once for each connection to the server."""
    found = connection.info.get("galera")
    if found is None:
        row = connection.exec_driver_sql("SHOW VARIABLES LIKE 'wsrep_on'").one_or_none()
        found = connection.info["galera"] = row is not None and row[1] == "ON"
    return bool(found)


def lock_upgrade(connection: Connection, label: str) -> bool:
    """Wait for the right to upgrade, in all of the cluster; returns whether it was granted.

    This node's own GET_LOCK is held: a row of a session of this node is one of a dead session.
    One of another node is waited for, and taken for dead after a while. Commits.
    """
    return any(_try_to_lock(connection) for _ in upgrade_wait.looks(label))


def is_upgrading(connection: Connection) -> bool:
    """Whether a session of another node upgrades, as far as this login may know."""
    try:
        row = connection.exec_driver_sql(_READ).one_or_none()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return _is_one_of(_CONFLICTS, error)  # with the upgrade, as it ends
    return row is not None and row[0] != _this_session(connection)[0] and not row[2]


def unlock_upgrade(connection: Connection) -> None:
    """Give the right back. Commits; where it fails, the right ends by itself."""
    row = connection.exec_driver_sql(_READ).one_or_none()
    if row is not None and row[:2] == _this_session(connection):
        connection.exec_driver_sql(f"DROP TABLE {_TABLE}")


def _try_to_lock(connection: Connection) -> bool:
    try:
        connection.exec_driver_sql(_CREATE)
        is_taken = _take(connection)
        connection.exec_driver_sql("COMMIT")
    except DBAPIError as error:
        if error.connection_invalidated or not _is_one_of(_LOST_RACES, error):
            raise
        connection.exec_driver_sql("ROLLBACK")
        return False
    return is_taken


def _is_one_of(numbers: set[int], error: DBAPIError) -> bool:
    return error.orig is not None and error.orig.args[:1] in {(number,) for number in numbers}


def _take(connection: Connection) -> bool:
    node, session = _this_session(connection)
    row = connection.exec_driver_sql(_READ).one_or_none()
    ours = {"node": node, "session": session}
    if row is None:
        connection.execute(_INSERT, ours)
        return True
    of_node, of_session, is_expired = row
    if of_node != node and not is_expired:
        return False
    theirs = {"of_node": of_node, "of_session": of_session}
    return connection.execute(_REPLACE, ours | theirs).rowcount == 1


def _this_session(connection: Connection) -> tuple[str, int]:
    status = connection.exec_driver_sql("SHOW STATUS LIKE 'wsrep_gcomm_uuid'").one()
    session: int = connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one()
    return str(status[1]), session
