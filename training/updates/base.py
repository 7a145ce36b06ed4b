"""What every way of updating is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from training.models.base_model import BaseModel
    from training.tasks.base import AnyTask, TaskState


class UpdateMode(Protocol):
    """How a base becomes a trainable model, and how the outcome is written and read."""

    def get_weights_dtype(self, compute: torch.dtype, stored: torch.dtype) -> torch.dtype:
        """In which dtype the weights are held while training computes in ``compute``; ``stored``: theirs on disk."""

    def apply(self, model: Any, task: AnyTask) -> Any:
        """The model whose parameters with ``requires_grad`` are the ones to train. Raises ``ValueError``."""

    def count_frozen_blocks(self, model: Any) -> int:
        """How many of the first blocks stay as they are, so that what they give need be computed only once."""

    def load_weights(self, model: Any, directory: Path) -> None:
        """Put an earlier result's weights in."""

    def save(self, model: Any, base: BaseModel, directory: Path) -> None:
        """Write the trained model's files into ``directory``."""

    def load(self, base: Path, directory: Path, task: AnyTask, state: TaskState, dtype: torch.dtype) -> Any:
        """The model as ``save`` wrote it, in eval mode."""
