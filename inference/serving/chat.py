"""OpenAI's chat completions, whole or in chunks, from rows of a scheduler."""

from __future__ import annotations

import asyncio
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
    """A prompt, and how calls of the tools that it offers are read out of an answer."""

    ids: list[int]
    call_format: ToolCallFormat | None = None
    """None: it offers no tools."""
    grammar: CompiledGrammar | None = None
    """What the answer is held to."""

    def create_parser(self, request: ChatCompletionRequest) -> ToolCallParser:
        return ToolCallParser(
            self.call_format,
            {tool.function.name for tool in request.allowed_tools},
            single_call=request.parallel_tool_calls is False,
            constrained=self.grammar is not None,
        )


async def complete(model: GenerativeModel, model_name: str, request: ChatCompletionRequest) -> dict[str, Any]:
    """A ``chat.completion``. Raises ``EngineError``."""
    asked = await asyncio.to_thread(_build_prompt, model.llm_engine, request)
    async with _submit_prompt(model, asked, request) as exchange:
        choices = []
        for index, (piece, finish) in enumerate(await exchange.collect()):
            reader = asked.create_parser(request)
            begin, end = reader.feed(piece.text), reader.finish()
            message: dict[str, Any] = {"role": "assistant", "content": begin.text + end.text, "refusal": None}
            if calls := [*begin.calls, *end.calls]:
                message |= {
                    "content": message["content"] or None,
                    "tool_calls": [_build_tool_call(call) for call in calls],
                }
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "logprobs": _build_logprobs(model.llm_engine.token_decoder, request, piece.records),
                    "finish_reason": _resolve_finish_reason(finish, reader, request),
                }
            )
        return {
            **_build_envelope("chat.completion", model_name),
            "choices": choices,
            "usage": exchange.build_usage(len(asked.ids)),
        }


async def stream(
    model: GenerativeModel, model_name: str, request: ChatCompletionRequest
) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a ``chat.completion.chunk`` stream. Raises ``EngineError``."""
    head = _build_envelope("chat.completion.chunk", model_name) | ({"usage": None} if request.has_usage_chunk else {})

    def build_chunk(
        index: int, delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return {**head, "choices": [choice]}

    asked = await asyncio.to_thread(_build_prompt, model.llm_engine, request)
    # An answer that is a call only has no content, not an empty one.
    opening = {"role": "assistant", "content": None if asked.call_format else "", "refusal": None}
    async with _submit_prompt(model, asked, request) as exchange:
        readers: dict[int, ToolCallParser] = {}
        counts: Counter[int] = Counter()
        async for index, update in exchange.stream_outputs():
            if index not in readers:
                readers[index] = asked.create_parser(request)
                yield build_chunk(index, opening)
            said = [
                readers[index].feed(update.delta.text),
                *([readers[index].finish()] if update.finish_reason else []),
            ]
            logprobs = _build_logprobs(model.llm_engine.token_decoder, request, update.delta.records)
            if (text := "".join(each.text for each in said)) or update.delta.records:
                yield build_chunk(index, {"content": text}, logprobs)
            for call in [call for each in said for call in each.calls]:
                yield build_chunk(index, {"tool_calls": [{"index": counts[index], **_build_tool_call(call)}]})
                counts[index] += 1
            if update.finish_reason:
                yield build_chunk(
                    index, {}, finish_reason=_resolve_finish_reason(update.finish_reason, readers[index], request)
                )
        if request.has_usage_chunk:
            yield {**head, "choices": [], "usage": exchange.build_usage(len(asked.ids))}


def _build_tool_call(call: ParsedToolCall) -> dict[str, Any]:
    # Mistral's templates take ids of nine letters and digits only.
    id = "".join(random.choices(string.ascii_letters + string.digits, k=9))
    return {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _resolve_finish_reason(
    finish_reason: str | None, parser: ToolCallParser, request: ChatCompletionRequest
) -> str | None:
    # A call that was asked for by name ends with OpenAI, too, as an answer does.
    asked = isinstance(request.tool_choice, NamedTool)
    return "tool_calls" if finish_reason == "stop" and parser.has_calls and not asked else finish_reason


def _build_prompt(llm_engine: LLMEngine, request: ChatCompletionRequest) -> _ChatPrompt:
    """All turns, then the opening of the answer's. Blocks. Raises ``EngineError``."""
    messages = [Message.model_validate(message.to_message_dict()) for message in request.messages]
    tools = [Tool.model_validate(tool.model_dump()) for tool in request.offered_tools]
    assert isinstance(llm_engine.task, Chat)
    try:
        ids = llm_engine.task.encode_prompt(messages, llm_engine.tokenizer, tools)
        form = llm_engine.tool_call_format if tools else None
    except FieldOmitted as error:
        field = error.field.replace("[", ".").replace("]", "")
        raise EngineError("unsupported_parameter", f"This model's chat template: {error}", field) from error
    except TemplateError as error:
        raise EngineError(
            "invalid_request", f"This model's chat template refuses the conversation: {error}.", "messages"
        ) from error
    wish = build_structured_output(request)
    return _ChatPrompt(ids, form, _get_grammar_compiler(llm_engine, wish).compile(wish, form) if wish else None)


def _get_grammar_compiler(llm_engine: LLMEngine, constraint: StructuredOutput) -> GrammarCompiler:
    try:
        return llm_engine.grammar_compiler
    except ValueError as error:
        raise EngineError(
            "unsupported_parameter",
            "This model's answers cannot be held to a schema: its tokens are not bytes. Choose another base, or ask "
            "for the form in a message.",
            constraint.param,
        ) from error


def _submit_prompt(
    model: GenerativeModel, prompt: _ChatPrompt, request: ChatCompletionRequest
) -> AbstractAsyncContextManager[GenerationHandle]:
    lane = model.llm_engine
    left = compute_max_new_tokens(lane, prompt.ids, "messages")
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return submit(
        model,
        [
            GenerationRequest(
                prompt.ids,
                build_sampling_params(request, logprobs, index, len(lane.tokenizer), prompt.grammar),
                IncrementalDetokenizer(
                    lane.tokenizer,
                    request.stop_strings,
                    visible_special_ids=prompt.call_format.control_token_ids if prompt.call_format else (),
                ),
                min(request.max_new_tokens or left, left),
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
            **build_entry(choice.token_logprob),
            "top_logprobs": [build_entry(other) for other in choice.top_logprobs],
        }
        for choice in sampled_tokens
        if choice.token_logprob
    ]
    return {"content": content, "refusal": None}
