"""The part of a text that answers a question.

Row: ``{"question": "Where is it?", "context": "It is in Rome.", "answers": [{"text": "Rome", "start": 9}]}``: ``start``
counts characters of the context (SQuAD's name for it, ``answer_start``, will do). The first answer is learnt, any is
right. An empty list says that the context does not answer the question. In a CSV cell the list is written as JSON.
Answer: ``{"text": "Rome", "start": 9, "end": 13, "score": 0.87}``; where the context has no answer ``text`` is empty
and both numbers are 0: only models trained with such rows say so. ``score`` is the probability of the first times that
of the last token, among all those that were looked at. An answer has 30 tokens at most.
A context longer than ``max_length`` is read in overlapping windows, and the best span of all is the answer; in training
one window is read, that with the answer nearest to its middle.
Loss: mean of the cross-entropies of the first and the last token, among the context's; accuracy counts spans.
Measures: ``exact_match`` and ``f1``; while training over the window that is trained on, at the end over the whole
context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from training.errors import TrainingError
from training.readers.strict_json import decode
from training.tasks.base import (
    Batch,
    ExamplePreview,
    Loss,
    RowIssue,
    Task,
    TaskContext,
    TaskState,
    TokenSegment,
    load_pretrained,
)
from training.tasks.support import squad
from training.tasks.support.spans import (
    NO_ANSWER,
    WindowPrediction,
    collate_windows,
    compute_span_logits,
    find_best_spans,
    predict_windows,
    select_best_span,
)
from training.tasks.support.text import EncoderExample
from training.tasks.support.windows import Passage, Window, encode_passages

if TYPE_CHECKING:
    import torch


class AnswerSpan(BaseModel):
    """Where an answer stands in the context."""

    model_config = ConfigDict(extra="ignore")

    text: str = Field(min_length=1, max_length=100_000)
    start: int = Field(ge=0, validation_alias=AliasChoices("start", "answer_start"))


class QuestionInput(BaseModel):
    """A question and the text to look in."""

    model_config = ConfigDict(extra="ignore")

    question: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
    context: Annotated[str, StringConstraints(min_length=1, max_length=1_000_000)]


class QuestionRow(QuestionInput):
    """A question with its answers."""

    answers: Annotated[
        list[AnswerSpan],
        Field(max_length=1000),
        BeforeValidator(lambda value: decode(value) if isinstance(value, str) else value),
    ]


@dataclass(frozen=True, slots=True)
class QuestionExample(EncoderExample):
    """What is trained on: a window."""

    span: tuple[int, int]
    """Positions of the answer's first and last token."""
    window: Window
    windows: Sequence[Window]
    context: str
    answers: tuple[str, ...]


class QuestionAnswering(Task[QuestionRow, QuestionExample]):
    name = "question-answering"
    title = "The part of a text that answers a question"
    row_schema = QuestionRow
    route = "predictions"
    family = "discriminative"
    peft_type = "QUESTION_ANS"
    input_schema = QuestionInput
    default_field = "question"
    options = frozenset({"neftune_alpha"})
    metrics = squad.METRICS

    def check_row(self, row: QuestionRow) -> Iterator[RowIssue]:
        for field, text in (("question", row.question), ("context", row.context)):
            if not text.strip():
                yield RowIssue("empty_content", field, "It is blank; write one or leave the row out.")
        for index, answer in enumerate(row.answers):
            if not row.context.startswith(answer.text, answer.start):
                yield RowIssue(
                    "wrong_value", f"answers[{index}].start", _describe_misplaced_answer(row.context, answer)
                )

    def encode(self, rows: Sequence[QuestionRow], processor: Any, max_length: int) -> list[QuestionExample | RowIssue]:
        passages = encode_passages([(row.question, row.context) for row in rows], processor, max_length)
        return [_build_example(row, passage) for row, passage in zip(rows, passages, strict=True)]

    def encode_inputs(
        self, inputs: Sequence[QuestionInput], processor: Any, max_length: int
    ) -> list[QuestionExample | RowIssue]:
        passages = encode_passages([(asked.question, asked.context) for asked in inputs], processor, max_length)
        return [
            _build_input_example(asked.context, passage) if passage.windows else UNREADABLE_CONTEXT
            for asked, passage in zip(inputs, passages, strict=True)
        ]

    def prepare(self, examples: Sequence[QuestionExample]) -> TaskState:
        answered = {bool(example.answers) for example in examples}
        if answered == {False}:
            raise TrainingError(
                "invalid_dataset", "No question has an answer; add rows whose context answers it.", "training_file"
            )
        return {"unanswerable": False in answered}

    def check_example(self, example: QuestionExample, state: TaskState) -> RowIssue | None:
        if example.answers or state["unanswerable"]:
            return None
        return RowIssue(
            "wrong_value", "answers", "Every row of the training file has an answer; give this one its own."
        )

    def preview(self, example: QuestionExample, state: TaskState) -> ExamplePreview:
        first, last = example.span
        return ExamplePreview([TokenSegment("input", example.ids)], {"first_token": first, "last_token": last})

    def load_base_state(self, directory: Path) -> TaskState:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        if not any("QuestionAnswering" in name for name in config.architectures or []):
            raise TrainingError(
                "base_model_unavailable",
                "This base model answers no questions: fine-tune it, and ask the tuned model.",
                "model",
            )
        return {"unanswerable": True}

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        from transformers import AutoModelForQuestionAnswering

        return load_pretrained(AutoModelForQuestionAnswering, directory, dtype, num_labels=2)

    def collate(self, examples: Sequence[QuestionExample], ctx: TaskContext) -> Batch:
        import torch

        batch = collate_windows([example.window for example in examples], ctx)
        return batch | {"spans_B2": torch.tensor([example.span for example in examples])}

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        import torch
        from torch.nn.functional import cross_entropy

        start_BT, end_BT = compute_span_logits(model, batch)
        context_BT, spans_B2 = batch["context_BT"], batch["spans_B2"]
        looked_at_BT = context_BT.clone()
        looked_at_BT[:, 0] |= ctx.state["unanswerable"]
        losses_B = [
            cross_entropy(logits_BT.masked_fill(~looked_at_BT, -inf), targets_B, reduction="none")
            for logits_BT, targets_B in zip((start_BT, end_BT), spans_B2.unbind(1), strict=True)
        ]
        with torch.no_grad():
            best_B, found_B2 = find_best_spans(start_BT, end_BT, context_BT)
            if ctx.state["unanswerable"]:
                found_B2 = found_B2 * (best_B >= start_BT[:, 0] + end_BT[:, 0])[:, None]
        return Loss((losses_B[0] + losses_B[1]).sum() / 2, (found_B2 == spans_B2).all(-1).sum(), found_B2)

    def compute_metrics(
        self, examples: Sequence[QuestionExample], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        texts = []
        for example, (first, last) in zip(examples, (found_2.tolist() for found_2 in outputs), strict=True):
            start, end = NO_ANSWER if (first, last) == NO_ANSWER else example.window.get_char_span(first, last)
            texts.append(example.context[start:end])
        return squad.compute_scores(texts, [example.answers for example in examples])

    def final_metrics(self, model: Any, examples: Sequence[QuestionExample], ctx: TaskContext) -> dict[str, float]:
        """Over whole contexts, where any is longer than a window."""
        if all(len(example.windows) == 1 for example in examples):
            return {}
        texts = [answer["text"] for answer in self.answer(model, examples, ctx, 1)]
        return squad.compute_scores(texts, [example.answers for example in examples])

    def answer(
        self, model: Any, examples: Sequence[QuestionExample], ctx: TaskContext, top_k: int
    ) -> list[dict[str, Any]]:
        found = predict_windows(model, [window for example in examples for window in example.windows], ctx)
        return [_build_answer(example, [next(found) for _ in example.windows], ctx) for example in examples]


UNREADABLE_CONTEXT = RowIssue(
    "wrong_value", "context", "The base model's tokenizer reads nothing in it; use other characters."
)


def _describe_misplaced_answer(context: str, answer: AnswerSpan) -> str:
    text, start = answer.text, answer.start
    found = [at for at in (context.rfind(text, 0, start + len(text)), context.find(text, start)) if at >= 0]
    if not found:
        return f"The context does not contain '{text[:80]}'; copy the answer from it, letter by letter."
    nearest = min(found, key=lambda at: abs(at - start))
    return f"'{text[:80]}' does not begin at character {start} of the context, but at {nearest}."


def _build_example(row: QuestionRow, passage: Passage) -> QuestionExample | RowIssue:
    """Trained on the window that holds the first answer, with most context around it."""
    if not passage.windows:
        return UNREADABLE_CONTEXT
    window, span = passage.windows[0], NO_ANSWER
    if row.answers:
        start = row.answers[0].start
        tokens = passage.find_tokens(start, start + len(row.answers[0].text))
        if tokens is None:
            return RowIssue("no_target", "answers[0].text", "The base model's tokenizer reads nothing in it.")
        first, last = tokens
        window = max(passage.windows, key=lambda window: window.compute_margin(first, last))
        if window.compute_margin(first, last) < 0:
            message = "The answer does not fit into a row beside the question; shorten it, or raise max_length."
            return RowIssue("too_long", "answers[0].text", message)
        span = (first - window.token_offset + window.context_start, last - window.token_offset + window.context_start)
    cut = passage.question_truncated or len(passage.windows) > 1
    answers = tuple(answer.text for answer in row.answers)
    return QuestionExample(
        window.size, cut, window.ids, window.token_type_ids, span, window, passage.windows, row.context, answers
    )


def _build_input_example(context: str, passage: Passage) -> QuestionExample:
    """What is asked costs all of its windows."""
    window, size = passage.windows[0], sum(window.size for window in passage.windows)
    return QuestionExample(
        size,
        passage.question_truncated,
        window.ids,
        window.token_type_ids,
        NO_ANSWER,
        window,
        passage.windows,
        context,
        (),
    )


def _build_answer(
    example: QuestionExample, predictions: Sequence[WindowPrediction], ctx: TaskContext
) -> dict[str, Any]:
    start, end, score = select_best_span(example.windows, predictions, ctx.state["unanswerable"])
    return {"text": example.context[start:end], "start": start, "end": end, "score": score}
