"""Making a child's work durable: bytes first, then one short transaction that names them.

A crash between the two leaves bytes that no row names; :mod:`jobs.retention.job_cleanup` removes them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
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

ProgressEvent = run_events.Message | run_events.Started | run_events.Metrics
"""The lines that a batch of is one transaction."""


async def record_validation(resources: Resources, claim: Claim, event: run_events.Validated) -> None:
    note = NewEvent(
        f"Files validated: {event.rows} rows, {event.tokens} tokens an epoch, {event.total_steps} steps.",
        data={"rows": event.rows, "validation_rows": event.validation_rows, "tokens": event.tokens},
    )
    progress = {"step": 0, "total_steps": event.total_steps, "epoch": 0.0, "tokens_per_second": None, "eta": None}
    # For an estimate of how long the queue takes; the first measured step replaces it.
    progress["tokens"] = event.tokens / event.rows * event.hyperparameters["batch_size"] * event.total_steps
    async with resources.db.write() as session:
        await transitions.finish_validation(
            session, claim, note, hyperparameters=event.hyperparameters, progress=progress, failures=0
        )


async def record_progress(resources: Resources, claim: Claim, events: Sequence[ProgressEvent]) -> None:
    """Events, metrics and progress of a batch of lines. Steps that an earlier attempt measured are not told twice."""
    async with resources.db.write() as session:
        steps = [line.step for line in events if isinstance(line, run_events.Metrics)]
        query = select(col(Metric.step)).where(col(Metric.job_id) == claim.job_id, col(Metric.step).in_(steps))
        known = set((await session.execute(query)).scalars())
        notes: list[NewEvent] = []
        values: dict[str, Any] = {}
        for line in events:
            if isinstance(line, run_events.Message):
                notes.append(NewEvent(line.message, level=line.level, data=line.data))
            elif isinstance(line, run_events.Started):
                notes.append(_build_started_event(line))
                values["trainable_parameters"] = line.trainable_parameters
            else:
                values["progress"] = _to_progress(line)
                if line.step not in known:
                    notes.append(_build_metrics_event(line))
                    session.add(
                        Metric(job_id=claim.job_id, step=line.step, attempt=claim.attempt, data=line.model_dump())
                    )
        await transitions.append_events(session, claim, notes, **values)


def _build_started_event(event: run_events.Started) -> NewEvent:
    how = "Fine-tuning job started" if event.step == 0 else f"Fine-tuning job resumed at step {event.step}"
    share = f"{event.trainable_parameters:,} of {event.total_parameters:,} parameters"
    return NewEvent(f"{how}: {share} on {event.device} in {event.dtype}", data=event.model_dump(exclude={"type"}))


def _to_progress(metrics: run_events.Metrics) -> dict[str, Any]:
    kept = {name: getattr(metrics, name) for name in ("step", "total_steps", "epoch", "tokens_per_second")}
    return {**kept, "eta": metrics.eta_seconds}


def _build_metrics_event(metrics: run_events.Metrics) -> NewEvent:
    text = f"Step {metrics.step}/{metrics.total_steps}: training loss={metrics.train_loss:.4f}"
    if metrics.valid_loss is not None:
        text += f", validation loss={metrics.valid_loss:.4f}"
    return NewEvent(text, type="metrics", data=to_wire_metrics(metrics.model_dump()))


async def record_checkpoint(
    resources: Resources, claim: Claim, job: Job, folder: Path, event: run_events.Checkpoint
) -> None:
    """Upload a checkpoint, then name it. Older ones that were only there to resume from go."""
    prefix = f"{attempt_prefix(job, claim.attempt)}/step-{event.step}"
    manifest = await asyncio.to_thread(put_folder, resources.blobs, prefix, folder / event.path)
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
    notes = (
        [NewEvent(f"Checkpoint created at step {event.step}: {checkpoint_name(job, event.step)}")] if event.keep else []
    )
    async with resources.db.write() as session:
        await transitions.append_events(session, claim, notes, failures=0)
        # A damaged checkpoint of this step, which this attempt did not resume from, makes way for the new one.
        await session.execute(
            delete(Checkpoint).where(col(Checkpoint.job_id) == job.id, col(Checkpoint.step) == event.step)
        )
        session.add(row)
    await job_cleanup.prune_checkpoints(resources, job, event.step)


async def publish_result(resources: Resources, claim: Claim, job: Job, folder: Path, result: run_events.Result) -> None:
    """Upload the result, have the engine load it and answer, then end the job and name the model, all or nothing."""
    prefix = f"{attempt_prefix(job, claim.attempt)}/result"
    manifest = await asyncio.to_thread(put_folder, resources.blobs, prefix, folder / result.path)
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
    notes = [
        NewEvent(f"New fine-tuned model created: {model.id}", data={"metrics": result.metrics}),
        NewEvent("The job has successfully completed"),
    ]
    async with resources.db.write() as session:
        session.add_all([model, *files])
        # In the transaction that only one attempt can make, so that no token counts twice.
        of = UsageDimensions(job.project_id, job.key_id or "", to_utc_day(time.time()), "training", job.base_model)
        await add_usage(session, [(of, UsageAmount(1, result.trained_tokens))])
        await transitions.transition(
            session,
            claim,
            SUCCEEDED,
            notes,
            fine_tuned_model=model.id,
            result_files=[file.id for file in files],
            trained_tokens=result.trained_tokens,
            final_metrics=result.metrics,
            resume_proof=result.resume_proof,
        )
