"""What frozen blocks give, computed once for each row and kept.

Under ``head`` and ``layers`` the first blocks never move, so what they say of a row is the same in every epoch. They
run in eval mode, so no dropout makes it differ. Kept in memory, in the rows' own lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from training.models.blocks import BlockStack
from training.tasks.base import Batch, Example, TaskContext, TextExample

MAX_CACHE_BYTES = 2 << 30
"""What may be kept; beyond it the frozen blocks run anew for every batch."""
MAX_BATCH_TOKENS = 4096
"""Rows run through the frozen blocks together, padded."""


class _StopForward(Exception):
    """Ends a forward pass whose rest nobody needs."""


class _CachedFeatures:
    """What the last of the frozen blocks gave for the rows of the next forward pass."""

    hidden: Tensor | tuple[Tensor, ...] | None = None


class _CachedBlock(nn.Module):
    """Stands in the place of a frozen block. Models ask their blocks, by place or by a field of theirs, which
    attention they want: every block keeps its place, and its fields are found here."""

    def __init__(self, block: nn.Module, features: _CachedFeatures) -> None:
        super().__init__()
        self._features = features
        # Not as a part of this module: the block's weights are not to be seen.
        object.__setattr__(self, "_block", block)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_block"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._features.hidden


class FrozenFeatureCache:
    """The frozen blocks of a model that trains behind them."""

    def __init__(self, stack: BlockStack, frozen_count: int, ctx: TaskContext) -> None:
        self._stack = stack
        self._ctx = ctx
        self._next_features = _CachedFeatures()
        self._all_blocks: nn.ModuleList = stack.blocks
        self._frozen_blocks = nn.ModuleList(self._all_blocks[:frozen_count])
        feeds = [_CachedBlock(block, self._next_features) for block in self._frozen_blocks]
        self._cached_blocks = nn.ModuleList([*feeds, *self._all_blocks[frozen_count:]])
        # By identity: rows live as long as the run, and equal ones may stand in two files.
        self._features_by_example: dict[int, Tensor] = {}
        self._returns_tuple = False

    def populate(self, examples: Sequence[Example], forward: Callable[[Sequence[Any]], object]) -> bool:
        """Run every row through the frozen blocks, longest first. False where there is no room to keep them.

        ``forward`` runs the model on rows, without gradients; the order and the batches are the same every time, so a
        resumed run computes the same bits.
        """
        caught: list[Any] = []

        def capture_output(module: nn.Module, inputs: Any, output: Any) -> None:
            caught.append(output)
            raise _StopForward

        handle = self._frozen_blocks[-1].register_forward_hook(capture_output)
        total, done = sum(example.size for example in examples), 0
        try:
            for part in _iter_batches(sorted(examples, key=lambda example: -example.size)):
                with suppress(_StopForward):
                    forward(part)
                [output] = caught
                caught.clear()
                self._returns_tuple = isinstance(output, tuple)
                self._store(part, output[0] if self._returns_tuple else output)
                done += sum(example.size for example in part)
                if sum(kept.nbytes for kept in self._features_by_example.values()) * total / done > MAX_CACHE_BYTES:
                    self._features_by_example.clear()
                    break
        finally:
            handle.remove()
            self._stack.replace(self._cached_blocks if self._features_by_example else self._all_blocks)
        return bool(self._features_by_example)

    def feed(self, examples: Sequence[Example]) -> None:
        """Have the next forward pass begin behind the frozen blocks, with what they gave for these rows."""
        kept = [self._features_by_example[id(example)] for example in examples]
        if self._ctx.packed:
            hidden = torch.cat(kept)[None]
        elif isinstance(examples[0], TextExample):
            hidden = nn.utils.rnn.pad_sequence(kept, batch_first=True)
        else:
            hidden = torch.stack(kept)
        self._next_features.hidden = (hidden,) if self._returns_tuple else hidden

    @contextmanager
    def bypass(self) -> Iterator[None]:
        """The model with all of its blocks, for as long as the context lasts."""
        now = self._stack.blocks
        self._stack.replace(self._all_blocks)
        try:
            yield
        finally:
            self._stack.replace(now)

    def _store(self, batch: Sequence[Example], hidden: Tensor) -> None:
        hidden = hidden.detach()
        if self._ctx.packed:
            rows: Sequence[Tensor] = torch.split(hidden[0], [example.size for example in batch])
        else:
            rows = hidden.unbind()
        for example, row in zip(batch, rows, strict=True):
            length = example.size if isinstance(example, TextExample) else len(row)
            self._features_by_example[id(example)] = row[:length].clone()


def _iter_batches(ordered: Sequence[Example]) -> Iterator[list[Example]]:
    part: list[Example] = []
    for example in ordered:
        if part and (len(part) + 1) * part[0].size > MAX_BATCH_TOKENS:
            yield part
            part = []
        part.append(example)
    yield part


def move_to_device(batch: Batch, device: torch.device) -> Batch:
    """Its tensors on the device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
