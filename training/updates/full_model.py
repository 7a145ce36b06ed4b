"""What updates share whose result is a model directory of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

if TYPE_CHECKING:
    import torch

    from training.models.base_model import BaseModel
    from training.tasks.base import AnyTask, TaskState


class FullModelBase(pydantic.BaseModel):
    """Saved and loaded as ``transformers`` does."""

    def get_weights_dtype(self, compute: torch.dtype, stored: torch.dtype) -> torch.dtype:
        """A frozen weight stays as it is stored, unless nothing would widen it for an fp32 product."""
        import torch

        return torch.float32 if compute == torch.float32 else stored

    def save(self, model: Any, base: BaseModel, directory: Path) -> None:
        """A directory that ``AutoModel…from_pretrained`` loads, tokenizer included, in the base's own dtype."""
        base.save_with_processor(model, directory)

    def load(self, base: Path, directory: Path, task: AnyTask, state: TaskState, dtype: torch.dtype) -> Any:
        return task.load_model(directory, state, dtype).eval()

    def load_weights(self, model: Any, directory: Path) -> None:
        """Nothing: the model was loaded from the earlier result's directory."""
