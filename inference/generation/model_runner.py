"""Model runner: the tensors of the running batch.

Prefill adds sequences; decode adds one token to each of them.

Shapes: B sequences, T positions of the batch (its longest sequence), H heads, D width of a head, V
vocabulary. Sequences are padded on the left, so that the last position is the newest token of every
sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicLayer, LinearAttentionLayer

CACHE_GROWTH = 128
"""Positions by which the KV cache grows: its content is copied once per this many steps, not at
each step."""


RECURRENT_LAYER_TYPE = "linear_attention"
"""Layer type of gated DeltaNet in a config."""


class ForwardFunction(Protocol):
    """Forward pass of a causal model.

    Returns the logits (B, V) of the last position and appends keys and values to ``cache``.
    """

    def __call__(
        self, ids_BT: Tensor, mask_BT: Tensor, positions_BT: Tensor, cache: Cache, adapters: Sequence[str], /
    ) -> Tensor: ...


class GrowableCacheLayer(DynamicLayer):  # type: ignore[misc]
    """KV cache of one layer (B, H, T, D): the used part of tensors with free space for later
    steps."""

    keys: Tensor
    values: Tensor
    _key_buffer: Tensor
    _value_buffer: Tensor

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append positions and return all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.replace(key_states[:, :, :0], value_states[:, :, :0])
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        if end > self._key_buffer.shape[2]:
            self._key_buffer = pad(self.keys, (0, 0, 0, end - start + CACHE_GROWTH))
            self._value_buffer = pad(self.values, (0, 0, 0, end - start + CACHE_GROWTH))
        self._key_buffer[:, :, start:end] = key_states
        self._value_buffer[:, :, start:end] = value_states
        self.keys, self.values = self._key_buffer[:, :, :end], self._value_buffer[:, :, :end]
        return self.keys, self.values

    def replace(self, keys: Tensor, values: Tensor) -> None:
        """Replace the content with these tensors. They are never written to."""
        self.keys, self.values = self._key_buffer, self._value_buffer = keys, values

    def select(self, rows_B: Tensor, padding: int) -> None:
        """Keep these sequences, without the first ``padding`` positions."""
        self.replace(self.keys[rows_B, :, padding:], self.values[rows_B, :, padding:])

    def append(self, other: GrowableCacheLayer, length: int) -> None:
        """Append the sequences of ``other``, padded on the left to ``length`` positions."""
        self.replace(
            torch.cat([_pad_left(self.keys, length), _pad_left(other.keys, length)]),
            torch.cat([_pad_left(self.values, length), _pad_left(other.values, length)]),
        )


class RecurrentCacheLayer(LinearAttentionLayer):  # type: ignore[misc]
    """State of a recurrent layer (B, …), which has no positions.

    The model masks the padding on the left of a prompt, so a sequence's state is zero until its
    first token.
    """

    conv_states: dict[int, Tensor]
    recurrent_states: dict[int, Tensor]

    def select(self, rows_B: Tensor, padding: int) -> None:
        """Keep these sequences."""
        for states in (self.conv_states, self.recurrent_states):
            states.update({index: state[rows_B] for index, state in states.items()})

    def append(self, other: RecurrentCacheLayer, length: int) -> None:
        """Append the sequences of ``other``."""
        for states, others in (
            (self.conv_states, other.conv_states),
            (self.recurrent_states, other.recurrent_states),
        ):
            states.update({index: torch.cat([state, others[index]]) for index, state in states.items()})


def create_cache(layer_types: Sequence[str] = ()) -> Cache:
    """Create an empty cache for a model whose config has these layer types.

    Without recurrent layers, it fits any number of layers.
    """
    if RECURRENT_LAYER_TYPE not in layer_types:
        return Cache(layer_class_to_replicate=GrowableCacheLayer)
    return Cache(
        layers=[
            RecurrentCacheLayer() if layer_type == RECURRENT_LAYER_TYPE else GrowableCacheLayer()
            for layer_type in layer_types
        ]
    )


class ModelRunner:
    """Running batch whose sequences join and leave.

    Each sequence has the logits that it would have alone.
    """

    def __init__(self, forward: ForwardFunction, device: torch.device, layer_types: Sequence[str] = ()) -> None:
        """``layer_types``: those of the model's config, if it has any."""
        self._forward = forward
        self._device = device
        self._layer_types = layer_types
        self._adapters: list[str] = []
        self._cache = create_cache(layer_types)
        self._mask_BT = self._to_tensor([])

    def __len__(self) -> int:
        return len(self._adapters)

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]], adapters: Sequence[str]) -> Tensor:
        """Run the prompts as one padded batch and append them to the running one.

        Returns their next logits (B, V).
        """
        longest = max(map(len, prompts))
        ids_BT = self._to_tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask_BT = self._to_tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        cache = create_cache(self._layer_types)
        logits_BV = self._forward(ids_BT, mask_BT, positions_BT, cache, adapters)
        if self._adapters:
            mask_BT = _append(self._cache, self._mask_BT, cache, mask_BT)
        else:
            self._cache = cache
        self._mask_BT = mask_BT
        self._adapters += adapters
        return logits_BV

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> Tensor:
        """Append one token to every sequence and return the next logits (B, V)."""
        positions_B1 = self._mask_BT.sum(-1, keepdim=True)
        self._mask_BT = pad(self._mask_BT, (0, 1), value=1)
        ids_B1 = self._to_tensor([[token] for token in tokens])
        return self._forward(ids_B1, self._mask_BT, positions_B1, self._cache, self._adapters)

    @torch.inference_mode()
    def retain(self, rows: Sequence[int]) -> None:
        """Remove all other sequences, and the padding that the remaining ones do not need."""
        self._adapters = [self._adapters[row] for row in rows]
        if not rows:
            self._cache, self._mask_BT = create_cache(self._layer_types), self._to_tensor([])
            return
        index_B = self._to_tensor(rows)
        mask_BT = self._mask_BT[index_B]
        # The sum of a sequence's mask is its length.
        padding = mask_BT.shape[1] - int(mask_BT.sum(-1).max())
        self._mask_BT = mask_BT[:, padding:]
        for layer in self._cache.layers:
            layer.select(index_B, padding)

    def _to_tensor(self, values: Sequence[object]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)


def _append(cache: Cache, mask_BT: Tensor, other: Cache, other_mask_BT: Tensor) -> Tensor:
    """Append the other batch to ``cache``, pad the shorter of the two on the left, and return the
    joint mask."""
    longest = max(mask_BT.shape[1], other_mask_BT.shape[1])
    for layer, other_layer in zip(cache.layers, other.layers, strict=True):
        layer.append(other_layer, longest)
    masks = [pad(mask, (longest - mask.shape[1], 0)) for mask in (mask_BT, other_mask_BT)]
    return torch.cat(masks)


def _pad_left(states_BHTD: Tensor, length: int) -> Tensor:
    return pad(states_BHTD, (0, 0, length - states_BHTD.shape[2], 0))
