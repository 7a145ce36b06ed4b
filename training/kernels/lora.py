"""PEFT's LoRA layer as a single autograd function: y = x Wᵀ + s (x Aᵀ) Bᵀ over a frozen W.

PEFT's own layer creates three intermediate (T, O) tensors and one more for the gradient. Here the
matrix product that computes the low-rank term also adds it, in the forward and the backward pass.
Only x and x Aᵀ, (T, R), are stored. The gradient of W is never computed.

W is not merged with the adapter. Merging takes two passes over W per use. For batches small enough
that a step fits in the cache, this costs as much as the low-rank products that it saves. In bf16 it
would also round the adapter away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn.functional import linear

from training.kernels.probe import KernelUse, ProbeSettings, agrees, build_probe_tensor, randomized


class AdaptedLinear(NamedTuple):
    """Tensors of a frozen dense layer and its adapter."""

    weight_OI: Tensor
    bias_O: Tensor | None
    a_RI: Tensor
    b_OR: Tensor
    scale: float


KERNEL = "LoRA"
PROBE_TOKENS = 5


def patch_layers(model: nn.Module, settings: ProbeSettings) -> list[KernelUse]:
    """Patch every eligible LoRA layer of this model (not of a copy) whose kernel passes its probe.

    Layers of one shape share a probe.
    """
    uses: list[KernelUse] = []
    verdicts: dict[object, bool] = {}
    for layer in model.modules():
        if is_eligible(layer):
            forward = _build_forward(layer, layer.forward)
            key = _get_probe_key(layer)
            if key not in verdicts:
                verdicts[key] = _passes_probe(layer, forward, settings)
            uses.append(KernelUse(KERNEL, type(layer.base_layer).__name__, verdicts[key]))
            if verdicts[key]:
                layer.forward = forward
    return uses


def _get_probe_key(layer: Any) -> object:
    tensors = to_adapted_linear(layer)[:4]
    return [None if tensor is None else (tensor.shape, tensor.dtype) for tensor in tensors].__repr__()


def _passes_probe(layer: Any, forward: Callable[..., Tensor], settings: ProbeSettings) -> bool:
    adapted, [name] = to_adapted_linear(layer), layer.active_adapters
    x_TI = build_probe_tensor((PROBE_TOKENS, adapted.weight_OI.shape[1]), adapted.weight_OI.device, settings.dtype)
    with randomized(layer.lora_B[name].weight):
        return agrees(layer.forward, forward, [x_TI], [adapted.a_RI, adapted.b_OR], settings)


def is_eligible(layer: Any) -> bool:
    """Return True for plain LoRA without dropout on a frozen dense layer."""
    if type(layer) is not Linear or len(layer.active_adapters) != 1:
        return False
    [name], base = layer.active_adapters, layer.base_layer
    return (
        type(base) is nn.Linear
        and not any(parameter.requires_grad for parameter in base.parameters())
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and name not in layer.lora_variant
        and layer.lora_B[name].bias is None
    )


def is_active(layer: Any) -> bool:
    """Return True if the adapter of an eligible layer is still present, enabled and not merged."""
    return isinstance(layer, Linear) and not (layer.disable_adapters or layer.merged)


def to_adapted_linear(layer: Any) -> AdaptedLinear:
    [name], base = layer.active_adapters, layer.base_layer
    return AdaptedLinear(
        base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    )


def _build_forward(layer: Any, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or not is_active(layer):
            return original(x, *args, **kwargs)
        return lora_linear(x, to_adapted_linear(layer))

    return forward


def lora_linear(x: Tensor, layer: AdaptedLinear) -> Tensor:
    """Apply the layer: (..., I) -> (..., O), in the dtype of x or of autocast."""
    return apply_function(_LoraLinear, [x], layer)


def apply_function(function: type[torch.autograd.Function], inputs: list[Tensor], layer: AdaptedLinear) -> Tensor:
    """Apply an autograd function with all tensors cast to one dtype, as torch's own layers do."""
    device, dtype = inputs[0].device.type, inputs[0].dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return apply_function(function, [tensor.to(dtype) for tensor in inputs], layer)
    tensors = [None if tensor is None else tensor.to(dtype) for tensor in layer[:4]]
    result: Tensor = function.apply(*inputs, *tensors, layer.scale)  # type: ignore[no-untyped-call]
    return result


def compute_product(x_TI: Tensor, layer: AdaptedLinear) -> tuple[Tensor, Tensor]:
    """Return y (T, O) and x Aᵀ (T, R)."""
    low_TR = x_TI @ layer.a_RI.t()
    return linear(x_TI, layer.weight_OI, layer.bias_O).addmm_(low_TR, layer.b_OR.t(), alpha=layer.scale), low_TR


class LoraGradients(NamedTuple):
    """Gradients of the input and of the adapter."""

    x_TI: Tensor | None
    a_RI: Tensor
    b_OR: Tensor


def compute_gradients(
    grad_TO: Tensor, x_TI: Tensor, low_TR: Tensor, layer: AdaptedLinear, needs_x: bool
) -> LoraGradients:
    low_grad_TR = grad_TO @ layer.b_OR
    grad_x_TI = None
    if needs_x:
        grad_x_TI = (grad_TO @ layer.weight_OI).addmm_(low_grad_TR, layer.a_RI, alpha=layer.scale)
    # Both products iterate over the rows of the large factor. On a CPU this takes a third of the
    # time of the transposed products.
    grad_a_RI = low_grad_TR.t().mul(layer.scale) @ x_TI
    grad_b_OR = (low_TR.t().mul(layer.scale) @ grad_TO).t()
    return LoraGradients(grad_x_TI, grad_a_RI, grad_b_OR)


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *layer_args: Any) -> Tensor:
        layer = AdaptedLinear(*layer_args)
        y_TO, low_TR = compute_product(x.reshape(-1, x.shape[-1]), layer)
        ctx.save_for_backward(x, low_TR, *layer[:4])
        ctx.scale = layer.scale
        return y_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        x, low_TR, *tensors = ctx.saved_tensors
        layer = AdaptedLinear._make([*tensors, ctx.scale])
        grad_TO = upstream[0].reshape(-1, len(layer.weight_OI))
        grad_x, grad_a, grad_b = compute_gradients(
            grad_TO, x.reshape(-1, x.shape[-1]), low_TR, layer, ctx.needs_input_grad[0]
        )
        return None if grad_x is None else grad_x.view_as(x), None, None, grad_a, grad_b, None
