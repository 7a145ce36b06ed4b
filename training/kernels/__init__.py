"""Faster training steps that compute the same results. docs/benchmarks.md describes them.

``cross_entropy`` computes log-probabilities of targets without the full logits. ``lora`` and
``fused`` store fewer activations and make fewer passes over memory. ``memory`` avoids page faults.
``packed`` computes attention over concatenated rows without padding.
"""

from __future__ import annotations

import torch
from torch import nn

from training.kernels import fused, lora, memory


def patch_model(model: nn.Module, device: torch.device) -> None:
    """Patch every layer that has a faster kernel, in place. Call it after adding the adapter and
    before the first step.

    Only ``forward`` of these layers is replaced. Parameters, names and saved files stay the same.
    """
    lora.patch_layers(model)
    # After LoRA, because the last layer of an MLP is fused with its adapter.
    fused.patch_layers(model)
    if device.type == "cpu":
        memory.disable_heap_trimming()
