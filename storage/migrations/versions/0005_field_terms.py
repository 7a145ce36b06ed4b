"""Columns renamed to standard terms."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = (
    ("jobs", "start", "starting_point"),
    ("jobs", "paused_in", "resume_state"),
    ("jobs", "tidied", "cleaned_up"),
    ("checkpoints", "keep", "published"),
    ("batches", "done", "processed"),
    ("batches", "tidied", "cleaned_up"),
    ("batch_parts", "first", "first_request"),
    ("deliveries", "next_at", "next_try_at"),
)
"""Table, old name, new name."""


def upgrade() -> None:
    for table, old, new in COLUMNS:
        # Both databases rename in place and keep indexes and keys.
        op.execute(f'ALTER TABLE {table} RENAME COLUMN "{old}" TO "{new}"')
    op.drop_index("ix_batches_tidied", table_name="batches")
    op.create_index("ix_batches_cleaned_up", "batches", ["cleaned_up"])
