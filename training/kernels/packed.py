"""Attention over rows laid end to end in one sequence, (1, T): no padding is ever computed.

Each row attends to itself only. Its length comes with the batch: ``row_lengths``, among the keyword arguments of the
forward pass that transformers hands down to its attention functions.
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
"""Model types whose every layer is causal attention through transformers' interface, told apart by ``position_ids``
alone, if the config asks for nothing else."""


def can_pack(config: Any) -> bool:
    """Whether every layer is plain, full, causal attention."""
    text = config.get_text_config()
    windowed = getattr(text, "sliding_window", None) is not None and getattr(text, "use_sliding_window", True)
    layers = getattr(text, "layer_types", None) or ()
    return text.model_type in SUPPORTED_MODEL_TYPES and not windowed and set(layers) <= {"full_attention"}


def enable(model: Any) -> None:
    """Have the model attend so. What is not laid end to end goes as before; the config is saved as before."""
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
    """transformers' attention function: query (1, H, T, D), key and value (1, H or fewer, T, D) -> (1, T, H, D)."""
    if row_lengths is None:
        given: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return given
    if value.is_cuda and value.dtype in (torch.bfloat16, torch.float16) and not dropout:
        # Under autocast the rotation leaves query and key wider than value.
        return _attend_varlen(query, key, value, scaling, row_lengths), None
    parts = [torch.split(tensor, list(row_lengths), dim=2) for tensor in (query, key, value)]
    shared = query.shape[1] != key.shape[1]
    # A row's result lies in memory as (1, T, H, D) already.
    attended = [
        scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=shared
        ).transpose(1, 2)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(attended, dim=1), None


def _attend_varlen(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, row_lengths: Sequence[int]
) -> Tensor:
    """All rows in one kernel."""
    starts = torch.tensor([0, *accumulate(row_lengths)], dtype=torch.int32, device=query.device)
    longest = max(row_lengths)
    query, key, value = (tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key, value))
    shared = query.shape[1] != key.shape[1]
    attended = varlen_attn(
        query, key, value, starts, starts, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=shared
    )
    assert isinstance(attended, Tensor)
    return attended[None]


def _build_mask(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    """None for whole sequences without padding: causal, or laid end to end, which transformers guesses from
    ``position_ids`` and would make a (T, T) mask for."""
    if attention_mask is None and kwargs["q_length"] == kwargs["kv_length"]:
        return None
    mask: Tensor | None = sdpa_mask(*args, attention_mask=attention_mask, **kwargs)
    return mask
