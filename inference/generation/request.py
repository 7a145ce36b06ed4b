"""One request in the scheduler: its rows, what they make, and how many tokens that took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from inference.generation.detokenizer import Piece, TextStream
from inference.generation.llm_engine import Lane, Writer
from inference.generation.sampling import Sampling
from inference.generation.scheduler import Progress, Row
from inference.protocol.errors import EngineError
from inference.protocol.generation import Generation
from inference.structured_output.guidance import Grammar


@dataclass(frozen=True)
class Wanted:
    """An answer to make."""

    prompt: list[int]
    sampling: Sampling
    stream: TextStream
    limit: int
    """Tokens to make at most."""


@dataclass(frozen=True)
class Exchange:
    """Rows at work."""

    rows: list[Row]
    _updates: asyncio.Queue[tuple[int, Progress]]

    async def progress(self) -> AsyncIterator[tuple[int, Progress]]:
        """What each row makes, by index, until all are complete. Raises the first row's error."""
        open_rows = len(self.rows)
        while open_rows:
            index, update = await self._updates.get()
            if update.error:
                raise update.error
            yield index, update
            open_rows -= update.finish is not None

    async def whole(self) -> list[tuple[Piece, str | None]]:
        """Every row's answer and why it ended."""
        made: list[tuple[Piece, str | None]] = [(Piece(), None) for _ in self.rows]
        async for index, update in self.progress():
            made[index] = (made[index][0] + update.piece, update.finish)
        return made

    def usage(self, prompt_tokens: int) -> dict[str, Any]:
        """OpenAI's."""
        answer = sum(len(row.tokens) for row in self.rows)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": answer,
            "total_tokens": prompt_tokens + answer,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


@asynccontextmanager
async def at_work(writer: Writer, answers: Sequence[Wanted]) -> AsyncIterator[Exchange]:
    """The answers in the making; on leaving, early or not, they stop."""
    updates = asyncio.Queue[tuple[int, Progress]]()

    def emitter(index: int) -> Callable[[Progress], None]:
        def emit(update: Progress) -> None:
            updates.put_nowait((index, update))

        return emit

    rows = [
        Row(wanted.prompt, writer.adapter, wanted.sampling, wanted.stream, wanted.limit, emitter(index))
        for index, wanted in enumerate(answers)
    ]
    writer.lane.scheduler.submit(rows)
    try:
        yield Exchange(rows, updates)
    finally:
        for row in rows:
            row.cancelled = True


def room(lane: Lane, prompt: Sequence[int], what: str) -> int:
    """Tokens that the context leaves for an answer. Raises ``EngineError``; ``what`` is the body's field."""
    left = lane.context - len(prompt)
    if left <= 0:
        raise EngineError(
            "context_length_exceeded",
            f"The {what} has {len(prompt)} tokens, and this model's context of {lane.context} must hold the answer "
            "too. Shorten it.",
            what,
        )
    return left


def sampling_of(
    request: Generation, logprobs: int | None, index: int, vocabulary: int, grammar: Grammar | None = None
) -> Sampling:
    """How the ``index``-th answer to a prompt is chosen. Raises ``EngineError``."""
    bias = {int(token): value for token, value in (request.logit_bias or {}).items()}
    if bias and max(bias) >= vocabulary:
        raise EngineError("invalid_request", f"Token ids of this model end at {vocabulary - 1}.", "logit_bias")
    return Sampling(
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        bias=bias,
        logprobs=logprobs,
        # Answers to one request differ from one another, and are the same ones the next time.
        seed=None if request.seed is None else request.seed + index,
        grammar=grammar,
    )
