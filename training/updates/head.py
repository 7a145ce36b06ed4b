"""Head-only fine-tuning: all blocks are frozen; the parameters after them are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict

from training.models.blocks import find_blocks
from training.updates.full_model import FullModelBase

if TYPE_CHECKING:
    from training.tasks.base import AnyTask


class HeadUpdate(FullModelBase):
    """Train only the head: final norm or pooler, and output layer. The features of the base are
    computed once."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    type: Literal["head"] = "head"

    def apply(self, model: Any, task: AnyTask) -> Any:
        return train_only(model, find_blocks(model).get_head_parameters())

    def count_frozen_blocks(self, model: Any) -> int:
        return len(find_blocks(model).blocks)


def train_only(model: Any, names: set[str]) -> Any:
    """Freeze all parameters but ``names``. Raises ``ValueError`` if ``names`` is empty."""
    if not names:
        raise ValueError(f"{type(model).__name__} has no weights after its last block; use another update")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    return model
