"""The states of a job and the ways between them.

    validating_files ──► queued ◄──► running ──► succeeded
            │              │            │
            └──────────────┴────────────┴──────► failed, cancelled

``running → queued`` is a worker that leaves or is lost: the next attempt resumes from the last checkpoint.
"""

from __future__ import annotations

from storage.tables import Job

VALIDATING, QUEUED, RUNNING = "validating_files", "queued", "running"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"

NEXT: dict[str, frozenset[str]] = {
    VALIDATING: frozenset({QUEUED, FAILED, CANCELLED}),
    QUEUED: frozenset({RUNNING, CANCELLED}),
    RUNNING: frozenset({QUEUED, SUCCEEDED, FAILED, CANCELLED}),
    SUCCEEDED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}

TERMINAL = frozenset(state for state, after in NEXT.items() if not after)

STATUS: dict[str, str] = {state: state for state in NEXT}
"""State -> the wire's ``status``, which knows OpenAI's six words only."""


def full_state(job: Job) -> str:
    """The wire's ``state``: finer than ``status``."""
    return "cancelling" if job.state == RUNNING and job.cancel_requested else job.state


def model_name(job: Job) -> str:
    """``ft:{base}:luthier:{suffix}:{id8}``, known before the job ends and the same in every attempt."""
    return f"ft:{job.base_model}:luthier:{job.suffix or ''}:{job.id[-8:]}"


def checkpoint_name(job: Job, step: int) -> str:
    return f"{model_name(job)}:ckpt-step-{step}"
