"""Prompt of a chat request, with the grammar and the parser of its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from inference.generation.channel_parser import ChannelParser
from inference.generation.llm_engine import GenerativeModel, LLMEngine
from inference.generation.reasoning_parser import ReasoningParser, count_reasoning_tokens
from inference.generation.sampling import Grammar
from inference.generation.tool_parser import OutputParser, ToolCallParser, ToolPolicy
from inference.protocol.errors import EngineError
from inference.protocol.generation import ChatCompletionRequest
from inference.structured_output.deferred import DeferredGrammar, ReasoningTokens
from inference.structured_output.grammar import OutputFrame, StructuredOutput
from inference.structured_output.guidance import GrammarCompiler
from inference.structured_output.request import build_structured_output
from training.tasks.chat import Chat
from training.tasks.chat_format.conversation import FieldOmitted
from training.tasks.chat_format.reasoning import THINKING_OFF, THINKING_ON, ReasoningFormat, TemplateOptions
from training.tasks.chat_format.rows import Message, Tool
from training.tasks.chat_format.tool_calls import ToolCallFormat

_EFFORTS: Mapping[str, str] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
"""OpenAI's efforts -> those that templates read."""
_LOWEST_EFFORT = "low"

_TAIL_TOKENS = 16
"""Tokens at the end of a prompt that show whether it opens the reasoning."""


@dataclass(frozen=True)
class ChatPrompt:
    """Prompt of a chat, with the formats of its output."""

    ids: list[int]
    call_format: ToolCallFormat | None = None
    """Format of tool calls. None: the prompt contains no tools."""
    grammar: Grammar | None = None
    """Grammar that constrains the output. None: unconstrained."""
    reasoning: ReasoningFormat | None = None
    """Format of the reasoning. None: the model does not reason."""
    is_open: bool = False
    """True if the prompt ends inside the reasoning."""

    def create_parser(self, request: ChatCompletionRequest) -> OutputParser:
        policy = ToolPolicy(
            {tool.function.name: tool.function.parameters or {} for tool in request.allowed_tools},
            single_call=request.parallel_tool_calls is False,
            constrained=self.grammar is not None,
        )
        if self.reasoning and self.reasoning.uses_channels:
            return ChannelParser(policy)
        parser = ToolCallParser(self.call_format, policy)
        return ReasoningParser(self.reasoning, self.is_open, parser) if self.reasoning else parser

    def list_visible_tokens(self, llm_engine: LLMEngine) -> set[int]:
        """Return the control tokens that the parser must see."""
        tokens = set(self.call_format.control_token_ids if self.call_format else ())
        if self.reasoning:
            tokens |= llm_engine.chat_template.find_control_tokens(self.reasoning.opening + self.reasoning.closing)
        return tokens

    def count_reasoning_tokens(self, tokenizer: Any, tokens: Sequence[int]) -> int:
        """Count the tokens of the reasoning in an output."""
        return count_reasoning_tokens(tokenizer, tokens, self.reasoning, self.is_open) if self.reasoning else 0


def build_prompt(model: GenerativeModel, request: ChatCompletionRequest) -> ChatPrompt:
    """Render and encode all messages and the generation prompt, and compile the grammar. Blocks.

    Raises ``EngineError``.
    """
    llm_engine = model.llm_engine
    template = llm_engine.chat_template
    messages = [Message.model_validate(message.to_message_dict()) for message in request.messages]
    tools = [Tool.model_validate(tool.model_dump()) for tool in request.offered_tools]
    options = _resolve_options(request, template.options, model.thinks)
    assert isinstance(llm_engine.task, Chat)
    try:
        ids = llm_engine.task.encode_prompt(messages, template, tools, options)
        call_format = llm_engine.tool_call_format if tools else None
    except FieldOmitted as error:
        field = error.field.replace("[", ".").replace("]", "")
        raise EngineError("unsupported_parameter", f"This model's chat template: {error}", field) from error
    except TemplateError as error:
        raise EngineError(
            "invalid_request", f"This model's chat template rejects the messages: {error}. Change them.", "messages"
        ) from error
    reasoning = template.reasoning_format
    is_open = reasoning is not None and reasoning.is_opened_by(llm_engine.tokenizer.decode(ids[-_TAIL_TOKENS:]))
    prompt = ChatPrompt(ids, call_format, None, reasoning, is_open)
    constraint = build_structured_output(request)
    if constraint is None:
        return prompt
    grammar = _compile_grammar(llm_engine, constraint, prompt, thinks=bool(options["enable_thinking"]))
    return ChatPrompt(ids, call_format, grammar, reasoning, is_open)


def _resolve_options(request: ChatCompletionRequest, known: frozenset[str], thinks: bool) -> TemplateOptions:
    """Return the variables of the chat template.

    ``thinks``: whether the model reasons if the request does not say. Raises ``EngineError`` for a
    variable that the template does not read.
    """
    given = request.chat_template_kwargs or {}
    for name in given:
        if name not in known:
            readable = f"it reads {', '.join(sorted(known))}" if known else "it reads none"
            raise EngineError(
                "unsupported_parameter",
                f"This model's chat template does not read '{name}'; {readable}. Remove it.",
                "chat_template_kwargs",
            )
    effort = given.get("reasoning_effort", request.reasoning_effort)
    if isinstance(effort, str):
        thinks = effort != "none"
    for name in ("enable_thinking", "thinking"):
        thinks = given.get(name, thinks) is True
    options = dict(THINKING_ON if thinks else THINKING_OFF)
    if isinstance(effort, str):
        options["reasoning_effort"] = _EFFORTS.get(effort, _LOWEST_EFFORT)
    return options


def _compile_grammar(llm_engine: LLMEngine, constraint: StructuredOutput, prompt: ChatPrompt, thinks: bool) -> Grammar:
    """Compile the grammar. It begins after the reasoning, or after the end of an empty one."""
    compiler = _get_grammar_compiler(llm_engine, constraint)
    shape = prompt.reasoning
    if shape is None:
        return compiler.compile(constraint, prompt.call_format)
    content_start = shape.closing.removeprefix(shape.close_tag) if shape.uses_channels else ""
    tokens = _find_reasoning_tokens(llm_engine, prompt, shape) if thinks else None
    if tokens is None:
        frame = OutputFrame(shape.closing if prompt.is_open else "", content_start)
        return compiler.compile(constraint, prompt.call_format, frame)
    end = llm_engine.tokenizer.convert_ids_to_tokens(tokens.end)
    after = shape.closing.partition(end)[2]
    frame = OutputFrame(after.removesuffix(content_start) if content_start else after, content_start)
    return DeferredGrammar(compiler.compile(constraint, prompt.call_format, frame), tokens)


def _find_reasoning_tokens(llm_engine: LLMEngine, prompt: ChatPrompt, shape: ReasoningFormat) -> ReasoningTokens | None:
    """Return the tokens around the reasoning. None if no single token ends it."""
    tokenizer = llm_engine.tokenizer

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    end = encode(shape.close_tag)[0]
    if end not in tokenizer.added_tokens_decoder:
        return None
    return ReasoningTokens([] if prompt.is_open else encode(shape.opening), end, len(tokenizer))


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
