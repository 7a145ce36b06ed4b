"""Single-label and multi-label classification of a text or a pair of texts.

Row: ``{"text": "Where is my card?", "label": "card_arrival"}``; a pair has ``text_pair``. With
``labels`` (a list, which may be empty) instead of ``label``, a row may have any number of labels;
in CSV, ``|`` separates them. Output: ``{"label": "card_arrival", "scores": {"card_arrival": 0.98,
…}}``; for multi-label models ``{"labels": […], "scores": {…}}`` with the labels whose score is at
least ½. Loss: cross-entropy; for multi-label models the mean binary cross-entropy of the labels.
Accuracy counts rows whose labels are all correct. Metrics: ``f1_macro`` and ``f1_micro``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from training.errors import TrainingError
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
from training.tasks.support import labels
from training.tasks.support.labels import Label
from training.tasks.support.sequence import compute_sequence_logits, load_padded_tokenizer
from training.tasks.support.text import (
    EncoderExample,
    TextInput,
    check_text,
    collate_texts,
    encode_texts,
    reject_empty_text,
)

if TYPE_CHECKING:
    import torch


def _split_labels(value: object) -> object:
    """Split the text of a CSV cell at ``|``."""
    return [part for part in value.split("|") if part.strip()] if isinstance(value, str) else value


class ClassificationRow(TextInput):
    """A text with its label or its list of labels."""

    label: Label | None = None
    labels: Annotated[list[Label], Field(max_length=1000), BeforeValidator(_split_labels)] | None = None


@dataclass(frozen=True, slots=True)
class LabelExample(EncoderExample):
    """An encoded text with its labels."""

    labels: tuple[str, ...]
    multi_label: bool
    """True if a row may have any number of labels."""


class TextClassification(Task[ClassificationRow, LabelExample]):
    name = "text-classification"
    title = "The label or the labels of a text or of a pair of texts"
    row_schema = ClassificationRow
    example_type = LabelExample
    route = "predictions"
    family = "discriminative"
    peft_task_type = "SEQ_CLS"
    auto_class = "AutoModelForSequenceClassification"
    input_schema = TextInput
    options = frozenset({"label_smoothing", "class_weights", "neftune_alpha"})
    metrics = labels.METRICS

    def check_row(self, row: ClassificationRow) -> Iterator[RowIssue]:
        yield from check_text(row)
        if row.label is None and row.labels is None:
            yield RowIssue(
                "missing_field", "label", "The field is missing; add it, or add a list of labels as 'labels'."
            )
        if row.label is not None and row.labels is not None:
            yield RowIssue("wrong_value", "labels", "The row has 'label' and 'labels'; remove one of them.")

    def load_processor(self, directory: Path) -> Any:
        return load_padded_tokenizer(directory)

    def encode(
        self, rows: Sequence[ClassificationRow], processor: Any, max_length: int
    ) -> list[LabelExample | RowIssue]:
        return [
            reject_empty_text(text)
            or _build_example(
                text, (row.label,) if row.label is not None else tuple(row.labels or ()), row.label is None
            )
            for row, text in zip(rows, encode_texts(rows, processor, max_length), strict=True)
        ]

    def encode_inputs(
        self, inputs: Sequence[TextInput], processor: Any, max_length: int
    ) -> list[LabelExample | RowIssue]:
        return [
            reject_empty_text(text) or _build_example(text, (), False)
            for text in encode_texts(inputs, processor, max_length)
        ]

    def prepare(self, examples: Sequence[LabelExample]) -> TaskState:
        kinds = {example.multi_label for example in examples}
        if len(kinds) > 1:
            raise TrainingError(
                "invalid_dataset",
                "Some rows have 'label', others 'labels'; use the same field in all rows.",
                "training_file",
            )
        [multi_label] = kinds
        row_labels = (label for example in examples for label in example.labels)
        return labels.count_labels(row_labels, min_labels=1 if multi_label else 2) | {"many": multi_label}

    def update_state(self, state: TaskState, examples: Sequence[LabelExample]) -> TaskState:
        return labels.recount_labels(state, (label for example in examples for label in example.labels))

    def check_example(self, example: LabelExample, state: TaskState) -> RowIssue | None:
        field = "labels" if state["many"] else "label"
        if example.multi_label != state["many"]:
            return RowIssue("wrong_value", field, f"The rows of the training file have '{field}'; use it here too.")
        unknown = set(example.labels) - set(state["labels"])
        if unknown:
            return RowIssue("unknown_label", field, labels.describe_unknown_label(min(unknown)))
        return None

    def load_base_state(self, directory: Path) -> TaskState:
        return labels.load_base_labels(directory, "SequenceClassification") | {"many": False}

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        """Load a model with a head for ``state["labels"]``.

        If the directory has no such head, it is initialized from torch's random generator.
        """
        from transformers import AutoModelForSequenceClassification

        model = load_pretrained(
            AutoModelForSequenceClassification, directory, dtype, **labels.build_label_config(state["labels"])
        )
        model.config.problem_type = "multi_label_classification" if state["many"] else "single_label_classification"
        return model

    def preview(self, example: LabelExample, state: TaskState) -> ExamplePreview:
        return ExamplePreview(
            [TokenSegment("input", example.ids)], labels.preview_labels(example.labels, state, state["many"])
        )

    def sum_weights(self, example: LabelExample, ctx: TaskContext) -> float:
        if example.multi_label:
            return 1.0
        [label] = example.labels
        return labels.compute_class_weights(ctx)[labels.get_label_index(ctx, label)]

    def collate(self, examples: Sequence[LabelExample], ctx: TaskContext) -> Batch:
        return collate_texts(examples, ctx.pad_token_id) | {"truth_BL": _to_multi_hot(examples, ctx)}

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        inputs = {name: tensor for name, tensor in batch.items() if name != "truth_BL"}
        return _LOSSES[ctx.state["many"]](compute_sequence_logits(model, inputs), batch["truth_BL"], ctx)

    def compute_metrics(
        self, examples: Sequence[LabelExample], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        import torch

        return labels.compute_f1_scores(_to_multi_hot(examples, ctx), torch.stack(list(outputs)))

    def answer(
        self, model: Any, examples: Sequence[LabelExample], ctx: TaskContext, top_k: int
    ) -> list[dict[str, Any]]:
        """Return the ``top_k`` highest scores of each text by label, highest first."""
        import torch

        with torch.inference_mode():
            inputs = {
                name: tensor.to(model.device) for name, tensor in collate_texts(examples, ctx.pad_token_id).items()
            }
            logits_BL = compute_sequence_logits(model, inputs)
        multi_label = ctx.state.get("many", False)
        scores_BL = logits_BL.sigmoid() if multi_label else logits_BL.softmax(-1)
        answers: list[dict[str, Any]] = []
        for scores in labels.select_top_labels(scores_BL, ctx.state["labels"], top_k):
            predicted = [label for label, score in scores.items() if score >= 0.5]
            answers.append(
                {"labels": predicted, "scores": scores}
                if multi_label
                else {"label": next(iter(scores)), "scores": scores}
            )
        return answers


def _build_example(text: EncoderExample, row_labels: tuple[str, ...], multi_label: bool) -> LabelExample:
    return LabelExample(text.size, text.truncated, text.ids, text.token_type_ids, row_labels, multi_label)


def _to_multi_hot(examples: Sequence[LabelExample], ctx: TaskContext) -> torch.Tensor:
    return labels.to_multi_hot([example.labels for example in examples], ctx.state["labels"])


def _multi_label_loss(logits_BL: torch.Tensor, truth_BL: torch.Tensor, ctx: TaskContext) -> Loss:
    from torch.nn.functional import binary_cross_entropy_with_logits

    # Label smoothing of binary cross-entropy moves the targets toward one half.
    smoothed_BL = truth_BL.float() * (1 - ctx.objective.label_smoothing) + ctx.objective.label_smoothing / 2
    weights_L = logits_BL.new_tensor(labels.compute_class_weights(ctx))
    total = binary_cross_entropy_with_logits(logits_BL, smoothed_BL, weights_L, reduction="sum") / truth_BL.shape[-1]
    predicted_BL = logits_BL.detach() > 0
    return Loss(total, (predicted_BL == truth_BL).all(-1).sum(), predicted_BL)


_LOSSES = {False: labels.single_label_loss, True: _multi_label_loss}
"""Multi-label or not -> loss of logits (B, L) against truth (B, L)."""
