"""Conversion of the rows of jobs, events and checkpoints to response bodies."""

from __future__ import annotations

import time

from api.schemas.fine_tuning.jobs import (
    CheckpointMetricsOut,
    CheckpointOut,
    EventOut,
    HyperparametersOut,
    JobErrorOut,
    JobOut,
    MethodOut,
    ProgressOut,
)
from jobs.lifecycle.queue_position import QueuePosition
from jobs.lifecycle.states import RUNNING, WIRE_STATUS, checkpoint_name, to_wire_state
from storage.tables import Checkpoint, Event, Job
from training.artifacts.serving_compat import list_compatible_engines


def to_job_out(job: Job, organization_id: str, queue_position: QueuePosition | None = None) -> JobOut:
    """Convert a job to a response body.

    ``organization_id``: of the job's project. ``queue_position``: None unless it was looked up.
    """
    running = (job.progress or {}) if job.state == RUNNING else {}
    eta = running.get("eta")
    finish = time.time() + eta if eta is not None else queue_position.finish if queue_position else None
    return JobOut(
        id=job.id,
        created_at=int(job.created_at),
        finished_at=None if job.finished_at is None else int(job.finished_at),
        estimated_finish=None if finish is None else int(finish),
        estimated_start=int(queue_position.start) if queue_position and queue_position.start is not None else None,
        queue_position=queue_position.position if queue_position else None,
        auto_start=job.auto_start,
        model=job.starting_point["model"] if job.starting_point else job.base_model,
        base_model=job.base_model,
        fine_tuned_model=job.fine_tuned_model,
        organization_id=organization_id,
        status=WIRE_STATUS[job.state],
        error=JobErrorOut.model_validate(job.error) if job.error else None,
        hyperparameters=HyperparametersOut(
            **{name: job.hyperparameters.get(name) for name in HyperparametersOut.model_fields}
        ),
        method=MethodOut.model_validate(
            {"type": job.method["type"], job.method["type"]: {"hyperparameters": job.hyperparameters}}
        ),
        training_file=job.training_file,
        validation_file=job.validation_file,
        general_file=job.general_file,
        result_files=job.result_files,
        trained_tokens=job.trained_tokens,
        seed=job.seed,
        metadata=job.meta,
        integrations=job.integrations,
        checkpoint_ttl_seconds=job.checkpoint_ttl_seconds,
        user_provided_suffix=job.suffix,
        state=to_wire_state(job),
        task=job.task,
        update=job.update,
        columns=job.columns,
        phase=running.get("phase"),
        progress=ProgressOut.model_validate(job.progress) if job.progress else None,
        attempt=job.attempt,
        trainable_parameters=job.trainable_parameters,
        final_metrics=job.final_metrics,
        resume_proof=job.resume_proof,
        servable_by=list_compatible_engines(job.task, job.update),
    )


def to_event_out(event: Event) -> EventOut:
    return EventOut(
        id=event.id,
        created_at=int(event.created_at),
        level=event.level,
        message=event.message,
        type=event.type,
        data=event.data,
    )


def to_checkpoint_out(job: Job, checkpoint: Checkpoint) -> CheckpointOut:
    return CheckpointOut(
        id=checkpoint.id,
        created_at=int(checkpoint.created_at),
        fine_tuned_model_checkpoint=checkpoint_name(job, checkpoint.step),
        fine_tuning_job_id=job.id,
        step_number=checkpoint.step,
        metrics=CheckpointMetricsOut.model_validate({"step": checkpoint.step, **(checkpoint.metrics or {})}),
        expires_at=None if checkpoint.expires_at is None else int(checkpoint.expires_at),
    )
