"""Auxiliary loss of a mixture-of-experts model: it keeps routers from sending all tokens to a few
experts.

E · Σᵢ fᵢ · Pᵢ over the E experts i: fᵢ is the number of assignments to expert i per token, and Pᵢ
the router's mean probability of it (Fedus et al. 2022, arXiv:2101.03961, equations 4 to 6). As in
transformers' ``load_balancing_loss_func``, tokens of all layers are pooled and padding is excluded.

fᵢ has no gradient but depends on the full batch. If the batch is split, its micro-batches are first
run without gradients to count it, so that the update does not depend on the split.

Shapes: R tokens of a forward pass, padding included, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from training.models.experts import ExpertBlock, find_expert_blocks, strip_wrappers
from training.tasks.base import Batch

_MASK_NAMES = ("attention_mask", "mask_BT")
"""Ends of the names of a batch's padding masks, one for each forward pass, in their order."""


class RouterStatistics:
    """Sums over tokens, of all layers together."""

    def __init__(self, assignments_E: Tensor, probabilities_E: Tensor, tokens: Tensor) -> None:
        self.assignments_E = assignments_E
        self.probabilities_E = probabilities_E
        self.tokens = tokens

    def __add__(self, other: RouterStatistics) -> RouterStatistics:
        return RouterStatistics(
            self.assignments_E + other.assignments_E,
            self.probabilities_E + other.probabilities_E,
            self.tokens + other.tokens,
        )


class RouterLoss:
    """Auxiliary loss of the routers whose blocks are trained."""

    def __init__(self, routers: Sequence[nn.Module], logits_index: int, top_k: int, coefficient: float) -> None:
        """``logits_index``: position of the logits in a router's output."""
        self._num_routers = len(routers)
        self._logits_index = logits_index
        self._top_k = top_k
        self._coefficient = coefficient
        self._is_recording = False
        self._logits: list[Tensor] = []
        self._masks: list[Tensor] = []
        for router in routers:
            router.register_forward_hook(self._capture)

    @contextmanager
    def record(self, batch: Batch) -> Iterator[None]:
        """Record the routers' logits of the forward passes over ``batch``.

        The backward pass of checkpointed blocks runs them again, outside of this context.
        """
        self._logits = []
        self._masks = [mask for name, mask in batch.items() if name.endswith(_MASK_NAMES)]
        self._is_recording = True
        try:
            yield
        finally:
            self._is_recording = False

    def collect(self) -> RouterStatistics:
        """Return the statistics of the recorded forward passes and forget their logits."""
        parts = [self._compute_statistics(index, logits_RE) for index, logits_RE in enumerate(self._logits)]
        self._logits = []
        return sum(parts[1:], parts[0])

    def compute(self, part: RouterStatistics, batch: RouterStatistics) -> Tensor:
        """Return a micro-batch's share of the loss of the full batch, times the coefficient."""
        shares_E = (batch.assignments_E / batch.tokens).detach()
        probabilities_E = part.probabilities_E / batch.tokens
        return self._coefficient * len(shares_E) * (shares_E @ probabilities_E)

    def _capture(self, router: nn.Module, inputs: Any, output: Any) -> None:
        if self._is_recording and not torch.is_inference_mode_enabled():
            logits = output[self._logits_index] if isinstance(output, tuple) else output
            self._logits.append(logits.flatten(0, -2))

    def _compute_statistics(self, index: int, logits_RE: Tensor) -> RouterStatistics:
        probabilities_RE = logits_RE.float().softmax(-1)
        if self._masks:
            mask_R = self._masks[index // self._num_routers].flatten().float()
        else:
            mask_R = probabilities_RE.new_ones(len(probabilities_RE))
        chosen_RK = probabilities_RE.detach().topk(self._top_k, dim=-1).indices
        assignments_E = torch.zeros_like(probabilities_RE[0]).scatter_add_(
            0, chosen_RK.flatten(), mask_R.repeat_interleave(self._top_k)
        )
        return RouterStatistics(assignments_E, mask_R @ probabilities_RE, mask_R.sum())


def build_router_loss(model: Any) -> RouterLoss | None:
    """Return the loss if the model's config has a coefficient for it and training changes experts
    or routers, else None. transformers must know the routers' logits."""
    config = model.config.get_text_config()
    coefficient = getattr(config, "router_aux_loss_coef", None)
    blocks = [block for block in find_expert_blocks(model) if _is_trained(model, block)]
    logits_index = _find_logits_index(model)
    if not (coefficient and blocks) or logits_index is None:
        return None
    routers = [model.get_submodule(block.router) for block in blocks]
    return RouterLoss(routers, logits_index, config.num_experts_per_tok, coefficient)


def _find_logits_index(model: Any) -> int | None:
    """Return the position of the logits in a router's output, which varies between models."""
    for module in model.modules():
        recorder = (getattr(module, "_can_record_outputs", None) or {}).get("router_logits")
        if recorder is not None:
            return int(getattr(recorder, "index", 0))
    return None


def _is_trained(model: Any, block: ExpertBlock) -> bool:
    paths = tuple(f"{strip_wrappers(path)}." for path in (block.experts, block.router))
    return any(weight.requires_grad and name.startswith(paths) for name, weight in model.named_parameters())
