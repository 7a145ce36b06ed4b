"""A conversation as the base model's own chat template writes it, and which of its tokens answer.

The rendered text is tokenised once. A control token's name inside a message is text: the name is cut in two by ``SEAM``
before rendering and the text is tokenised on either side of it, so no message can end its own turn or open another.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Messages = Sequence[dict[str, str]]
"""``{"role": "system" | "user" | "assistant", "content": …}``."""

# Unicode sets these code points aside for a program's own use; they are never interchanged.
SEAM, PROBE = "\ufdd0", "\ufdd1"

# Qwen's template asks whether to think aloud: an answer begins with its words.
_FIXED = {"enable_thinking": False}

# Llama's template writes today's date unless it knows no clock, and then this one: with it a prompt is the same on
# every day, in training and in serving.
_STOPPED_CLOCK = (
    "{% macro strftime_now(format) %}{{ format | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July')"
    " | replace('%m', '07') | replace('%Y', '2024') }}{% endmacro %}"
)


class Span(NamedTuple):
    """Characters of one answer, its end-of-turn token included, and the message that it is."""

    start: int
    end: int
    message: int


@dataclass(frozen=True)
class Rendered:
    """``pieces`` joined are the text; spans count its characters. A seam lies between two pieces."""

    pieces: list[str]
    spans: list[Span]


class Tokens(NamedTuple):
    ids: list[int]
    offsets: list[tuple[int, int]]
    """First character of each token and the one after its last."""

    def covering(self, span: Span) -> range:
        """Positions of the tokens that have a part in the span."""
        starts = [start for start, _ in self.offsets]
        first = bisect_left(starts, span.start)
        if first and self.offsets[first - 1][1] > span.start:
            first -= 1
        return range(first, bisect_left(starts, span.end))


class ChatTemplate:
    """Raises ``jinja2.TemplateError`` where the template refuses a conversation."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        template = tokenizer.get_chat_template()
        self._template = _STOPPED_CLOCK + template if "strftime_now" in template else template
        added = [token for token in tokenizer.added_tokens_decoder.values() if len(token.content.strip()) > 1]
        self._control = _any_of([token.content for token in added if token.special])
        # An assistant may well write what is no control token, such as Qwen's <think>; a user may not.
        self._names = {"assistant": self._control, "user": _any_of([token.content for token in added])}

    def conversation(self, messages: Messages) -> Rendered:
        """All of it, with a span for each assistant message.

        The text up to the last answer is what ``prompt`` gives for the messages before it, whatever the template does
        differently with an answer in its past; so training sees what serving will ask.
        """
        shielded = self._shielded(messages)
        text = self._render(shielded)
        spans = []
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                prompt = self._render(shielded[:index], generate=True)
                start = self._answer_start(text, prompt, shielded, index)
                if index == len(messages) - 1:
                    text, start = prompt + text[start:], len(prompt)
                spans.append(Span(start, self._answer_end(text, start, shielded[: index + 1]), index))
        return _cut(text, spans)

    def prompt(self, messages: Messages) -> Rendered:
        """What the model is given to answer."""
        return _cut(self._render(self._shielded(messages), generate=True), [])

    def tokens(self, rendered: Sequence[Rendered]) -> list[Tokens]:
        plain = [index for index, one in enumerate(rendered) if len(one.pieces) == 1]
        tokens = [Tokens([], [])] * len(rendered)
        if plain:
            encoded = self._encode([rendered[index].pieces[0] for index in plain])
            for index, ids, offsets in zip(plain, encoded["input_ids"], encoded["offset_mapping"], strict=True):
                tokens[index] = Tokens(ids, offsets)
        for index, one in enumerate(rendered):
            if len(one.pieces) > 1:
                tokens[index] = self._piecewise(one.pieces)
        return tokens

    def end_of_turn(self) -> set[int]:
        """Control tokens with which an answer ends."""
        rendered = self.conversation([{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}])
        text, span = "".join(rendered.pieces), rendered.spans[-1]
        names = self._control.findall(text, span.start, span.end)
        return {self._tokenizer.convert_tokens_to_ids(name) for name in names}

    def _shielded(self, messages: Messages) -> list[dict[str, str]]:
        def shield(message: dict[str, str]) -> str:
            names = self._names.get(message["role"], self._names["user"])
            content = message["content"].replace(SEAM, "").replace(PROBE, "")
            return names.sub(lambda name: f"{name[0][0]}{SEAM}{name[0][1:]}", content)

        return [{**message, "content": shield(message)} for message in messages]

    def _render(self, messages: Messages, generate: bool = False) -> str:
        text: str = self._tokenizer.apply_chat_template(
            list(messages),
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=generate,
            **_FIXED,
        )
        return text

    def _answer_start(self, text: str, prompt: str, messages: list[dict[str, str]], index: int) -> int:
        if text.startswith(prompt):
            return len(prompt)
        # The template writes this answer otherwise than it opens a new one: learn its own words, which a probe in
        # their place finds.
        probe = {"role": "assistant", "content": PROBE}
        found = self._render([*messages[:index], probe, *messages[index + 1 :]]).find(PROBE)
        return found if found >= 0 else _shared(text, prompt)

    def _answer_end(self, text: str, start: int, upto: list[dict[str, str]]) -> int:
        """After the first control token; what a template writes behind it (a newline) no model needs to learn."""
        turn = self._render(upto)
        end = len(turn) if text.startswith(turn) else len(text)
        control = self._control.search(text, start, end)
        return control.end() if control else end

    def _encode(self, texts: list[str]) -> Any:
        return self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)

    def _piecewise(self, pieces: list[str]) -> Tokens:
        """As one text, but no token reaches across a seam."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        at = 0
        for piece in pieces:
            # Behind a newline a SentencePiece tokenizer adds no space of its own to a piece from the middle.
            lead = "\n" if at else ""
            encoded = self._encode([lead + piece])
            for token, (start, end) in zip(encoded["input_ids"][0], encoded["offset_mapping"][0], strict=True):
                if end > len(lead):
                    ids.append(token)
                    offsets.append((max(start - len(lead), 0) + at, end - len(lead) + at))
            at += len(piece)
        return Tokens(ids, offsets)


def _any_of(names: list[str]) -> re.Pattern[str]:
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _shared(left: str, right: str) -> int:
    """Length of the common beginning."""
    shortest = min(len(left), len(right))
    return next((at for at in range(shortest) if left[at] != right[at]), shortest)


def _cut(text: str, spans: list[Span]) -> Rendered:
    moved = [
        Span(span.start - text.count(SEAM, 0, span.start), span.end - text.count(SEAM, 0, span.end), span.message)
        for span in spans
    ]
    return Rendered(text.split(SEAM), moved)
