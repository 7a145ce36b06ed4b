"""Everything a run needs, put together once by ``assemble``."""

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
from training.models.base_model import BaseModel
from training.run_events import RunEvent
from training.tasks.base import AnyTask, Example, Loss, TaskContext
from training.trainer import optim
from training.trainer.checkpoint import TrainingState
from training.trainer.device import Device
from training.trainer.feature_cache import FrozenFeatureCache, move_to_device


@dataclass
class StopFlag:
    """Set by a signal; heeded at the next step's end."""

    requested: bool = False

    def raise_if_set(self) -> None:
        """Outside the loop: leave at once."""
        if self.requested:
            raise Interrupted(0)


@dataclass(frozen=True)
class Splits:
    """Encoded rows, by what they are for."""

    training: Sequence[Example]
    validation: Sequence[Example] = ()
    general: Sequence[Example] = ()
    """Mixed into training."""
    held_out: Sequence[Example] = ()
    """General rows that are only measured."""
    general_per_epoch: int = 0
    """General rows in each epoch."""

    @cached_property
    def training_pool(self) -> Sequence[Example]:
        return [*self.training, *self.general]


@dataclass
class TrainingRun:
    """Everything the loop needs."""

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
    """Statistics that training moves without a gradient."""
    frozen_modules: Sequence[Module]
    """Modules that stay in eval mode."""
    initial_weights: dict[str, Tensor]
    """Where the weights began, if they are pulled back there."""
    metadata: ResultMetadata
    base: BaseModel
    emit: Callable[[RunEvent], None]
    stop: StopFlag
    feature_cache: FrozenFeatureCache | None = None

    @cached_property
    def batch_sampler(self) -> LengthGroupedBatchSampler:
        sizes = [example.size for example in self.splits.training_pool]
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
        """The model as it now is, into a directory that exists and is empty."""
        with self.full_eval_mode():
            self.metadata.write(directory, self.model, self.base)

    def train_mode(self) -> None:
        """Train mode, for what is trained."""
        self.model.train()
        for module in self.frozen_modules:
            module.eval()

    def compute_loss(self, examples: Sequence[Example], ctx: TaskContext) -> Loss:
        """Of one forward pass."""
        if self.feature_cache:
            self.feature_cache.feed(examples)
        batch = move_to_device(self.task.collate(examples, ctx), self.device.torch_device)
        with self.device.autocast():
            return self.task.compute_loss(self.model, batch, ctx)

    @cached_property
    def eval_context(self) -> TaskContext:
        """For measuring: the loss without what only helps training."""
        return replace(
            self.context, objective=replace(self.context.objective, label_smoothing=0.0, class_weights="none")
        )

    @contextmanager
    def full_eval_mode(self) -> Iterator[None]:
        """The model with all of its blocks, in eval mode."""
        self.model.eval()
        with self.feature_cache.bypass() if self.feature_cache else nullcontext():
            yield
        self.train_mode()
