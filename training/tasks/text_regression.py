"""Regression: a number for a text or for a pair of texts.

Row: ``{"text": "A girl is styling her hair.", "text_pair": "A girl is brushing her hair.",
"target": 2.5}``. ``text_pair`` is optional. Output: ``{"value": 2.41}``, in the unit of the
targets. Loss: squared error of standardized targets. Mean and standard deviation come from the
training file, so learning rates do not depend on the unit, and predicting the mean gives a loss of
1. There is no accuracy. Metrics: ``pearson``, ``spearman``, ``rmse`` (in the unit of the targets),
and ``r2``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum, nan, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field

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


METRICS = {
    "pearson": "correlation with the targets",
    "spearman": "rank correlation with the targets",
    "rmse": "root mean squared error, in the unit of the targets",
    "r2": "share of the targets' variance that the model explains",
}


class RegressionRow(TextInput):
    """A text or a pair of texts with its target."""

    model_config = ConfigDict(allow_inf_nan=False)

    target: float = Field(ge=-1e15, le=1e15)


@dataclass(frozen=True, slots=True)
class RegressionExample(EncoderExample):
    """An encoded text with its target."""

    target: float
    """NaN in requests for predictions."""


class TextRegression(Task[RegressionRow, RegressionExample]):
    name = "text-regression"
    title = "A number for a text or for a pair of texts"
    row_schema = RegressionRow
    example_type = RegressionExample
    route = "predictions"
    family = "discriminative"
    peft_task_type = "SEQ_CLS"
    auto_class = "AutoModelForSequenceClassification"
    input_schema = TextInput
    has_accuracy: ClassVar[bool] = False
    options = frozenset({"neftune_alpha"})
    metrics = METRICS

    def check_row(self, row: RegressionRow) -> Iterator[RowIssue]:
        yield from check_text(row)

    def load_processor(self, directory: Path) -> Any:
        return load_padded_tokenizer(directory)

    def encode(
        self, rows: Sequence[RegressionRow], processor: Any, max_length: int
    ) -> list[RegressionExample | RowIssue]:
        encoded = encode_texts(rows, processor, max_length)
        return [
            reject_empty_text(text) or _build_example(text, row.target) for row, text in zip(rows, encoded, strict=True)
        ]

    def encode_inputs(
        self, inputs: Sequence[TextInput], processor: Any, max_length: int
    ) -> list[RegressionExample | RowIssue]:
        return [
            reject_empty_text(text) or _build_example(text, nan) for text in encode_texts(inputs, processor, max_length)
        ]

    def prepare(self, examples: Sequence[RegressionExample]) -> TaskState:
        """Return mean and standard deviation of the targets."""
        targets = [example.target for example in examples]
        if min(targets) == max(targets):
            raise TrainingError(
                "invalid_dataset",
                f"Every row has the target {targets[0]:g}; add rows with other targets, or choose another column.",
                "training_file",
            )
        mean = fsum(targets) / len(targets)
        return {"mean": mean, "deviation": sqrt(fsum((target - mean) ** 2 for target in targets) / len(targets))}

    def load_base_state(self, directory: Path) -> TaskState:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        if config.num_labels != 1 or not any("SequenceClassification" in name for name in config.architectures or []):
            raise TrainingError(
                "base_model_unavailable",
                "This base model does not predict numbers; fine-tune it and use the tuned model.",
                "model",
            )
        return {"mean": getattr(config, "target_mean", 0.0), "deviation": getattr(config, "target_deviation", 1.0)}

    def load_model(self, directory: Path, state: TaskState, dtype: torch.dtype) -> Any:
        """Load a model with one output.

        Its config stores mean and deviation, so that other software can restore the unit of the
        targets.
        """
        from transformers import AutoModelForSequenceClassification

        names = {"id2label": {0: "value"}, "label2id": {"value": 0}}
        model = load_pretrained(AutoModelForSequenceClassification, directory, dtype, num_labels=1, **names)
        model.config.problem_type = "regression"
        model.config.target_mean, model.config.target_deviation = state["mean"], state["deviation"]
        return model

    def preview(self, example: RegressionExample, state: TaskState) -> ExamplePreview:
        return ExamplePreview([TokenSegment("input", example.ids)], {"target": example.target})

    def collate(self, examples: Sequence[RegressionExample], ctx: TaskContext) -> Batch:
        return collate_texts(examples, ctx.pad_token_id) | {"targets_B": _standardize_targets(examples, ctx).float()}

    def compute_loss(self, model: Any, batch: Batch, ctx: TaskContext) -> Loss:
        inputs = {name: tensor for name, tensor in batch.items() if name != "targets_B"}
        values_B = compute_sequence_logits(model, inputs).squeeze(-1)
        total = (values_B - batch["targets_B"]).square().sum()
        return Loss(total, total.new_zeros(()), values_B.detach())

    def compute_metrics(
        self, examples: Sequence[RegressionExample], outputs: Sequence[torch.Tensor], ctx: TaskContext
    ) -> dict[str, float]:
        import torch

        metrics = compute_regression_metrics(_standardize_targets(examples, ctx), torch.stack(list(outputs)).double())
        return metrics | {"rmse": metrics["rmse"] * ctx.state["deviation"]}

    def answer(
        self, model: Any, examples: Sequence[RegressionExample], ctx: TaskContext, top_k: int
    ) -> list[dict[str, Any]]:
        import torch

        with torch.inference_mode():
            inputs = {
                name: tensor.to(model.device) for name, tensor in collate_texts(examples, ctx.pad_token_id).items()
            }
            values = compute_sequence_logits(model, inputs).squeeze(-1).tolist()
        return [{"value": value * ctx.state["deviation"] + ctx.state["mean"]} for value in values]


def _build_example(text: EncoderExample, target: float) -> RegressionExample:
    return RegressionExample(text.size, text.truncated, text.ids, text.token_type_ids, target)


def _standardize_targets(examples: Sequence[RegressionExample], ctx: TaskContext) -> torch.Tensor:
    """Return standardized targets (B,) float64."""
    import torch

    targets_B = torch.tensor([example.target for example in examples], dtype=torch.float64)
    mean, deviation = map(float, (ctx.state["mean"], ctx.state["deviation"]))
    return (targets_B - mean) / deviation


def compute_regression_metrics(truth_B: torch.Tensor, predictions_B: torch.Tensor) -> dict[str, float]:
    """Return the metrics of float64 predictions. 0 / 0 counts as 0 if either side is constant."""
    errors_B = truth_B - predictions_B
    variation = (truth_B - truth_B.mean()).square().sum().item()
    return {
        "pearson": _correlate(truth_B, predictions_B),
        "spearman": _correlate(_rank(truth_B), _rank(predictions_B)),
        "rmse": errors_B.square().mean().sqrt().item(),
        "r2": 1 - errors_B.square().sum().item() / variation if variation else 0.0,
    }


def _correlate(left_B: torch.Tensor, right_B: torch.Tensor) -> float:
    # Rounding in the mean of a constant would turn its deviations into noise instead of zeros.
    if bool((left_B == left_B[0]).all()) or bool((right_B == right_B[0]).all()):
        return 0.0
    left_B, right_B = left_B - left_B.mean(), right_B - right_B.mean()
    return float(left_B @ right_B / (left_B.norm() * right_B.norm()))


def _rank(values_B: torch.Tensor) -> torch.Tensor:
    """Return ranks (B,) float64. Equal values share the mean of their ranks."""
    _, groups_B, counts = values_B.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
    ranks: torch.Tensor = counts.cumsum(0) - (counts - 1) / 2
    return ranks.double()[groups_B]
