"""Full fine-tuning: all weights are trained, and the result is a complete model directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict

from training.updates.full_model import FullModelBase

if TYPE_CHECKING:
    import torch

    from training.tasks.base import AnyTask


class FullUpdate(FullModelBase):
    """Train all weights of the base model."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    type: Literal["full"] = "full"

    def get_weights_dtype(self, compute: torch.dtype, stored: torch.dtype) -> torch.dtype:
        """Return fp32 for the master weights: bf16 has too few bits for small updates."""
        import torch

        return torch.float32

    def apply(self, model: Any, task: AnyTask) -> Any:
        return model.requires_grad_(True)

    def count_frozen_blocks(self, model: Any) -> int:
        return 0
