"""Feature-based tuning: the base stays as it is, what stands behind its last block is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict

from training.models.blocks import find_blocks
from training.updates.full_model import FullModelBase

if TYPE_CHECKING:
    from training.tasks.base import AnyTask


class HeadUpdate(FullModelBase):
    """Train the head only: final norm or pooler, and the output layer. The base's features are computed once."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["head"] = "head"

    def apply(self, model: Any, task: AnyTask) -> Any:
        return train_only(model, find_blocks(model).get_head_parameters())

    def count_frozen_blocks(self, model: Any) -> int:
        return len(find_blocks(model).blocks)


def train_only(model: Any, names: set[str]) -> Any:
    """Raises ``ValueError`` where there is nothing to train."""
    if not names:
        raise ValueError(f"{type(model).__name__} has no weights of its own behind its last block")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    return model
