"""The loss of a causal language model at chosen positions only.

The output layer is the widest of a model (width × vocabulary); most positions of a chat are prompt and padding, and
their logits would be thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LOGIT_TRANSFORMS = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_logit_scale",
    "logits_scale",
    "dim_model_base",
)
"""Config fields of models that do more to the logits than the output layer does: Gemma 2, Cohere, Granite, Falcon-H1,
and others. Their own forward is used."""


def transforms_logits(config: Any) -> bool:
    text = config.get_text_config()
    return any(getattr(text, name, None) not in (None, 1, 1.0) for name in LOGIT_TRANSFORMS)


def target_logits(model: Any, ids_BT: torch.Tensor, positions_N: torch.Tensor) -> torch.Tensor:
    """Logits (N, V) of the next token after each of ``positions_N``, which count through the flattened (B, T).

    Rows are padded on the right, so causal attention never looks at padding and needs no mask.
    """
    if transforms_logits(model.config):
        logits_BTV: torch.Tensor = model(input_ids=ids_BT, use_cache=False).logits
        return logits_BTV.flatten(0, 1)[positions_N]
    hidden_BTD = model.get_decoder()(input_ids=ids_BT, use_cache=False).last_hidden_state
    logits_NV: torch.Tensor = model.get_output_embeddings()(hidden_BTD.flatten(0, 1)[positions_N])
    return logits_NV
