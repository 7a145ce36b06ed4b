"""Requests that arrive together run as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from inference.protocol.errors import EngineError, EngineUnavailable

WAITING = 1024
"""Requests that may wait for a batch; more are turned away."""

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class _Asked(Generic[Q, A]):
    request: Q
    size: int
    answer: asyncio.Future[A]


class Batcher(Generic[Q, A]):
    """Runs ``answer`` in a thread, one batch of requests at a time; what arrives meanwhile makes the next batch.

    ``answer`` gives for each request what it would give it alone, or the error of that request.
    """

    def __init__(self, answer: Callable[[Sequence[Q]], Sequence[A | EngineError]], most: int) -> None:
        """``most``: size of a batch, unless one request alone is larger."""
        self._answer = answer
        self._most = most
        self._waiting: list[_Asked[Q, A]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, request: Q, size: int) -> A:
        """The request's answer. Raises its error, what ``answer`` raises, and ``EngineUnavailable`` at a full queue."""
        if len(self._waiting) >= WAITING:
            raise EngineUnavailable("Too many requests wait for this model; try again.", "engine_overloaded")
        asked = _Asked[Q, A](request, size, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await asked.answer

    async def _run(self) -> None:
        while batch := self._take():
            work = asyncio.to_thread(self._answer, [asked.request for asked in batch])
            [outcome] = await asyncio.gather(work, return_exceptions=True)
            outcomes = [outcome] * len(batch) if isinstance(outcome, BaseException) else outcome
            for asked, answer in zip(batch, outcomes, strict=True):
                if asked.answer.done():
                    continue
                if isinstance(answer, BaseException):
                    asked.answer.set_exception(answer)
                else:
                    asked.answer.set_result(answer)

    def _take(self) -> list[_Asked[Q, A]]:
        """The oldest requests that fit into one batch; those whose client has left are dropped."""
        self._waiting = [asked for asked in self._waiting if not asked.answer.done()]
        total, count = 0, 0
        for asked in self._waiting:
            total += asked.size
            if count and total > self._most:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch
