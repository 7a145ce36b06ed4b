"""What the model says of rows that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from training.tasks.base import Example
from training.trainer.state import TrainingRun


class Evaluation(NamedTuple):
    """Of all rows together."""

    loss: float
    """Mean over the targets, unsmoothed and without class weights."""
    accuracy: float | None
    """None where targets are not right or wrong."""
    metrics: dict[str, float]
    """The task's own figures."""


@torch.inference_mode()
def evaluate(run: TrainingRun, examples: Sequence[Example]) -> Evaluation:
    """In eval mode; the model is left in train mode."""
    run.model.eval()
    sums = torch.zeros(
        2, device=run.device.torch_device, dtype=torch.float64 if run.device.torch_device.type != "mps" else None
    )
    found: dict[int, Tensor] = {}
    order = sorted(range(len(examples)), key=lambda index: -examples[index].size)
    size = ceil(run.hyper.batch_size / run.hyper.gradient_accumulation_steps)
    for start in range(0, len(order), size):
        part = order[start : start + size]
        loss = run.compute_loss([examples[index] for index in part], run.eval_context)
        sums += torch.stack([loss.total, loss.correct.to(loss.total.dtype)])
        if loss.outputs is not None:
            found |= zip(part, loss.outputs.cpu(), strict=True)
    run.train_mode()
    total, hits = sums.tolist()
    weight = sum(run.task.sum_weights(example, run.eval_context) for example in examples)
    targets = sum(run.task.count_targets(example) for example in examples)
    measures = (
        run.task.compute_metrics(examples, [found[index] for index in range(len(found))], run.eval_context)
        if found
        else {}
    )
    return Evaluation(total / weight, hits / targets if run.task.has_accuracy else None, measures)


def evaluate_untrained(run: TrainingRun) -> dict[str, float]:
    """What the untrained model says of the rows that the end will be compared on."""
    losses = {"valid_loss": run.splits.validation, "general_loss": run.splits.held_out}
    return {f"{name}_before": evaluate(run, examples).loss for name, examples in losses.items() if examples}
