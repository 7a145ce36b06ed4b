"""Fine-tuning job and its actions."""

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
    """Fine-tuning job, with its fields as of the last response from the server.

    The methods ``refresh``, ``wait``, ``cancel``, ``pause``, ``resume`` and ``start`` update them.
    """

    jobs: AsyncJobs

    @property
    def ended(self) -> bool:
        """True if the job has succeeded, failed or been cancelled.

        It does not change after that.
        """
        return self.status in TERMINAL_STATUSES

    async def refresh(self) -> Self:
        """Fetch the current state of the job."""
        return self._update_from(await self.jobs.retrieve(self.id))

    async def wait(self, *, timeout: float | None = None, poll: float = 1.0, display: Display | None = None) -> Self:
        """Wait until the job ends, and show its progress on stderr.

        The display is a progress bar on a terminal and log lines elsewhere; ``display=Quiet()``
        shows nothing. ``timeout`` and ``poll`` are in seconds. ``wait`` tolerates an unavailable
        server for two minutes, for example during an upgrade. Raises ``JobFailedError`` if the job
        fails or is cancelled, and ``WaitTimeoutError`` if it does not end within ``timeout``.
        """
        await self.jobs.wait(self, timeout=timeout, poll=poll, display=display)
        return self

    async def cancel(self) -> Self:
        """Cancel the job. A waiting job ends immediately, a running job within seconds."""
        return self._update_from(await self.jobs.cancel(self.id))

    async def pause(self) -> Self:
        """Pause the job. A running job saves a checkpoint and releases its slot to other jobs."""
        return self._update_from(await self.jobs.pause(self.id))

    async def resume(self) -> Self:
        """Resume the paused job from where it stopped."""
        return self._update_from(await self.jobs.resume(self.id))

    async def start(self) -> Self:
        """Start the job if it was created with ``auto_start=False``."""
        return self._update_from(await self.jobs.start(self.id))

    async def clone(self, **changes: Unpack[JobFields]) -> AsyncJob:
        """Create a new job with the same fields, except for ``changes``."""
        return await self.jobs.clone(self.id, **changes)

    def events(self) -> AsyncIterator[Event]:
        """List the job's events, newest first."""
        return self.jobs.events(self.id)

    def checkpoints(self) -> AsyncIterator[Checkpoint]:
        """List the job's checkpoints, newest first.

        Each is a model that can be used in requests.
        """
        return self.jobs.checkpoints(self.id)

    async def metrics(self) -> list[dict[str, Any]]:
        """Return the metrics of each step, oldest first."""
        return await self.jobs.metrics(self.id)

    def stream_metrics(self) -> AsyncIterator[dict[str, Any]]:
        """Stream the metrics of each step, from the first step until the job ends."""
        return self.jobs.stream_metrics(self.id)

    def _update_from(self, latest: AsyncJob) -> Self:
        for field in attrs.fields(JobData):
            setattr(self, field.name, getattr(latest, field.name))
        return self
