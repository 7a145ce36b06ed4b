"""Layers and parameters of a model that LoRA adapts.

PEFT adapts linear layers by ``target_modules``. The experts of a mixture-of-experts model are
parameters without a layer, which it adapts by ``target_parameters``: each expert gets its own pair
of low-rank matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from training.models.experts import ExpertBlock

TargetModules = Literal["all-linear"] | Sequence[str]

_EXPERT_LAYER_NAMES = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
"""Layers that PEFT takes for experts of transformers 4 if the model has experts. It would adapt the
experts and the router instead of a dense layer of that name, so their weights are named instead."""


@dataclass(frozen=True)
class LoraTargets:
    """Targets of an adapter, as PEFT's config names them."""

    modules: TargetModules
    parameters: list[str] | None = None


def find_targets(
    model: Any, blocks: Sequence[ExpertBlock], modules: TargetModules, with_experts: bool, with_router: bool
) -> LoraTargets:
    """Return the targets in a model with ``blocks`` of experts.

    Raises ``ValueError`` if it has none of the layers in ``modules``.
    """
    routers = {block.router for block in blocks}
    layers = {path for path in _iter_linear_layers(model, modules) if path not in routers}
    renamed = {path for path in layers if path.rpartition(".")[2] in _EXPERT_LAYER_NAMES}
    parameters = {_shorten(f"{path}.weight") for path in renamed}
    if with_experts:
        parameters |= set(_iter_expert_parameters(blocks))
    if with_router:
        parameters |= {_shorten(f"{router}.weight") for router in routers}
    if not (layers or parameters):
        raise ValueError(f"{type(model).__name__} has no linear layer of the names {', '.join(modules)}")
    return LoraTargets(sorted({_shorten(path) for path in layers - renamed}), sorted(parameters) or None)


def _iter_linear_layers(model: Any, modules: TargetModules) -> Iterator[str]:
    """Yield the paths of the linear layers that ``modules`` names.

    As in PEFT, ``all-linear`` excludes the output layer and a task's head.
    """
    from torch import nn

    output = model.get_output_embeddings()
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    for path, layer in model.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        if isinstance(modules, str):
            is_named = path.startswith(prefix) and layer is not output
        else:
            is_named = any(f".{path}".endswith(f".{name}") for name in modules)
        if is_named:
            yield path


def _iter_expert_parameters(blocks: Sequence[ExpertBlock]) -> Iterator[str]:
    for block in blocks:
        yield from (_shorten(f"{block.experts}.{name}") for name in block.parameters)


def _shorten(path: str) -> str:
    """Return the part of a path after the block's number, which is the same in every block."""
    parts = path.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] + 1 :] if numbers else parts)
