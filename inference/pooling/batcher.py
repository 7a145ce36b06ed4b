"""Dynamic batching: concurrent requests run as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from inference.protocol.errors import EngineError, EngineUnavailable
from storage.threads import ThreadPool

MAX_WAITING = 1024
"""Maximum requests that wait for a batch; more are rejected."""

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class _PendingRequest(Generic[Q, A]):
    request: Q
    size: int
    future: asyncio.Future[A]


class Batcher(Generic[Q, A]):
    """Dynamic batcher. It calls ``run_batch`` in a thread for one batch at a time.

    Requests that arrive during a batch form the next one. ``run_batch`` returns for each request
    the result that it would have alone, or the request's error.
    """

    def __init__(
        self, run_batch: Callable[[Sequence[Q]], Sequence[A | EngineError]], max_batch_size: int, pool: ThreadPool
    ) -> None:
        """``max_batch_size``: maximum size of a batch, unless a single request is larger.

        ``run_batch`` runs in ``pool``.
        """
        self._run_batch = run_batch
        self._pool = pool
        self._max_batch_size = max_batch_size
        self._waiting: list[_PendingRequest[Q, A]] = []
        self._running: asyncio.Task[None] | None = None

    async def submit(self, request: Q, size: int) -> A:
        """Run the request in a batch and return its result.

        Raises the request's error, errors of ``run_batch``, and ``EngineUnavailable`` if the queue
        is full.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise EngineUnavailable("Too many requests are waiting for this model; try again.", "engine_overloaded")
        pending = _PendingRequest[Q, A](request, size, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await pending.future

    async def _run(self) -> None:
        while batch := self._take_batch():
            run = self._pool.run(self._run_batch, [pending.request for pending in batch])
            [outcome] = await asyncio.gather(run, return_exceptions=True)
            outcomes = [outcome] * len(batch) if isinstance(outcome, BaseException) else outcome
            for pending, result in zip(batch, outcomes, strict=True):
                if pending.future.done():
                    continue
                if isinstance(result, BaseException):
                    pending.future.set_exception(result)
                else:
                    pending.future.set_result(result)

    def _take_batch(self) -> list[_PendingRequest[Q, A]]:
        """Remove and return the oldest requests that fit in one batch.

        Cancelled requests are dropped.
        """
        self._waiting = [pending for pending in self._waiting if not pending.future.done()]
        total, count = 0, 0
        for pending in self._waiting:
            total += pending.size
            if count and total > self._max_batch_size:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch
