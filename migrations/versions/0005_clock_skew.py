"""Add how far the machine's clock was off during a run.

Why: a run whose clock is wrong stamps wrong instants; what they really were can
be worked out only where the ledger knows by how much the clock was off. Code of
the revision before keeps running with it: yes, the new column may be NULL.
MariaDB and MySQL commit each statement of DDL: the step here is harmless when it
is run again after being cut anywhere.

Revision: 0005, after 0004
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Double, inspect

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SKEW = "Seconds by which this machine's clock was ahead of the server's; negative: behind"


def upgrade() -> None:
    if not _has_column():
        op.add_column("sync_runs", Column("clock_skew_s", Double(), comment=SKEW))


def downgrade() -> None:
    if _has_column():
        op.drop_column("sync_runs", "clock_skew_s")


def _has_column() -> bool:
    columns = inspect(op.get_bind()).get_columns("sync_runs")
    return "clock_skew_s" in {column["name"] for column in columns}
