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
from jobs.batches.input_file import Fault, Line
from jobs.batches.parts import Part
from jobs.batches.responses import ENDPOINTS, Answer
from jobs.lifecycle.transitions import Claim, LeaseLost
from jobs.resources import Resources
from storage.access.limits import Limits, QuotaExceeded, limits_of, lock_project
from storage.blobs import get_file
from storage.errors import BlobCorrupt, BlobNotFound, StorageError, StorageUnavailable
from storage.tables import Batch, File

log = logging.getLogger("luthier.batches")

SLICE_SECONDS = 30.0
"""A batch may take a day; others wait no longer than this for their turn."""


@dataclass
class Work:
    """One claim on one batch, from the claim to the row's next status or back into the queue."""

    rooms: Resources
    claim: Claim
    batch: Batch
    folder: Path
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client cancelled it, or its window has passed."""
    fault: Fault | None = None
    """Why it cannot go on, though its file is good."""

    async def work(self) -> None:
        """What goes wrong leaves the row as it is; the next claim goes on from the last part."""
        started, attempt = time.monotonic(), self.claim.attempt
        log.info("→ %s attempt %d", self.batch.id, attempt)
        try:
            await self._held()
        except asyncio.CancelledError:
            with suppress(StorageUnavailable):
                await self._release()
            raise
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        log.info("← %s attempt %d: %s in %.2f s", self.batch.id, attempt, self.batch.status, time.monotonic() - started)

    async def _held(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                beating = group.create_task(self._beat())
                await self._run()
                beating.cancel()
        except* LeaseLost:
            log.warning("✗ %s attempt %d: the lease is another's", self.batch.id, self.claim.attempt)
        except* StorageError as errors:
            # The lease runs out by itself: a pause before the next try.
            log.warning("✗ %s attempt %d: %s", self.batch.id, self.claim.attempt, errors.exceptions[0])

    async def _beat(self) -> None:
        seconds = self.rooms.settings.lease_seconds
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(min(seconds / 3, 2.0))
            asked = time.monotonic()
            try:
                async with self.rooms.db.write() as session:
                    self._look(await store.heartbeat(session, self.claim, seconds))
                renewed = asked
            except StorageUnavailable:
                # By its own clock this worker stops before anyone else may take the batch.
                if time.monotonic() - renewed > seconds * 2 / 3:
                    raise LeaseLost(self.batch.id) from None

    def _look(self, batch: Batch) -> None:
        if batch.status == store.CANCELLING or time.time() >= batch.expires_at:
            self.ending.set()

    async def _run(self) -> None:
        self._look(self.batch)
        try:
            await self._stage()
        except (BlobCorrupt, BlobNotFound):
            await self._refuse([Fault("file_unreadable", "The input file's bytes are damaged; upload it again.")])
            return
        if self.batch.status == store.VALIDATING and not self.ending.is_set() and not await self._validated():
            return
        try:
            if self.batch.status == store.IN_PROGRESS and not self.ending.is_set() and not await self._answered():
                await self._release()
                return
        except QuotaExceeded as error:
            self.fault = Fault("quota_exceeded", str(error))
        await self._finish()

    @property
    def _input(self) -> Path:
        return self.folder / "input"

    async def _stage(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        async with self.rooms.db.read() as session:
            file = await session.get(File, self.batch.input_file_id)
        if file is None:
            raise BlobNotFound(f"no file {self.batch.input_file_id}")
        await asyncio.to_thread(get_file, self.rooms.blobs, file.blob_key, file.sha256, self._input)

    async def _validated(self) -> bool:
        """False where the file was refused, which ends the batch."""
        endpoint, limit = self.batch.endpoint, self.rooms.settings.max_body_bytes
        checked = await asyncio.to_thread(input_file.check, self._input, endpoint, limit)
        for name, line in checked.models.items():
            try:
                await responses.model(self.rooms, self.batch.project_id, name, ENDPOINTS[endpoint])
            except EngineError as error:
                checked.refuse(Fault(error.code, error.message, "body.model", line))
        if checked.faults:
            await self._refuse(sorted(checked.faults, key=lambda fault: fault.line or 0))
            return False
        only = next(iter(checked.models)) if len(checked.models) == 1 else None
        async with self.rooms.db.write() as session:
            full = await self._queue_full(session, checked.total)
            if full is None:
                self.batch = await store.advance(
                    session, self.claim, store.IN_PROGRESS, total=checked.total, model=only
                )
        if full:
            await self._refuse([full])
        return full is None

    async def _queue_full(self, session: AsyncSession, more: int) -> Fault | None:
        """Why the project may not queue so many requests more."""
        project_id = self.batch.project_id
        limit = (await limits_of(session, project_id, Limits.of(self.rooms.settings))).max_queued_requests
        if limit is None:
            return None
        await lock_project(session, project_id)
        queued = await store.unanswered(session, project_id)
        if queued + more <= limit:
            return None
        return Fault(
            "request_limit_exceeded",
            f"The project may have {limit:,} unanswered requests in batches and has {queued:,}; the {more:,} of this "
            "file do not fit. Create the batch again when others have ended, split the file, or have an admin raise "
            "the project's 'max_queued_requests'.",
        )

    async def _refuse(self, faults: list[Fault]) -> None:
        async with self.rooms.db.write() as session:
            errors = [asdict(fault) for fault in faults]
            self.batch = await store.end(session, self.claim, store.FAILED, errors=errors)

    async def _answered(self) -> bool:
        """Answer what is left, until the end or a reason to stop. False where it is another batch's turn."""
        waiting, turn_ends = self._left(), time.monotonic() + SLICE_SECONDS
        part = Part(self.folder, self.batch.done)
        # In the order of the lines, so that what is committed is always the beginning of the answers.
        window: deque[asyncio.Task[Answer]] = deque()
        stop = asyncio.create_task(self.ending.wait())
        try:
            while not stop.done():
                for line in islice(waiting, self.rooms.settings.engine_batch - len(window)):
                    window.append(asyncio.create_task(self._answer(line)))
                if not window:
                    break
                await asyncio.wait({window[0], stop}, return_when="FIRST_COMPLETED", timeout=part.seconds_left or None)
                if window[0].done():
                    part.add(window.popleft().result())
                if part.full:
                    self.batch = await parts.commit(self.rooms, self.claim, self.batch, part)
                    part = Part(self.folder, self.batch.done)
                    if time.monotonic() > turn_ends and await self._others_wait():
                        return False
        finally:
            for task in (stop, *window):
                task.cancel()
            await asyncio.gather(stop, *window, return_exceptions=True)
        self.batch = await parts.commit(self.rooms, self.claim, self.batch, part)
        return True

    def _left(self) -> Iterator[Line]:
        """Requests that have no committed answer."""
        found = input_file.requests(self._input, self.rooms.settings.max_body_bytes)
        for _, line in islice(found, self.batch.done, None):
            if isinstance(line, Line):
                yield line

    async def _answer(self, line: Line) -> Answer:
        return await responses.answer(self.rooms, self.batch.project_id, ENDPOINTS[self.batch.endpoint], line)

    async def _others_wait(self) -> bool:
        async with self.rooms.db.single() as connection:
            return await store.waits(connection)

    async def _finish(self) -> None:
        """Put the files together, then name them and end the batch, all or nothing."""
        async with self.rooms.db.write() as session:
            if self.batch.total and self.batch.done == self.batch.total:
                self.batch = await store.advance(session, self.claim, store.FINALIZING)
            else:
                self.batch = await store.heartbeat(session, self.claim, self.rooms.settings.lease_seconds)
        tail = None
        if self.batch.status == store.CANCELLING:
            status = store.CANCELLED
        elif self.batch.status == store.FINALIZING:
            status = store.COMPLETED
        elif self.fault:
            status = store.FAILED
        else:
            status, tail = store.EXPIRED, await asyncio.to_thread(self._unanswered)
        output, errors = await parts.files(self.rooms, self.batch, tail)
        failed = self.batch.total - self.batch.completed if status == store.EXPIRED else self.batch.failed
        async with self.rooms.db.write() as session:
            self.batch = await store.end(
                session,
                self.claim,
                status,
                [file for file in (output, errors) if file],
                failed=failed,
                errors=[asdict(self.fault)] if status == store.FAILED and self.fault else None,
                output_file_id=output.id if output else None,
                error_file_id=errors.id if errors else None,
            )

    def _unanswered(self) -> Path:
        """A line of the error file for each request that nobody got to."""
        path = self.folder / "expired"
        with path.open("wb") as file:
            file.writelines(responses.expired(line) for line in self._left())
        return path

    async def _release(self) -> None:
        async with self.rooms.db.write() as session:
            await store.release(session, self.claim)


async def work_for_ever(rooms: Resources, scratch: Path) -> None:
    """Until cancelled; then the batch in hand is given back."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    while True:
        claimed = None
        with suppress(StorageUnavailable):
            await parts.tidy(rooms)
            claimed = await _claimed(rooms, name)
        if claimed is None:
            await asyncio.sleep(rooms.settings.poll_seconds * random.uniform(0.75, 1.25))
        else:
            await _worked(Work(rooms, *claimed, folder=scratch / "batch"))


async def _claimed(rooms: Resources, name: str) -> tuple[Claim, Batch] | None:
    async with rooms.db.single() as connection:
        if not await store.waits(connection):
            return None
    async with rooms.db.write() as session:
        return await store.claim(session, name, rooms.settings.lease_seconds)


async def _worked(work: Work) -> None:
    task = asyncio.create_task(work.work())
    try:
        await asyncio.wait({task})
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()):
        # The lease runs out and the batch is taken up again; the reason must not get lost.
        log.error("! work on a batch broke", exc_info=error)
