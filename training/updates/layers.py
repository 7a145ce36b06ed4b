"""Layer freezing: the last blocks and the head are trained; everything before is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from training.models.blocks import find_blocks
from training.updates.full_model import FullModelBase
from training.updates.head import train_only

if TYPE_CHECKING:
    from training.tasks.base import AnyTask


class LayersUpdate(FullModelBase):
    """Train the last blocks and the head. The outputs of the frozen blocks are computed once."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    type: Literal["layers"] = "layers"
    last: int = Field(default=2, ge=1, le=1000, strict=True)
    """Number of blocks to train; all blocks if the model has fewer."""

    def apply(self, model: Any, task: AnyTask) -> Any:
        stack = find_blocks(model)
        return train_only(model, stack.get_last_block_parameters(self.last) | stack.get_head_parameters())

    def count_frozen_blocks(self, model: Any) -> int:
        return max(0, len(find_blocks(model).blocks) - self.last)
