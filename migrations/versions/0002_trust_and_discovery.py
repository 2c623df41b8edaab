"""Add what makes listings trustworthy: organization, caps, privacy, applications, discovered views.

Why: completeness is judged with what earlier runs learned of the API, and views
are discovered. Code of the revision before keeps running with it: yes, every new
column may be NULL.
MariaDB and MySQL commit each statement of DDL: every step here is harmless when
it is run again after being cut anywhere.

Revision: 0002, after 0001
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, PrimaryKeyConstraint, String, inspect

from etl.database.ddl import create_index, create_table
from etl.database.dialects.types import LongText, UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OF_SOURCES: tuple[tuple[str, Any, str], ...] = (
    ("org_id", BigInteger(), "Organization these keys belong to: the first one seen"),
    ("learned_cap", BigInteger(), "Records beyond which the API was seen to cut answers"),
    ("learned_cap_probed_at", UtcDateTime(), "When that cap was last confirmed"),
    (
        "largest_accepted_limit",
        BigInteger(),
        "Limit to ask for where the API refused a larger",
    ),
    ("largest_accepted_limit_at", UtcDateTime(), "When the API refused a larger one"),
    ("privacy", String(255), "Privacy setting the stored rows stand under; NULL: keep"),
    ("applications_read_at", UtcDateTime(), "When the list of applications was last asked for"),
    ("discovered_at", UtcDateTime(), "When views were last discovered"),
)
OF_VIEW_STATE: tuple[tuple[str, Any, str], ...] = (
    ("last_trusted_at", UtcDateTime(), "Last reading that was complete or unproven"),
    ("last_nonempty_at", UtcDateTime(), "Last reading that listed anything"),
    ("needs_acceptance", Boolean(), "Held removals wait for sync --accept-removals"),
)


def upgrade() -> None:
    _add_columns("sources", OF_SOURCES)
    _add_columns("view_state", OF_VIEW_STATE)
    create_table(
        "applications",
        _source(),
        _must("application_id", String(255), "Datadog's id of the application"),
        Column("name", LongText(), comment="Its name"),
        Column("type", LongText(), comment="browser, ios, android, ..."),
        Column("is_active", Boolean(), comment="Whether it is active"),
        _must("first_seen_at", UtcDateTime(), "When it was first listed"),
        _must("last_seen_at", UtcDateTime(), "When it was last listed"),
        PrimaryKeyConstraint("source", "application_id", name="pk_applications"),
        comment="RUM applications of each organization.",
    )
    create_table(
        "discovered_views",
        _must("discovered_key", String(32), "Hash of source, view name and application"),
        _source(),
        _must("view_name", LongText(), "View name as RUM has it"),
        Column("application_id", LongText(), comment="RUM application"),
        _must("views_30d", BigInteger(), "Views counted in 30 days, as far as RUM retained them"),
        _must("first_seen_at", UtcDateTime(), "When it was first discovered"),
        _must("sampled_at", UtcDateTime(), "When it was last counted"),
        PrimaryKeyConstraint("discovered_key", name="pk_discovered_views"),
        comment="Views that RUM saw traffic on, by application.",
    )
    create_index("ix_discovered_views_source", "discovered_views", ["source"])


def downgrade() -> None:
    op.drop_table("discovered_views", if_exists=True)
    op.drop_table("applications", if_exists=True)
    _drop_columns("view_state", OF_VIEW_STATE)
    _drop_columns("sources", OF_SOURCES)


def _source() -> Column[Any]:
    return _must("source", String(255), "Label of the Datadog organization, from the configuration")


def _must(name: str, type_: Any, comment: str) -> Column[Any]:
    return Column(name, type_, nullable=False, comment=comment)


def _present(table: str) -> set[str]:
    return {column["name"] for column in inspect(op.get_bind()).get_columns(table)}


def _add_columns(table: str, columns: tuple[tuple[str, Any, str], ...]) -> None:
    present = _present(table)
    for name, type_, comment in columns:
        if name not in present:
            op.add_column(table, Column(name, type_, comment=comment))


def _drop_columns(table: str, columns: tuple[tuple[str, Any, str], ...]) -> None:
    present = _present(table)
    for name, _, _ in columns:
        if name in present:
            op.drop_column(table, name)
