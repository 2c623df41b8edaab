"""Add what was learned of how names match, and which side questions have no answer.

Why: whether an answer belongs to its question is judged with what earlier runs
saw of the view filter, and a question that no listing depends on is left alone
for a while after it failed. Code of the revision before keeps running with it:
yes, the new column may be NULL, and nothing refers to the new table.
MariaDB and MySQL commit each statement of DDL: every step here is harmless when
it is run again after being cut anywhere.

Revision: 0004, after 0003
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, String, inspect

from etl.database.ddl import create_table
from etl.database.dialects.types import LongText, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MATCHING = "How the view filter was seen to match other names than the one asked for; NULL: not"


def upgrade() -> None:
    if not _has_column():
        op.add_column("sources", Column("name_matching", String(255), comment=MATCHING))
    create_table(
        "side_questions",
        _must("source", String(255), "Label of the Datadog organization, from the configuration"),
        _must(
            "question",
            String(64),
            "What was asked: applications, discovery, organization or validation",
        ),
        _must("failures", BigInteger(), "Times in a row that it got no answer"),
        _must("failed_at", UtcDateTime(), "When it last got no answer"),
        _must("ask_again_at", UtcDateTime(), "Until then it is not asked"),
        _must("error", LongText(), "Why it got no answer"),
        PrimaryKeyConstraint("source", "question", name="pk_side_questions"),
        comment="Questions that no listing depends on, and that got no answer when last asked.",
    )


def downgrade() -> None:
    op.drop_table("side_questions", if_exists=True)
    if _has_column():
        op.drop_column("sources", "name_matching")


def _has_column() -> bool:
    columns = inspect(op.get_bind()).get_columns("sources")
    return "name_matching" in {column["name"] for column in columns}


def _must(name: str, type_: Any, comment: str) -> Column[Any]:
    return Column(name, type_, nullable=False, comment=comment)
