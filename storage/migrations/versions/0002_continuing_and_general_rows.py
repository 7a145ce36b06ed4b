"""Jobs that start from an earlier result, and files of general rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("general_file", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("start", sa.JSON(), nullable=True))
