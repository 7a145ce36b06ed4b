"""Reasoning of an assistant's answers: its form in rows and in chat templates.

A row gives reasoning in ``reasoning_content`` or between ``<think>`` tags at the start of the
content. Each template has its own text around it, which two probe messages show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2 import TemplateError, meta

OPEN_TAG, CLOSE_TAG = "<think>", "</think>"

TemplateOptions = Mapping[str, Any]
"""Variables of a chat template besides the messages and tools."""

THINKING_OFF: TemplateOptions = {"enable_thinking": False, "thinking": False}
THINKING_ON: TemplateOptions = {"enable_thinking": True, "thinking": True}
TEMPLATE_OPTIONS = ("enable_thinking", "thinking", "reasoning_effort")
"""Variables that a request may set, if the template reads them."""

_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Names that templates give the reasoning of a message, the most frequent first."""
_REASONING, _CONTENT = "probe reasoning", "probe content"
_DEFAULT_CLOSING = f"\n{CLOSE_TAG}\n\n"
# Marks of TRL and transformers around the tokens of an answer; Jinja itself does not know them.
_GENERATION_MARK = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
_LAST_WORD = re.compile(r"\S+\s*\Z")


@dataclass(frozen=True)
class ReasoningFormat:
    """Text around the reasoning of an answer."""

    field: str | None
    """Field of a message that the template renders. None: the text is put before the content."""
    opening: str
    """Text before the reasoning, e.g. ``"<think>\\n"``. The prompt itself may end with it."""
    closing: str
    """Text between reasoning and content, e.g. ``"\\n</think>\\n\\n"``."""
    close_tag: str
    """Part of ``closing`` that ends the reasoning, also before a tool call."""

    @property
    def open_tag(self) -> str:
        return self.opening.strip()

    @property
    def uses_channels(self) -> bool:
        """True for GPT-OSS, whose answers are messages in channels."""
        return "<|channel|>" in self.opening

    def is_opened_by(self, prompt: str) -> bool:
        """Return True if the prompt ends inside the reasoning."""
        return prompt.rstrip().endswith(self.open_tag)

    def find_body(self, answer: str) -> int:
        """Return the start of what follows the reasoning at the start of ``answer``."""
        end = answer.find(self.close_tag)
        if end < 0:
            return 0
        end += len(self.close_tag)
        return end + len(answer[end:]) - len(answer[end:].lstrip())


def split_reasoning(content: str) -> tuple[str, str] | None:
    """Split ``<think>reasoning</think>content``. None if the content does not have this form."""
    text = content.lstrip()
    if not text.startswith(OPEN_TAG):
        return None
    reasoning, tag, rest = text.removeprefix(OPEN_TAG).partition(CLOSE_TAG)
    return (reasoning.strip(), rest.lstrip()) if tag else None


def has_stray_tag(content: str) -> bool:
    """Return True if the content opens reasoning without an end, or ends it without a start."""
    opened, closed = content.find(OPEN_TAG), content.find(CLOSE_TAG)
    return (closed >= 0 and not 0 <= opened < closed) or (content.lstrip().startswith(OPEN_TAG) and closed < 0)


def find_template_options(template: str) -> frozenset[str]:
    """Return those of ``TEMPLATE_OPTIONS`` that the template reads."""
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        names = meta.find_undeclared_variables(environment.parse(_GENERATION_MARK.sub("", template)))
    except TemplateError:
        return frozenset()
    return frozenset(names.intersection(TEMPLATE_OPTIONS))


Render = Callable[[list[dict[str, Any]], TemplateOptions, bool], str]
"""Renders turns with options, and with the generation prompt or without."""


def infer_reasoning_format(render: Render, control_tokens: re.Pattern[str]) -> ReasoningFormat | None:
    """Infer the format from probe messages. None if the template renders no reasoning."""
    question = [{"role": "user", "content": "a"}]
    try:
        prompts = [render(question, options, True) for options in (THINKING_ON, THINKING_OFF)]
    except TemplateError:
        return None
    for field in _FIELDS:
        answer = {"role": "assistant", "content": _CONTENT, field: _REASONING}
        try:
            text = render([*question, answer], THINKING_ON, False)
        except TemplateError:
            continue
        found = _split_probe(text, prompts[0], field, control_tokens)
        if found:
            return found
    return _infer_from_prompts(*prompts)


def _split_probe(text: str, prompt: str, field: str, control_tokens: re.Pattern[str]) -> ReasoningFormat | None:
    start, end = text.find(_REASONING), text.find(_CONTENT)
    if not 0 <= start < end or not text.startswith(prompt):
        return None
    opening, closing = text[len(prompt) : start], text[start + len(_REASONING) : end]
    if not opening.strip():
        # The prompt opens the reasoning.
        opening = "".join(_LAST_WORD.findall(prompt)) + opening
    control = control_tokens.match(closing)
    close_tag = control[0] + _find_overlap(prompt, closing[control.end() :]) if control else closing.strip()
    return ReasoningFormat(field, opening, closing, close_tag) if opening.strip() and close_tag else None


def _find_overlap(prompt: str, text: str) -> str:
    """Return the longest end of ``prompt`` that begins ``text``, such as the header of a turn."""
    return next((text[:size] for size in range(len(text), 0, -1) if prompt.endswith(text[:size])), "")


def _infer_from_prompts(thinking: str, not_thinking: str) -> ReasoningFormat | None:
    """Infer the format of a template that shows it in its generation prompts only.

    DeepSeek-R1's opens the reasoning. SmolLM3's writes an empty one to disable it.
    """
    if thinking.rstrip().endswith(OPEN_TAG):
        return ReasoningFormat(None, thinking[thinking.rindex(OPEN_TAG) :], _DEFAULT_CLOSING, CLOSE_TAG)
    empty = re.search(rf"({OPEN_TAG}\s*?\n?)\s*({CLOSE_TAG}\s*)\Z", not_thinking)
    if empty and not thinking.endswith(empty[0]):
        return ReasoningFormat(None, f"{OPEN_TAG}\n", f"\n{empty[2]}", CLOSE_TAG)
    return None
