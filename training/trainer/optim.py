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
    """Weight decay is coupled here: it is part of the gradient."""
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9)


def _build_adafactor(groups: ParamGroups, device: torch.device) -> torch.optim.Optimizer:
    """Keeps a row and a column of second moments in place of a matrix (Shazeer and Stern 2018, arXiv:1804.04235)."""
    return torch.optim.Adafactor(groups, lr=0.0)


OPTIMIZERS: dict[str, Callable[[ParamGroups, torch.device], torch.optim.Optimizer]] = {
    "adamw": _build_adamw,
    "sgd": _build_sgd,
    "adafactor": _build_adafactor,
}


def build(name: str, weights: Iterable[Parameter], weight_decay: float, device: torch.device) -> torch.optim.Optimizer:
    """Weight decay pulls matrices only: a bias or a norm's gain near 0 is no simpler a model."""
    trained = list(weights)
    matrices = {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": weight_decay}
    vectors = {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0}
    return OPTIMIZERS[name]([group for group in (matrices, vectors) if group["params"]], device)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def flatten_state(optimizer: torch.optim.Optimizer, weights: dict[str, Parameter]) -> dict[str, Tensor]:
    """``weight name/what`` -> tensor: everything the optimizer remembers."""
    return {
        f"{name}/{what}": tensor
        for name, weight in weights.items()
        for what, tensor in optimizer.state.get(weight, {}).items()
        if tensor is not None
    }


def load_state(optimizer: torch.optim.Optimizer, weights: dict[str, Parameter], tensors: dict[str, Tensor]) -> None:
    for key, tensor in tensors.items():
        name, _, what = key.rpartition("/")
        # A copy: what safetensors gives is a view of the file's bytes, aligned as it happens to be.
        optimizer.state[weights[name]][what] = tensor.to(weights[name].device, copy=True)
