"""Keys of blobs, built and parsed in this module only.

projects/{project_id}/files/{file_id}
projects/{project_id}/uploads/{upload_id}/{part_id}
projects/{project_id}/batches/{batch_id}/a{attempt}/{first_line}-{output|errors}.jsonl
projects/{project_id}/jobs/{job_id}/a{attempt}/{step-N|result|result file}
"""

from __future__ import annotations

from typing import NamedTuple

from storage.tables import Batch, Job


class JobPath(NamedTuple):
    """The project and the job that a checkpoint or result belongs to."""

    project_id: str
    job_id: str


def files_prefix(project_id: str) -> str:
    """Return the key prefix of a project's files. The last part of a file's key is its id."""
    return f"projects/{project_id}/files"


def uploads_prefix(project_id: str) -> str:
    """Return the key prefix of a project's upload parts.

    A key ends in the ids of upload and part.
    """
    return f"projects/{project_id}/uploads"


def batch_prefix(batch: Batch) -> str:
    return f"projects/{batch.project_id}/batches/{batch.id}"


def job_prefix(job: Job) -> str:
    return f"projects/{job.project_id}/jobs/{job.id}"


def attempt_prefix(job: Job, attempt: int) -> str:
    """Return the key prefix of one attempt.

    Keys contain the attempt number, so two workers never write the same key.
    """
    return f"{job_prefix(job)}/a{attempt}"


def parse_job_path(prefix: str) -> JobPath:
    """Parse the key prefix of a checkpoint or a result."""
    _, project_id, _, job_id, *_ = prefix.split("/")
    return JobPath(project_id, job_id)
