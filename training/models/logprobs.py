"""Log-probabilities of a causal language model at selected positions only.

The output layer is the widest layer of a model (width × vocabulary). Most positions of a chat are
prompt and padding, whose logits would be discarded.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from training.kernels.cross_entropy import TargetLogprobs, target_logprobs

LOGIT_TRANSFORM_FIELDS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_logit_scale",
    "logits_scale",
    "dim_model_base",
)
"""Config fields of models that transform the logits after the output layer: Gemma 2, Cohere,
Granite, Falcon-H1 and others. For these, the model's own forward computes the logits."""


def has_logit_transforms(config: Any) -> bool:
    text = config.get_text_config()
    return any(getattr(text, name, None) not in (None, 1, 1.0) for name in LOGIT_TRANSFORM_FIELDS)


def compute_target_logprobs(
    model: Any, inputs: dict[str, Any], positions_N: Tensor, targets_N: Tensor, with_mean: bool = False
) -> TargetLogprobs:
    """Compute log-probabilities of ``targets_N`` as the tokens after ``positions_N``, indices into
    the flattened (B, T).

    Padding is on the right, so causal attention never reads it and needs no mask.
    """
    output = model.get_output_embeddings()
    if has_logit_transforms(model.config):
        logits = model(**inputs, use_cache=False).logits
        return logprobs_from_logits(logits.flatten(0, 1)[positions_N], targets_N, with_mean)
    hidden_ND = model.get_decoder()(**inputs, use_cache=False).last_hidden_state.flatten(0, 1)[positions_N]
    if type(output) is nn.Linear and output.bias is None:
        return target_logprobs(hidden_ND, output.weight, targets_N, with_mean)
    return logprobs_from_logits(output(hidden_ND), targets_N, with_mean)


def logprobs_from_logits(logits_NV: Tensor, targets_N: Tensor, with_mean: bool) -> TargetLogprobs:
    """Compute log-probabilities from full logits, for output layers that are more than a matrix."""
    logprobs_NV = logits_NV.float().log_softmax(-1)
    at_targets_N = logprobs_NV.gather(-1, targets_N[:, None]).squeeze(-1)
    mean_N = logprobs_NV.mean(-1) if with_mean else None
    return TargetLogprobs(at_targets_N, mean_N, logits_NV.detach().argmax(-1) == targets_N)
