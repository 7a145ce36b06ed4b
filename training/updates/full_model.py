"""Base class of updates whose result is a complete model directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

if TYPE_CHECKING:
    import torch

    from training.models.base_model import BaseModelInfo
    from training.tasks.base import AnyTask, TaskState


class FullModelBase(pydantic.BaseModel):
    """Saving and loading in the format of ``transformers``."""

    def get_weights_dtype(self, compute: torch.dtype, stored: torch.dtype) -> torch.dtype:
        """Return the stored dtype, or fp32 if the run computes in fp32: without autocast nothing
        would upcast the weights."""
        import torch

        return torch.float32 if compute == torch.float32 else stored

    def save(self, model: Any, base: BaseModelInfo, directory: Path) -> None:
        """Write a directory for ``AutoModel…from_pretrained``, with tokenizer, in the base's
        dtype."""
        base.save_with_processor(model, directory)

    def load(self, base: Path, directory: Path, task: AnyTask, state: TaskState, dtype: torch.dtype) -> Any:
        return task.load_model(directory, state, dtype).eval()

    def load_merged(self, base: Path, directory: Path, task: AnyTask, state: TaskState, dtype: torch.dtype) -> Any:
        return self.load(base, directory, task, state, dtype)

    def load_weights(self, model: Any, directory: Path) -> None:
        """Do nothing, because the model was loaded from the earlier result's directory."""
