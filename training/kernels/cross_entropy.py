"""Log-probabilities of target tokens without materializing the (N, V) logits.

The logits of N targets over a vocabulary of V are the largest tensor in a small model's step, and
several passes over them in memory cost as much as computing them. Here the logits are computed,
used and overwritten block by block while a block is still in the cache. The softmax across blocks
is the online softmax of Milakov and Gimelshein 2018 (arXiv:1805.02867).

The gradient of log p(t) with respect to the hidden state h is W[t] - Σ p(v) W[v]. It depends on the
upstream gradient only by a factor, so the forward pass computes it from the same blocks, and a
frozen W needs no second pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class TargetLogprobs(NamedTuple):
    """Log-probabilities of N targets."""

    logprobs_N: Tensor
    """fp32."""
    mean_logprobs_N: Tensor | None
    """Mean log-probability over the vocabulary, for label smoothing; None unless requested."""
    correct_N: Tensor
    """True if no token is more probable than the target."""


class BlockShape(NamedTuple):
    """Shape of a block of logits."""

    targets: int
    tokens: int


BLOCK_SHAPES: Mapping[str, BlockShape] = {
    "cpu": BlockShape(1024, 1024),
    "cuda": BlockShape(8192, 8192),
    "mps": BlockShape(2048, 8192),
}
"""Device type -> block. A CPU's block (4 MB) fits in its L2 and L3 caches and still fills its
matrix units. A GPU's block (256 MB) is large enough that kernel launches cost nothing."""


def target_logprobs(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, with_mean: bool = False) -> TargetLogprobs:
    """Compute log-probabilities of ``targets_N`` under the softmax of ``hidden_ND @ weight_VD.T``.

    They are fp32, from products in the dtype of ``hidden_ND`` or of autocast. They are
    differentiable in ``hidden_ND``, and in ``weight_VD`` if it is trained: then the backward pass
    recomputes the blocks, so its memory stays constant too.
    """
    device = hidden_ND.device.type
    if torch.is_autocast_enabled(device):
        hidden_ND, weight_VD = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (hidden_ND, weight_VD))
    with torch.autocast(device, enabled=False):
        outputs = _TargetLogprobsFunction.apply(  # type: ignore[no-untyped-call]
            hidden_ND, weight_VD.to(hidden_ND.dtype), targets_N, with_mean
        )
    return TargetLogprobs(*outputs)


class _TargetLogprobsFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, with_mean: bool) -> tuple[Any, ...]:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        stats = _compute_softmax_stats(hidden_ND, weight_VD, targets_N, needs_hidden)
        logprobs_N, correct_N = stats.at_target_N - stats.lse_N, stats.at_target_N >= stats.max_N
        mean_D = weight_VD.mean(0, dtype=torch.float32) if with_mean else None
        # The mean of the logits is the logit of the mean row of W, so it needs no block.
        mean_N = None if mean_D is None else hidden_ND.float() @ mean_D - stats.lse_N
        logprob_grad_ND = weight_VD[targets_N].float() - stats.expected_ND if needs_hidden else None
        mean_grad_correction_ND = mean_D - weight_VD[targets_N] if needs_hidden and mean_D is not None else None
        for_weight = (hidden_ND, weight_VD, targets_N, stats.lse_N) if needs_weight else (None,) * 4
        ctx.save_for_backward(logprob_grad_ND, mean_grad_correction_ND, *for_weight)
        ctx.dtype = hidden_ND.dtype
        ctx.mark_non_differentiable(correct_N)
        return logprobs_N, mean_N, correct_N

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        grad_N, grad_mean_N, _ = upstream
        logprob_grad_ND, mean_grad_correction_ND, hidden_ND, weight_VD, targets_N, lse_N = ctx.saved_tensors
        total_N = grad_N if grad_mean_N is None else grad_N + grad_mean_N
        grad_hidden_ND = grad_weight_VD = None
        if logprob_grad_ND is not None:
            grad_hidden_ND = total_N[:, None] * logprob_grad_ND
            if mean_grad_correction_ND is not None:
                grad_hidden_ND.addcmul_(grad_mean_N[:, None], mean_grad_correction_ND)
            grad_hidden_ND = grad_hidden_ND.to(ctx.dtype)
        if weight_VD is not None:
            grad_weight_VD = _compute_weight_gradient(hidden_ND, weight_VD, lse_N, total_N)
            grad_weight_VD.index_add_(0, targets_N, grad_N[:, None] * hidden_ND)
            if grad_mean_N is not None:
                grad_weight_VD += grad_mean_N @ hidden_ND.float() / len(weight_VD)
            grad_weight_VD = grad_weight_VD.to(ctx.dtype)
        return grad_hidden_ND, grad_weight_VD, None, None


class _SoftmaxStats(NamedTuple):
    """Softmax statistics of N targets from one pass over the vocabulary; fp32."""

    at_target_N: Tensor
    """Logits of the targets."""
    max_N: Tensor
    """Largest logits."""
    lse_N: Tensor
    """Log-sum-exp of the logits."""
    expected_ND: Tensor
    """Mean of the rows of W under the softmax; zeros unless requested."""


def _compute_softmax_stats(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, with_expected: bool
) -> _SoftmaxStats:
    sums_N, at_target_N = hidden_ND.new_zeros(2, len(hidden_ND), dtype=torch.float32)
    max_N = torch.full_like(sums_N, -torch.inf)
    expected_ND = torch.zeros_like(hidden_ND, dtype=torch.float32)
    for rows, tokens, logits_nv in _iter_logit_blocks(hidden_ND, weight_VD):
        index_n = targets_N[rows] - tokens.start
        inside_n = (index_n >= 0) & (index_n < logits_nv.shape[1])
        logit_n = logits_nv.gather(1, index_n.clamp(0, logits_nv.shape[1] - 1)[:, None])[:, 0]
        at_target_N[rows] = torch.where(inside_n, logit_n, at_target_N[rows])

        new_max_n = torch.maximum(max_N[rows], logits_nv.amax(1))
        rescale_n = (max_N[rows] - new_max_n).exp_()
        weights_nv = logits_nv.sub_(new_max_n[:, None]).exp_()
        max_N[rows] = new_max_n
        sums_N[rows] = sums_N[rows] * rescale_n + weights_nv.sum(1)
        if with_expected:
            _add_product(expected_ND[rows].mul_(rescale_n[:, None]), weights_nv, weight_VD[tokens])
    return _SoftmaxStats(at_target_N, max_N, max_N + sums_N.log(), expected_ND.div_(sums_N[:, None]))


def _compute_weight_gradient(hidden_ND: Tensor, weight_VD: Tensor, lse_N: Tensor, total_N: Tensor) -> Tensor:
    """Return -Σ total · p ⊗ h, (V, D) in fp32."""
    grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
    for rows, tokens, logits_nv in _iter_logit_blocks(hidden_ND, weight_VD):
        weights_nv = logits_nv.sub_(lse_N[rows, None]).exp_().mul_(-total_N[rows, None])
        _add_product(grad_VD[tokens], weights_nv.t(), hidden_ND[rows])
    return grad_VD


def _iter_logit_blocks(hidden_ND: Tensor, weight_VD: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield slices of the rows of ``hidden_ND`` and ``weight_VD``, and their fp32 logits.

    The next block overwrites the logits.
    """
    block = BLOCK_SHAPES[hidden_ND.device.type]
    buffer = hidden_ND.new_empty(block.targets * block.tokens, dtype=torch.float32)
    for row in range(0, len(hidden_ND), block.targets):
        rows = slice(row, min(row + block.targets, len(hidden_ND)))
        for token in range(0, len(weight_VD), block.tokens):
            tokens = slice(token, min(token + block.tokens, len(weight_VD)))
            shape = rows.stop - rows.start, tokens.stop - tokens.start
            logits_nv = buffer[: shape[0] * shape[1]].view(shape)
            yield rows, tokens, _compute_logits(hidden_ND[rows], weight_VD[tokens], logits_nv)


def _compute_logits(hidden_nD: Tensor, weight_vD: Tensor, out_nv: Tensor) -> Tensor:
    if hidden_nD.dtype == torch.float32:
        return torch.mm(hidden_nD, weight_vD.t(), out=out_nv)
    if hidden_nD.is_cuda:
        return torch.mm(hidden_nD, weight_vD.t(), out_dtype=torch.float32)
    return out_nv.copy_(hidden_nD @ weight_vD.t())


def _add_product(sum_ad: Tensor, weights_ab: Tensor, vectors_bd: Tensor) -> None:
    """Add ``weights_ab @ vectors_bd`` to ``sum_ad`` in place: product in the dtype of the vectors,
    sum in fp32."""
    if vectors_bd.dtype == torch.float32:
        sum_ad.addmm_(weights_ab, vectors_bd)
    elif vectors_bd.is_cuda:
        sum_ad.add_(torch.mm(weights_ab.to(vectors_bd.dtype), vectors_bd, out_dtype=torch.float32))
    else:
        sum_ad.add_(weights_ab.to(vectors_bd.dtype) @ vectors_bd)
