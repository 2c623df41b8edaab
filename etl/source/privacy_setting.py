"""Under which privacy setting the stored rows of a source stand, and whether a run may add to them.

`sources.privacy` holds it; NULL is keep. While `privacy apply` works, the new
setting stands there with `applying:` before it, and no run starts.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select, update

from etl.config.model import Config
from etl.database.schema import (
    rejected_records,
    schema_drift,
    snapshot_history,
    snapshots,
    sources,
    view_state,
)
from etl.errors import PrivacyMismatch
from etl.transform.privacy import KEEP, Privacy

APPLYING = "applying:"
_APPLY = "run: heatmap-etl privacy apply"
_TABLES = (snapshots, snapshot_history, rejected_records, schema_drift)


class PrivacyState(msgspec.Struct, frozen=True):
    """The configured `created_by` and that of the stored rows."""

    configured: str
    stored: str
    problem: str  # what to do when they differ, or a rewriting was cut short; empty: nothing

    def require_same(self) -> None:
        """Raises `PrivacyMismatch` when a run would mix settings."""
        if self.problem:
            raise PrivacyMismatch(self.problem)


KEPT = PrivacyState(KEEP, KEEP, "")


def privacy_of(config: Config) -> Privacy:
    """The configured setting."""
    return Privacy(config.created_by, config.hash_key)


def read_privacy(connection: Connection, config: Config) -> PrivacyState:
    """Compare the configured setting with the stored one. A new source has any."""
    row = select(sources.c.privacy).where(sources.c.source == config.source)
    found = connection.execute(row).one_or_none()
    if found is None or found.privacy == privacy_of(config).setting:
        return PrivacyState(config.created_by, config.created_by, "")
    stored = str(found.privacy or KEEP)
    problem = _problem(config.created_by, stored)
    return PrivacyState(config.created_by, stored.removeprefix(APPLYING).partition(":")[0], problem)


def adopt_privacy(connection: Connection, config: Config) -> PrivacyState:
    """`read_privacy`, after a source without rows has taken the configured setting."""
    found = read_privacy(connection, config)
    if found.problem and not _has_rows(connection, config.source):
        write_setting(connection, config.source, privacy_of(config).setting)
        return read_privacy(connection, config)
    return found


def write_setting(connection: Connection, source: str, setting: str | None) -> None:
    """From now on the rows of `source` stand under `setting`.

    An answer may be skipped only under the setting it was read under. What it held
    is the same: that digest stays, so that no count of rejects and drift moves.
    """
    connection.execute(update(sources).where(sources.c.source == source).values(privacy=setting))
    mine = view_state.c.source == source
    connection.execute(update(view_state).where(mine).values(shortcut_digest=None))


def _has_rows(connection: Connection, source: str) -> bool:
    first = [select(table.c.source).where(table.c.source == source).limit(1) for table in _TABLES]
    return any(connection.execute(query).first() is not None for query in first)


def _problem(configured: str, stored: str) -> str:
    if stored.startswith(APPLYING):
        return f"privacy apply was cut short; {_APPLY}"
    before = stored.partition(":")[0]
    if configured == before:
        return (
            "HEATMAP_ETL_HASH_KEY is not the key that the stored rows were hashed with; "
            f"set that one again, or {_APPLY}"
        )
    return (
        f'privacy.created_by is "{configured}", but the stored rows stand under "{before}"; '
        f"{_APPLY}, or set it back"
    )
