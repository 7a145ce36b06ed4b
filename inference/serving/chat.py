"""OpenAI's chat completions, complete or streamed."""

from __future__ import annotations

import random
import string
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from inference.generation.detokenizer import IncrementalDetokenizer, TokenDecoder
from inference.generation.llm_engine import GenerativeModel
from inference.generation.request import (
    GenerationHandle,
    GenerationRequest,
    build_sampling_params,
    compute_max_new_tokens,
    submit,
)
from inference.generation.sampling import SampledToken, TokenLogprob
from inference.generation.tool_parser import OutputParser, ParsedDelta, ParsedToolCall
from inference.protocol.generation import ChatCompletionRequest
from inference.protocol.response_format import NamedTool
from inference.serving.chat_prompt import ChatPrompt, build_prompt
from storage.ids import new_id


async def complete(model: GenerativeModel, model_name: str, request: ChatCompletionRequest) -> dict[str, Any]:
    """Generate a ``chat.completion``. Raises ``EngineError``."""
    prompt = await model.pools.tokenize.run(build_prompt, model, request)
    async with _submit_prompt(model, prompt, request) as handle:
        choices = []
        for index, (output, finish_reason) in enumerate(await handle.collect()):
            parser = prompt.create_parser(request)
            parsed = parser.feed(output.text) + parser.finish()
            message: dict[str, Any] = {"role": "assistant", "content": parsed.text, "refusal": None}
            if parsed.reasoning:
                message["reasoning_content"] = parsed.reasoning
            if parsed.calls:
                message |= {
                    "content": parsed.text or None,
                    "tool_calls": [_build_tool_call(call) for call in parsed.calls],
                }
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "logprobs": _build_logprobs(model.llm_engine.token_decoder, request, output.records),
                    "finish_reason": _resolve_finish_reason(finish_reason, parser, request),
                }
            )
        return {
            **_build_envelope("chat.completion", model_name),
            "choices": choices,
            "usage": _build_usage(model, prompt, handle),
        }


async def stream(
    model: GenerativeModel, model_name: str, request: ChatCompletionRequest
) -> AsyncGenerator[dict[str, Any], None]:
    """Generate the chunks of a ``chat.completion.chunk`` stream. Raises ``EngineError``."""
    envelope = _build_envelope("chat.completion.chunk", model_name)
    if request.has_usage_chunk:
        envelope["usage"] = None

    def build_chunk(
        index: int, delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return {**envelope, "choices": [choice]}

    prompt = await model.pools.tokenize.run(build_prompt, model, request)
    # The content of a message that is only a call is null, not empty.
    first_delta = {"role": "assistant", "content": None if prompt.call_format else "", "refusal": None}
    async with _submit_prompt(model, prompt, request) as handle:
        parsers: dict[int, OutputParser] = {}
        counts: Counter[int] = Counter()
        async for index, output in handle.stream_outputs():
            if index not in parsers:
                parsers[index] = prompt.create_parser(request)
                yield build_chunk(index, first_delta)
            parsed = parsers[index].feed(output.delta.text)
            if output.finish_reason:
                parsed += parsers[index].finish()
            logprobs = _build_logprobs(model.llm_engine.token_decoder, request, output.delta.records)
            for delta in _iter_deltas(parsed, counts[index], has_records=bool(output.delta.records)):
                yield build_chunk(index, delta, None if "tool_calls" in delta else logprobs)
            counts[index] += len(parsed.calls)
            if output.finish_reason:
                yield build_chunk(
                    index, {}, finish_reason=_resolve_finish_reason(output.finish_reason, parsers[index], request)
                )
        if request.has_usage_chunk:
            yield {**envelope, "choices": [], "usage": _build_usage(model, prompt, handle)}


def _iter_deltas(parsed: ParsedDelta, num_calls: int, has_records: bool) -> Iterator[dict[str, Any]]:
    """Iterate over the deltas of new output after ``num_calls`` calls.

    ``has_records``: a delta is needed for the logprobs.
    """
    delta = {"reasoning_content": parsed.reasoning} if parsed.reasoning else {}
    if parsed.text or (has_records and not delta):
        delta["content"] = parsed.text
    if delta:
        yield delta
    for index, call in enumerate(parsed.calls, num_calls):
        yield {"tool_calls": [{"index": index, **_build_tool_call(call)}]}


def _build_usage(model: GenerativeModel, prompt: ChatPrompt, handle: GenerationHandle) -> dict[str, Any]:
    tokenizer = model.llm_engine.tokenizer
    return handle.build_usage(len(prompt.ids), lambda tokens: prompt.count_reasoning_tokens(tokenizer, tokens))


def _build_tool_call(call: ParsedToolCall) -> dict[str, Any]:
    # Mistral's templates accept only ids of nine letters and digits.
    id = "".join(random.choices(string.ascii_letters + string.digits, k=9))
    return {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _resolve_finish_reason(
    finish_reason: str | None, parser: OutputParser, request: ChatCompletionRequest
) -> str | None:
    # OpenAI's finish reason of a call that was forced by name is "stop", too.
    is_forced_by_name = isinstance(request.tool_choice, NamedTool)
    return "tool_calls" if finish_reason == "stop" and parser.has_calls and not is_forced_by_name else finish_reason


def _submit_prompt(
    model: GenerativeModel, prompt: ChatPrompt, request: ChatCompletionRequest
) -> AbstractAsyncContextManager[GenerationHandle]:
    llm_engine = model.llm_engine
    max_new_tokens = compute_max_new_tokens(llm_engine, prompt.ids, "messages")
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    visible_tokens = prompt.list_visible_tokens(llm_engine)
    return submit(
        model,
        [
            GenerationRequest(
                prompt.ids,
                build_sampling_params(request, logprobs, index, llm_engine.vocab_size, prompt.grammar),
                IncrementalDetokenizer(
                    llm_engine.tokenizer,
                    request.stop_strings,
                    visible_special_ids=visible_tokens,
                ),
                min(request.max_new_tokens or max_new_tokens, max_new_tokens),
            )
            for index in range(request.num_choices)
        ],
    )


def _build_envelope(kind: str, model_name: str) -> dict[str, Any]:
    return {"id": new_id("chat"), "object": kind, "created": int(time.time()), "model": model_name}


def _build_logprobs(
    token_decoder: TokenDecoder, request: ChatCompletionRequest, sampled_tokens: Sequence[SampledToken]
) -> dict[str, Any] | None:
    if not request.logprobs:
        return None

    def build_entry(token_logprob: TokenLogprob) -> dict[str, Any]:
        text, data = token_decoder.to_text(token_logprob.token), token_decoder.to_bytes(token_logprob.token)
        return {"token": text, "logprob": token_logprob.logprob, "bytes": data}

    content = [
        {
            **build_entry(sampled_token.token_logprob),
            "top_logprobs": [build_entry(alternative) for alternative in sampled_token.top_logprobs],
        }
        for sampled_token in sampled_tokens
        if sampled_token.token_logprob
    ]
    return {"content": content, "refusal": None}
