"""One batch's gradient, in parts that fit the memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from training.data.batch_sampler import split
from training.run_events import Message
from training.tasks.base import Example
from training.trainer import checkpoint
from training.trainer.failures import out_of_memory
from training.trainer.state import Run


class Measured(NamedTuple):
    """Of one batch."""

    loss: float
    """Mean over the targets."""
    accuracy: float | None
    """None where targets are not right or wrong."""
    norm: float
    """Of the gradient, before clipping."""
    parts: int
    """Into which the batch was split."""


def gradients(run: Run, examples: Sequence[Example], parts: int, step: int = 0) -> Measured:
    """Leave the clipped gradient of the batch's mean loss on the weights.

    Where memory runs out, once more with parts of half the size: the same batch, and the same gradient.
    """
    checkpoint.seed_step(run.seed, step)
    try:
        return _gradients(run, examples, parts)
    except (RuntimeError, MemoryError) as error:
        # Not bounded by this batch's rows: the batches after it may have more.
        finer = 2 * parts
        if not out_of_memory(error) or parts >= len(examples) or not run.task.separable:
            raise
    # Outside the handler: the traceback holds what filled the memory.
    run.emit(
        Message(
            level="warn",
            message=f"Out of memory at step {step}; a batch is now computed in {finer} parts. The result is the same.",
        )
    )
    run.optimizer.zero_grad(set_to_none=True)
    if run.place.device.type == "cuda":
        torch.cuda.empty_cache()
    checkpoint.seed_step(run.seed, step)
    return _gradients(run, examples, finer)


def _gradients(run: Run, examples: Sequence[Example], parts: int) -> Measured:
    """Each part divides by the whole batch's weight, so the parts' gradients sum to the undivided batch's."""
    weight = sum(run.task.weight(example, run.kit) for example in examples)
    sums = torch.zeros(2, device=run.place.device)
    for part in split(examples, parts):
        loss = run.loss(part, run.kit)
        torch.autograd.backward(loss.total / weight)
        sums += torch.stack([loss.total.detach(), loss.correct.to(loss.total.dtype)])
    _pull(run)
    norm = torch.nn.utils.clip_grad_norm_(run.trained.values(), run.hyper.max_grad_norm)
    # The step's only wait for the device.
    total, hits, grad_norm = torch.cat([sums, norm.reshape(1)]).tolist()
    targets = sum(run.task.targets(example) for example in examples)
    return Measured(total / weight, hits / targets if run.task.has_accuracy else None, grad_norm, parts)


@torch.no_grad()
def _pull(run: Run) -> None:
    """Add the gradient of l2_to_base / 2 · |w - w₀|²."""
    for name, origin in run.origin.items():
        weight = run.trained[name]
        if weight.grad is not None:
            weight.grad.add_(weight - origin, alpha=run.hyper.l2_to_base)
