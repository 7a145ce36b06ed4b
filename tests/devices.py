"""Device of the tests: a GPU if there is one, so that the same tests prove its numbers."""

from __future__ import annotations

from training.tasks.base import Batch
from training.trainer.device import select_device
from training.trainer.feature_cache import move_to_device

DEVICE = select_device().torch_device


def to_device(batch: Batch) -> Batch:
    """Return the batch with its tensors on ``DEVICE``."""
    return move_to_device(batch, DEVICE)
