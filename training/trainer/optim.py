"""Optimizers over a model's trainable weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from training.models.quantization import import_bitsandbytes

FUSED_ADAMW_DEVICES = {"cpu", "cuda", "mps"}
"""Device types that have a one-kernel AdamW."""

UPDATE_BLOCK = 256
"""Elements that share a scale in 8-bit AdamW."""
UPDATE_PART = 2**20
"""Elements that 8-bit AdamW updates at a time on a CPU: a multiple of ``UPDATE_BLOCK``."""

ParamGroups = list[dict[str, Any]]


def _build_adamw(groups: ParamGroups, device: torch.device) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=device.type in FUSED_ADAMW_DEVICES)


def _build_adamw_8bit(groups: ParamGroups, device: torch.device) -> torch.optim.Optimizer:
    """Build AdamW that stores both moments in 8 bits, with a scale for each block of 256
    (Dettmers et al. 2022, arXiv:2110.02861).

    Weights with fewer than 4,096 elements keep float32 moments. Raises ``TrainingError``
    (missing_extra).
    """
    bitsandbytes = import_bitsandbytes()
    optimizer: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8)
    if device.type == "cpu":
        update = bitsandbytes.functional.optimizer_update_8bit_blockwise
        optimizer.update_step = partial(_update_in_parts, optimizer, update)  # type: ignore[attr-defined]
    return optimizer


@torch.no_grad()
def _update_in_parts(
    optimizer: Any, update: Callable[..., None], group: dict[str, Any], weight: Parameter, *indices: int
) -> None:
    """Update a weight of 8-bit AdamW part by part, with the bits of one update.

    On a CPU, bitsandbytes allocates ten float32 copies of what it updates, more than 8 bits save.
    """
    state = optimizer.state[weight]
    if "absmax1" not in state:
        type(optimizer).update_step(optimizer, group, weight, *indices)
        return
    assert weight.grad is not None
    state["step"] += 1
    names = ("state1", "state2")
    values = [weight.grad.contiguous().view(-1), weight.data.view(-1), *(state[name].view(-1) for name in names)]
    for start in range(0, weight.numel(), UPDATE_PART):
        parts = [value[start : start + UPDATE_PART] for value in values]
        blocks = slice(start // UPDATE_BLOCK, (start + UPDATE_PART) // UPDATE_BLOCK)
        scales = [state[f"absmax{number}"][blocks] for number in (1, 2)]
        settings = (*group["betas"], 0.0, 0.0, group["eps"], state["step"], group["lr"])
        update("adam", *parts, *settings, state["qmap1"], state["qmap2"], *scales, group["weight_decay"])


def _build_sgd(groups: ParamGroups, device: torch.device) -> torch.optim.Optimizer:
    """Build SGD with momentum. Its weight decay is coupled: it is added to the gradient."""
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9)


def _build_adafactor(groups: ParamGroups, device: torch.device) -> torch.optim.Optimizer:
    """Build Adafactor, which stores a row and a column of second moments instead of a matrix
    (Shazeer and Stern 2018, arXiv:1804.04235)."""
    return torch.optim.Adafactor(groups, lr=0.0)


OPTIMIZERS: dict[str, Callable[[ParamGroups, torch.device], torch.optim.Optimizer]] = {
    "adamw": _build_adamw,
    "adamw8bit": _build_adamw_8bit,
    "sgd": _build_sgd,
    "adafactor": _build_adafactor,
}

_SHARED_MAPS = {"qmap1": "dynamic", "qmap2": "udynamic"}
"""Constant tables of 8-bit optimizers that all weights share: state key -> key of ``name2qmap``."""


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
    """Return the optimizer's state, without constants, as ``weight name/state key`` -> tensor."""
    return {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, weight in weights.items()
        for key, value in optimizer.state.get(weight, {}).items()
        if value is not None and key not in _SHARED_MAPS
    }


def load_state(optimizer: torch.optim.Optimizer, weights: dict[str, Parameter], tensors: dict[str, Tensor]) -> None:
    for path, tensor in tensors.items():
        name, _, key = path.rpartition("/")
        state, device = optimizer.state[weights[name]], weights[name].device
        if tensor.dtype == torch.int64:
            # A number of steps. torch's own optimizers count them in float32 tensors.
            state[key] = int(tensor)
            continue
        # A copy, because safetensors returns a view of the file's bytes with arbitrary alignment.
        state[key] = tensor.to(device, copy=True)
        if key == "absmax1":
            maps = optimizer.name2qmap  # type: ignore[attr-defined]
            state |= {shared: maps[kind].to(device) for shared, kind in _SHARED_MAPS.items()}
