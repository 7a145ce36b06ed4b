"""Unfinished jobs and batches that use a file, which must not be deleted under them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, or_, select
from sqlmodel import col

from jobs.lifecycle.states import TERMINAL
from storage.tables import Batch, Job

_ENDED_BATCH_STATUSES = ("completed", "failed", "expired", "cancelled")


def build_reference_queries(project_id: Any, file_id: Any) -> dict[str, Select[Any]]:
    """Build queries for the ids of unfinished jobs and batches that use a file, keyed by kind.

    ``project_id`` and ``file_id`` are values, or columns of an outer query. Code that creates a job
    or batch locks the file's row in the same transaction (``SELECT … FOR UPDATE``). Code that
    deletes a file takes the same lock, so neither misses the other.
    """
    uses_file = or_(
        col(Job.training_file) == file_id, col(Job.validation_file) == file_id, col(Job.general_file) == file_id
    )
    return {
        "job": select(col(Job.id)).where(col(Job.project_id) == project_id, uses_file, col(Job.state).not_in(TERMINAL)),
        "batch": select(col(Batch.id)).where(
            col(Batch.project_id) == project_id,
            col(Batch.input_file_id) == file_id,
            col(Batch.status).not_in(_ENDED_BATCH_STATUSES),
        ),
    }
