"""Faster training steps that compute the same results. docs/benchmarks.md describes them.

``cross_entropy`` computes log-probabilities of targets without the full logits. ``lora`` and
``fused`` store fewer activations and make fewer passes over memory. ``memory`` avoids page faults.
``packed`` computes attention over concatenated rows without padding. ``probe`` compares a kernel
with the plain module on the model at hand.
"""

from __future__ import annotations

import torch
from torch import nn

from training.kernels import fused, lora, memory
from training.kernels.probe import KernelUse, ProbeSettings


def patch_model(model: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32) -> list[KernelUse]:
    """Patch every layer that has a faster kernel, in place, and return what was patched.

    ``dtype`` is that of the matrix products. Call it after adding the adapter and before the first
    step. Only ``forward`` of these layers is replaced. Parameters, names and saved files stay the
    same.
    """
    settings = ProbeSettings(device, dtype)
    uses = lora.patch_layers(model, settings)
    # After LoRA, because the last layer of an MLP is fused with its adapter.
    uses += fused.patch_layers(model, settings)
    if device.type == "cpu":
        memory.keep_freed_memory()
    return uses
