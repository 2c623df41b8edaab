"""What `privacy apply` did, for people."""

from __future__ import annotations

from etl.config.model import Config
from etl.database.connection import Database
from etl.formatting import many
from etl.source.reapply_privacy import Rewriting
from etl.transform.privacy import KEEP


def privacy_lines(done: Rewriting, config: Config, database: Database) -> list[str]:
    """What was rewritten; nothing when it was cut short."""
    of = f"{database.label}: created_by of source {config.source}"
    if not done.is_needed:
        return [f'{of} stands at "{config.created_by}"; nothing to rewrite']
    if done.is_cut_short:
        return []
    counted = ", ".join(many(count, kind) for kind, count in done.counts.items() if count)
    lines = [f'{of} is now "{config.created_by}"; rewritten: {counted or "nothing"}']
    if done.has_lost or (config.created_by == KEEP):
        lines.append(
            "What was hashed or dropped cannot be brought back. Rows that are still listed take"
            " the new setting at their next reading; the history, removed rows and rejects keep"
            " what they have."
        )
    return lines + _where_former_values_may_be(done, database)


def _where_former_values_may_be(done: Rewriting, database: Database) -> list[str]:
    if not done.counts.total():
        return []
    copies = "Backups and replicas made before hold the former values."
    clean_up = database.dialect.clean_up
    if not clean_up:
        busy = (
            "Another process reads the file: until all have closed it, the -wal file beside it may"
            " hold the former values."
        )
        return [copies] if done.is_file_clean else [busy, copies]
    clean_up += " snapshots, snapshot_history, rejected_records, schema_drift"
    dead = f"Dead rows hold the former values until the server cleans up; at once: {clean_up}."
    return [f"{dead} {copies}"]
