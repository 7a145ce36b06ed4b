"""Labels: which there are, how they weigh, how well they are told apart. Shared by every task that classifies."""

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
    "f1_macro": "mean of the labels' F1 scores",
    "f1_micro": "F1 score over all decisions together",
}


def count_labels(labels: Iterable[str], min_labels: int = 2) -> TaskState:
    """``{labels, counts}``, labels in alphabetical order. Raises ``TrainingError`` for too few or far too many."""
    counts = Counter(labels)
    names = sorted(counts)
    if len(names) < min_labels:
        raise TrainingError(
            "invalid_dataset",
            f"Every row has the label '{names[0]}'; a classifier needs rows of at least {min_labels} labels."
            if names
            else "No row has a label.",
            "training_file",
        )
    if len(names) > MAX_LABELS:
        raise TrainingError(
            "invalid_dataset",
            f"The file has {len(names):,} labels, more than {MAX_LABELS:,}; is the right column the label?",
            "training_file",
        )
    return {"labels": names, "counts": [counts[name] for name in names]}


def recount_labels(state: TaskState, labels: Iterable[str]) -> TaskState:
    """The same labels, counted in other rows: where a job goes on from an earlier result."""
    counts = Counter(labels)
    return state | {"counts": [counts[name] for name in state["labels"]]}


def preview_labels(row_labels: Sequence[str], state: TaskState, multi_label: bool) -> dict[str, Any]:
    """Labels of a row, and their numbers."""
    ids = [state["labels"].index(label) for label in row_labels]
    return {"labels": list(row_labels), "ids": ids} if multi_label else {"label": row_labels[0], "id": ids[0]}


def load_base_labels(directory: Path, architecture: str) -> TaskState:
    """The labels of a base that is a classifier already; ``architecture`` is a part of its class's name."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    if not any(architecture in name for name in config.architectures or []):
        raise TrainingError(
            "base_model_unavailable",
            "This base model has no labels of its own: fine-tune it, and ask the tuned model.",
            "model",
        )
    return {"labels": [config.id2label[index] for index in range(config.num_labels)]}


def build_label_config(labels: Sequence[str]) -> dict[str, Any]:
    """What a model's config says of its labels."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def compute_class_weights(ctx: TaskContext) -> list[float]:
    """A weight for each label, in the state's order; ``balanced`` as scikit-learn has it: rows / (labels · count)."""
    asked, labels = ctx.objective.class_weights, ctx.state["labels"]
    if isinstance(asked, Mapping):
        return [asked.get(label, 1.0) for label in labels]
    if asked == "balanced":
        counts = ctx.state["counts"]
        # A label without rows weighs nothing, whatever its weight.
        return [sum(counts) / (len(counts) * max(count, 1)) for count in counts]
    return [1.0] * len(labels)


def get_label_index(ctx: TaskContext, label: str) -> int:
    names: list[str] = ctx.state["labels"]
    return names.index(label)


def compute_f1_scores(truth: torch.Tensor, predictions: torch.Tensor) -> dict[str, float]:
    """Of decisions (rows, L) bool. A label that is neither there nor found scores 0, as in scikit-learn."""
    hits_L = (truth & predictions).sum(0).double()
    made_L = truth.sum(0).double() + predictions.sum(0).double()
    scores_L = 2 * hits_L / made_L.clamp(min=1)
    micro = 2 * hits_L.sum() / made_L.sum().clamp(min=1)
    return {"f1_macro": scores_L.mean().item(), "f1_micro": micro.item()}


def to_multi_hot(row_labels: Sequence[Sequence[str]], names: Sequence[str]) -> torch.Tensor:
    """(B, L) bool: which of ``names`` fit each row."""
    import torch

    index = {label: number for number, label in enumerate(names)}
    truth_BL = torch.zeros(len(row_labels), len(names), dtype=torch.bool)
    for row, labels in enumerate(row_labels):
        truth_BL[row, [index[label] for label in labels]] = True
    return truth_BL


def single_label_loss(logits_BL: torch.Tensor, truth_BL: torch.Tensor, ctx: TaskContext) -> Loss:
    """Cross-entropy where one label fits each row."""
    from torch.nn.functional import cross_entropy, one_hot

    targets_B, found_B = truth_BL.int().argmax(-1), logits_BL.detach().argmax(-1)
    weights_L = logits_BL.new_tensor(compute_class_weights(ctx))
    smoothing = ctx.objective.label_smoothing
    losses_B = cross_entropy(logits_BL, targets_B, reduction="none", label_smoothing=smoothing) * weights_L[targets_B]
    return Loss(losses_B.sum(), (found_B == targets_B).sum(), one_hot(found_B, truth_BL.shape[-1]).bool())


def select_top_labels(scores_BL: torch.Tensor, names: Sequence[str], top_k: int) -> list[dict[str, float]]:
    """Of each row its ``top_k`` highest scores by label, highest first."""
    best = scores_BL.topk(min(top_k, scores_BL.shape[-1]))
    return [
        {names[index]: score for index, score in zip(indices, scores, strict=True)}
        for scores, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
