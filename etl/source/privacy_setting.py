"""The privacy setting of the stored rows of a source, and whether a run may add to them.

`sources.privacy` holds it; NULL is keep. While `privacy apply` rewrites the rows, it holds the new
setting after the prefix `applying:`, and no run starts.
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
from etl.transform.privacy import HASH, KEEP, Privacy

APPLYING = "applying:"
_APPLY = "run: heatmap-etl privacy apply"
_TABLES = (snapshots, snapshot_history, rejected_records, schema_drift)


class PrivacyState(msgspec.Struct, frozen=True):
    """The configured `created_by`, and that of the stored rows."""

    configured: str
    stored: str
    problem: str  # what to do when they differ, or `privacy apply` was cut short; or empty

    def require_same(self) -> None:
        """Raises `PrivacyMismatch` when a run would mix settings."""
        if self.problem:
            raise PrivacyMismatch(self.problem)


KEPT = PrivacyState(KEEP, KEEP, "")


def privacy_of(config: Config) -> Privacy:
    """The configured setting."""
    return Privacy(config.created_by, config.hash_key, config.person_attributes)


def read_privacy(connection: Connection, config: Config) -> PrivacyState:
    """Compare the configured setting with the stored one. A new source fits any setting."""
    query = select(sources.c.privacy).where(sources.c.source == config.source)
    row = connection.execute(query).one_or_none()
    if row is None or row.privacy == privacy_of(config).setting:
        return PrivacyState(config.created_by, config.created_by, "")
    stored = str(row.privacy or KEEP)
    kind = stored.removeprefix(APPLYING).partition(":")[0]
    # Who reads may lack the configuration of the runs, or the key: what cannot be compared fits.
    configured = config.created_by if config.has_views else kind
    can_compare = config.has_views and (config.hash_key or configured != HASH)
    is_cut_short = stored.startswith(APPLYING)
    is_same = configured == kind and not can_compare and not is_cut_short
    problem = "" if is_same else _problem(configured, stored, privacy_of(config).setting)
    return PrivacyState(configured, kind, problem)


def adopt_privacy(connection: Connection, config: Config) -> PrivacyState:
    """As `read_privacy`; a source without rows takes the configured setting first."""
    state = read_privacy(connection, config)
    if state.problem and not _has_rows(connection, config.source):
        write_setting(connection, config.source, privacy_of(config).setting)
        return read_privacy(connection, config)
    return state


def write_setting(connection: Connection, source: str, setting: str | None) -> None:
    """Note that the rows of `source` are stored under `setting`.

    An answer may be skipped only under the setting it was read under, so the shortcuts are
    cleared. The digests of the answers stay, so that no count of rejects and drift moves.
    """
    connection.execute(update(sources).where(sources.c.source == source).values(privacy=setting))
    of_source = view_state.c.source == source
    connection.execute(update(view_state).where(of_source).values(shortcut_digest=None))


def _has_rows(connection: Connection, source: str) -> bool:
    first = [select(table.c.source).where(table.c.source == source).limit(1) for table in _TABLES]
    return any(connection.execute(query).first() is not None for query in first)


def _problem(configured: str, stored: str, wanted: str | None) -> str:
    if stored.startswith(APPLYING):
        return f"privacy apply was cut short; {_APPLY}"
    adopted = stored.partition(":")[0]
    if configured == adopted and wanted and _without_rules(wanted) == _without_rules(stored):
        return (
            "privacy.person_attributes, or what this program knows to hold a person, is not what "
            f"the stored rows follow; {_APPLY}"
        )
    if configured == adopted:
        return (
            "HEATMAP_ETL_HASH_KEY is not the key that the stored rows were hashed with; "
            f"set the former key again, or {_APPLY}"
        )
    return (
        f'privacy.created_by is "{configured}", but the stored rows follow "{adopted}"; '
        f"{_APPLY}, or set it back"
    )


def _without_rules(setting: str) -> str:
    """The kind of a setting and the fingerprint of its key; rows of before name no rules."""
    kind, _, rest = setting.partition(":")
    return f"{kind}:{rest.partition(':')[0]}" if kind == HASH else kind
