"""Parts of a batch's output: collected on disk, committed as blobs and a row, joined at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlmodel import col

from jobs.batches import store
from jobs.batches.responses import ENDPOINTS, BatchResponse
from jobs.blob_keys import batch_prefix, files_prefix
from jobs.lifecycle.transitions import Claim
from jobs.resources import Resources
from storage.access.limits import Limits, check_storage_quota, load_limits
from storage.access.usage import UsageAmount, UsageDimensions, add_usage, to_utc_day
from storage.blobs import Blobs
from storage.folders import delete_folder
from storage.ids import new_id
from storage.tables import Batch, BatchPart, File

_COUNTERS = ("processed", "completed", "failed", "input_tokens", "output_tokens", "output_bytes")
"""Columns of a batch that every part increments."""

PART_LINES = 256
PART_SECONDS = 5.0
"""Maximum work lost with a killed worker, and maximum age of the counts that a client sees."""


class Part:
    """Responses since the last commit.

    They are kept on disk: a line of embeddings has megabytes.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self.first = first
        self.paths = {True: folder / "output", False: folder / "errors"}
        for path in self.paths.values():
            path.write_bytes(b"")
        self.increments = dict.fromkeys(_COUNTERS, 0)
        self.usage: dict[str, UsageAmount] = {}
        """Keyed by model."""
        self._started_at = time.monotonic()

    @property
    def seconds_left(self) -> float:
        """Seconds until the part has to be committed."""
        return max(0.0, self._started_at + PART_SECONDS - time.monotonic())

    @property
    def is_full(self) -> bool:
        return self.increments["processed"] >= PART_LINES or (
            self.increments["processed"] > 0 and self.seconds_left == 0
        )

    def add(self, response: BatchResponse) -> None:
        succeeded = bool(response.model)
        with self.paths[succeeded].open("ab") as file:
            file.write(response.line)
        self.increments["processed"] += 1
        self.increments["completed" if succeeded else "failed"] += 1
        self.increments["input_tokens"] += response.usage.input_tokens
        self.increments["output_tokens"] += response.usage.output_tokens
        self.increments["output_bytes"] += len(response.line)
        if succeeded:
            self.usage.setdefault(response.model, UsageAmount()).add(response.usage)


async def commit(resources: Resources, claim: Claim, batch: Batch, part: Part) -> Batch:
    """Commit a part, and its usage by the batch's key. Return the updated batch.

    Raises ``LeaseLost``, and ``QuotaExceeded`` if the project's storage is full.
    """
    if not part.increments["processed"]:
        return batch
    stored = {
        succeeded: await _store_part_file(
            resources, f"{batch_prefix(batch)}/a{claim.attempt}/{part.first}-{path.name}.jsonl", path
        )
        for succeeded, path in part.paths.items()
    }
    row = BatchPart(batch_id=batch.id, first_request=part.first, output=stored[True], errors=stored[False])
    kind, day, key_id = ENDPOINTS[batch.endpoint].usage_kind, to_utc_day(time.time()), batch.key_id or ""
    async with resources.db.write() as session:
        limits = await load_limits(session, batch.project_id, Limits.from_attributes(resources.settings))
        await check_storage_quota(session, batch.project_id, limits.max_bytes, part.increments["output_bytes"])
        usage = {
            UsageDimensions(batch.project_id, key_id, day, kind, name): amount for name, amount in part.usage.items()
        }
        await add_usage(session, usage.items())
        return await store.add_part(session, claim, row, **part.increments)


async def _store_part_file(resources: Resources, key: str, path: Path) -> dict[str, Any] | None:
    if not path.stat().st_size:
        return None
    stored = await resources.blob_threads.run(resources.blobs.put_file, key, path)
    return {"key": key, "sha256": stored.sha256}


async def store_output_files(resources: Resources, batch: Batch, tail: Path | None) -> tuple[File | None, File | None]:
    """Store the output and error files and return their rows, None for an empty file.

    ``tail`` is appended to the errors.
    """
    query = select(BatchPart).where(col(BatchPart.batch_id) == batch.id).order_by(col(BatchPart.first_request))
    async with resources.db.read() as session:
        parts = (await session.execute(query)).scalars().all()
    output = [part.output for part in parts if part.output]
    errors = [part.errors for part in parts if part.errors]
    return await _store_output_file(resources, batch, "output", output, None), await _store_output_file(
        resources, batch, "error", errors, tail
    )


async def _store_output_file(
    resources: Resources, batch: Batch, kind: str, parts: Sequence[dict[str, Any]], tail: Path | None
) -> File | None:
    if not parts and (tail is None or not tail.stat().st_size):
        return None
    file_id, now = new_id("file"), time.time()
    key = f"{files_prefix(batch.project_id)}/{file_id}"
    stored = await resources.blob_threads.run(
        resources.blobs.put_stream, key, _read_parts(resources.blobs, parts, tail)
    )
    return File(
        id=file_id,
        project_id=batch.project_id,
        created_at=now,
        filename=f"{batch.id}_{kind}.jsonl",
        purpose="batch_output",
        bytes=stored.size,
        sha256=stored.sha256,
        blob_key=key,
        expires_at=None if batch.output_expires_after is None else now + batch.output_expires_after,
    )


def _read_parts(blobs: Blobs, parts: Iterable[dict[str, Any]], tail: Path | None) -> Iterator[bytes]:
    yield from chain.from_iterable(blobs.stream(part["key"], part["sha256"]) for part in parts)
    if tail:
        with tail.open("rb") as file:
            while chunk := file.read(1 << 20):
                yield chunk


async def clean_up(resources: Resources) -> None:
    """Delete the parts of ended batches, including those of interrupted attempts."""
    async with resources.db.autocommit() as connection:
        batches = await store.find_batches_to_clean_up(connection)
    for batch in batches:
        await resources.blob_threads.run(delete_folder, resources.blobs, batch_prefix(batch))
        async with resources.db.write() as session:
            await store.mark_cleaned_up(session, batch.id)
