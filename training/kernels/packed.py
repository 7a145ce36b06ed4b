"""Attention over rows packed into one sequence, (1, T), without padding.

Each row attends only to itself. The batch passes the lengths as ``row_lengths``, one of the keyword
arguments of the forward pass that transformers forwards to its attention functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from training.kernels.probe import ProbeSettings

ATTENTION_NAME = "luthier_packed"

MAX_RELATIVE_ERROR: Mapping[torch.dtype, float] = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Largest difference of hidden states of packed rows from those of rows alone, as a share of their
norm. A row that attends to another differs by about its whole norm."""
PROBE_LENGTHS = (7, 3, 5)
UNSUPPORTED_OPTIONS = ("sliding_window", "softcap", "s_aux", "position_bias")
"""Arguments with which transformers' layers ask for more than full causal attention."""


def enable_if_exact(model: Any, settings: ProbeSettings) -> bool:
    """Make the model use this attention if packed rows then give the hidden states of rows alone.

    They do if all layers use full causal attention through transformers' interface and separate
    rows by nothing else. Return False and leave the model as it is if they do not.
    """
    if model.config.is_encoder_decoder:
        return False
    before = model.config._attn_implementation
    try:
        expected = _compute_hidden_states(model, settings, packed=False)
        enable(model)
        actual = _compute_hidden_states(model, settings, packed=True)
    except (RuntimeError, TypeError, ValueError, AttributeError, UnsupportedAttention):
        is_exact = False
    else:
        error = torch.linalg.vector_norm(actual - expected) / torch.linalg.vector_norm(expected)
        is_exact = bool(error < MAX_RELATIVE_ERROR[settings.dtype])
    if not is_exact:
        model.set_attn_implementation(before)
    return is_exact


@torch.no_grad()
def _compute_hidden_states(model: Any, settings: ProbeSettings, packed: bool) -> Tensor:
    """Return the hidden states (T, D) of rows of ``PROBE_LENGTHS`` tokens, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    size = model.get_input_embeddings().weight.shape[0]
    rows = [torch.randint(size, (length,), generator=generator).to(settings.device) for length in PROBE_LENGTHS]
    batches: list[dict[str, Any]] = [{"input_ids": row[None]} for row in rows]
    if packed:
        positions = torch.cat([torch.arange(length, device=settings.device) for length in PROBE_LENGTHS])
        batches = [
            {"input_ids": torch.cat(rows)[None], "position_ids": positions[None], "row_lengths": list(PROBE_LENGTHS)}
        ]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with settings.autocast():
            hidden = [model.get_decoder()(**batch, use_cache=False).last_hidden_state[0] for batch in batches]
    finally:
        for module, mode in modes:
            module.training = mode
    return torch.cat(hidden).float()


class UnsupportedAttention(Exception):
    """A layer needs more than full causal attention, such as a window or sinks."""


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
    if any(kwargs.get(name) is not None for name in UNSUPPORTED_OPTIONS):
        raise UnsupportedAttention
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
