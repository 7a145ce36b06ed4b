"""Attention over rows packed into one sequence, (1, T), without padding.

Each row attends only to itself. The batch passes the rows as ``row_lengths`` and ``row_starts``,
keyword arguments of the forward pass that transformers forwards to its attention functions. Both
are built once per batch on the CPU, so that no layer copies to the device or waits for it.

The device and the dtype decide how rows are attended to:

* CUDA in half precision: all rows in one FlashAttention kernel (Dao 2023, arXiv:2307.08691),
* CUDA otherwise: rows padded to the longest in one call, if that at most doubles the tokens,
* elsewhere: one call per row, which computes no padding; on a CPU in bfloat16, short rows are
  products of matrices.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from training.kernels.probe import ProbeSettings, eval_mode
from training.kernels.short_attention import attend_short, is_short

ATTENTION_NAME = "luthier_packed"

MAX_RELATIVE_ERROR: Mapping[torch.dtype, float] = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Largest difference of hidden states of packed rows from those of rows alone, as a share of their
norm. A row that attends to another differs by about its whole norm."""
PROBE_LENGTHS = (7, 3, 5)
UNSUPPORTED_OPTIONS = ("sliding_window", "softcap", "s_aux", "position_bias")
"""Arguments with which transformers' layers ask for more than full causal attention."""

VARLEN_GROUPS_HEADS = "enable_gqa" in inspect.signature(varlen_attn).parameters
"""True if ``varlen_attn`` takes fewer heads of keys than of queries. torch 2.11's does not."""

MAX_VARLEN_HEAD_DIM = 256
"""Largest head of torch's FlashAttention kernel, which also needs a multiple of 8."""

MAX_PADDING_RATIO = 2
"""Maximum padded tokens per token of one padded call.

A GPU takes longer to launch the kernels of many short rows than to compute their padding. Batches
are grouped by length, so most have little padding.
"""


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
        positions = torch.cat([torch.arange(length) for length in PROBE_LENGTHS])[None]
        starts = torch.tensor([0, *accumulate(PROBE_LENGTHS)], dtype=torch.int32)
        packed_batch = {"position_ids": positions.to(settings.device), "row_starts": starts.to(settings.device)}
        batches = [{"input_ids": torch.cat(rows)[None], "row_lengths": list(PROBE_LENGTHS), **packed_batch}]
    with eval_mode(model), settings.autocast():
        hidden = [model.get_decoder()(**batch, use_cache=False).last_hidden_state[0] for batch in batches]
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
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function for transformers: query (1, H, T, D), key and value (1, H or fewer, T, D)
    -> (1, T, H, D).

    ``row_lengths`` (N integers) and ``row_starts`` (N + 1, int32, on the device) describe packed
    rows; without them, the batch is not packed.
    """
    if kwargs.get("row_lengths") is None:
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output
    if any(kwargs.get(name) is not None for name in UNSUPPORTED_OPTIONS):
        raise UnsupportedAttention
    rows = PackedRows(kwargs["row_lengths"], kwargs["row_starts"])
    if _supports_varlen(value, dropout):
        return attend_varlen(query, key, value, rows, scaling), None
    if value.is_cuda and rows.longest * len(rows.lengths) <= MAX_PADDING_RATIO * query.shape[2]:
        return attend_padded(query, key, value, rows, scaling, dropout), None
    return attend_by_row(query, key, value, rows, scaling, dropout), None


class PackedRows(NamedTuple):
    """N rows of a packed sequence of T tokens."""

    lengths: Sequence[int]
    starts: Tensor
    """(N + 1,) int32 on the device of the sequence: index of each row's first token, then T."""

    @property
    def longest(self) -> int:
        return max(self.lengths)


def _supports_varlen(value: Tensor, dropout: float) -> bool:
    """Return True if torch's FlashAttention kernel takes these tensors. It has no dropout."""
    return (
        value.is_cuda
        # Under autocast, the rotation leaves query and key in a wider dtype than value.
        and value.dtype in (torch.bfloat16, torch.float16)
        and not dropout
        and value.shape[-1] % 8 == 0
        and value.shape[-1] <= MAX_VARLEN_HEAD_DIM
        and torch.cuda.get_device_capability(value.device) >= (8, 0)
    )


def attend_varlen(query: Tensor, key: Tensor, value: Tensor, rows: PackedRows, scaling: float | None) -> Tensor:
    """Compute the attention of all rows in one kernel."""
    query, key, value = (tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key, value))
    options: dict[str, Any] = {}
    if query.shape[1] != key.shape[1]:
        if VARLEN_GROUPS_HEADS:
            options["enable_gqa"] = True
        else:
            key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], 1) for tensor in (key, value))
    attended = varlen_attn(
        query,
        key,
        value,
        rows.starts,
        rows.starts,
        rows.longest,
        rows.longest,
        scale=scaling,
        window_size=(-1, 0),
        **options,
    )
    assert isinstance(attended, Tensor)
    return attended[None]


def attend_padded(
    query: Tensor, key: Tensor, value: Tensor, rows: PackedRows, scaling: float | None, dropout: float
) -> Tensor:
    """Compute the attention of all rows in one call, each padded on the right to the longest.

    Causal attention of a row's tokens never reads its padding.
    """
    count, groups = len(rows.lengths), query.shape[1] // key.shape[1]
    tokens_T = torch.arange(query.shape[2], dtype=torch.int32, device=query.device)
    rows_T = torch.searchsorted(rows.starts, tokens_T, right=True) - 1
    slots_T = tokens_T - rows.starts[rows_T] + rows_T * rows.longest

    def pad(states: Tensor) -> Tensor:
        padded = states.new_zeros(count * rows.longest, *states.shape[1::2])
        filled = padded.index_copy(0, slots_T, states[0].transpose(0, 1))
        return filled.view(count, rows.longest, *states.shape[1::2]).transpose(1, 2)

    # The memory-efficient kernels take no grouped heads; without them (N, H, L, L) is stored.
    key, value = (tensor.repeat_interleave(groups, 1) if groups > 1 else tensor for tensor in (key, value))
    attended = scaled_dot_product_attention(
        pad(query), pad(key), pad(value), dropout_p=dropout, is_causal=True, scale=scaling
    )
    return attended.transpose(1, 2).flatten(0, 1).index_select(0, slots_T)[None]


def attend_by_row(
    query: Tensor, key: Tensor, value: Tensor, rows: PackedRows, scaling: float | None, dropout: float
) -> Tensor:
    """Compute the attention of one row after the other."""
    splits = [torch.split(tensor, list(rows.lengths), dim=2) for tensor in (query, key, value)]
    attended = [_attend_row(q, k, v, scaling, dropout) for q, k, v in zip(*splits, strict=True)]
    return torch.cat(attended, dim=1)


def _attend_row(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float) -> Tensor:
    """Compute the attention of one row, (1, T, H, D)."""
    if is_short(value, dropout):
        attended = attend_short(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling)
    else:
        is_grouped = query.shape[1] != key.shape[1]
        attended = scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=is_grouped
        )
    return attended.transpose(1, 2)


def _build_mask(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    """Build the mask, or return None for complete sequences without padding, causal or packed.

    transformers detects packing from ``position_ids`` and would build a (T, T) mask.
    """
    if attention_mask is None and kwargs["q_length"] == kwargs["kv_length"]:
        return None
    mask: Tensor | None = sdpa_mask(*args, attention_mask=attention_mask, **kwargs)
    return mask
