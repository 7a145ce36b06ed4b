"""OpenAI's completions of a text, whole or in chunks, from rows of a scheduler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from inference.generation.detokenizer import UNFINISHED, Piece, TextStream, TokenNames
from inference.generation.llm_engine import Writer
from inference.generation.request import Exchange, Wanted, at_work, room, sampling_of
from inference.generation.sampling import Choice
from inference.protocol.errors import EngineError
from inference.protocol.generation import CompletionRequest
from storage.ids import new_id

DEFAULT_TOKENS = 16
"""OpenAI's limit of an answer, where the request names none."""
NEIGHBOURS = 8
"""Last tokens of the prompt that are decoded with the answer's first ones, for the sake of a space between them."""


@dataclass(frozen=True)
class _Prompt:
    ids: list[int]
    limit: int
    """Tokens that may follow."""
    echo: Piece
    """What the answer begins with: the prompt where the request has ``echo``, else nothing."""


async def complete(writer: Writer, name: str, request: CompletionRequest) -> dict[str, Any]:
    """A ``text_completion``. Raises ``EngineError``."""
    prompts = await _prompts(writer, request)
    async with _answering(writer, prompts, request) as exchange:
        made = await exchange.whole() or [(Piece(), "length")] * (len(prompts) * request.choices)
        choices = [
            _choice(index, echo + _behind(echo, piece), finish, writer.lane.names, request)
            for index, (echo, (piece, finish)) in enumerate(zip(_echoes(prompts, request), made, strict=True))
        ]
        return {**_head(name), "choices": choices, "usage": exchange.usage(_tokens(prompts))}


async def stream(writer: Writer, name: str, request: CompletionRequest) -> AsyncGenerator[dict[str, Any], None]:
    """Its chunks, ``text_completion`` each. Raises ``EngineError``."""
    head = _head(name) | ({"usage": None} if request.tells_usage else {})
    names = writer.lane.names
    prompts = await _prompts(writer, request)
    echoes = _echoes(prompts, request)
    async with _answering(writer, prompts, request) as exchange:
        if request.echo or not exchange.rows:
            finish = None if exchange.rows else "length"
            for index, echo in enumerate(echoes):
                yield {**head, "choices": [_choice(index, echo, finish, names, request)]}
        async for index, update in exchange.progress():
            piece = _behind(echoes[index], update.piece)
            yield {**head, "choices": [_choice(index, piece, update.finish, names, request)]}
        if request.tells_usage:
            yield {**head, "choices": [], "usage": exchange.usage(_tokens(prompts))}


async def _prompts(writer: Writer, request: CompletionRequest) -> list[_Prompt]:
    """The prompts, read in a thread: scoring one takes a forward pass."""
    return await asyncio.to_thread(lambda: [_prompt(writer, request, prompt) for prompt in request.prompts])


def _prompt(writer: Writer, request: CompletionRequest, prompt: str | list[int]) -> _Prompt:
    lane = writer.lane
    ids = lane.task.encode_prompt(prompt, lane.tokenizer) if isinstance(prompt, str) else prompt
    if not ids:
        raise EngineError("invalid_request", "The prompt is empty and this model has no token to begin with.", "prompt")
    if max(ids) >= len(lane.tokenizer):
        raise EngineError("invalid_request", f"Token ids of this model end at {len(lane.tokenizer) - 1}.", "prompt")
    wanted = DEFAULT_TOKENS if request.max_tokens is None else request.max_tokens
    # A prompt that is only scored may fill the context.
    left = room(lane, ids if wanted else ids[:-1], "prompt")
    echo = _echoed(writer, request, ids, prompt) if request.echo else Piece()
    return _Prompt(ids, min(wanted, left), echo)


def _echoed(writer: Writer, request: CompletionRequest, ids: list[int], prompt: str | list[int]) -> Piece:
    lane = writer.lane
    choices: list[Choice | None] = [None] * len(ids)
    if request.logprobs is not None:
        # Nothing comes before the first token to predict it from.
        choices = [Choice(ids[0], True), *lane.score(ids, writer.adapter, request.logprobs)]
    stream, piece = TextStream(lane.tokenizer, []), Piece()
    for token, choice in zip(ids, choices, strict=True):
        piece += stream.feed(token, choice)
    piece += stream.finish()
    return Piece(prompt if isinstance(prompt, str) else piece.text, piece.records, piece.starts)


def _answering(
    writer: Writer, prompts: Sequence[_Prompt], request: CompletionRequest
) -> AbstractAsyncContextManager[Exchange]:
    tokenizer = writer.lane.tokenizer
    return at_work(
        writer,
        [
            Wanted(
                prompt.ids,
                sampling_of(request, request.logprobs, index, len(tokenizer)),
                TextStream(tokenizer, request.stop_strings, prompt.ids[-NEIGHBOURS:]),
                prompt.limit,
            )
            for prompt in prompts
            for index in range(request.choices)
            if prompt.limit
        ],
    )


def _echoes(prompts: Sequence[_Prompt], request: CompletionRequest) -> list[Piece]:
    """One for each choice."""
    return [prompt.echo for prompt in prompts for _ in range(request.choices)]


def _behind(echo: Piece, piece: Piece) -> Piece:
    """Part of an answer behind its prompt, whose tokens begin that much later."""
    return Piece(piece.text, piece.records, [len(echo.text) + start for start in piece.starts])


def _tokens(prompts: Sequence[_Prompt]) -> int:
    return sum(len(prompt.ids) for prompt in prompts)


def _head(name: str) -> dict[str, Any]:
    return {"id": new_id("completion"), "object": "text_completion", "created": int(time.time()), "model": name}


def _choice(
    index: int, piece: Piece, finish: str | None, names: TokenNames, request: CompletionRequest
) -> dict[str, Any]:
    logprobs = None if request.logprobs is None else _logprobs(names, piece)
    return {"index": index, "text": piece.text, "logprobs": logprobs, "finish_reason": finish}


def _logprobs(names: TokenNames, piece: Piece) -> dict[str, Any]:
    """OpenAI's four lists, one entry a token; ``text_offset`` counts characters of the choice's text."""
    choices: list[Choice] = piece.records
    return {
        "tokens": [_name(names, choice.token) for choice in choices],
        "token_logprobs": [choice.scored.logprob if choice.scored else None for choice in choices],
        "top_logprobs": [
            {_name(names, each.token): each.logprob for each in (*choice.alternatives, choice.scored)}
            if choice.scored
            else None
            for choice in choices
        ],
        "text_offset": piece.starts,
    }


def _name(names: TokenNames, token: int) -> str:
    """A token's text; OpenAI's spelling for one that is only part of a character."""
    text = names.text(token)
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in names.bytes(token)) if UNFINISHED in text else text
