"""OpenAI's chat completions, complete or streamed."""

from __future__ import annotations

import random
import string
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from inference.generation.detokenizer import IncrementalDetokenizer, TokenDecoder
from inference.generation.llm_engine import GenerativeModel, LLMEngine
from inference.generation.request import (
    GenerationHandle,
    GenerationRequest,
    build_sampling_params,
    compute_max_new_tokens,
    submit,
)
from inference.generation.sampling import SampledToken, TokenLogprob
from inference.generation.tool_parser import ParsedToolCall, ToolCallParser
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest
from inference.protocol.response_format import NamedTool
from inference.structured_output.grammar import StructuredOutput
from inference.structured_output.guidance import CompiledGrammar, GrammarCompiler
from inference.structured_output.request import build_structured_output
from storage.ids import new_id
from training.tasks.chat import Chat
from training.tasks.chat_format.rows import Message, Tool
from training.tasks.chat_format.template import FieldOmitted
from training.tasks.chat_format.tool_calls import ToolCallFormat


@dataclass(frozen=True)
class _ChatPrompt:
    """Prompt of a chat, with the tool call format and the grammar of its output."""

    ids: list[int]
    call_format: ToolCallFormat | None = None
    """Format of tool calls. None: the prompt contains no tools."""
    grammar: CompiledGrammar | None = None
    """Grammar that constrains the output. None: unconstrained."""

    def create_parser(self, request: ChatCompletionRequest) -> ToolCallParser:
        return ToolCallParser(
            self.call_format,
            {tool.function.name for tool in request.allowed_tools},
            single_call=request.parallel_tool_calls is False,
            constrained=self.grammar is not None,
        )


async def complete(model: GenerativeModel, model_name: str, request: ChatCompletionRequest) -> dict[str, Any]:
    """Generate a ``chat.completion``. Raises ``EngineError``."""
    prompt = await model.pools.tokenize.run(_build_prompt, model.llm_engine, request)
    async with _submit_prompt(model, prompt, request) as handle:
        choices = []
        for index, (output, finish_reason) in enumerate(await handle.collect()):
            parser = prompt.create_parser(request)
            delta, rest = parser.feed(output.text), parser.finish()
            message: dict[str, Any] = {"role": "assistant", "content": delta.text + rest.text, "refusal": None}
            if calls := [*delta.calls, *rest.calls]:
                message |= {
                    "content": message["content"] or None,
                    "tool_calls": [_build_tool_call(call) for call in calls],
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
            "usage": handle.build_usage(len(prompt.ids)),
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

    prompt = await model.pools.tokenize.run(_build_prompt, model.llm_engine, request)
    # The content of a message that is only a call is null, not empty.
    first_delta = {"role": "assistant", "content": None if prompt.call_format else "", "refusal": None}
    async with _submit_prompt(model, prompt, request) as handle:
        parsers: dict[int, ToolCallParser] = {}
        counts: Counter[int] = Counter()
        async for index, output in handle.stream_outputs():
            if index not in parsers:
                parsers[index] = prompt.create_parser(request)
                yield build_chunk(index, first_delta)
            deltas = [
                parsers[index].feed(output.delta.text),
                *([parsers[index].finish()] if output.finish_reason else []),
            ]
            logprobs = _build_logprobs(model.llm_engine.token_decoder, request, output.delta.records)
            if (text := "".join(delta.text for delta in deltas)) or output.delta.records:
                yield build_chunk(index, {"content": text}, logprobs)
            for call in [call for delta in deltas for call in delta.calls]:
                yield build_chunk(index, {"tool_calls": [{"index": counts[index], **_build_tool_call(call)}]})
                counts[index] += 1
            if output.finish_reason:
                yield build_chunk(
                    index, {}, finish_reason=_resolve_finish_reason(output.finish_reason, parsers[index], request)
                )
        if request.has_usage_chunk:
            yield {**envelope, "choices": [], "usage": handle.build_usage(len(prompt.ids))}


def _build_tool_call(call: ParsedToolCall) -> dict[str, Any]:
    # Mistral's templates accept only ids of nine letters and digits.
    id = "".join(random.choices(string.ascii_letters + string.digits, k=9))
    return {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _resolve_finish_reason(
    finish_reason: str | None, parser: ToolCallParser, request: ChatCompletionRequest
) -> str | None:
    # OpenAI's finish reason of a call that was forced by name is "stop", too.
    is_forced_by_name = isinstance(request.tool_choice, NamedTool)
    return "tool_calls" if finish_reason == "stop" and parser.has_calls and not is_forced_by_name else finish_reason


def _build_prompt(llm_engine: LLMEngine, request: ChatCompletionRequest) -> _ChatPrompt:
    """Render and encode all messages and the generation prompt, and compile the grammar. Blocks.

    Raises ``EngineError``.
    """
    messages = [Message.model_validate(message.to_message_dict()) for message in request.messages]
    tools = [Tool.model_validate(tool.model_dump()) for tool in request.offered_tools]
    assert isinstance(llm_engine.task, Chat)
    try:
        ids = llm_engine.task.encode_prompt(messages, llm_engine.tokenizer, tools)
        call_format = llm_engine.tool_call_format if tools else None
    except FieldOmitted as error:
        field = error.field.replace("[", ".").replace("]", "")
        raise EngineError("unsupported_parameter", f"This model's chat template: {error}", field) from error
    except TemplateError as error:
        raise EngineError(
            "invalid_request", f"This model's chat template rejects the messages: {error}. Change them.", "messages"
        ) from error
    constraint = build_structured_output(request)
    if constraint is None:
        return _ChatPrompt(ids, call_format)
    grammar = _get_grammar_compiler(llm_engine, constraint).compile(constraint, call_format)
    return _ChatPrompt(ids, call_format, grammar)


def _get_grammar_compiler(llm_engine: LLMEngine, constraint: StructuredOutput) -> GrammarCompiler:
    try:
        return llm_engine.grammar_compiler
    except ValueError as error:
        raise EngineError(
            "unsupported_parameter",
            "This model does not support structured output: its tokens are not bytes. Use another base model, or "
            "describe the format in a message.",
            constraint.param,
        ) from error


def _submit_prompt(
    model: GenerativeModel, prompt: _ChatPrompt, request: ChatCompletionRequest
) -> AbstractAsyncContextManager[GenerationHandle]:
    llm_engine = model.llm_engine
    max_new_tokens = compute_max_new_tokens(llm_engine, prompt.ids, "messages")
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return submit(
        model,
        [
            GenerationRequest(
                prompt.ids,
                build_sampling_params(request, logprobs, index, llm_engine.vocab_size, prompt.grammar),
                IncrementalDetokenizer(
                    llm_engine.tokenizer,
                    request.stop_strings,
                    visible_special_ids=prompt.call_format.control_token_ids if prompt.call_format else (),
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
