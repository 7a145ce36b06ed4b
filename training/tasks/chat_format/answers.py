"""Answers within rendered conversations, and the training sequences that hold them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from training.tasks.chat_format.reasoning import ReasoningFormat
from training.tasks.support.special_tokens import MessageSpan


class RenderedAnswer(NamedTuple):
    """An answer after the prompt that serving renders for it. Positions are characters."""

    text: str
    """Prompt, answer, and what the template writes after the answer."""
    content_start: int
    """End of the reasoning, also of an empty one."""
    span: MessageSpan

    @property
    def complete(self) -> str:
        """Prompt and answer."""
        return self.text[: self.span.end]

    @property
    def content(self) -> str:
        """The answer without its reasoning."""
        return self.text[self.content_start : self.span.end]


@dataclass
class TrainingSequence:
    """Rendered text with the spans of its answers."""

    text: str
    spans: list[MessageSpan]


def add_reasoning(answer: str, reasoning: str, prompt: str, shape: ReasoningFormat) -> str:
    """Add the reasoning to an answer that the template renders without.

    Without reasoning, end the one that the prompt may have opened.
    """
    is_open = shape.is_opened_by(prompt)
    if not reasoning:
        return shape.closing + answer if is_open else answer
    return ("" if is_open else shape.opening) + reasoning + shape.closing + answer


def group_answers(answers: Iterable[RenderedAnswer], control_tokens: re.Pattern[str]) -> list[TrainingSequence]:
    """Put answers into as few sequences as possible. The last answer is the first of ``answers``.

    An answer shares a sequence whose text begins with its prompt and itself. The first sequence is
    the whole conversation, in which every other answer is context.
    """
    sequences: list[TrainingSequence] = []
    for answer in answers:
        shared = next((sequence for sequence in sequences if sequence.text.startswith(answer.complete)), None)
        if shared is None:
            if sequences:
                sequences[0].spans.append(_find_context(sequences[0].text, answer, control_tokens))
            shared = TrainingSequence(answer.complete if sequences else answer.text, [])
            sequences.append(shared)
        shared.spans.append(answer.span)
    return sequences


def _find_context(text: str, answer: RenderedAnswer, control_tokens: re.Pattern[str]) -> MessageSpan:
    """Return the span of an answer in the whole conversation, where it is no target."""
    content = answer.content
    for ending in list(control_tokens.finditer(content))[-1:]:
        content = content[: ending.start()] if ending.end() == len(content) else content
    start = text.find(content, min(answer.span.start, count_common_prefix(text, answer.text)))
    if start < 0:
        return answer.span._replace(start=0, end=0, body_start=0, is_target=False)
    end = start + len(content)
    ending_here = control_tokens.match(text, end)
    return answer.span._replace(
        start=start, end=ending_here.end() if ending_here else end, body_start=start, is_target=False
    )


def count_common_prefix(left: str, right: str) -> int:
    """Return the length of the common prefix, by bisection."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left.startswith(right[:middle]):
            low = middle
        else:
            high = middle - 1
    return low
