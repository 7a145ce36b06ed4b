"""Selection, copying and hashing of the weights that a run trains."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


def get_trainable_parameters(model: Any) -> dict[str, Parameter]:
    """Return the trainable parameters by name. A weight shared by two layers appears once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def count_parameters(model: Any) -> int:
    """Count all parameters. A 4-bit weight counts with its shape before it was quantized."""
    states = ((weight, getattr(weight, "quant_state", None)) for weight in model.parameters())
    return sum(prod(state.shape) if state else weight.numel() for weight, state in states)


def get_running_stats(model: Any) -> dict[str, Tensor]:
    """Return running statistics, which training updates without a gradient, by name."""
    return {
        f"{name}.{key}": buffer
        for name, module in model.named_modules()
        if getattr(module, "track_running_stats", False)
        for key, buffer in module.named_buffers(recurse=False)
    }


def upcast(weights: Mapping[str, Parameter]) -> None:
    """Convert weights to fp32 in place: narrower weights have too few bits for small updates."""
    for weight in weights.values():
        weight.data = weight.data.float()


@torch.no_grad()
def copy_tensors(weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy ``tensors`` into ``weights``, which have the same names."""
    assert weights.keys() == tensors.keys(), sorted(weights.keys() ^ tensors.keys())
    for name, weight in weights.items():
        weight.copy_(tensors[name])


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
