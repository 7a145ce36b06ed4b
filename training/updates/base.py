"""Protocol of the update methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from training.models.base_model import BaseModelInfo
    from training.tasks.base import AnyTask, TaskState


class UpdateMode(Protocol):
    """Conversion of a base to a trainable model, and saving and loading of the result."""

    def get_weights_dtype(self, compute: torch.dtype, stored: torch.dtype) -> torch.dtype:
        """Return the dtype of weights in memory for a compute dtype and a dtype on disk."""

    def apply(self, model: Any, task: AnyTask) -> Any:
        """Return the model with ``requires_grad`` set on exactly the parameters to train.

        Raises ``ValueError`` if the update does not fit the model.
        """

    def count_frozen_blocks(self, model: Any) -> int:
        """Return how many of the first blocks are frozen, so that their outputs can be cached."""

    def load_weights(self, model: Any, directory: Path) -> None:
        """Load the weights of an earlier result into the model."""

    def save(self, model: Any, base: BaseModelInfo, directory: Path) -> None:
        """Write the trained model's files into ``directory``."""

    def load(self, base: Path, directory: Path, task: AnyTask, state: TaskState, dtype: torch.dtype) -> Any:
        """Load a model that ``save`` wrote, in eval mode."""

    def load_merged(self, base: Path, directory: Path, task: AnyTask, state: TaskState, dtype: torch.dtype) -> Any:
        """Load a model that ``save`` wrote as one of ``transformers``, without adapters."""
