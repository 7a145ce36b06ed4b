"""Layer freezing: the last blocks and the head are trained, what stands before them stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from training.models.blocks import find_blocks
from training.updates.full_model import FullModelBase
from training.updates.head import train_only

if TYPE_CHECKING:
    from training.tasks.base import AnyTask


class LayersUpdate(FullModelBase):
    """Train the last blocks and the head. What the frozen blocks give is computed once."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["layers"] = "layers"
    last: int = Field(default=2, ge=1, le=1000, strict=True)
    """How many blocks train; all of them where the model has fewer."""

    def apply(self, model: Any, task: AnyTask) -> Any:
        parts = find_blocks(model)
        return train_only(model, parts.get_last_block_parameters(self.last) | parts.get_head_parameters())

    def count_frozen_blocks(self, model: Any) -> int:
        return max(0, len(find_blocks(model).blocks) - self.last)
