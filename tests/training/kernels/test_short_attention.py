"""Tests that attention as products of matrices gives torch's numbers."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from training.kernels import short_attention
from training.kernels.short_attention import attend_short, is_short


def build_states(tokens: int, dtype: torch.dtype, groups: int = 3, value_width: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    shapes = ((2 * groups, 16), (2, 16), (2, value_width))
    return [
        torch.randn(1, heads, tokens, width, generator=generator).to(dtype).requires_grad_() for heads, width in shapes
    ]


def compute_with_gradients(function: object, states: list[torch.Tensor]) -> list[torch.Tensor]:
    output = function(*states)  # type: ignore[operator]
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, states, upstream)]


@pytest.mark.parametrize("tokens", [1, 2, 37])
@pytest.mark.parametrize(("groups", "value_width"), [(1, 16), (3, 16), (3, 8)])
def test_products_give_torchs_attention(tokens: int, groups: int, value_width: int) -> None:
    states = build_states(tokens, torch.float64, groups, value_width)
    ours = compute_with_gradients(lambda q, k, v: attend_short(q, k, v, 0.3), states)
    theirs = compute_with_gradients(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True), states
    )
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right)


def test_in_bfloat16_they_are_as_exact_as_torchs_kernel() -> None:
    exact = compute_with_gradients(lambda q, k, v: attend_short(q, k, v, 0.25), build_states(133, torch.float64))
    errors = []
    for function in (
        lambda q, k, v: attend_short(q, k, v, 0.25),
        lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.25, enable_gqa=True),
    ):
        results = compute_with_gradients(function, build_states(133, torch.bfloat16))
        errors.append([float((a.double() - b).norm() / b.norm()) for a, b in zip(results, exact, strict=True)])
    assert all(ours < 1.5 * theirs for ours, theirs in zip(*errors, strict=True)), errors


def test_long_rows_wide_numbers_and_dropout_use_torchs_kernel() -> None:
    value = torch.zeros(1, 2, short_attention.MAX_TOKENS, 8, dtype=torch.bfloat16)
    assert is_short(value, 0.0)
    assert not is_short(value, 0.1)
    assert not is_short(value.float(), 0.0)
    assert not is_short(torch.zeros(1, 2, short_attention.MAX_TOKENS + 1, 8, dtype=torch.bfloat16), 0.0)


def test_no_tensor_of_squared_size_is_kept() -> None:
    states, saved = build_states(64, torch.bfloat16), list[torch.Tensor]()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        attend_short(*states, 0.25)
    assert max(tensor.numel() for tensor in saved) <= states[0].numel()
