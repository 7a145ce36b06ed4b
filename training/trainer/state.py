"""State of a training run, built once by ``setup.build_run``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from training.artifacts.result import ResultMetadata
from training.data.batch_sampler import LengthGroupedBatchSampler
from training.errors import Interrupted
from training.hyperparameters.auto import ResolvedHyperparameters
from training.kernels import memory
from training.models.base_model import BaseModelInfo
from training.models.router_loss import RouterLoss
from training.progress import ProgressReporter, Report
from training.run_events import PhaseName, RunEvent
from training.tasks.base import AnyTask, Example, Loss, TaskContext
from training.tasks.examples import ExampleView, read_column
from training.trainer import optim
from training.trainer.checkpoint import TrainingState
from training.trainer.device import Device
from training.trainer.feature_cache import FrozenFeatureCache, move_to_device


@dataclass
class StopFlag:
    """Stop request, set by a signal. The training loop reads it at the end of each step."""

    requested: bool = False

    def raise_if_set(self) -> None:
        """Raise ``Interrupted`` if a stop was requested. For use outside the loop."""
        if self.requested:
            raise Interrupted(0)


@dataclass(frozen=True)
class Splits:
    """Encoded rows, by purpose."""

    training: Sequence[Example]
    validation: Sequence[Example] = ()
    general: Sequence[Example] = ()
    """General rows to mix into training."""
    held_out: Sequence[Example] = ()
    """General rows used only for evaluation."""
    general_per_epoch: int = 0
    """General rows in each epoch."""

    @cached_property
    def training_pool(self) -> Sequence[Example]:
        """Training rows, then general rows: the rows that the batch sampler indexes."""
        return ExampleView([self.training, self.general])

    def load(self) -> Splits:
        """Return the splits with all examples in memory, each built once."""
        training, validation, general, held_out = map(
            list[Example], (self.training, self.validation, self.general, self.held_out)
        )
        return Splits(training, validation, general, held_out, self.general_per_epoch)


@dataclass
class TrainingRun:
    """Model, data, settings and callbacks of a run."""

    folder: Path
    task: AnyTask
    context: TaskContext
    hyper: ResolvedHyperparameters
    seed: int
    save_seconds: float
    model: Any
    device: Device
    splits: Splits
    trainable_parameters: dict[str, Parameter]
    running_stats: dict[str, Tensor]
    """Buffers that training updates without a gradient, such as batch-norm statistics."""
    frozen_modules: Sequence[Module]
    """Modules that stay in eval mode during training."""
    initial_weights: dict[str, Tensor]
    """Weights before the first step, if ``l2_to_base`` pulls toward them; else empty."""
    metadata: ResultMetadata
    base: BaseModelInfo
    emit: Callable[[RunEvent], None]
    stop: StopFlag
    reporter: ProgressReporter
    max_pass_seconds: float
    """Upper estimate of the time for one micro-batch, before the first is measured."""
    max_transfer_seconds: float
    """Upper estimate of the time to read or write the model."""
    feature_cache: FrozenFeatureCache | None = None
    checkpointing: bool = False
    """True if blocks recompute their activations in the backward pass."""
    router_loss: RouterLoss | None = None
    """Auxiliary loss of a mixture-of-experts model."""

    @cached_property
    def batch_sampler(self) -> LengthGroupedBatchSampler:
        sizes = read_column(self.splits.training_pool, "size")
        return LengthGroupedBatchSampler(
            sizes, self.hyper.batch_size, self.seed, len(self.splits.general), self.splits.general_per_epoch
        )

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        return optim.build(
            self.hyper.optimizer, self.trainable_parameters.values(), self.hyper.weight_decay, self.device.torch_device
        )

    @property
    def state(self) -> TrainingState:
        return TrainingState(
            self.folder, {**self.trainable_parameters, **self.running_stats}, self.trainable_parameters, self.optimizer
        )

    def write_model(self, directory: Path) -> None:
        """Write the current model into an existing, empty directory."""
        with self.full_eval_mode():
            self.metadata.write(directory, self.model, self.base)

    def enable_checkpointing(self) -> bool:
        """Recompute activations from now on. Return False if the model cannot."""
        self.checkpointing = self.checkpointing or memory.enable_checkpointing(self.model)
        return self.checkpointing

    def bind_report(self, phase: PhaseName) -> Report:
        """Return a function that reports the micro-batches of a phase."""
        return self.reporter.bind(phase, self.max_pass_seconds)

    def report_step(self, done: float) -> None:
        """Report ``done`` steps, with a fraction for the micro-batches of the next.

        Raises ``Interrupted`` if the stop flag is set and the weights are those of the last
        completed step, so that the run can be saved without the step that was begun.
        """
        self.reporter.report("training", done, self.hyper.max_steps, self.max_pass_seconds)
        # A forward pass has already changed the running statistics.
        if not self.running_stats:
            self.stop.raise_if_set()

    def train_mode(self) -> None:
        """Put the model into train mode, except for ``frozen_modules``."""
        self.model.train()
        for module in self.frozen_modules:
            module.eval()

    def compute_loss(self, examples: Sequence[Example], ctx: TaskContext) -> Loss:
        """Return the loss of one forward pass over ``examples``."""
        if self.feature_cache:
            self.feature_cache.feed(examples)
        batch = move_to_device(self.task.collate(examples, ctx), self.device.torch_device)
        with self.device.autocast(), self.router_loss.record(batch) if self.router_loss else nullcontext():
            return self.task.compute_loss(self.model, batch, ctx)

    @cached_property
    def eval_context(self) -> TaskContext:
        """Task context for evaluation: no label smoothing, no class weights."""
        return replace(
            self.context, objective=replace(self.context.objective, label_smoothing=0.0, class_weights="none")
        )

    @contextmanager
    def full_eval_mode(self) -> Iterator[None]:
        """Put the model into eval mode with its original blocks for the duration of the context."""
        self.model.eval()
        with self.feature_cache.bypass() if self.feature_cache else nullcontext():
            yield
        self.train_mode()
