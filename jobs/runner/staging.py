"""Staging of an attempt's inputs on local disk before its training process starts."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from sqlalchemy import select
from sqlmodel import col

from jobs.resources import Resources
from storage.blobs import get_file
from storage.errors import BlobCorrupt, BlobNotFound, ModelNotPulled
from storage.folders import get_folder
from storage.tables import Checkpoint, File, Job
from training.spec import TrainSpec

log = logging.getLogger("luthier.staging")

TRAINING_FILE, VALIDATION_FILE, GENERAL_FILE = "training.data", "validation.data", "general.data"
FILE_COLUMNS = {TRAINING_FILE: "training_file", VALIDATION_FILE: "validation_file", GENERAL_FILE: "general_file"}
"""Name in the run's folder -> column of the job."""
RESUME_FOLDER, START_FOLDER = "resume", "start"


async def stage_inputs(resources: Resources, job: Job, folder: Path) -> None:
    """Write the spec, data files and starting point of either phase to ``folder``.

    Raises ``StorageError``, including ``ModelNotPulled``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    entry = resources.registry.get(job.base_model)
    assert entry is not None, f"{job.base_model} was removed from the registry while a job uses it"
    async with resources.db.read() as session:
        files = {
            name: await session.get_one(File, file_id)
            for name, column in FILE_COLUMNS.items()
            if (file_id := getattr(job, column))
        }
    for name, file in files.items():
        await resources.blob_threads.run(get_file, resources.blobs, file.blob_key, file.sha256, folder / name)
    if job.starting_point:
        await _stage_start(resources, job.starting_point, folder / START_FOLDER)
    spec = TrainSpec.model_validate(
        {
            "task": job.task,
            "method": job.method["type"],
            "update": job.update,
            "hyperparameters": job.hyperparameters,
            "columns": job.columns,
            "seed": job.seed,
            "base": entry.require_location(),
            "base_id": entry.id,
            "chat_template": entry.chat_template,
            **{column: name for name, column in FILE_COLUMNS.items() if name in files},
            "start": START_FOLDER if job.starting_point else None,
            "threads": resources.settings.train_threads,
            "save_seconds": resources.settings.save_seconds,
            "cache": resources.settings.encoded_dir,
            "cache_bytes": resources.settings.encoded_cache_bytes,
        }
    )
    spec.write(folder)


async def _stage_start(resources: Resources, start: dict[str, str], destination: Path) -> None:
    prefix, sha256, part = (start[name] for name in ("prefix", "manifest_sha256", "part"))
    try:
        await resources.blob_threads.run(get_folder, resources.blobs, prefix, sha256, destination, part)
    except BlobNotFound as error:
        raise ModelNotPulled(
            f"The starting point of this job, the model '{start['model']}', was deleted. Start from another model."
        ) from error


async def stage_checkpoint(resources: Resources, job: Job, folder: Path) -> int:
    """Stage the newest intact checkpoint at ``folder/resume``.

    Return its step, or 0 if there is none.
    """
    async with resources.db.read() as session:
        query = select(Checkpoint).where(col(Checkpoint.job_id) == job.id).order_by(col(Checkpoint.step).desc())
        checkpoints = (await session.execute(query)).scalars().all()
    for checkpoint in checkpoints:
        try:
            await resources.blob_threads.run(
                get_folder, resources.blobs, checkpoint.prefix, checkpoint.manifest_sha256, folder / RESUME_FOLDER
            )
        except (BlobCorrupt, BlobNotFound) as error:
            log.warning("! %s: checkpoint %d is damaged (%s); trying an older one", job.id, checkpoint.step, error)
            shutil.rmtree(folder / RESUME_FOLDER, ignore_errors=True)
        else:
            return checkpoint.step
    return 0
