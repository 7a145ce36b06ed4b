"""Fused layers of Llama-like models, which autograd would split into a dozen passes over memory.

Each layer saves only its inputs for the backward pass and works in place on its own intermediates.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers.activations import SiLUActivation

from training.kernels import lora
from training.kernels.lora import AdaptedLinear

ROTARY_FUNCTION = "apply_rotary_pos_emb"
"""Module-level function that transformers' attention layers call."""


def patch_layers(model: nn.Module) -> None:
    """Patch every layer of this model (not of a copy) that has a fused equivalent."""
    layer: Any
    for layer in model.modules():
        if _is_rms_norm(layer):
            layer.forward = _build_norm_forward(layer)
        elif _is_gated_mlp(layer):
            layer.forward = _build_mlp_forward(layer, layer.forward)
        elif _has_rotary_embedding(layer):
            layer.forward = MethodType(_build_rotary_forward(type(layer)), layer)


def rms_norm(x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """Compute w · x / sqrt(mean(x²) + ε) over the last dimension, in fp32 (Zhang and Sennrich 2019,
    arXiv:1910.07467).

    As in transformers, the normalized x is rounded to the dtype of x before it is scaled by w.
    """
    result: Tensor = _RMSNorm.apply(x, weight_D, epsilon)  # type: ignore[no-untyped-call]
    return result


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        wide = x.float()
        # One read of x, and no temporary of its size.
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight_D, scale)
        normed = (wide * scale).to(x.dtype)
        result: Tensor = normed.mul_(weight_D) if weight_D.dtype == x.dtype else weight_D * normed
        return result

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        x, weight_D, scale = ctx.saved_tensors
        [grad] = upstream
        wide, scaled = x.float(), grad.float() * weight_D
        grad_weight_D = None
        if ctx.needs_input_grad[1]:
            grad_weight_D = (grad * wide * scale).flatten(0, -2).sum(0).to(weight_D.dtype)
        projection = (scaled * wide).sum(-1, keepdim=True).mul_(scale.pow(3).div_(x.shape[-1]))
        return scaled.mul_(scale).addcmul_(wide, projection, value=-1).to(x.dtype), grad_weight_D, None


def _is_rms_norm(layer: Any) -> bool:
    """Check name and output: some layers of that name scale by 1 + w or have a gate."""
    if not (type(layer).__name__.endswith("RMSNorm") and hasattr(layer, "variance_epsilon")):
        return False
    probe = torch.linspace(-1, 2, len(layer.weight), device=layer.weight.device, dtype=layer.weight.dtype)
    with torch.no_grad():
        return torch.allclose(layer(probe), _build_norm_forward(layer)(probe), rtol=1e-2)


def _build_norm_forward(layer: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: rms_norm(x, layer.weight, layer.variance_epsilon)


def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Apply the rotary position embedding to halves (Su et al. 2021, arXiv:2104.09864).

    q and k are (B, H, T, D), cos and sin (B, T, D), equal for both halves of D.
    """
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    rotated = [_Rotation.apply(x, cos, sin) for x in (q, k)]  # type: ignore[no-untyped-call]
    return rotated[0], rotated[1]


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate_halves(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        # The transpose of a rotation is its inverse.
        cos, sin = ctx.saved_tensors
        return _rotate_halves(upstream[0], cos, sin, -1), None, None


def _rotate_halves(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    half = x.shape[-1] // 2
    rotated = x * cos
    rotated[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-direction)
    rotated[..., half:].addcmul_(x[..., :half], sin[..., half:], value=direction)
    return rotated


def _has_rotary_embedding(layer: Any) -> bool:
    """Return True if the layer's rotary function equals ``rotate``.

    Other model families rotate neighboring elements, or only a part of them.
    """
    forward = type(layer).forward
    if not isinstance(forward, FunctionType) or ROTARY_FUNCTION not in forward.__code__.co_names:
        return False
    original = forward.__globals__[ROTARY_FUNCTION]
    x, angles = torch.arange(1.0, 9.0).view(1, 1, 1, 8), torch.tensor([0.1, 0.2, 0.3, 0.4]).repeat(2).view(1, 1, 8)
    try:
        expected = original(x, -x, angles.cos(), angles.sin())
    except TypeError:
        # The function takes other arguments.
        return False
    return all(map(torch.allclose, expected, rotate(x, -x, angles.cos(), angles.sin())))


def _build_rotary_forward(layer_type: type[nn.Module]) -> FunctionType:
    """Copy the layer's forward with ``rotate`` as its rotary function, leaving transformers as
    is."""
    forward = layer_type.forward
    assert isinstance(forward, FunctionType)
    names = {**forward.__globals__, ROTARY_FUNCTION: rotate}
    copy = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    copy.__kwdefaults__ = forward.__kwdefaults__
    return copy


def _is_gated_mlp(layer: Any) -> bool:
    """Return True for a gated MLP (gate, up, down) whose down projection has an adapter."""
    names = ("gate_proj", "up_proj", "down_proj", "act_fn")
    if not all(hasattr(layer, name) for name in names) or set(type(layer).forward.__code__.co_names) != {*names}:
        return False
    return isinstance(layer.act_fn, (nn.SiLU, SiLUActivation)) and lora.is_eligible(layer.down_proj)


def _build_mlp_forward(layer: Any, original: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        if not lora.is_active(layer.down_proj):
            return original(x)
        return gated_lora_linear(layer.gate_proj(x), layer.up_proj(x), lora.to_adapted_linear(layer.down_proj))

    return forward


def gated_lora_linear(gate: Tensor, up: Tensor, layer: AdaptedLinear) -> Tensor:
    """Apply ``layer`` to silu(gate) · up (Shazeer 2020, arXiv:2002.05202): (..., I) -> (..., O).

    The product is as wide as gate and up, so the backward pass recomputes it instead of storing it.
    """
    return lora.apply_function(_GatedLoraLinear, [gate, up], layer)


class _GatedLoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, *layer_args: Any) -> Tensor:
        layer = AdaptedLinear(*layer_args)
        y_TO, low_TR = lora.compute_product(silu(gate).mul_(up).flatten(0, -2), layer)
        ctx.save_for_backward(gate, up, low_TR, *layer[:4])
        ctx.scale = layer.scale
        return y_TO.view(*gate.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        gate, up, low_TR, *tensors = ctx.saved_tensors
        layer = AdaptedLinear._make([*tensors, ctx.scale])
        activated = silu(gate)
        gradients = lora.compute_gradients(
            upstream[0].reshape(-1, len(layer.weight_OI)), (activated * up).flatten(0, -2), low_TR, layer, True
        )
        assert gradients.x_TI is not None
        grad = gradients.x_TI.view_as(gate)
        grad_up = activated.mul_(grad)
        grad_gate = torch.ops.aten.silu_backward(grad.mul_(up), gate)
        return grad_gate, grad_up, None, None, gradients.a_RI, gradients.b_OR, None
