"""Databases to show, from a SQLite file: the same in PostgreSQL, and one with hostile text."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from etl.database.connection import open_database
from etl.source.copy_database import copy_database

HOSTILE = (
    """<img src=x onerror="document.title='hacked'"><script>document.title='hacked'</script>"""
)
LONG = "a long name " * 250


def hostile(file: Path) -> Path:
    """A copy whose views, people, devices and snapshots have names that a browser would run.

    The newest snapshot has a name that would fill the screen.
    """
    copy = file.with_name("hostile.db")
    shutil.copyfile(file, copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        for table in ("snapshots", "snapshot_history"):
            connection.execute(
                f"UPDATE {table} SET snapshot_name = ?1, created_by = ?1, device_type = ?1,"
                " synced_view = ?1, view_name = ?1 WHERE synced_view IN ('/home', '/help/?')",
                (HOSTILE,),
            )
        for table in ("discovered_views", "view_state"):
            connection.execute(
                f"UPDATE {table} SET view_name = ?1 WHERE view_name IN ('/wishlist', '/help/?')",
                (HOSTILE,),
            )
        newest = "SELECT id FROM current_snapshots ORDER BY created_at DESC LIMIT 1"
        renamed = f"UPDATE snapshots SET snapshot_name = ?1 WHERE id = ({newest})"
        connection.execute(renamed, (LONG,))
        connection.execute("UPDATE applications SET name = ?1 WHERE name = 'shop-ios'", (HOSTILE,))
    return copy


def copied(file: Path, url: str) -> None:
    """What a SQLite file holds in the empty database behind `url`."""
    with (
        closing(open_database(f"sqlite:///{file}", label="SQLite")) as source,
        closing(open_database(url, label="PostgreSQL")) as target,
    ):
        copy_database(source, target, lease_s=60)
