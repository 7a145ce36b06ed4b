"""Incremental parser that separates reasoning from the rest of a model's output."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

from inference.generation.tool_parser import OutputParser, ParsedDelta
from training.tasks.chat_format.reasoning import ReasoningFormat


class _Part(Enum):
    START = auto()
    """White space, or a part of the tag that opens reasoning."""
    REASONING = auto()
    GAP = auto()
    """White space between reasoning and body, which belongs to the template."""
    BODY = auto()


class ReasoningParser:
    """Parser of one choice. What follows the reasoning goes to another parser.

    Reasoning begins the output or does not occur. White space around it is dropped. Output that
    ends within its reasoning has no content.
    """

    def __init__(self, shape: ReasoningFormat, is_open: bool, body_parser: OutputParser) -> None:
        """``is_open``: the prompt opened the reasoning."""
        self._shape = shape
        self._body_parser = body_parser
        self._part = _Part.REASONING if is_open else _Part.START
        self._text = ""
        """Text that is not emitted yet."""
        self._has_reasoning = False

    @property
    def has_calls(self) -> bool:
        """True if the output contains a call."""
        return self._body_parser.has_calls

    def feed(self, text: str) -> ParsedDelta:
        """Add text and return what is final."""
        self._text += text
        if self._part is _Part.START:
            self._find_start()
        delta = self._read_reasoning() if self._part is _Part.REASONING else ParsedDelta()
        if self._part is _Part.GAP:
            self._text = self._text.lstrip()
            self._part = _Part.BODY if self._text else _Part.GAP
        return delta + self._read_body() if self._part is _Part.BODY else delta

    def finish(self) -> ParsedDelta:
        """Return what was withheld until the end of the output."""
        if self._part is _Part.REASONING:
            return self._emit_reasoning(self._text.rstrip())
        delta = self._read_body() if self._part in (_Part.START, _Part.BODY) else ParsedDelta()
        return delta + self._body_parser.finish()

    def _find_start(self) -> None:
        text, tag = self._text.lstrip(), self._shape.open_tag
        if text.startswith(tag):
            self._text, self._part = text.removeprefix(tag), _Part.REASONING
        elif not tag.startswith(text):
            self._part = _Part.BODY

    def _read_reasoning(self) -> ParsedDelta:
        tag = self._shape.close_tag
        end = self._text.find(tag)
        if end >= 0:
            reasoning, self._text = self._text[:end].rstrip(), self._text[end + len(tag) :]
            self._part = _Part.GAP
            return self._emit_reasoning(reasoning)
        # White space before the tag belongs to the template.
        kept = self._text[: len(self._text) - count_partial_suffix(self._text, [tag])].rstrip()
        self._text = self._text[len(kept) :]
        return self._emit_reasoning(kept)

    def _emit_reasoning(self, text: str) -> ParsedDelta:
        text = text if self._has_reasoning else text.lstrip()
        self._has_reasoning = self._has_reasoning or bool(text)
        return ParsedDelta(reasoning=text)

    def _read_body(self) -> ParsedDelta:
        text, self._text = self._text, ""
        return self._body_parser.feed(text)


def count_partial_suffix(text: str, tags: Sequence[str]) -> int:
    """Return the length of the longest end of ``text`` that begins one of ``tags``."""
    longest = max(map(len, tags), default=0) - 1
    sizes = range(min(longest, len(text)), 0, -1)
    return next((size for size in sizes if any(tag.startswith(text[-size:]) for tag in tags)), 0)


def count_reasoning_tokens(tokenizer: Any, tokens: Sequence[int], shape: ReasoningFormat, is_open: bool) -> int:
    """Count the tokens of the reasoning, with the tags that the model generated."""

    def decode(count: int) -> str:
        text: str = tokenizer.decode(list(tokens[:count]), clean_up_tokenization_spaces=False)
        return text

    whole = decode(len(tokens))
    if not is_open and not whole.lstrip().startswith(shape.open_tag):
        return 0
    if shape.close_tag not in whole:
        return len(tokens)
    low, high = 1, len(tokens)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if shape.close_tag in decode(middle) else (middle + 1, high)
    return low
