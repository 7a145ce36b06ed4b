"""What makes a model faster without changing its numbers."""

from __future__ import annotations

from typing import Any

from training.kernels import fused, lora, memory, packed


def can_pack(config: Any) -> bool:
    """Whether rows of a batch may be laid end to end."""
    return packed.supports(config)


def prepare(model: Any, pack: bool) -> None:
    """Have layers that have a faster form take it. Parameters, their names and what is saved stay as they are."""
    memory.keep()
    lora.use(model)
    fused.use(model)
    if pack:
        packed.use(model)
