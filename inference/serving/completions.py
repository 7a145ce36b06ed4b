"""OpenAI's completions of a text, whole or in chunks, from rows of a scheduler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from inference.generation.detokenizer import REPLACEMENT_CHARACTER, IncrementalDetokenizer, TextDelta, TokenDecoder
from inference.generation.llm_engine import GenerativeModel
from inference.generation.request import (
    GenerationHandle,
    GenerationRequest,
    build_sampling_params,
    compute_max_new_tokens,
    submit,
)
from inference.generation.sampling import SampledToken
from inference.protocol.errors import EngineError
from inference.protocol.generation import CompletionRequest
from storage.ids import new_id

DEFAULT_MAX_TOKENS = 16
"""OpenAI's limit of an answer, where the request names none."""
PREFIX_TOKENS = 8
"""Last tokens of the prompt that are decoded with the answer's first ones, for the sake of a space between them."""


@dataclass(frozen=True)
class _Prompt:
    ids: list[int]
    max_new_tokens: int
    """Tokens that may follow."""
    echo: TextDelta
    """What the answer begins with: the prompt where the request has ``echo``, else nothing."""


async def complete(model: GenerativeModel, model_name: str, request: CompletionRequest) -> dict[str, Any]:
    """A ``text_completion``. Raises ``EngineError``."""
    prompts = await _build_prompts(model, request)
    async with _submit_prompts(model, prompts, request) as exchange:
        made = await exchange.collect() or [(TextDelta(), "length")] * (len(prompts) * request.num_choices)
        choices = [
            _build_choice(index, echo + _shift_offsets(echo, piece), finish, model.llm_engine.token_decoder, request)
            for index, (echo, (piece, finish)) in enumerate(zip(_repeat_echoes(prompts, request), made, strict=True))
        ]
        return {
            **_build_envelope(model_name),
            "choices": choices,
            "usage": exchange.build_usage(_count_prompt_tokens(prompts)),
        }


async def stream(
    model: GenerativeModel, model_name: str, request: CompletionRequest
) -> AsyncGenerator[dict[str, Any], None]:
    """Its chunks, ``text_completion`` each. Raises ``EngineError``."""
    head = _build_envelope(model_name) | ({"usage": None} if request.has_usage_chunk else {})
    names = model.llm_engine.token_decoder
    prompts = await _build_prompts(model, request)
    echoes = _repeat_echoes(prompts, request)
    async with _submit_prompts(model, prompts, request) as exchange:
        if request.echo or not exchange.sequences:
            finish = None if exchange.sequences else "length"
            for index, echo in enumerate(echoes):
                yield {**head, "choices": [_build_choice(index, echo, finish, names, request)]}
        async for index, update in exchange.stream_outputs():
            piece = _shift_offsets(echoes[index], update.delta)
            yield {**head, "choices": [_build_choice(index, piece, update.finish_reason, names, request)]}
        if request.has_usage_chunk:
            yield {**head, "choices": [], "usage": exchange.build_usage(_count_prompt_tokens(prompts))}


async def _build_prompts(model: GenerativeModel, request: CompletionRequest) -> list[_Prompt]:
    """The prompts, read in a thread: scoring one takes a forward pass."""
    return await asyncio.to_thread(lambda: [_build_prompt(model, request, prompt) for prompt in request.prompts])


def _build_prompt(model: GenerativeModel, request: CompletionRequest, prompt: str | list[int]) -> _Prompt:
    lane = model.llm_engine
    ids = lane.task.encode_prompt(prompt, lane.tokenizer) if isinstance(prompt, str) else prompt
    if not ids:
        raise EngineError("invalid_request", "The prompt is empty and this model has no token to begin with.", "prompt")
    if max(ids) >= len(lane.tokenizer):
        raise EngineError("invalid_request", f"Token ids of this model end at {len(lane.tokenizer) - 1}.", "prompt")
    wanted = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    # A prompt that is only scored may fill the context.
    left = compute_max_new_tokens(lane, ids if wanted else ids[:-1], "prompt")
    echo = _build_echo(model, request, ids, prompt) if request.echo else TextDelta()
    return _Prompt(ids, min(wanted, left), echo)


def _build_echo(
    model: GenerativeModel, request: CompletionRequest, ids: list[int], prompt: str | list[int]
) -> TextDelta:
    lane = model.llm_engine
    choices: list[SampledToken | None] = [None] * len(ids)
    if request.logprobs is not None:
        # Nothing comes before the first token to predict it from.
        choices = [SampledToken(ids[0], True), *lane.compute_prompt_logprobs(ids, model.adapter, request.logprobs)]
    stream, piece = IncrementalDetokenizer(lane.tokenizer, []), TextDelta()
    for token, choice in zip(ids, choices, strict=True):
        piece += stream.feed(token, choice)
    piece += stream.finish()
    return TextDelta(prompt if isinstance(prompt, str) else piece.text, piece.records, piece.text_offsets)


def _submit_prompts(
    model: GenerativeModel, prompts: Sequence[_Prompt], request: CompletionRequest
) -> AbstractAsyncContextManager[GenerationHandle]:
    tokenizer = model.llm_engine.tokenizer
    return submit(
        model,
        [
            GenerationRequest(
                prompt.ids,
                build_sampling_params(request, request.logprobs, index, len(tokenizer)),
                IncrementalDetokenizer(tokenizer, request.stop_strings, prompt.ids[-PREFIX_TOKENS:]),
                prompt.max_new_tokens,
            )
            for prompt in prompts
            for index in range(request.num_choices)
            if prompt.max_new_tokens
        ],
    )


def _repeat_echoes(prompts: Sequence[_Prompt], request: CompletionRequest) -> list[TextDelta]:
    """One for each choice."""
    return [prompt.echo for prompt in prompts for _ in range(request.num_choices)]


def _shift_offsets(echo: TextDelta, delta: TextDelta) -> TextDelta:
    """Part of an answer behind its prompt, whose tokens begin that much later."""
    return TextDelta(delta.text, delta.records, [len(echo.text) + start for start in delta.text_offsets])


def _count_prompt_tokens(prompts: Sequence[_Prompt]) -> int:
    return sum(len(prompt.ids) for prompt in prompts)


def _build_envelope(model_name: str) -> dict[str, Any]:
    return {"id": new_id("completion"), "object": "text_completion", "created": int(time.time()), "model": model_name}


def _build_choice(
    index: int, delta: TextDelta, finish_reason: str | None, token_decoder: TokenDecoder, request: CompletionRequest
) -> dict[str, Any]:
    logprobs = None if request.logprobs is None else _build_logprobs(token_decoder, delta)
    return {"index": index, "text": delta.text, "logprobs": logprobs, "finish_reason": finish_reason}


def _build_logprobs(token_decoder: TokenDecoder, delta: TextDelta) -> dict[str, Any]:
    """OpenAI's four lists, one entry a token; ``text_offset`` counts characters of the choice's text."""
    choices: list[SampledToken] = delta.records
    return {
        "tokens": [_format_token(token_decoder, choice.token) for choice in choices],
        "token_logprobs": [choice.token_logprob.logprob if choice.token_logprob else None for choice in choices],
        "top_logprobs": [
            {
                _format_token(token_decoder, each.token): each.logprob
                for each in (*choice.top_logprobs, choice.token_logprob)
            }
            if choice.token_logprob
            else None
            for choice in choices
        ],
        "text_offset": delta.text_offsets,
    }


def _format_token(token_decoder: TokenDecoder, token: int) -> str:
    """A token's text; OpenAI's spelling for one that is only part of a character."""
    text = token_decoder.to_text(token)
    return (
        "bytes:" + "".join(f"\\x{byte:02x}" for byte in token_decoder.to_bytes(token))
        if REPLACEMENT_CHARACTER in text
        else text
    )
