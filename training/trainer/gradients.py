"""Gradient of one batch, accumulated over micro-batches that fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from training.data.batch_sampler import split_batch
from training.kernels.memory import supports_checkpointing
from training.models.router_loss import RouterStatistics
from training.run_events import Message
from training.tasks.base import Example
from training.trainer import checkpoint
from training.trainer.failures import is_out_of_memory
from training.trainer.state import TrainingRun


class BatchMetrics(NamedTuple):
    """Metrics of one batch."""

    loss: float
    """Mean over the targets."""
    accuracy: float | None
    """None if targets are not simply right or wrong."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    micro_batches: int
    """Number of micro-batches the batch was split into."""


def compute_gradients(run: TrainingRun, examples: Sequence[Example], micro_batches: int, step: int = 0) -> BatchMetrics:
    """Leave the clipped gradient of the batch's mean loss on the weights.

    If memory runs out, compute the same batch again with micro-batches of half the size, and with
    micro-batches of one row, recompute activations. The gradient is the same. Raises the error if
    neither is possible, and ``Interrupted`` between micro-batches if the stop flag is set.
    """
    while True:
        checkpoint.seed_step(run.seed, step)
        try:
            return _accumulate_gradients(run, examples, micro_batches, step)
        except (RuntimeError, MemoryError) as error:
            can_split = run.task.supports_micro_batches and micro_batches < len(examples)
            if not is_out_of_memory(error) or not (can_split or _can_checkpoint(run)):
                raise
        # Outside the handler, because the traceback keeps the tensors that filled the memory alive.
        run.optimizer.zero_grad(set_to_none=True)
        if can_split:
            # Not bounded by this batch's rows: later batches may have more.
            micro_batches *= 2
            change = f"Batches are now split into {micro_batches} micro-batches"
        else:
            run.enable_checkpointing()
            change = "Activations are now recomputed in the backward pass, which takes longer"
        run.emit(Message(level="warn", message=f"Out of memory at step {step}. {change}; the result is the same."))
        if run.device.torch_device.type == "cuda":
            torch.cuda.empty_cache()


def _can_checkpoint(run: TrainingRun) -> bool:
    return not run.checkpointing and supports_checkpointing(run.model)


def _accumulate_gradients(run: TrainingRun, examples: Sequence[Example], micro_batches: int, step: int) -> BatchMetrics:
    """Sum the gradients of the micro-batches.

    The loss of each micro-batch is divided by the weight of the full batch, so the sum equals the
    gradient of the undivided batch.
    """
    weight = sum(run.task.sum_weights(example, run.context) for example in examples)
    sums = torch.zeros(2, device=run.device.torch_device)
    parts = split_batch(examples, micro_batches)
    routing = _count_routing(run, parts)
    for number, micro_batch in enumerate(parts):
        run.report_step(max(0, step - 1) + number / len(parts))
        loss = run.compute_loss(micro_batch, run.context)
        torch.autograd.backward(loss.total / weight + _compute_router_loss(run, routing))
        sums += torch.stack([loss.total.detach(), loss.correct.to(loss.total.dtype)])
    _add_l2_gradient(run)
    norm = torch.nn.utils.clip_grad_norm_(run.trainable_parameters.values(), run.hyper.max_grad_norm)
    # The step's only synchronization with the device.
    total, hits, grad_norm = torch.cat([sums, norm.reshape(1)]).tolist()
    targets = sum(run.task.count_targets(example) for example in examples)
    return BatchMetrics(total / weight, hits / targets if run.task.has_accuracy else None, grad_norm, micro_batches)


def _count_routing(run: TrainingRun, parts: Sequence[Sequence[Example]]) -> RouterStatistics | None:
    """Return the routing of a batch in several parts, from forward passes with the same draws."""
    if run.router_loss is None or len(parts) == 1:
        return None
    routing = []
    with torch.no_grad(), torch.random.fork_rng():
        for micro_batch in parts:
            run.compute_loss(micro_batch, run.context)
            routing.append(run.router_loss.collect())
    return sum(routing[1:], routing[0])


def _compute_router_loss(run: TrainingRun, routing: RouterStatistics | None) -> Tensor | float:
    if run.router_loss is None:
        return 0.0
    part = run.router_loss.collect()
    return run.router_loss.compute(part, routing or part)


@torch.no_grad()
def _add_l2_gradient(run: TrainingRun) -> None:
    """Add the gradient of l2_to_base / 2 · |w - w₀|²."""
    for name, origin in run.initial_weights.items():
        weight = run.trainable_parameters[name]
        if weight.grad is not None:
            weight.grad.add_(weight - origin, alpha=run.hyper.l2_to_base)
