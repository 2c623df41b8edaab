"""${message}.

Why: <reason>. Code of the revision before keeps running with it: <yes or no>.
MariaDB and MySQL commit each statement of DDL: every step must be harmless when
it is run again after being cut anywhere.

Revision: ${up_revision}, after ${down_revision | comma,n}
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from etl.database import schema
${imports if imports else ""}
revision = "${up_revision}"
down_revision = "${down_revision}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
