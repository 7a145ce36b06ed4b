"""Recording of a training process's output: blobs first, then one short transaction for rows.

A crash between the two leaves orphaned blobs, which :mod:`jobs.retention.job_cleanup` deletes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from inference.protocol.model_ref import ModelRef
from jobs.blob_keys import attempt_prefix
from jobs.lifecycle import transitions
from jobs.lifecycle.states import SUCCEEDED, checkpoint_name, model_name
from jobs.lifecycle.transitions import Claim, NewEvent
from jobs.metrics.result_files import store_result_files
from jobs.metrics.wire_format import to_wire_metrics
from jobs.resources import Resources
from jobs.retention import job_cleanup
from storage.access.usage import UsageAmount, UsageDimensions, add_usage, to_utc_day
from storage.folders import put_folder
from storage.ids import new_id
from storage.tables import Checkpoint, Job, Metric, Model
from training import run_events

ProgressEvent = run_events.Message | run_events.Started | run_events.Metrics | run_events.PhaseProgress
"""Events that are recorded in batches, one transaction per batch."""


async def record_validation(resources: Resources, claim: Claim, event: run_events.Validated) -> None:
    message = NewEvent(
        f"Files validated: {event.rows} rows, {event.tokens} tokens per epoch, {event.total_steps} steps.",
        data={"rows": event.rows, "validation_rows": event.validation_rows, "tokens": event.tokens},
    )
    progress = {"step": 0, "total_steps": event.total_steps, "epoch": 0.0, "tokens_per_second": None, "eta": None}
    # Used to estimate start times in the queue. The first recorded step replaces it.
    progress["tokens"] = event.tokens / event.examples * event.hyperparameters["batch_size"] * event.total_steps
    async with resources.db.write() as session:
        await transitions.finish_validation(
            session, claim, message, hyperparameters=event.hyperparameters, progress=progress, failures=0
        )


async def record_progress(resources: Resources, claim: Claim, events: Sequence[ProgressEvent]) -> None:
    """Record a batch of events. Steps that an earlier attempt recorded are not recorded again."""
    async with resources.db.write() as session:
        steps = [event.step for event in events if isinstance(event, run_events.Metrics)]
        query = select(col(Metric.step)).where(col(Metric.job_id) == claim.job_id, col(Metric.step).in_(steps))
        recorded_steps = set((await session.execute(query)).scalars())
        new_events: list[NewEvent] = []
        values: dict[str, Any] = {}
        phase: run_events.PhaseName | None = None
        for event in events:
            if isinstance(event, run_events.Message):
                new_events.append(NewEvent(event.message, level=event.level, data=event.data))
            elif isinstance(event, run_events.Started):
                new_events.append(_build_started_event(event))
                values |= {
                    "trainable_parameters": event.trainable_parameters,
                    # Before any checkpoint of this attempt, so that the next one resumes with them.
                    "hyperparameters": event.hyperparameters,
                }
            elif isinstance(event, run_events.PhaseProgress):
                phase = event.phase
            else:
                values["progress"], phase = _to_progress(event), "training"
                if event.step not in recorded_steps:
                    new_events.append(_build_metrics_event(event))
                    session.add(
                        Metric(job_id=claim.job_id, step=event.step, attempt=claim.attempt, data=event.model_dump())
                    )
        progress = values.get("progress") or (await _read_progress(session, claim.job_id) if phase else None)
        if progress:
            values["progress"] = {**progress, "phase": phase}
        await transitions.append_events(session, claim, new_events, **values)


async def _read_progress(session: AsyncSession, job_id: str) -> dict[str, Any] | None:
    progress: dict[str, Any] | None = await session.scalar(select(col(Job.progress)).where(col(Job.id) == job_id))
    return progress


def _build_started_event(event: run_events.Started) -> NewEvent:
    action = "Fine-tuning job started" if event.step == 0 else f"Fine-tuning job resumed at step {event.step}"
    share = f"{event.trainable_parameters:,} of {event.total_parameters:,} parameters"
    return NewEvent(
        f"{action}: {share} on {event.device} in {event.dtype}",
        data=event.model_dump(exclude={"type", "hyperparameters"}),
    )


def _to_progress(metrics: run_events.Metrics) -> dict[str, Any]:
    progress = {name: getattr(metrics, name) for name in ("step", "total_steps", "epoch", "tokens_per_second")}
    return {**progress, "eta": metrics.eta_seconds}


def _build_metrics_event(metrics: run_events.Metrics) -> NewEvent:
    message = f"Step {metrics.step}/{metrics.total_steps}: training loss={metrics.train_loss:.4f}"
    if metrics.valid_loss is not None:
        message += f", validation loss={metrics.valid_loss:.4f}"
    return NewEvent(message, type="metrics", data=to_wire_metrics(metrics.model_dump()))


async def record_checkpoint(
    resources: Resources, claim: Claim, job: Job, folder: Path, event: run_events.Checkpoint
) -> None:
    """Upload a checkpoint, then insert its row.

    Delete older checkpoints that are no longer needed.
    """
    prefix = f"{attempt_prefix(job, claim.attempt)}/step-{event.step}"
    manifest = await resources.blob_threads.run(put_folder, resources.blobs, prefix, folder / event.path)
    now = time.time()
    row = Checkpoint(
        id=new_id("checkpoint"),
        job_id=job.id,
        project_id=job.project_id,
        step=event.step,
        attempt=claim.attempt,
        created_at=now,
        prefix=prefix,
        manifest_sha256=manifest.sha256,
        published=event.keep,
        expires_at=now + job.checkpoint_ttl_seconds if event.keep and job.checkpoint_ttl_seconds else None,
        metrics=to_wire_metrics(event.metrics.model_dump()) if event.metrics else None,
    )
    events = (
        [NewEvent(f"Checkpoint created at step {event.step}: {checkpoint_name(job, event.step)}")] if event.keep else []
    )
    async with resources.db.write() as session:
        await transitions.append_events(session, claim, events, failures=0)
        # Replace a damaged checkpoint of the same step, from which this attempt could not resume.
        await session.execute(
            delete(Checkpoint).where(col(Checkpoint.job_id) == job.id, col(Checkpoint.step) == event.step)
        )
        session.add(row)
    await job_cleanup.prune_checkpoints(resources, job, event.step)


async def publish_result(resources: Resources, claim: Claim, job: Job, folder: Path, result: run_events.Result) -> None:
    """Upload the result, have the engine load and test it, then end the job and insert the model.

    The last step is one transaction.
    """
    prefix = f"{attempt_prefix(job, claim.attempt)}/result"
    manifest = await resources.blob_threads.run(put_folder, resources.blobs, prefix, folder / result.path)
    model = Model(
        id=model_name(job),
        project_id=job.project_id,
        job_id=job.id,
        created_at=time.time(),
        base_model=job.base_model,
        task=job.task,
        update=job.update["type"],
        prefix=prefix,
        manifest_sha256=manifest.sha256,
    )
    await resources.engine.load(ModelRef.from_model(model))
    files = await store_result_files(resources, claim, job)
    events = [
        NewEvent(f"New fine-tuned model created: {model.id}", data={"metrics": result.metrics}),
        NewEvent("The job has successfully completed"),
    ]
    async with resources.db.write() as session:
        session.add_all([model, *files])
        # Only one attempt can commit this transaction, so no token is counted twice.
        dimensions = UsageDimensions(
            job.project_id, job.key_id or "", to_utc_day(time.time()), "training", job.base_model
        )
        await add_usage(session, [(dimensions, UsageAmount(1, result.trained_tokens))])
        await transitions.transition(
            session,
            claim,
            SUCCEEDED,
            events,
            fine_tuned_model=model.id,
            result_files=[file.id for file in files],
            trained_tokens=result.trained_tokens,
            final_metrics=result.metrics,
            resume_proof=result.resume_proof,
        )
