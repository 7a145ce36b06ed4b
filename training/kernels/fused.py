"""Fused layers of Llama-like models, which autograd would split into a dozen passes over memory.

Each layer saves only its inputs for the backward pass and works in place on its own intermediates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers.activations import SiLUActivation

from training.kernels import lora
from training.kernels.lora import AdaptedLinear
from training.kernels.probe import KernelUse, ProbeSettings, agrees, build_probe_tensor, randomized

ROTARY_FUNCTION = "apply_rotary_pos_emb"
"""Module-level function that transformers' attention layers call."""


RMS_NORM, GATED_MLP, ROTARY_EMBEDDING = "RMS norm", "gated MLP", "rotary embedding"
PROBE_TOKENS = 5


def patch_layers(model: nn.Module, settings: ProbeSettings) -> list[KernelUse]:
    """Patch every layer of this model (not of a copy) whose fused equivalent passes its probe.

    Layers of one class and shape share a probe.
    """
    uses: list[KernelUse] = []
    verdicts: dict[object, bool] = {}
    for layer in model.modules():
        for candidate in CANDIDATES:
            if not candidate.fits(layer):
                continue
            key = candidate.kernel, type(layer), repr([(w.shape, w.dtype, w.requires_grad) for w in layer.parameters()])
            forward = candidate.build_forward(layer)
            if key not in verdicts:
                verdicts[key] = candidate.passes_probe(layer, forward, settings)
            uses.append(KernelUse(candidate.kernel, type(layer).__name__, verdicts[key]))
            if verdicts[key]:
                layer.forward = forward
    return uses


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
    """Check name and fields; some layers of that name scale by 1 + w or have a gate."""
    return type(layer).__name__.endswith("RMSNorm") and hasattr(layer, "variance_epsilon")


def _norm_passes_probe(layer: Any, forward: Callable[..., Any], settings: ProbeSettings) -> bool:
    weight: Tensor = layer.weight
    x = build_probe_tensor((1, PROBE_TOKENS, len(weight)), weight.device, settings.dtype)
    return agrees(layer.forward, forward, [x], [weight], settings)


def _build_norm_forward(layer: Any) -> Callable[..., Any]:
    return lambda x: rms_norm(x, layer.weight, layer.variance_epsilon)


def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Apply the rotary position embedding to halves (Su et al. 2021, arXiv:2104.09864).

    q and k are (B, H, T, D), cos and sin (B, T, R), equal for both halves of R. With R < D the
    embedding is partial: it rotates the first R elements and leaves the others.
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
    width = cos.shape[-1]
    if width < x.shape[-1]:
        return torch.cat([_rotate_halves(x[..., :width], cos, sin, direction), x[..., width:]], -1)
    half = width // 2
    rotated = x * cos
    rotated[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-direction)
    rotated[..., half:].addcmul_(x[..., :half], sin[..., half:], value=direction)
    return rotated


def _has_rotary_embedding(layer: Any) -> bool:
    """Return True if the layer's forward calls transformers' rotary function."""
    forward = type(layer).forward
    return isinstance(forward, FunctionType) and ROTARY_FUNCTION in forward.__code__.co_names


def _rotary_passes_probe(layer: Any, forward: Callable[..., Any], settings: ProbeSettings) -> bool:
    """Return True if the layer's rotary function equals ``rotate``, also for a partial embedding.

    Other model families rotate neighboring elements. Without a partial embedding of its own, the
    function may reject a cos narrower than q; such a model never passes one.
    """
    original = type(layer).forward.__globals__[ROTARY_FUNCTION]
    q, k = (build_probe_tensor((1, heads, PROBE_TOKENS, 8), settings.device, torch.float32) for heads in (2, 1))
    plain_settings = ProbeSettings(settings.device, torch.float32)
    for width, is_required in ((8, True), (4, False)):
        angles = build_probe_tensor((1, PROBE_TOKENS, width // 2), settings.device, torch.float32).repeat(1, 1, 2)
        plain, fast = (partial(function, cos=angles.cos(), sin=angles.sin()) for function in (original, rotate))
        if not agrees(plain, fast, [q, k], [], plain_settings) and (is_required or _accepts(plain, q, k)):
            return False
    return True


def _accepts(function: Callable[..., object], *inputs: Tensor) -> bool:
    try:
        function(*inputs)
    except (RuntimeError, TypeError):
        return False
    return True


def _build_rotary_forward(layer: Any) -> Callable[..., Any]:
    """Copy the layer's forward with ``rotate`` as its rotary function, leaving transformers as
    is."""
    forward = type(layer).forward
    assert isinstance(forward, FunctionType)
    names = {**forward.__globals__, ROTARY_FUNCTION: rotate}
    copy = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    copy.__kwdefaults__ = forward.__kwdefaults__
    return MethodType(copy, layer)


def _is_gated_mlp(layer: Any) -> bool:
    """Return True for a gated MLP (gate, up, down) whose down projection has an adapter."""
    names = ("gate_proj", "up_proj", "down_proj", "act_fn")
    if not all(hasattr(layer, name) for name in names) or set(type(layer).forward.__code__.co_names) != {*names}:
        return False
    return isinstance(layer.act_fn, (nn.SiLU, SiLUActivation)) and lora.is_eligible(layer.down_proj)


def _build_mlp_forward(layer: Any) -> Callable[..., Any]:
    original = layer.forward

    def forward(x: Tensor) -> Any:
        if not lora.is_active(layer.down_proj):
            return original(x)
        return gated_lora_linear(layer.gate_proj(x), layer.up_proj(x), lora.to_adapted_linear(layer.down_proj))

    return forward


def _mlp_passes_probe(layer: Any, forward: Callable[..., Any], settings: ProbeSettings) -> bool:
    [name] = layer.down_proj.active_adapters
    b_OR, a_RI = layer.down_proj.lora_B[name].weight, layer.down_proj.lora_A[name].weight
    width = layer.gate_proj.in_features
    x = build_probe_tensor((1, PROBE_TOKENS, width), b_OR.device, settings.dtype)
    with randomized(b_OR):
        return agrees(layer.forward, forward, [x], [a_RI, b_OR], settings)


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


class _Candidate(NamedTuple):
    """A kernel, the layers that may have it, and its probe."""

    kernel: str
    fits: Callable[[Any], bool]
    build_forward: Callable[[Any], Callable[..., Any]]
    passes_probe: Callable[[Any, Callable[..., Any], ProbeSettings], bool]


CANDIDATES = (
    _Candidate(RMS_NORM, _is_rms_norm, _build_norm_forward, _norm_passes_probe),
    _Candidate(GATED_MLP, _is_gated_mlp, _build_mlp_forward, _mlp_passes_probe),
    _Candidate(ROTARY_EMBEDDING, _has_rotary_embedding, _build_rotary_forward, _rotary_passes_probe),
)
