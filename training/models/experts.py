"""Location of a mixture-of-experts model's experts and routers, found from the model's structure.

transformers stores the experts of a block as parameters of three dimensions (E, …), one matrix for
each of the E experts. The router beside them has a matrix (E, D) and chooses the experts of a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_WRAPPER = ".base_layer"
"""Suffix that PEFT's wrappers add to the path of a wrapped module."""


@dataclass(frozen=True)
class ExpertBlock:
    """Experts and router of one block."""

    experts: str
    """Path of the module that holds the experts."""
    parameters: tuple[str, ...]
    """Names of the experts' matrices in that module."""
    num_experts: int
    router: str
    """Path of the module whose output, or first output, is the router's logits."""


def find_expert_blocks(model: Any) -> list[ExpertBlock]:
    """Return the blocks that have experts, in order. Empty for a dense model."""
    blocks = []
    for path, module in model.named_modules():
        matrices = {name: weight for name, weight in module.named_parameters(recurse=False) if weight.ndim == 3}
        count = getattr(module, "num_experts", None)
        if count is None or not matrices or any(len(weight) != count for weight in matrices.values()):
            continue
        parent = strip_wrappers(path).rpartition(".")[0]
        router = next(_iter_routers(model, parent, count), None)
        if router is not None:
            blocks.append(ExpertBlock(path, tuple(matrices), count, router))
    return blocks


def strip_wrappers(path: str) -> str:
    """Return the path of a module before PEFT wrapped it."""
    while path.endswith(_WRAPPER):
        path = path.removesuffix(_WRAPPER)
    return path


def _iter_routers(model: Any, parent: str, num_experts: int) -> Iterator[str]:
    """Yield the paths of modules beside the experts with a matrix of one row for each expert."""
    for path, module in model.get_submodule(parent).named_modules():
        weight = module._parameters.get("weight")
        if weight is not None and weight.ndim == 2 and len(weight) == num_experts and "lora_" not in path:
            yield f"{parent}.{path}"
