"""Working on batches: one at a time in each worker, given back to whoever waits after a while."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from inference.protocol.errors import EngineError
from jobs.batches import input_file, parts, responses, store
from jobs.batches.input_file import BatchError, BatchRequest
from jobs.batches.parts import Part
from jobs.batches.responses import ENDPOINTS, BatchResponse
from jobs.lifecycle.lease import run_heartbeats
from jobs.lifecycle.transitions import Claim, LeaseLost
from jobs.resources import Resources
from storage.access.limits import Limits, QuotaExceeded, load_limits, lock_project
from storage.blobs import get_file
from storage.errors import BlobCorrupt, BlobNotFound, StorageError, StorageUnavailable
from storage.tables import Batch, File

log = logging.getLogger("luthier.batches")

SLICE_SECONDS = 30.0
"""A batch may take a day; others wait no longer than this for their turn."""


@dataclass
class BatchRun:
    """One claim on one batch, from the claim to the row's next status or back into the queue."""

    resources: Resources
    claim: Claim
    batch: Batch
    folder: Path
    stop_event: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client cancelled it, or its window has passed."""
    error: BatchError | None = None
    """Why it cannot go on, though its file is good."""

    async def work(self) -> None:
        """What goes wrong leaves the row as it is; the next claim goes on from the last part."""
        started, attempt = time.monotonic(), self.claim.attempt
        log.info("→ %s attempt %d", self.batch.id, attempt)
        try:
            await self._run_with_heartbeat()
        except asyncio.CancelledError:
            with suppress(StorageUnavailable):
                await self._release()
            raise
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        log.info("← %s attempt %d: %s in %.2f s", self.batch.id, attempt, self.batch.status, time.monotonic() - started)

    async def _run_with_heartbeat(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                beating = group.create_task(self._send_heartbeats())
                await self._run()
                beating.cancel()
        except* LeaseLost:
            log.warning("✗ %s attempt %d: the lease is another's", self.batch.id, self.claim.attempt)
        except* StorageError as errors:
            # The lease runs out by itself: a pause before the next try.
            log.warning("✗ %s attempt %d: %s", self.batch.id, self.claim.attempt, errors.exceptions[0])

    async def _send_heartbeats(self) -> None:
        lease_seconds = self.resources.settings.lease_seconds

        async def beat() -> None:
            async with self.resources.db.write() as session:
                self._check_for_stop(await store.heartbeat(session, self.claim, lease_seconds))

        await run_heartbeats(beat, lease_seconds, self.batch.id)

    def _check_for_stop(self, batch: Batch) -> None:
        if batch.status == store.CANCELLING or time.time() >= batch.expires_at:
            self.stop_event.set()

    async def _run(self) -> None:
        self._check_for_stop(self.batch)
        try:
            await self._stage()
        except (BlobCorrupt, BlobNotFound):
            await self._reject([BatchError("file_unreadable", "The input file's bytes are damaged; upload it again.")])
            return
        if self.batch.status == store.VALIDATING and not self.stop_event.is_set() and not await self._validate():
            return
        try:
            if (
                self.batch.status == store.IN_PROGRESS
                and not self.stop_event.is_set()
                and not await self._process_requests()
            ):
                await self._release()
                return
        except QuotaExceeded as error:
            self.error = BatchError("quota_exceeded", str(error))
        await self._finish()

    @property
    def _input_path(self) -> Path:
        return self.folder / "input"

    async def _stage(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        async with self.resources.db.read() as session:
            file = await session.get(File, self.batch.input_file_id)
        if file is None:
            raise BlobNotFound(f"no file {self.batch.input_file_id}")
        await asyncio.to_thread(get_file, self.resources.blobs, file.blob_key, file.sha256, self._input_path)

    async def _validate(self) -> bool:
        """False where the file was refused, which ends the batch."""
        endpoint, limit = self.batch.endpoint, self.resources.settings.max_body_bytes
        checked = await asyncio.to_thread(input_file.validate_input_file, self._input_path, endpoint, limit)
        for name, line in checked.models.items():
            try:
                await responses.resolve_model(self.resources, self.batch.project_id, name, ENDPOINTS[endpoint])
            except EngineError as error:
                checked.add_error(BatchError(error.code, error.message, "body.model", line))
        if checked.errors:
            await self._reject(sorted(checked.errors, key=lambda fault: fault.line or 0))
            return False
        only = next(iter(checked.models)) if len(checked.models) == 1 else None
        async with self.resources.db.write() as session:
            full = await self._check_queue_limit(session, checked.total)
            if full is None:
                self.batch = await store.advance(
                    session, self.claim, store.IN_PROGRESS, total=checked.total, model=only
                )
        if full:
            await self._reject([full])
        return full is None

    async def _check_queue_limit(self, session: AsyncSession, request_count: int) -> BatchError | None:
        """Why the project may not queue so many requests more."""
        project_id = self.batch.project_id
        limit = (
            await load_limits(session, project_id, Limits.from_attributes(self.resources.settings))
        ).max_queued_requests
        if limit is None:
            return None
        await lock_project(session, project_id)
        queued = await store.count_unanswered(session, project_id)
        if queued + request_count <= limit:
            return None
        return BatchError(
            "request_limit_exceeded",
            f"The project may have {limit:,} unanswered requests in batches and has {queued:,}; the {request_count:,} of this "
            "file do not fit. Create the batch again when others have ended, split the file, or have an admin raise "
            "the project's 'max_queued_requests'.",
        )

    async def _reject(self, batch_errors: list[BatchError]) -> None:
        async with self.resources.db.write() as session:
            errors = [asdict(fault) for fault in batch_errors]
            self.batch = await store.end(session, self.claim, store.FAILED, errors=errors)

    async def _process_requests(self) -> bool:
        """Answer what is left, until the end or a reason to stop. False where it is another batch's turn."""
        waiting, turn_ends = self._read_remaining(), time.monotonic() + SLICE_SECONDS
        part = Part(self.folder, self.batch.processed)
        # In the order of the lines, so that what is committed is always the beginning of the answers.
        window: deque[asyncio.Task[BatchResponse]] = deque()
        stop = asyncio.create_task(self.stop_event.wait())
        try:
            while not stop.done():
                for line in islice(waiting, self.resources.settings.engine_batch - len(window)):
                    window.append(asyncio.create_task(self._process_request(line)))
                if not window:
                    break
                await asyncio.wait({window[0], stop}, return_when="FIRST_COMPLETED", timeout=part.seconds_left or None)
                if window[0].done():
                    part.add(window.popleft().result())
                if part.is_full:
                    self.batch = await parts.commit(self.resources, self.claim, self.batch, part)
                    part = Part(self.folder, self.batch.processed)
                    if time.monotonic() > turn_ends and await self._has_waiting_batch():
                        return False
        finally:
            for task in (stop, *window):
                task.cancel()
            await asyncio.gather(stop, *window, return_exceptions=True)
        self.batch = await parts.commit(self.resources, self.claim, self.batch, part)
        return True

    def _read_remaining(self) -> Iterator[BatchRequest]:
        """Requests that have no committed answer."""
        found = input_file.read_requests(self._input_path, self.resources.settings.max_body_bytes)
        for _, line in islice(found, self.batch.processed, None):
            if isinstance(line, BatchRequest):
                yield line

    async def _process_request(self, request: BatchRequest) -> BatchResponse:
        return await responses.process_request(
            self.resources, self.batch.project_id, ENDPOINTS[self.batch.endpoint], request
        )

    async def _has_waiting_batch(self) -> bool:
        async with self.resources.db.autocommit() as connection:
            return await store.has_claimable(connection)

    async def _finish(self) -> None:
        """Put the files together, then name them and end the batch, all or nothing."""
        async with self.resources.db.write() as session:
            if self.batch.total and self.batch.processed == self.batch.total:
                self.batch = await store.advance(session, self.claim, store.FINALIZING)
            else:
                self.batch = await store.heartbeat(session, self.claim, self.resources.settings.lease_seconds)
        tail = None
        if self.batch.status == store.CANCELLING:
            status = store.CANCELLED
        elif self.batch.status == store.FINALIZING:
            status = store.COMPLETED
        elif self.error:
            status = store.FAILED
        else:
            status, tail = store.EXPIRED, await asyncio.to_thread(self._write_expired_lines)
        output, errors = await parts.store_output_files(self.resources, self.batch, tail)
        failed = self.batch.total - self.batch.completed if status == store.EXPIRED else self.batch.failed
        async with self.resources.db.write() as session:
            self.batch = await store.end(
                session,
                self.claim,
                status,
                [file for file in (output, errors) if file],
                failed=failed,
                errors=[asdict(self.error)] if status == store.FAILED and self.error else None,
                output_file_id=output.id if output else None,
                error_file_id=errors.id if errors else None,
            )

    def _write_expired_lines(self) -> Path:
        """A line of the error file for each request that nobody got to."""
        path = self.folder / "expired"
        with path.open("wb") as file:
            file.writelines(responses.build_expired_line(line) for line in self._read_remaining())
        return path

    async def _release(self) -> None:
        async with self.resources.db.write() as session:
            await store.release(session, self.claim)


async def run_batch_worker(resources: Resources, scratch: Path) -> None:
    """Until cancelled; then the batch in hand is given back."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    while True:
        claimed = None
        with suppress(StorageUnavailable):
            await parts.clean_up(resources)
            claimed = await _claim_batch(resources, name)
        if claimed is None:
            await asyncio.sleep(resources.settings.poll_seconds * random.uniform(0.75, 1.25))
        else:
            await _run_batch(BatchRun(resources, *claimed, folder=scratch / "batch"))


async def _claim_batch(resources: Resources, name: str) -> tuple[Claim, Batch] | None:
    async with resources.db.autocommit() as connection:
        if not await store.has_claimable(connection):
            return None
    async with resources.db.write() as session:
        return await store.claim(session, name, resources.settings.lease_seconds)


async def _run_batch(batch_run: BatchRun) -> None:
    task = asyncio.create_task(batch_run.work())
    try:
        await asyncio.wait({task})
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()):
        # The lease runs out and the batch is taken up again; the reason must not get lost.
        log.error("! work on a batch broke", exc_info=error)
