"""Limits on the requests and the output of a project's batches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("max_queued_requests", sa.Integer(), nullable=True))
    # Existing rows need the default.
    op.add_column("batches", sa.Column("output_bytes", sa.BigInteger(), nullable=False, server_default="0"))
