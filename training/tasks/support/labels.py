"""Labels of classifiers: counts, class weights, losses, and F1 scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import StringConstraints

from training.errors import TrainingError
from training.tasks.base import Loss, TaskContext, TaskState

if TYPE_CHECKING:
    import torch

Label = Annotated[str, StringConstraints(min_length=1, max_length=256, strip_whitespace=True)]
MAX_LABELS = 10_000

METRICS = {
    "f1_macro": "mean F1 score of the labels",
    "f1_micro": "F1 score over all labels and rows together",
}


def count_labels(labels: Iterable[str], min_labels: int = 2) -> TaskState:
    """Return ``{labels, counts}`` with labels in alphabetical order.

    Raises ``TrainingError`` for too few or too many labels.
    """
    counts = Counter(labels)
    names = sorted(counts)
    if len(names) < min_labels:
        raise TrainingError(
            "invalid_dataset",
            f"Every row has the label '{names[0]}'; add rows with other labels, at least {min_labels} in total."
            if names
            else "No row has a label; add labels.",
            "training_file",
        )
    if len(names) > MAX_LABELS:
        raise TrainingError(
            "invalid_dataset",
            f"The file has {len(names):,} labels, more than {MAX_LABELS:,}; check which column is the label.",
            "training_file",
        )
    return {"labels": names, "counts": [counts[name] for name in names]}


def recount_labels(state: TaskState, labels: Iterable[str]) -> TaskState:
    """Count the labels of ``state`` in the rows of a job that continues an earlier result."""
    counts = Counter(labels)
    return state | {"counts": [counts[name] for name in state["labels"]]}


def describe_unknown_label(label: str) -> str:
    """Return the message for a label that the training file does not contain."""
    return f"The training file has no label '{label}'; correct the label or add rows that have it."


def preview_labels(row_labels: Sequence[str], state: TaskState, multi_label: bool) -> dict[str, Any]:
    """Return the labels of a row with their indices."""
    ids = [state["labels"].index(label) for label in row_labels]
    return {"labels": list(row_labels), "ids": ids} if multi_label else {"label": row_labels[0], "id": ids[0]}


def load_base_labels(directory: Path, architecture: str) -> TaskState:
    """Return the labels of a base that is already a classifier.

    ``architecture`` is a part of its class name. Raises ``TrainingError`` if the base has no
    labels.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    if not any(architecture in name for name in config.architectures or []):
        raise TrainingError(
            "base_model_unavailable",
            "This base model has no labels; fine-tune it and use the tuned model.",
            "model",
        )
    return {"labels": [config.id2label[index] for index in range(config.num_labels)]}


def build_label_config(labels: Sequence[str]) -> dict[str, Any]:
    """Return the entries of a model's config for labels."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def compute_class_weights(ctx: TaskContext) -> list[float]:
    """Return a weight for each label, in the order of the state.

    ``balanced`` is defined as in scikit-learn: rows / (labels · count).
    """
    class_weights, labels = ctx.objective.class_weights, ctx.state["labels"]
    if isinstance(class_weights, Mapping):
        return [class_weights.get(label, 1.0) for label in labels]
    if class_weights == "balanced":
        counts = ctx.state["counts"]
        # No row uses the weight of a label without rows.
        return [sum(counts) / (len(counts) * max(count, 1)) for count in counts]
    return [1.0] * len(labels)


def get_label_index(ctx: TaskContext, label: str) -> int:
    names: list[str] = ctx.state["labels"]
    return names.index(label)


def compute_f1_scores(truth: torch.Tensor, predictions: torch.Tensor) -> dict[str, float]:
    """Return macro and micro F1 of decisions (rows, L) bool.

    A label without true and predicted rows scores 0, as in scikit-learn.
    """
    hits_L = (truth & predictions).sum(0).double()
    totals_L = truth.sum(0).double() + predictions.sum(0).double()
    scores_L = 2 * hits_L / totals_L.clamp(min=1)
    micro = 2 * hits_L.sum() / totals_L.sum().clamp(min=1)
    return {"f1_macro": scores_L.mean().item(), "f1_micro": micro.item()}


def to_multi_hot(row_labels: Sequence[Sequence[str]], names: Sequence[str]) -> torch.Tensor:
    """Return (B, L) bool: the labels of each row, with columns in the order of ``names``."""
    import torch

    index = {label: number for number, label in enumerate(names)}
    truth_BL = torch.zeros(len(row_labels), len(names), dtype=torch.bool)
    for row, labels in enumerate(row_labels):
        truth_BL[row, [index[label] for label in labels]] = True
    return truth_BL


def single_label_loss(logits_BL: torch.Tensor, truth_BL: torch.Tensor, ctx: TaskContext) -> Loss:
    """Return the cross-entropy for rows with exactly one label."""
    from torch.nn.functional import cross_entropy, one_hot

    targets_B, predicted_B = truth_BL.int().argmax(-1), logits_BL.detach().argmax(-1)
    weights_L = logits_BL.new_tensor(compute_class_weights(ctx))
    smoothing = ctx.objective.label_smoothing
    losses_B = cross_entropy(logits_BL, targets_B, reduction="none", label_smoothing=smoothing) * weights_L[targets_B]
    return Loss(losses_B.sum(), (predicted_B == targets_B).sum(), one_hot(predicted_B, truth_BL.shape[-1]).bool())


def select_top_labels(scores_BL: torch.Tensor, names: Sequence[str], top_k: int) -> list[dict[str, float]]:
    """Return the ``top_k`` highest scores of each row by label, highest first."""
    best = scores_BL.topk(min(top_k, scores_BL.shape[-1]))
    return [
        {names[index]: score for index, score in zip(indices, scores, strict=True)}
        for scores, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
