"""Log-probabilities of a causal language model at selected positions only.

The output layer is the widest layer of a model (width × vocabulary). Most positions of a chat are
prompt and padding, whose logits would be discarded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from training.kernels.cross_entropy import TargetLogprobs, target_logprobs
from training.kernels.probe import ProbeSettings, eval_mode

LogprobFunction = Callable[..., TargetLogprobs]
"""``(model, inputs, positions_N, targets_N, with_mean=False) -> TargetLogprobs``.

They are log-probabilities of ``targets_N`` as the tokens after ``positions_N``, indices into the
flattened (B, T). Padding is on the right, so causal attention never reads it and needs no mask.
"""


def select_logprob_function(model: Any, settings: ProbeSettings) -> LogprobFunction:
    """Return the function that computes this model's log-probabilities with the least memory.

    Gemma 2 caps its logits, Granite and Cohere scale them: such a model's own forward computes
    them, at the targets only.
    """
    is_plain_head = type(output := model.get_output_embeddings()) is nn.Linear and output.bias is None
    return compute_from_hidden if is_plain_head and not transforms_logits(model, settings) else compute_from_logits


@torch.no_grad()
def transforms_logits(model: Any, settings: ProbeSettings) -> bool:
    """Return True if the model changes the hidden state before its output layer, or the logits
    after it.

    The output layer's result is replaced by known numbers, which must come out unchanged.
    """
    head, captured = model.get_output_embeddings(), list[Tensor]()
    inputs = {"input_ids": torch.ones(1, 2, dtype=torch.long, device=head.weight.device), "use_cache": False}

    def replace_output(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        captured.extend([arguments[0], torch.linspace(-90, 90, output.numel()).view_as(output).to(output)])
        return captured[-1]

    with eval_mode(model), settings.autocast():
        handle = head.register_forward_hook(replace_output)
        try:
            logits = model(**inputs).logits
        finally:
            handle.remove()
        expected = model.get_decoder()(**inputs).last_hidden_state
    hidden, replaced = (tensor.float() for tensor in captured)
    return not (
        torch.equal(logits.float(), replaced) and torch.allclose(hidden, expected.float(), rtol=1e-2, atol=1e-3)
    )


def compute_from_hidden(
    model: Any, inputs: dict[str, Any], positions_N: Tensor, targets_N: Tensor, with_mean: bool = False
) -> TargetLogprobs:
    """Compute log-probabilities without ever holding the logits. The output layer is one matrix."""
    hidden_ND = model.get_decoder()(**inputs, use_cache=False).last_hidden_state.flatten(0, 1)[positions_N]
    return target_logprobs(hidden_ND, model.get_output_embeddings().weight, targets_N, with_mean)


def compute_from_logits(
    model: Any, inputs: dict[str, Any], positions_N: Tensor, targets_N: Tensor, with_mean: bool = False
) -> TargetLogprobs:
    """Compute log-probabilities from the logits of the model's own forward, at the targets only."""
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda layer, hidden: (hidden[0].flatten(0, 1)[positions_N][None], *hidden[1:])
    )
    try:
        logits_1NV = model(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    return logprobs_from_logits(logits_1NV[0], targets_N, with_mean)


def logprobs_from_logits(logits_NV: Tensor, targets_N: Tensor, with_mean: bool) -> TargetLogprobs:
    """Compute log-probabilities from logits (N, V)."""
    logprobs_NV = logits_NV.float().log_softmax(-1)
    at_targets_N = logprobs_NV.gather(-1, targets_N[:, None]).squeeze(-1)
    mean_N = logprobs_NV.mean(-1) if with_mean else None
    return TargetLogprobs(at_targets_N, mean_N, logits_NV.detach().argmax(-1) == targets_N)
