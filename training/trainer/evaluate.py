"""Evaluation on rows that the model is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from training.tasks.base import Example
from training.tasks.examples import read_column
from training.trainer.state import TrainingRun


class Evaluation(NamedTuple):
    """Metrics of an evaluation over all rows."""

    loss: float
    """Mean over the targets, without label smoothing and class weights."""
    accuracy: float | None
    """None if targets are not simply right or wrong."""
    metrics: dict[str, float]
    """The task's own metrics, by name."""


@torch.inference_mode()
def evaluate(run: TrainingRun, examples: Sequence[Example]) -> Evaluation:
    """Evaluate in eval mode, then put the model back into train mode.

    Raises ``Interrupted`` if the stop flag is set. The run can go on from the same weights.
    """
    report, sizes = run.bind_report("evaluating"), read_column(examples, "size")
    run.model.eval()
    sums = torch.zeros(
        2, device=run.device.torch_device, dtype=torch.float64 if run.device.torch_device.type != "mps" else None
    )
    outputs: dict[int, Tensor] = {}
    order = sorted(range(len(examples)), key=lambda index: -sizes[index])
    size = ceil(run.hyper.batch_size / run.hyper.gradient_accumulation_steps)
    for start in range(0, len(order), size):
        report(start, len(order))
        indices = order[start : start + size]
        loss = run.compute_loss([examples[index] for index in indices], run.eval_context)
        sums += torch.stack([loss.total, loss.correct.to(loss.total.dtype)])
        if loss.outputs is not None:
            outputs |= zip(indices, loss.outputs.cpu(), strict=True)
    run.train_mode()
    total, hits = sums.tolist()
    weight, targets = 0.0, 0
    for example in examples:
        weight += run.task.sum_weights(example, run.eval_context)
        targets += run.task.count_targets(example)
    metrics = (
        run.task.compute_metrics(examples, [outputs[index] for index in range(len(outputs))], run.eval_context)
        if outputs
        else {}
    )
    return Evaluation(total / weight, hits / targets if run.task.has_accuracy else None, metrics)


def evaluate_untrained(run: TrainingRun) -> dict[str, float]:
    """Return the untrained model's losses, to compare the trained model's losses with."""
    losses = {"valid_loss": run.splits.validation, "general_loss": run.splits.held_out}
    return {f"{name}_before": evaluate(run, examples).loss for name, examples in losses.items() if examples}
