"""Requests that arrive together run as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from inference.protocol.errors import EngineError, EngineUnavailable

MAX_WAITING = 1024
"""Requests that may wait for a batch; more are turned away."""

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class _PendingRequest(Generic[Q, A]):
    request: Q
    size: int
    future: asyncio.Future[A]


class Batcher(Generic[Q, A]):
    """Runs ``answer`` in a thread, one batch of requests at a time; what arrives meanwhile makes the next batch.

    ``answer`` gives for each request what it would give it alone, or the error of that request.
    """

    def __init__(self, run_batch: Callable[[Sequence[Q]], Sequence[A | EngineError]], max_batch_size: int) -> None:
        """``most``: size of a batch, unless one request alone is larger."""
        self._run_batch = run_batch
        self._max_batch_size = max_batch_size
        self._waiting: list[_PendingRequest[Q, A]] = []
        self._running: asyncio.Task[None] | None = None

    async def submit(self, request: Q, size: int) -> A:
        """The request's answer. Raises its error, what ``answer`` raises, and ``EngineUnavailable`` at a full queue."""
        if len(self._waiting) >= MAX_WAITING:
            raise EngineUnavailable("Too many requests wait for this model; try again.", "engine_overloaded")
        asked = _PendingRequest[Q, A](request, size, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await asked.future

    async def _run(self) -> None:
        while batch := self._take_batch():
            work = asyncio.to_thread(self._run_batch, [asked.request for asked in batch])
            [outcome] = await asyncio.gather(work, return_exceptions=True)
            outcomes = [outcome] * len(batch) if isinstance(outcome, BaseException) else outcome
            for asked, answer in zip(batch, outcomes, strict=True):
                if asked.future.done():
                    continue
                if isinstance(answer, BaseException):
                    asked.future.set_exception(answer)
                else:
                    asked.future.set_result(answer)

    def _take_batch(self) -> list[_PendingRequest[Q, A]]:
        """The oldest requests that fit into one batch; those whose client has left are dropped."""
        self._waiting = [asked for asked in self._waiting if not asked.future.done()]
        total, count = 0, 0
        for asked in self._waiting:
            total += asked.size
            if count and total > self._max_batch_size:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch
