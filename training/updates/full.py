"""Every weight moves; the result is a model directory of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict

if TYPE_CHECKING:
    import torch

    from training.base_model import BaseModel
    from training.tasks.base import AnyTask, State


class FullUpdate(pydantic.BaseModel):
    """Train all weights of the base model."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["full"] = "full"

    def weights_dtype(self, compute: torch.dtype) -> torch.dtype:
        """Masters stay in fp32: a bf16 weight has too few bits to take a small update."""
        import torch

        return torch.float32

    def apply(self, model: Any, task: AnyTask) -> Any:
        return model.requires_grad_(True)

    def save(self, model: Any, base: BaseModel, directory: Path) -> None:
        """A directory that ``AutoModel…from_pretrained`` loads, tokenizer included, in the base's own dtype."""
        base.save_beside(model, directory)

    def load(self, base: Path, directory: Path, task: AnyTask, state: State, dtype: torch.dtype) -> Any:
        return task.load_model(directory, state, dtype).eval()
