"""One fine-tuning job, and what can be done with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Self, Unpack

import attrs

from luthier._display import Display
from luthier._fields import JobFields
from luthier.types import Checkpoint, Event, JobData

if TYPE_CHECKING:
    from luthier._async.jobs import AsyncJobs

TERMINAL_STATUSES = frozenset({"succeeded", "failed", "cancelled"})


class AsyncJob(JobData):
    """A job as the server last told it. What steers it also brings it up to date."""

    jobs: AsyncJobs

    @property
    def ended(self) -> bool:
        """It has succeeded, failed or been cancelled, and changes no more."""
        return self.status in TERMINAL_STATUSES

    async def refresh(self) -> Self:
        """Ask the server how the job is."""
        return self._update_from(await self.jobs.retrieve(self.id))

    async def wait(self, *, timeout: float | None = None, poll: float = 1.0, display: Display | None = None) -> Self:
        """Follow the job to its end: with a bar on a terminal, with a line now and then elsewhere, both on stderr.

        ``timeout`` and ``poll`` are seconds; ``display=Quiet()`` shows nothing. A server that is away for a while, as
        in an upgrade, is waited for. Raises ``JobFailedError``, ``WaitTimeoutError``.
        """
        await self.jobs.wait(self, timeout=timeout, poll=poll, display=display)
        return self

    async def cancel(self) -> Self:
        """Cancel it: at once while it waits, within seconds while it runs."""
        return self._update_from(await self.jobs.cancel(self.id))

    async def pause(self) -> Self:
        """Have it save where it is and give its place to others."""
        return self._update_from(await self.jobs.pause(self.id))

    async def resume(self) -> Self:
        """Let it go on from where it was."""
        return self._update_from(await self.jobs.resume(self.id))

    async def start(self) -> Self:
        """Start it, where it was made with ``auto_start=False``."""
        return self._update_from(await self.jobs.start(self.id))

    async def clone(self, **changes: Unpack[JobFields]) -> AsyncJob:
        """A new job as this one was, but for the changes."""
        return await self.jobs.clone(self.id, **changes)

    def events(self) -> AsyncIterator[Event]:
        """What happened to it, the newest first."""
        return self.jobs.events(self.id)

    def checkpoints(self) -> AsyncIterator[Checkpoint]:
        """Its checkpoints, the newest first; each is a model of its own."""
        return self.jobs.checkpoints(self.id)

    async def metrics(self) -> list[dict[str, Any]]:
        """What was measured at each step, the first first."""
        return await self.jobs.metrics(self.id)

    def stream_metrics(self) -> AsyncIterator[dict[str, Any]]:
        """Each step as it is measured, from the first to the job's end."""
        return self.jobs.stream_metrics(self.id)

    def _update_from(self, told: AsyncJob) -> Self:
        for field in attrs.fields(JobData):
            setattr(self, field.name, getattr(told, field.name))
        return self
