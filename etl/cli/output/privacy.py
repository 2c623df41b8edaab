"""What `privacy apply` did, for people."""

from __future__ import annotations

from etl.config.model import Config
from etl.database.connection import Database
from etl.formatting import many
from etl.source.reapply_privacy import Rewriting
from etl.transform.privacy import KEEP


def privacy_lines(rewriting: Rewriting, config: Config, database: Database) -> list[str]:
    """What was rewritten; no lines when the command was stopped."""
    subject = f"{database.label}: created_by of source {config.source}"
    if not rewriting.is_needed:
        return [f'{subject} is "{config.created_by}" already; nothing to rewrite']
    if rewriting.is_cut_short:
        return []
    counts = ", ".join(many(count, kind) for kind, count in rewriting.counts.items() if count)
    lines = [f'{subject} is now "{config.created_by}"; rewritten: {counts or "nothing"}']
    if rewriting.has_lost or (config.created_by == KEEP):
        lines.append(
            "What was hashed or dropped cannot be brought back. Rows that are still listed get"
            " the new setting at their next reading. The history, removed rows and rejected"
            " records keep what they have."
        )
    return lines + _former_values_lines(rewriting, database)


def _former_values_lines(rewriting: Rewriting, database: Database) -> list[str]:
    if not rewriting.counts.total():
        return []
    copies = "Backups and replicas from before this rewrite hold the former values."
    clean_up = database.dialect.clean_up
    if not clean_up:
        busy = (
            "Another process has the file open. Until it closes the file, the -wal file next to it"
            " may hold the former values."
        )
        return [copies] if rewriting.is_file_clean else [busy, copies]
    clean_up += " snapshots, snapshot_history, rejected_records, schema_drift"
    clean_up += ", sync_runs, sync_run_views, view_state"
    dead_rows = f"The server keeps the former values until it cleans up. Do it now: {clean_up}."
    return [f"{dead_rows} {copies}"]
