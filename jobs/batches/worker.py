"""Batch worker: runs one batch at a time and releases it after a while if others wait."""

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
"""Time slice of a batch while others wait. A batch may take a day."""


@dataclass
class BatchRun:
    """One run of a claimed batch, until its next status or its return to the queue."""

    resources: Resources
    claim: Claim
    batch: Batch
    folder: Path
    stop_event: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client has cancelled the batch, or its completion window has ended."""
    error: BatchError | None = None
    """Reason why the batch fails, although its file is valid."""

    async def work(self) -> None:
        """Run the batch.

        After an error the row is unchanged; the next claim resumes after the last part.
        """
        started_at, attempt = time.monotonic(), self.claim.attempt
        log.info("→ %s attempt %d", self.batch.id, attempt)
        try:
            await self._run_with_heartbeat()
        except asyncio.CancelledError:
            with suppress(StorageUnavailable):
                await self._release()
            raise
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        seconds = time.monotonic() - started_at
        log.info("← %s attempt %d: %s in %.2f s", self.batch.id, attempt, self.batch.status, seconds)

    async def _run_with_heartbeat(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                heartbeat_task = group.create_task(self._send_heartbeats())
                await self._run()
                heartbeat_task.cancel()
        except* LeaseLost:
            log.warning("✗ %s attempt %d: lost the lease", self.batch.id, self.claim.attempt)
        except* StorageError as errors:
            # The lease is left to expire, which delays the next try.
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
        threads, blobs = self.resources.blob_threads, self.resources.blobs
        await threads.run(get_file, blobs, file.blob_key, file.sha256, self._input_path)

    async def _validate(self) -> bool:
        """Validate the input file. Return False if it was rejected, which ends the batch."""
        endpoint, limit = self.batch.endpoint, self.resources.settings.max_body_bytes
        report = await asyncio.to_thread(input_file.validate_input_file, self._input_path, endpoint, limit)
        for name, line in report.models.items():
            try:
                await responses.resolve_model(self.resources, self.batch.project_id, name, ENDPOINTS[endpoint])
            except EngineError as error:
                report.add_error(BatchError(error.code, error.message, "body.model", line))
        if report.errors:
            await self._reject(sorted(report.errors, key=lambda error: error.line or 0))
            return False
        model = next(iter(report.models)) if len(report.models) == 1 else None
        async with self.resources.db.write() as session:
            limit_error = await self._check_queue_limit(session, report.total)
            if limit_error is None:
                self.batch = await store.advance(
                    session, self.claim, store.IN_PROGRESS, total=report.total, model=model
                )
        if limit_error:
            await self._reject([limit_error])
        return limit_error is None

    async def _check_queue_limit(self, session: AsyncSession, request_count: int) -> BatchError | None:
        """Return an error if the project may not queue this many more requests."""
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
            f"The project's limit is {limit:,} queued requests in batches. It has {queued:,}, and this file adds "
            f"{request_count:,}. Create the batch again when others have ended, split the file, or have an admin raise "
            "the project's 'max_queued_requests'.",
        )

    async def _reject(self, batch_errors: list[BatchError]) -> None:
        async with self.resources.db.write() as session:
            errors = [asdict(error) for error in batch_errors]
            self.batch = await store.end(session, self.claim, store.FAILED, errors=errors)

    async def _process_requests(self) -> bool:
        """Process the remaining requests until the end or a stop.

        Return False if the time slice is over and another batch waits.
        """
        requests, slice_end = self._read_remaining(), time.monotonic() + SLICE_SECONDS
        part = Part(self.folder, self.batch.processed)
        # In the order of the lines: committed responses always belong to the first lines.
        window: deque[asyncio.Task[BatchResponse]] = deque()
        stop_task = asyncio.create_task(self.stop_event.wait())
        try:
            while not stop_task.done():
                for request in islice(requests, self.resources.settings.engine_batch - len(window)):
                    window.append(asyncio.create_task(self._process_request(request)))
                if not window:
                    break
                await asyncio.wait(
                    {window[0], stop_task}, return_when="FIRST_COMPLETED", timeout=part.seconds_left or None
                )
                if window[0].done():
                    part.add(window.popleft().result())
                if part.is_full:
                    self.batch = await parts.commit(self.resources, self.claim, self.batch, part)
                    part = Part(self.folder, self.batch.processed)
                    if time.monotonic() > slice_end and await self._has_waiting_batch():
                        return False
        finally:
            for task in (stop_task, *window):
                task.cancel()
            await asyncio.gather(stop_task, *window, return_exceptions=True)
        self.batch = await parts.commit(self.resources, self.claim, self.batch, part)
        return True

    def _read_remaining(self) -> Iterator[BatchRequest]:
        """Yield the requests that have no committed response."""
        lines = input_file.read_requests(self._input_path, self.resources.settings.max_body_bytes)
        for _, line in islice(lines, self.batch.processed, None):
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
        """Assemble the output files, then insert their rows and end the batch atomically."""
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
        """Write a line of the error file for each request that was not processed in time."""
        path = self.folder / "expired"
        with path.open("wb") as file:
            file.writelines(responses.build_expired_line(request) for request in self._read_remaining())
        return path

    async def _release(self) -> None:
        async with self.resources.db.write() as session:
            await store.release(session, self.claim)


async def run_batch_worker(resources: Resources, scratch: Path) -> None:
    """Run batches until cancelled, then release the current one."""
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
        # Only this log line keeps the reason: the batch is claimed again when its lease expires.
        log.error("! a batch run failed unexpectedly", exc_info=error)
