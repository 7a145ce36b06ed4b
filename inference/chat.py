"""OpenAI's chat completions, whole or in chunks, from rows of a scheduler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from inference.errors import EngineError
from inference.lane import ChatModel
from inference.protocol import ChatRequest
from inference.sampling import Choice, Sampling, Scored
from inference.scheduler import Progress, Row
from inference.text import Piece, TextStream, TokenNames
from storage.ids import new_id


@dataclass(frozen=True)
class _Exchange:
    """One request in the scheduler."""

    rows: list[Row]
    updates: asyncio.Queue[tuple[int, Progress]]

    async def progress(self) -> AsyncIterator[tuple[int, Progress]]:
        """What each row makes, by index, until all are complete. Raises the first row's error."""
        open_rows = len(self.rows)
        while open_rows:
            index, update = await self.updates.get()
            if update.error:
                raise update.error
            yield index, update
            open_rows -= update.finish is not None

    def usage(self) -> dict[str, Any]:
        prompt, answer = len(self.rows[0].prompt), sum(len(row.tokens) for row in self.rows)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


async def complete(model: ChatModel, name: str, request: ChatRequest) -> dict[str, Any]:
    """A ``chat.completion``. Raises ``EngineError``."""
    async with _exchange(model, request) as exchange:
        pieces: list[list[Piece]] = [[] for _ in exchange.rows]
        finishes: list[str | None] = [None for _ in exchange.rows]
        async for index, update in exchange.progress():
            pieces[index].append(update.piece)
            finishes[index] = update.finish
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(piece.text for piece in made), "refusal": None},
                "logprobs": _logprobs(
                    model.lane.names, request, [record for piece in made for record in piece.records]
                ),
                "finish_reason": finishes[index],
            }
            for index, made in enumerate(pieces)
        ]
        return {**_head("chat.completion", name), "choices": choices, "usage": exchange.usage()}


async def stream(model: ChatModel, name: str, request: ChatRequest) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a ``chat.completion.chunk`` stream. Raises ``EngineError``."""
    with_usage = bool(request.stream_options and request.stream_options.include_usage)
    head = _head("chat.completion.chunk", name) | ({"usage": None} if with_usage else {})

    def chunk(index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**head, "choices": [choice]}

    async with _exchange(model, request) as exchange:
        opened: set[int] = set()
        async for index, update in exchange.progress():
            if index not in opened:
                opened.add(index)
                yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
            if update.piece.text or update.piece.records:
                logprobs = _logprobs(model.lane.names, request, update.piece.records)
                yield chunk(index, {"content": update.piece.text}, logprobs)
            if update.finish:
                yield chunk(index, {}, finish=update.finish)
        if with_usage:
            yield {**head, "choices": [], "usage": exchange.usage()}


@asynccontextmanager
async def _exchange(model: ChatModel, request: ChatRequest) -> AsyncIterator[_Exchange]:
    """The request's rows at work; on leaving, early or not, they stop."""
    prompt = await asyncio.to_thread(model.encode, request.conversation())
    room = model.lane.context - len(prompt)
    if room <= 0:
        raise EngineError(
            "context_length_exceeded",
            f"The messages have {len(prompt)} tokens, and this model's context of {model.lane.context} must hold the "
            "answer too. Shorten them.",
            "messages",
        )
    updates = asyncio.Queue[tuple[int, Progress]]()

    def emitter(index: int) -> Callable[[Progress], None]:
        def emit(update: Progress) -> None:
            updates.put_nowait((index, update))

        return emit

    limit = min(request.answer_tokens or room, room)
    rows = [
        Row(
            prompt,
            model.adapter,
            _sampling(request, index, len(model.lane.served.tokenizer)),
            TextStream(model.lane.served.tokenizer, request.stop_strings),
            limit,
            emitter(index),
        )
        for index in range(request.n or 1)
    ]
    model.lane.scheduler.submit(rows)
    try:
        yield _Exchange(rows, updates)
    finally:
        for row in rows:
            row.cancelled = True


def _sampling(request: ChatRequest, index: int, vocabulary: int) -> Sampling:
    bias = {int(token): value for token, value in (request.logit_bias or {}).items()}
    if bias and max(bias) >= vocabulary:
        raise EngineError("invalid_request", f"Token ids of this model end at {vocabulary - 1}.", "logit_bias")
    return Sampling(
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        bias=bias,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        # Answers to one request differ from one another, and are the same ones the next time.
        seed=None if request.seed is None else request.seed + index,
    )


def _head(kind: str, name: str) -> dict[str, Any]:
    return {"id": new_id("chat"), "object": kind, "created": int(time.time()), "model": name}


def _logprobs(names: TokenNames, request: ChatRequest, choices: Sequence[Choice]) -> dict[str, Any] | None:
    if not request.logprobs:
        return None

    def named(scored: Scored) -> dict[str, Any]:
        text, data = names.text(scored.token), names.bytes(scored.token)
        return {"token": text, "logprob": scored.logprob, "bytes": data}

    content = [
        {**named(choice.scored), "top_logprobs": [named(other) for other in choice.alternatives]}
        for choice in choices
        if choice.scored
    ]
    return {"content": content, "refusal": None}
