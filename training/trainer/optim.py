"""Optimizers over a model's trainable weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

FUSED_ADAMW_DEVICES = {"cpu", "cuda", "mps"}
"""Device types that have a one-kernel AdamW."""


ParamGroups = list[dict[str, Any]]


def _build_adamw(groups: ParamGroups, device: torch.device) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=device.type in FUSED_ADAMW_DEVICES)


def _build_sgd(groups: ParamGroups, device: torch.device) -> torch.optim.Optimizer:
    """Build SGD with momentum. Its weight decay is coupled: it is added to the gradient."""
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9)


def _build_adafactor(groups: ParamGroups, device: torch.device) -> torch.optim.Optimizer:
    """Build Adafactor, which stores a row and a column of second moments instead of a matrix
    (Shazeer and Stern 2018, arXiv:1804.04235)."""
    return torch.optim.Adafactor(groups, lr=0.0)


OPTIMIZERS: dict[str, Callable[[ParamGroups, torch.device], torch.optim.Optimizer]] = {
    "adamw": _build_adamw,
    "sgd": _build_sgd,
    "adafactor": _build_adafactor,
}


def build(name: str, weights: Iterable[Parameter], weight_decay: float, device: torch.device) -> torch.optim.Optimizer:
    """Build an optimizer that applies weight decay to matrices only.

    A bias or the gain of a norm near 0 does not make a model simpler.
    """
    trained = list(weights)
    matrices = {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": weight_decay}
    vectors = {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0}
    return OPTIMIZERS[name]([group for group in (matrices, vectors) if group["params"]], device)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def flatten_state(optimizer: torch.optim.Optimizer, weights: dict[str, Parameter]) -> dict[str, Tensor]:
    """Return all tensors of the optimizer's state as ``weight name/state key`` -> tensor."""
    return {
        f"{name}/{key}": tensor
        for name, weight in weights.items()
        for key, tensor in optimizer.state.get(weight, {}).items()
        if tensor is not None
    }


def load_state(optimizer: torch.optim.Optimizer, weights: dict[str, Parameter], tensors: dict[str, Tensor]) -> None:
    for path, tensor in tensors.items():
        name, _, key = path.rpartition("/")
        # A copy, because safetensors returns a view of the file's bytes with arbitrary alignment.
        optimizer.state[weights[name]][key] = tensor.to(weights[name].device, copy=True)
