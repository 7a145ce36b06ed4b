"""Who needs a file: what is not to be deleted under a job or a batch."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, or_, select
from sqlmodel import col

from jobs.lifecycle.states import TERMINAL
from storage.tables import Batch, Job

_ENDED_BATCH_STATUSES = ("completed", "failed", "expired", "cancelled")


def build_reference_queries(project_id: Any, file_id: Any) -> dict[str, Select[Any]]:
    """Kind of thing -> the ids of those that have not ended and name the file. Values, or columns of an outer query.

    Whoever makes one of them locks the file's row in the same transaction (``SELECT … FOR UPDATE``), and so does
    whoever deletes the file: neither overlooks the other.
    """
    named = or_(
        col(Job.training_file) == file_id, col(Job.validation_file) == file_id, col(Job.general_file) == file_id
    )
    return {
        "job": select(col(Job.id)).where(col(Job.project_id) == project_id, named, col(Job.state).not_in(TERMINAL)),
        "batch": select(col(Batch.id)).where(
            col(Batch.project_id) == project_id,
            col(Batch.input_file_id) == file_id,
            col(Batch.status).not_in(_ENDED_BATCH_STATUSES),
        ),
    }
