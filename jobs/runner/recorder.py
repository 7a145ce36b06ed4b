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
from jobs.metrics.result_files import result_files
from jobs.metrics.wire_format import wire_metrics
from jobs.resources import Resources
from jobs.retention import job_cleanup
from storage.access.usage import Amount, Counted, count, day_of
from storage.folders import put_folder
from storage.ids import new_id
from storage.tables import Checkpoint, Job, Metric, Model
from training import run_events

Told = run_events.Message | run_events.Started | run_events.Metrics
"""The lines that a batch of is one transaction."""


async def validated(rooms: Resources, claim: Claim, line: run_events.Validated) -> None:
    note = NewEvent(
        f"Files validated: {line.rows} rows, {line.tokens} tokens an epoch, {line.total_steps} steps.",
        data={"rows": line.rows, "validation_rows": line.validation_rows, "tokens": line.tokens},
    )
    progress = {"step": 0, "total_steps": line.total_steps, "epoch": 0.0, "tokens_per_second": None, "eta": None}
    # For an estimate of how long the queue takes; the first measured step replaces it.
    progress["tokens"] = line.tokens / line.rows * line.hyperparameters["batch_size"] * line.total_steps
    async with rooms.db.write() as session:
        await transitions.validated(
            session, claim, note, hyperparameters=line.hyperparameters, progress=progress, failures=0
        )


async def told(rooms: Resources, claim: Claim, lines: Sequence[Told]) -> None:
    """Events, metrics and progress of a batch of lines. Steps that an earlier attempt measured are not told twice."""
    async with rooms.db.write() as session:
        steps = [line.step for line in lines if isinstance(line, run_events.Metrics)]
        query = select(col(Metric.step)).where(col(Metric.job_id) == claim.job_id, col(Metric.step).in_(steps))
        known = set((await session.execute(query)).scalars())
        notes: list[NewEvent] = []
        values: dict[str, Any] = {}
        for line in lines:
            if isinstance(line, run_events.Message):
                notes.append(NewEvent(line.message, level=line.level, data=line.data))
            elif isinstance(line, run_events.Started):
                notes.append(_started(line))
                values["trainable_parameters"] = line.trainable_parameters
            else:
                values["progress"] = _progress(line)
                if line.step not in known:
                    notes.append(_measured(line))
                    session.add(
                        Metric(job_id=claim.job_id, step=line.step, attempt=claim.attempt, data=line.model_dump())
                    )
        await transitions.record(session, claim, notes, **values)


def _started(line: run_events.Started) -> NewEvent:
    how = "Fine-tuning job started" if line.step == 0 else f"Fine-tuning job resumed at step {line.step}"
    share = f"{line.trainable_parameters:,} of {line.total_parameters:,} parameters"
    return NewEvent(f"{how}: {share} on {line.device} in {line.dtype}", data=line.model_dump(exclude={"type"}))


def _progress(line: run_events.Metrics) -> dict[str, Any]:
    kept = {name: getattr(line, name) for name in ("step", "total_steps", "epoch", "tokens_per_second")}
    return {**kept, "eta": line.eta_seconds}


def _measured(line: run_events.Metrics) -> NewEvent:
    text = f"Step {line.step}/{line.total_steps}: training loss={line.train_loss:.4f}"
    if line.valid_loss is not None:
        text += f", validation loss={line.valid_loss:.4f}"
    return NewEvent(text, type="metrics", data=wire_metrics(line.model_dump()))


async def checkpoint(rooms: Resources, claim: Claim, job: Job, folder: Path, line: run_events.Checkpoint) -> None:
    """Upload a checkpoint, then name it. Older ones that were only there to resume from go."""
    prefix = f"{attempt_prefix(job, claim.attempt)}/step-{line.step}"
    manifest = await asyncio.to_thread(put_folder, rooms.blobs, prefix, folder / line.path)
    now = time.time()
    row = Checkpoint(
        id=new_id("checkpoint"),
        job_id=job.id,
        project_id=job.project_id,
        step=line.step,
        attempt=claim.attempt,
        created_at=now,
        prefix=prefix,
        manifest_sha256=manifest.sha256,
        keep=line.keep,
        expires_at=now + job.checkpoint_ttl_seconds if line.keep and job.checkpoint_ttl_seconds else None,
        metrics=wire_metrics(line.metrics.model_dump()) if line.metrics else None,
    )
    notes = (
        [NewEvent(f"Checkpoint created at step {line.step}: {checkpoint_name(job, line.step)}")] if line.keep else []
    )
    async with rooms.db.write() as session:
        await transitions.record(session, claim, notes, failures=0)
        # A damaged checkpoint of this step, which this attempt did not resume from, makes way for the new one.
        await session.execute(
            delete(Checkpoint).where(col(Checkpoint.job_id) == job.id, col(Checkpoint.step) == line.step)
        )
        session.add(row)
    await job_cleanup.superseded(rooms, job, line.step)


async def finish(rooms: Resources, claim: Claim, job: Job, folder: Path, line: run_events.Result) -> None:
    """Upload the result, have the engine load it and answer, then end the job and name the model, all or nothing."""
    prefix = f"{attempt_prefix(job, claim.attempt)}/result"
    manifest = await asyncio.to_thread(put_folder, rooms.blobs, prefix, folder / line.path)
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
    await rooms.engine.load(ModelRef.of_result(model))
    files = await result_files(rooms, claim, job)
    notes = [
        NewEvent(f"New fine-tuned model created: {model.id}", data={"metrics": line.metrics}),
        NewEvent("The job has successfully completed"),
    ]
    async with rooms.db.write() as session:
        session.add_all([model, *files])
        # In the transaction that only one attempt can make, so that no token counts twice.
        of = Counted(job.project_id, job.key_id or "", day_of(time.time()), "training", job.base_model)
        await count(session, [(of, Amount(1, line.trained_tokens))])
        await transitions.move(
            session,
            claim,
            SUCCEEDED,
            notes,
            fine_tuned_model=model.id,
            result_files=[file.id for file in files],
            trained_tokens=line.trained_tokens,
            final_metrics=line.metrics,
            resume_proof=line.resume_proof,
        )
