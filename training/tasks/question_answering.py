"""Extractive question answering: the answer is a span of the context.

Row: ``{"question": "Where is it?", "context": "It is in Rome.", "answers": [{"text": "Rome",
"start": 9}]}``. ``start`` counts characters of the context; SQuAD's name ``answer_start`` is
accepted too. The first answer is the training target; metrics accept any of them. An empty list
means that the context contains no answer. In a CSV cell the list is JSON. Output: ``{"text":
"Rome", "start": 9, "end": 13, "score": 0.87}``. If the context has no answer, ``text`` is empty and
``start`` and ``end`` are 0; only models trained with such rows predict that. ``score`` is the
product of the probabilities of the first and the last token among all tokens read. An answer has at
most 30 tokens. A context longer than ``max_length`` is split into overlapping windows, and the best
span of all windows is the answer. Training uses one window, in which the answer is nearest to the
middle. Loss: mean of the cross-entropies of the first and the last token over the context. Accuracy
counts spans. Metrics: ``exact_match`` and ``f1``, during training on the training window, at the
end on the complete context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from training.errors import TrainingError
from training.progress import Report
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


METRIC_BATCH_SIZE = 64
"""Rows answered between two reports of progress."""


class AnswerSpan(BaseModel):
    """An answer and its location in the context."""

    model_config = ConfigDict(extra="ignore")

    text: str = Field(min_length=1, max_length=100_000)
    start: int = Field(ge=0, validation_alias=AliasChoices("start", "answer_start"))


class QuestionInput(BaseModel):
    """A question and the context that may contain its answer."""

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
    """A question with the window of the context that training uses."""

    span: tuple[int, int]
    """Positions of the answer's first and last token."""
    window: Window
    windows: Sequence[Window]
    context: str
    answers: tuple[str, ...]


class QuestionAnswering(Task[QuestionRow, QuestionExample]):
    name = "question-answering"
    title = "The span of a text that answers a question"
    row_schema = QuestionRow
    example_type = QuestionExample
    route = "predictions"
    family = "discriminative"
    # PEFT's model for question answering drops `token_type_ids`, so a merged adapter would answer
    # differently. Its general model passes everything on.
    peft_task_type = None
    auto_class = "AutoModelForQuestionAnswering"
    input_schema = QuestionInput
    default_field = "question"
    options = frozenset({"neftune_alpha"})
    metrics = squad.METRICS

    def check_row(self, row: QuestionRow) -> Iterator[RowIssue]:
        for field, text in (("question", row.question), ("context", row.context)):
            if not text.strip():
                yield RowIssue("empty_content", field, "The text is blank; add text or remove the row.")
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
        passages = encode_passages([(item.question, item.context) for item in inputs], processor, max_length)
        return [
            _build_input_example(item.context, passage) if passage.windows else UNREADABLE_CONTEXT
            for item, passage in zip(inputs, passages, strict=True)
        ]

    def prepare(self, examples: Sequence[QuestionExample]) -> TaskState:
        answered = {bool(example.answers) for example in examples}
        if answered == {False}:
            raise TrainingError(
                "invalid_dataset",
                "No question has an answer; add rows whose context contains the answer.",
                "training_file",
            )
        return {"unanswerable": False in answered}

    def check_example(self, example: QuestionExample, state: TaskState) -> RowIssue | None:
        if example.answers or state["unanswerable"]:
            return None
        return RowIssue(
            "wrong_value", "answers", "Every row of the training file has an answer; add an answer to this row."
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
                "This base model cannot answer questions; fine-tune it and use the tuned model.",
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
        candidates_BT = context_BT.clone()
        candidates_BT[:, 0] |= ctx.state["unanswerable"]
        losses_B = [
            cross_entropy(logits_BT.masked_fill(~candidates_BT, -inf), targets_B, reduction="none")
            for logits_BT, targets_B in zip((start_BT, end_BT), spans_B2.unbind(1), strict=True)
        ]
        with torch.no_grad():
            best_B, predicted_B2 = find_best_spans(start_BT, end_BT, context_BT)
            if ctx.state["unanswerable"]:
                predicted_B2 = predicted_B2 * (best_B >= start_BT[:, 0] + end_BT[:, 0])[:, None]
        return Loss((losses_B[0] + losses_B[1]).sum() / 2, (predicted_B2 == spans_B2).all(-1).sum(), predicted_B2)

    def compute_metrics(
        self, examples: Sequence[QuestionExample], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        texts = []
        for example, (first, last) in zip(examples, (span_2.tolist() for span_2 in outputs), strict=True):
            start, end = NO_ANSWER if (first, last) == NO_ANSWER else example.window.get_char_span(first, last)
            texts.append(example.context[start:end])
        return squad.compute_scores(texts, [example.answers for example in examples])

    def final_metrics(
        self, model: Any, examples: Sequence[QuestionExample], ctx: TaskContext, report: Report
    ) -> dict[str, float]:
        """Compute the metrics on complete contexts, if any context is longer than a window."""
        if all(len(example.windows) == 1 for example in examples):
            return {}
        texts: list[str] = []
        for start in range(0, len(examples), METRIC_BATCH_SIZE):
            report(start, len(examples))
            answers = self.answer(model, examples[start : start + METRIC_BATCH_SIZE], ctx, 1)
            texts += [answer["text"] for answer in answers]
        return squad.compute_scores(texts, [example.answers for example in examples])

    def answer(
        self, model: Any, examples: Sequence[QuestionExample], ctx: TaskContext, top_k: int
    ) -> list[dict[str, Any]]:
        predictions = predict_windows(model, [window for example in examples for window in example.windows], ctx)
        return [_build_answer(example, [next(predictions) for _ in example.windows], ctx) for example in examples]


UNREADABLE_CONTEXT = RowIssue(
    "wrong_value", "context", "The base model's tokenizer finds no tokens in the context; use other characters."
)


def _describe_misplaced_answer(context: str, answer: AnswerSpan) -> str:
    text, start = answer.text, answer.start
    matches = [at for at in (context.rfind(text, 0, start + len(text)), context.find(text, start)) if at >= 0]
    if not matches:
        return f"The context does not contain '{text[:80]}'; copy the answer from it exactly."
    nearest = min(matches, key=lambda at: abs(at - start))
    return f"'{text[:80]}' does not begin at character {start} of the context; set 'start' to {nearest}."


def _build_example(row: QuestionRow, passage: Passage) -> QuestionExample | RowIssue:
    """Choose the window that contains the first answer with the most context on both sides."""
    if not passage.windows:
        return UNREADABLE_CONTEXT
    window, span = passage.windows[0], NO_ANSWER
    if row.answers:
        start = row.answers[0].start
        tokens = passage.find_tokens(start, start + len(row.answers[0].text))
        if tokens is None:
            message = "The base model's tokenizer finds no tokens in the answer; use other characters."
            return RowIssue("no_target", "answers[0].text", message)
        first, last = tokens
        window = max(passage.windows, key=lambda window: window.compute_margin(first, last))
        if window.compute_margin(first, last) < 0:
            message = "Question and answer do not fit in max_length tokens; shorten the answer or raise max_length."
            return RowIssue("too_long", "answers[0].text", message)
        span = (first - window.token_offset + window.context_start, last - window.token_offset + window.context_start)
    truncated = passage.question_truncated or len(passage.windows) > 1
    answers = tuple(answer.text for answer in row.answers)
    return QuestionExample(
        window.size, truncated, window.ids, window.token_type_ids, span, window, passage.windows, row.context, answers
    )


def _build_input_example(context: str, passage: Passage) -> QuestionExample:
    """Build the example of a request. Its size is the sum of all windows."""
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
