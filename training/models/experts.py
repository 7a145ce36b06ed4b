"""Location of a mixture-of-experts model's experts and routers, found from the model's structure.

transformers stores the experts of a block as parameters of three dimensions (E, …), one matrix for
each of the E experts. The router beside them has a matrix (E, D) and chooses the experts of each
token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def describe_training(model: Any, blocks: Sequence[ExpertBlock]) -> str:
    """Describe which parts of a mixture-of-experts model are trained, with their sizes."""
    experts = tuple(f"{strip_wrappers(block.experts)}." for block in blocks)
    routers = tuple(f"{strip_wrappers(block.router)}." for block in blocks)
    sizes = {"attention": 0, "experts": 0, "routers": 0, "other layers": 0}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            part = "experts" if name.startswith(experts) else "routers" if name.startswith(routers) else "other layers"
            sizes["attention" if part == "other layers" and "attn" in name else part] += weight.numel()
    trained = ", ".join(f"{part} {size:,}" for part, size in sizes.items() if size)
    frozen = [part for part in ("experts", "routers") if not sizes[part]]
    suffix = f"; the {' and '.join(frozen)} of {len(blocks)} layers stay frozen" if frozen else ""
    return f"The update trains {sum(sizes.values()):,} parameters: {trained}{suffix}."
