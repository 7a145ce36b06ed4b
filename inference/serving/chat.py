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

from inference.generation.detokenizer import TextStream, TokenNames
from inference.generation.llm_engine import Lane, Writer
from inference.generation.request import Exchange, Wanted, at_work, room, sampling_of
from inference.generation.sampling import Choice, Scored
from inference.generation.tool_parser import Call, CallReader
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatRequest
from inference.protocol.response_format import NamedTool
from inference.structured_output.grammar import Wish
from inference.structured_output.guidance import Grammar, Grammars
from inference.structured_output.request import wish_of
from storage.ids import new_id
from training.tasks.chat import Chat
from training.tasks.chat_format.rows import Message, Tool
from training.tasks.chat_format.template import LeftOut
from training.tasks.chat_format.tool_calls import CallForm


@dataclass(frozen=True)
class _Asked:
    """A prompt, and how calls of the tools that it offers are read out of an answer."""

    ids: list[int]
    form: CallForm | None = None
    """None: it offers no tools."""
    grammar: Grammar | None = None
    """What the answer is held to."""

    def reader(self, request: ChatRequest) -> CallReader:
        return CallReader(
            self.form,
            {tool.function.name for tool in request.allowed},
            single=request.parallel_tool_calls is False,
            held=self.grammar is not None,
        )


async def complete(writer: Writer, name: str, request: ChatRequest) -> dict[str, Any]:
    """A ``chat.completion``. Raises ``EngineError``."""
    asked = await asyncio.to_thread(_asked, writer.lane, request)
    async with _answering(writer, asked, request) as exchange:
        choices = []
        for index, (piece, finish) in enumerate(await exchange.whole()):
            reader = asked.reader(request)
            begin, end = reader.feed(piece.text), reader.finish()
            message: dict[str, Any] = {"role": "assistant", "content": begin.text + end.text, "refusal": None}
            if calls := [*begin.calls, *end.calls]:
                message |= {"content": message["content"] or None, "tool_calls": [_call(call) for call in calls]}
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "logprobs": _logprobs(writer.lane.names, request, piece.records),
                    "finish_reason": _finish(finish, reader, request),
                }
            )
        return {**_head("chat.completion", name), "choices": choices, "usage": exchange.usage(len(asked.ids))}


async def stream(writer: Writer, name: str, request: ChatRequest) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a ``chat.completion.chunk`` stream. Raises ``EngineError``."""
    head = _head("chat.completion.chunk", name) | ({"usage": None} if request.tells_usage else {})

    def chunk(index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**head, "choices": [choice]}

    asked = await asyncio.to_thread(_asked, writer.lane, request)
    # An answer that is a call only has no content, not an empty one.
    opening = {"role": "assistant", "content": None if asked.form else "", "refusal": None}
    async with _answering(writer, asked, request) as exchange:
        readers: dict[int, CallReader] = {}
        counts: Counter[int] = Counter()
        async for index, update in exchange.progress():
            if index not in readers:
                readers[index] = asked.reader(request)
                yield chunk(index, opening)
            said = [readers[index].feed(update.piece.text), *([readers[index].finish()] if update.finish else [])]
            logprobs = _logprobs(writer.lane.names, request, update.piece.records)
            if (text := "".join(each.text for each in said)) or update.piece.records:
                yield chunk(index, {"content": text}, logprobs)
            for call in [call for each in said for call in each.calls]:
                yield chunk(index, {"tool_calls": [{"index": counts[index], **_call(call)}]})
                counts[index] += 1
            if update.finish:
                yield chunk(index, {}, finish=_finish(update.finish, readers[index], request))
        if request.tells_usage:
            yield {**head, "choices": [], "usage": exchange.usage(len(asked.ids))}


def _call(call: Call) -> dict[str, Any]:
    # Mistral's templates take ids of nine letters and digits only.
    id = "".join(random.choices(string.ascii_letters + string.digits, k=9))
    return {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _finish(finish: str | None, reader: CallReader, request: ChatRequest) -> str | None:
    # A call that was asked for by name ends with OpenAI, too, as an answer does.
    asked = isinstance(request.tool_choice, NamedTool)
    return "tool_calls" if finish == "stop" and reader.called and not asked else finish


def _asked(lane: Lane, request: ChatRequest) -> _Asked:
    """All turns, then the opening of the answer's. Blocks. Raises ``EngineError``."""
    messages = [Message.model_validate(message.turn()) for message in request.messages]
    tools = [Tool.model_validate(tool.model_dump()) for tool in request.offered]
    assert isinstance(lane.task, Chat)
    try:
        ids = lane.task.encode_prompt(messages, lane.tokenizer, tools)
        form = lane.call_form if tools else None
    except LeftOut as error:
        field = error.field.replace("[", ".").replace("]", "")
        raise EngineError("unsupported_parameter", f"This model's chat template: {error}", field) from error
    except TemplateError as error:
        raise EngineError(
            "invalid_request", f"This model's chat template refuses the conversation: {error}.", "messages"
        ) from error
    wish = wish_of(request)
    return _Asked(ids, form, _grammars(lane, wish).compile(wish, form) if wish else None)


def _grammars(lane: Lane, wish: Wish) -> Grammars:
    try:
        return lane.grammars
    except ValueError as error:
        raise EngineError(
            "unsupported_parameter",
            "This model's answers cannot be held to a schema: its tokens are not bytes. Choose another base, or ask "
            "for the form in a message.",
            wish.param,
        ) from error


def _answering(writer: Writer, asked: _Asked, request: ChatRequest) -> AbstractAsyncContextManager[Exchange]:
    lane = writer.lane
    left = room(lane, asked.ids, "messages")
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return at_work(
        writer,
        [
            Wanted(
                asked.ids,
                sampling_of(request, logprobs, index, len(lane.tokenizer), asked.grammar),
                TextStream(lane.tokenizer, request.stop_strings, shown=asked.form.tokens if asked.form else ()),
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
