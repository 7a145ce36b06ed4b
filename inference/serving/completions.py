"""OpenAI's completions, complete or streamed."""

from __future__ import annotations

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
"""OpenAI's default of ``max_tokens``."""
PREFIX_TOKENS = 8
"""Number of last prompt tokens that are decoded with the first output tokens, to preserve a space
between them."""


@dataclass(frozen=True)
class _Prompt:
    ids: list[int]
    max_new_tokens: int
    """Maximum tokens to generate; 0 with ``echo`` computes only the prompt's logprobs."""
    echo: TextDelta
    """Start of the choice's text: the prompt if the request has ``echo``, else empty."""


async def complete(model: GenerativeModel, model_name: str, request: CompletionRequest) -> dict[str, Any]:
    """Generate a ``text_completion``. Raises ``EngineError``."""
    prompts = await _build_prompts(model, request)
    async with _submit_prompts(model, prompts, request) as handle:
        outputs = await handle.collect() or [(TextDelta(), "length")] * (len(prompts) * request.num_choices)
        token_decoder, echoes = model.llm_engine.token_decoder, _repeat_echoes(prompts, request)
        choices = [
            _build_choice(index, echo + _shift_offsets(echo, delta), finish_reason, token_decoder, request)
            for index, (echo, (delta, finish_reason)) in enumerate(zip(echoes, outputs, strict=True))
        ]
        return {
            **_build_envelope(model_name),
            "choices": choices,
            "usage": handle.build_usage(_count_prompt_tokens(prompts)),
        }


async def stream(
    model: GenerativeModel, model_name: str, request: CompletionRequest
) -> AsyncGenerator[dict[str, Any], None]:
    """Generate the chunks of a stream, each a ``text_completion``. Raises ``EngineError``."""
    envelope = _build_envelope(model_name) | ({"usage": None} if request.has_usage_chunk else {})
    token_decoder = model.llm_engine.token_decoder
    prompts = await _build_prompts(model, request)
    echoes = _repeat_echoes(prompts, request)
    async with _submit_prompts(model, prompts, request) as handle:
        if request.echo or not handle.sequences:
            finish_reason = None if handle.sequences else "length"
            for index, echo in enumerate(echoes):
                yield {**envelope, "choices": [_build_choice(index, echo, finish_reason, token_decoder, request)]}
        async for index, output in handle.stream_outputs():
            delta = _shift_offsets(echoes[index], output.delta)
            yield {**envelope, "choices": [_build_choice(index, delta, output.finish_reason, token_decoder, request)]}
        if request.has_usage_chunk:
            yield {**envelope, "choices": [], "usage": handle.build_usage(_count_prompt_tokens(prompts))}


async def _build_prompts(model: GenerativeModel, request: CompletionRequest) -> list[_Prompt]:
    """Build the prompts in a thread. The logprobs of a prompt need a forward pass."""
    needs_forward = request.echo and request.logprobs is not None
    pool = model.pools.forward if needs_forward else model.pools.tokenize
    return await pool.run(lambda: [_build_prompt(model, request, prompt) for prompt in request.prompts])


def _build_prompt(model: GenerativeModel, request: CompletionRequest, prompt: str | list[int]) -> _Prompt:
    llm_engine = model.llm_engine
    ids = llm_engine.task.encode_prompt(prompt, llm_engine.tokenizer) if isinstance(prompt, str) else prompt
    if not ids:
        message = "The prompt is empty, and this model has no token that begins a text; send a non-empty prompt."
        raise EngineError("invalid_request", message, "prompt")
    if max(ids) >= llm_engine.vocab_size:
        message = f"Token ids of this model end at {llm_engine.vocab_size - 1}; remove larger ones."
        raise EngineError("invalid_request", message, "prompt")
    max_tokens = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    # A prompt without output may fill the context.
    max_new_tokens = compute_max_new_tokens(llm_engine, ids if max_tokens else ids[:-1], "prompt")
    echo = _build_echo(model, request, ids, prompt) if request.echo else TextDelta()
    return _Prompt(ids, min(max_tokens, max_new_tokens), echo)


def _build_echo(
    model: GenerativeModel, request: CompletionRequest, ids: list[int], prompt: str | list[int]
) -> TextDelta:
    llm_engine = model.llm_engine
    sampled_tokens: list[SampledToken | None] = [None] * len(ids)
    if request.logprobs is not None:
        # The first token has no logprob: no token precedes it.
        logprobs = llm_engine.compute_prompt_logprobs(ids, model.adapter, request.logprobs)
        sampled_tokens = [SampledToken(ids[0], True), *logprobs]
    detokenizer, delta = IncrementalDetokenizer(llm_engine.tokenizer, []), TextDelta()
    for token, sampled_token in zip(ids, sampled_tokens, strict=True):
        delta += detokenizer.feed(token, sampled_token)
    delta += detokenizer.finish()
    return TextDelta(prompt if isinstance(prompt, str) else delta.text, delta.records, delta.text_offsets)


def _submit_prompts(
    model: GenerativeModel, prompts: Sequence[_Prompt], request: CompletionRequest
) -> AbstractAsyncContextManager[GenerationHandle]:
    tokenizer = model.llm_engine.tokenizer
    return submit(
        model,
        [
            GenerationRequest(
                prompt.ids,
                build_sampling_params(request, request.logprobs, index, model.llm_engine.vocab_size),
                IncrementalDetokenizer(tokenizer, request.stop_strings, prompt.ids[-PREFIX_TOKENS:]),
                prompt.max_new_tokens,
            )
            for prompt in prompts
            for index in range(request.num_choices)
            if prompt.max_new_tokens
        ],
    )


def _repeat_echoes(prompts: Sequence[_Prompt], request: CompletionRequest) -> list[TextDelta]:
    """Return the prompt's echo of every choice."""
    return [prompt.echo for prompt in prompts for _ in range(request.num_choices)]


def _shift_offsets(echo: TextDelta, delta: TextDelta) -> TextDelta:
    """Shift the text offsets of an output by the length of the echo before it."""
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
    """Build OpenAI's four lists, one entry per token.

    ``text_offset`` counts characters of the choice's text.
    """
    sampled_tokens: list[SampledToken] = delta.records
    return {
        "tokens": [_format_token(token_decoder, sampled.token) for sampled in sampled_tokens],
        "token_logprobs": [
            sampled.token_logprob.logprob if sampled.token_logprob else None for sampled in sampled_tokens
        ],
        "top_logprobs": [
            {
                _format_token(token_decoder, alternative.token): alternative.logprob
                for alternative in (*sampled.top_logprobs, sampled.token_logprob)
            }
            if sampled.token_logprob
            else None
            for sampled in sampled_tokens
        ],
        "text_offset": delta.text_offsets,
    }


def _format_token(token_decoder: TokenDecoder, token: int) -> str:
    """Return a token's text, or ``bytes:\\x…`` (OpenAI's notation) for a token that is part of a
    character."""
    text = token_decoder.to_text(token)
    return (
        "bytes:" + "".join(f"\\x{byte:02x}" for byte in token_decoder.to_bytes(token))
        if REPLACEMENT_CHARACTER in text
        else text
    )
