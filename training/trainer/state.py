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

from training.artifacts.result import Card
from training.data.batch_sampler import Batches
from training.errors import Interrupted
from training.hyperparameters.auto import Resolved
from training.models.base_model import BaseModel
from training.run_events import Line
from training.tasks.base import AnyTask, Example, Kit, Loss
from training.trainer import optim
from training.trainer.checkpoint import State
from training.trainer.device import Place
from training.trainer.feature_cache import Trunk, moved


@dataclass
class Stop:
    """Set by a signal; heeded at the next step's end."""

    requested: bool = False

    def heed(self) -> None:
        """Outside the loop: leave at once."""
        if self.requested:
            raise Interrupted(0)


@dataclass(frozen=True)
class Rows:
    """Encoded rows, by what they are for."""

    training: Sequence[Example]
    validation: Sequence[Example] = ()
    general: Sequence[Example] = ()
    """Mixed into training."""
    held_out: Sequence[Example] = ()
    """General rows that are only measured."""
    mixed: int = 0
    """General rows in each epoch."""

    @cached_property
    def trained(self) -> Sequence[Example]:
        return [*self.training, *self.general]


@dataclass
class Run:
    """Everything the loop needs."""

    folder: Path
    task: AnyTask
    kit: Kit
    hyper: Resolved
    seed: int
    save_seconds: float
    model: Any
    place: Place
    rows: Rows
    trained: dict[str, Parameter]
    running: dict[str, Tensor]
    """Statistics that training moves without a gradient."""
    frozen: Sequence[Module]
    """Modules that stay in eval mode."""
    origin: dict[str, Tensor]
    """Where the weights began, if they are pulled back there."""
    card: Card
    base: BaseModel
    emit: Callable[[Line], None]
    stop: Stop
    trunk: Trunk | None = None

    @cached_property
    def batches(self) -> Batches:
        sizes = [example.size for example in self.rows.trained]
        return Batches(sizes, self.hyper.batch_size, self.seed, len(self.rows.general), self.rows.mixed)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        return optim.build(self.hyper.optimizer, self.trained.values(), self.hyper.weight_decay, self.place.device)

    @property
    def state(self) -> State:
        return State(self.folder, {**self.trained, **self.running}, self.trained, self.optimizer)

    def write(self, directory: Path) -> None:
        """The model as it now is, into a directory that exists and is empty."""
        with self.whole():
            self.card.write(directory, self.model, self.base)

    def learn(self) -> None:
        """Train mode, for what is trained."""
        self.model.train()
        for module in self.frozen:
            module.eval()

    def loss(self, examples: Sequence[Example], kit: Kit) -> Loss:
        """Of one forward pass."""
        if self.trunk:
            self.trunk.feed(examples)
        batch = moved(self.task.collate(examples, kit), self.place.device)
        with self.place.autocast():
            return self.task.loss(self.model, batch, kit)

    @cached_property
    def plain(self) -> Kit:
        """For measuring: the loss without what only helps training."""
        return replace(self.kit, objective=replace(self.kit.objective, label_smoothing=0.0, class_weights="none"))

    @contextmanager
    def whole(self) -> Iterator[None]:
        """The model with all of its blocks, in eval mode."""
        self.model.eval()
        with self.trunk.whole() if self.trunk else nullcontext():
            yield
        self.learn()
