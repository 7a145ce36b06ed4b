"""OpenAI's chat completions, whole or in chunks, from rows of a scheduler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from jinja2 import TemplateError

from inference.errors import EngineError
from inference.exchange import Exchange, Wanted, at_work, room, sampling_of
from inference.lane import Lane, Writer
from inference.protocol import ChatRequest
from inference.sampling import Choice, Scored
from inference.text import TextStream, TokenNames
from storage.ids import new_id
from training.tasks.chat_rows import Message


async def complete(writer: Writer, name: str, request: ChatRequest) -> dict[str, Any]:
    """A ``chat.completion``. Raises ``EngineError``."""
    prompt = await _prompt(writer.lane, request)
    async with _answering(writer, prompt, request) as exchange:
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": piece.text, "refusal": None},
                "logprobs": _logprobs(writer.lane.names, request, piece.records),
                "finish_reason": finish,
            }
            for index, (piece, finish) in enumerate(await exchange.whole())
        ]
        return {**_head("chat.completion", name), "choices": choices, "usage": exchange.usage(len(prompt))}


async def stream(writer: Writer, name: str, request: ChatRequest) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a ``chat.completion.chunk`` stream. Raises ``EngineError``."""
    head = _head("chat.completion.chunk", name) | ({"usage": None} if request.tells_usage else {})

    def chunk(index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**head, "choices": [choice]}

    prompt = await _prompt(writer.lane, request)
    async with _answering(writer, prompt, request) as exchange:
        opened: set[int] = set()
        async for index, update in exchange.progress():
            if index not in opened:
                opened.add(index)
                yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
            if update.piece.text or update.piece.records:
                logprobs = _logprobs(writer.lane.names, request, update.piece.records)
                yield chunk(index, {"content": update.piece.text}, logprobs)
            if update.finish:
                yield chunk(index, {}, finish=update.finish)
        if request.tells_usage:
            yield {**head, "choices": [], "usage": exchange.usage(len(prompt))}


async def _prompt(lane: Lane, request: ChatRequest) -> list[int]:
    """All turns, then the opening of the answer's."""
    messages = [Message.model_validate(turn) for turn in request.conversation()]
    try:
        return await asyncio.to_thread(lane.task.encode_prompt, messages, lane.tokenizer)
    except TemplateError as error:
        raise EngineError(
            "invalid_request", f"This model's chat template refuses the conversation: {error}.", "messages"
        ) from error


def _answering(writer: Writer, prompt: list[int], request: ChatRequest) -> AbstractAsyncContextManager[Exchange]:
    lane = writer.lane
    left = room(lane, prompt, "messages")
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return at_work(
        writer,
        [
            Wanted(
                prompt,
                sampling_of(request, logprobs, index, len(lane.tokenizer)),
                TextStream(lane.tokenizer, request.stop_strings),
                min(request.answer_tokens or left, left),
            )
            for index in range(request.choices)
        ],
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
