"""What makes a training step fast without changing its numbers. Told in docs/benchmarks.md.

``cross_entropy`` scores targets without logits, ``lora`` and ``fused`` make layers keep and pass over less, ``memory``
saves page faults, and ``packed``, for those who lay out batches so, leaves padding out.
"""

from __future__ import annotations

import torch
from torch import nn

from training.kernels import fused, lora, memory


def patch_model(model: nn.Module, device: torch.device) -> None:
    """Speed up every layer that one of these fits, in place: after the adapter is on, before the first step.

    Only ``forward`` of such layers is bound anew; parameters, names and what is saved stay as they are.
    """
    lora.patch_layers(model)
    # After LoRA: the last layer of an MLP is taken together with its adapter.
    fused.patch_layers(model)
    if device.type == "cpu":
        memory.disable_heap_trimming()
