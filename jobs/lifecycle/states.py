"""States of a job and the transitions between them.

    validating_files ──► validated ──► queued ◄──► running ──► succeeded
            │                │           │            │
            └────────────────┴───────────┴────────────┴──────► failed, cancelled

``running → queued``: the worker stopped or was lost. The next attempt resumes from the last
checkpoint. Only a job without automatic start waits in ``validated``; others skip it. Every
non-terminal state can change to ``paused``. From there a job returns to its earlier state, or to
``queued`` if that was ``running``.
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
"""States in which no training process holds the job, so that requests take effect immediately."""

WIRE_STATUS: dict[str, str] = {state: state for state in TRANSITIONS} | {VALIDATED: QUEUED, PAUSED: QUEUED}
"""State -> the API's ``status``, which has OpenAI's six values only."""


def to_wire_state(job: Job) -> str:
    """Return the API's ``state``, which is finer than ``status``."""
    if job.state == RUNNING and job.cancel_requested:
        return "cancelling"
    return "pausing" if job.state == RUNNING and job.pause_requested else job.state


def model_name(job: Job) -> str:
    """Return ``ft:{base}:luthier:{suffix}:{id8}``.

    The name is known before the job ends and the same in every attempt.
    """
    return f"ft:{job.base_model}:luthier:{job.suffix or ''}:{job.id[-8:]}"


def checkpoint_name(job: Job, step: int) -> str:
    return f"{model_name(job)}:ckpt-step-{step}"
