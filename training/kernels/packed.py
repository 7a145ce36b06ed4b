"""Attention over rows packed into one sequence, (1, T), without padding.

Each row attends only to itself. The batch passes the lengths as ``row_lengths``, one of the keyword
arguments of the forward pass that transformers forwards to its attention functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION_NAME = "luthier_packed"

SUPPORTED_MODEL_TYPES = frozenset({"granite", "llama", "mistral", "olmo", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"})
"""Model types whose layers all use causal attention through transformers' interface and separate
rows by ``position_ids`` alone, unless the config says otherwise."""


def can_pack(config: Any) -> bool:
    """Return True if every layer uses plain, full, causal attention."""
    text = config.get_text_config()
    windowed = getattr(text, "sliding_window", None) is not None and getattr(text, "use_sliding_window", True)
    layers = getattr(text, "layer_types", None) or ()
    return text.model_type in SUPPORTED_MODEL_TYPES and not windowed and set(layers) <= {"full_attention"}


def enable(model: Any) -> None:
    """Make the model use this attention. Unpacked batches and the saved config do not change."""
    AttentionInterface.register(ATTENTION_NAME, attend)
    AttentionMaskInterface.register(ATTENTION_NAME, _build_mask)
    model.set_attn_implementation(ATTENTION_NAME)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    row_lengths: Sequence[int] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function for transformers: query (1, H, T, D), key and value (1, H or fewer, T, D)
    -> (1, T, H, D)."""
    if row_lengths is None:
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output
    if value.is_cuda and value.dtype in (torch.bfloat16, torch.float16) and not dropout:
        # Under autocast, the rotation leaves query and key in a wider dtype than value.
        return _attend_varlen(query, key, value, scaling, row_lengths), None
    splits = [torch.split(tensor, list(row_lengths), dim=2) for tensor in (query, key, value)]
    is_grouped = query.shape[1] != key.shape[1]
    # The memory layout of a row's result is already (1, T, H, D).
    attended = [
        scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=is_grouped
        ).transpose(1, 2)
        for q, k, v in zip(*splits, strict=True)
    ]
    return torch.cat(attended, dim=1), None


def _attend_varlen(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, row_lengths: Sequence[int]
) -> Tensor:
    """Compute the attention of all rows in one kernel."""
    starts = torch.tensor([0, *accumulate(row_lengths)], dtype=torch.int32, device=query.device)
    longest = max(row_lengths)
    query, key, value = (tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key, value))
    is_grouped = query.shape[1] != key.shape[1]
    attended = varlen_attn(
        query, key, value, starts, starts, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=is_grouped
    )
    assert isinstance(attended, Tensor)
    return attended[None]


def _build_mask(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    """Build the mask, or return None for complete sequences without padding, causal or packed.

    transformers detects packing from ``position_ids`` and would build a (T, T) mask.
    """
    if attention_mask is None and kwargs["q_length"] == kwargs["kv_length"]:
        return None
    mask: Tensor | None = sdpa_mask(*args, attention_mask=attention_mask, **kwargs)
    return mask
