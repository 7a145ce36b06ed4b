"""The states of a job and the ways between them.

    validating_files ──► validated ──► queued ◄──► running ──► succeeded
            │                │           │            │
            └────────────────┴───────────┴────────────┴──────► failed, cancelled

``running → queued`` is a worker that leaves or is lost: the next attempt resumes from the last checkpoint.
``validated`` is passed over, but by a job that is to wait there until it is started. From every state before the end a
job may go to ``paused``, and from there back to where it was, or to ``queued`` where it was ``running``.
"""

from __future__ import annotations

from storage.tables import Job

VALIDATING, VALIDATED, QUEUED, RUNNING, PAUSED = "validating_files", "validated", "queued", "running", "paused"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"

TRANSITIONS: dict[str, frozenset[str]] = {
    VALIDATING: frozenset({VALIDATED, QUEUED, PAUSED, FAILED, CANCELLED}),
    VALIDATED: frozenset({QUEUED, PAUSED, CANCELLED}),
    QUEUED: frozenset({RUNNING, PAUSED, CANCELLED}),
    RUNNING: frozenset({QUEUED, PAUSED, SUCCEEDED, FAILED, CANCELLED}),
    PAUSED: frozenset({VALIDATING, VALIDATED, QUEUED, CANCELLED}),
    SUCCEEDED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}

TERMINAL = frozenset(state for state, after in TRANSITIONS.items() if not after)
WAITING = frozenset({VALIDATING, VALIDATED, QUEUED})
"""Nobody holds the job, or only someone who reads its files: what is asked of it is done at once."""

WIRE_STATUS: dict[str, str] = {state: state for state in TRANSITIONS} | {VALIDATED: QUEUED, PAUSED: QUEUED}
"""State -> the wire's ``status``, which knows OpenAI's six words only."""


def to_wire_state(job: Job) -> str:
    """The wire's ``state``: finer than ``status``."""
    if job.state == RUNNING and job.cancel_requested:
        return "cancelling"
    return "pausing" if job.state == RUNNING and job.pause_requested else job.state


def model_name(job: Job) -> str:
    """``ft:{base}:luthier:{suffix}:{id8}``, known before the job ends and the same in every attempt."""
    return f"ft:{job.base_model}:luthier:{job.suffix or ''}:{job.id[-8:]}"


def checkpoint_name(job: Job, step: int) -> str:
    return f"{model_name(job)}:ckpt-step-{step}"
