"""Cache of frozen-block outputs, computed once per row.

Under ``head`` and ``layers`` the first blocks are frozen, so their output for a row is the same in
every epoch. They run in eval mode, so dropout does not change it. The cache is in memory and holds
the rows unpadded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from training.models.blocks import BlockStack
from training.progress import Report
from training.tasks.base import Batch, Example, TaskContext, TextExample
from training.tasks.examples import read_column

MAX_CACHE_BYTES = 2 << 30
"""Maximum size of the cache. Beyond it, the frozen blocks run again for every batch."""
MAX_BATCH_TOKENS = 4096
"""Tokens, padding included, that run through the frozen blocks together."""


class _StopForward(Exception):
    """Ends a forward pass after the last frozen block."""


class _CachedFeatures:
    """Output of the last frozen block for the rows of the next forward pass."""

    hidden: Tensor | tuple[Tensor, ...] | None = None


class _CachedBlock(nn.Module):
    """Replacement for a frozen block that returns the cached features.

    Models read the attention type from a block's index or from a field of the block. So every block
    keeps its index, and this module forwards the block's fields.
    """

    def __init__(self, block: nn.Module, features: _CachedFeatures) -> None:
        super().__init__()
        self._features = features
        # Bypasses nn.Module, so that the block's weights are not registered here.
        object.__setattr__(self, "_block", block)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_block"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._features.hidden


class FrozenFeatureCache:
    """Cached outputs of the frozen blocks at the start of a model."""

    def __init__(self, stack: BlockStack, frozen_count: int, ctx: TaskContext) -> None:
        self._stack = stack
        self._ctx = ctx
        self._next_features = _CachedFeatures()
        self._all_blocks: nn.ModuleList = stack.blocks
        self._frozen_blocks = nn.ModuleList(self._all_blocks[:frozen_count])
        replacements = [_CachedBlock(block, self._next_features) for block in self._frozen_blocks]
        self._cached_blocks = nn.ModuleList([*replacements, *self._all_blocks[frozen_count:]])
        self._features: dict[int, Tensor] = {}
        """Features of each row, by its index while the cache is filled, then by the ``id()`` of its
        example: examples live as long as the run, and two files may hold equal rows."""
        self._returns_tuple = False

    def populate(self, examples: Sequence[Example], forward: Callable[[Sequence[Any]], object], report: Report) -> bool:
        """Run every row through the frozen blocks, longest first, and cache the outputs.

        Return False if they exceed ``MAX_CACHE_BYTES``; the cache then stays empty. ``forward``
        runs the model on rows without gradients. The order and the batches are the same every time,
        so a resumed run computes the same bits. Call :meth:`assign` before the cache is used.
        """
        captured: list[Any] = []

        def capture_output(module: nn.Module, inputs: Any, output: Any) -> None:
            captured.append(output)
            raise _StopForward

        handle = self._frozen_blocks[-1].register_forward_hook(capture_output)
        sizes = read_column(examples, "size")
        total, done, stored_bytes = sum(sizes), 0, 0
        try:
            for indices in _iter_batches(sizes):
                report(done, total)
                batch = [examples[index] for index in indices]
                with suppress(_StopForward):
                    forward(batch)
                [output] = captured
                captured.clear()
                self._returns_tuple = isinstance(output, tuple)
                self._store(indices, batch, output[0] if self._returns_tuple else output)
                done += sum(sizes[index] for index in indices)
                stored_bytes += sum(self._features[index].nbytes for index in indices)
                if stored_bytes * total / done > MAX_CACHE_BYTES:
                    self._features.clear()
                    break
        finally:
            handle.remove()
        return bool(self._features)

    def assign(self, examples: Sequence[Example]) -> None:
        """Assign the features to examples, in the order of :meth:`populate`, and use the cache."""
        self._features = {id(example): self._features[index] for index, example in enumerate(examples)}
        self._stack.replace(self._cached_blocks)

    def feed(self, examples: Sequence[Example]) -> None:
        """Set the cached features of these rows as input of the next forward pass."""
        features = [self._features[id(example)] for example in examples]
        if self._ctx.packed:
            hidden = torch.cat(features)[None]
        elif isinstance(examples[0], TextExample):
            hidden = nn.utils.rnn.pad_sequence(features, batch_first=True)
        else:
            hidden = torch.stack(features)
        self._next_features.hidden = (hidden,) if self._returns_tuple else hidden

    @contextmanager
    def bypass(self) -> Iterator[None]:
        """Restore the original blocks for the duration of the context."""
        current = self._stack.blocks
        self._stack.replace(self._all_blocks)
        try:
            yield
        finally:
            self._stack.replace(current)

    def _store(self, indices: Sequence[int], batch: Sequence[Example], hidden: Tensor) -> None:
        hidden = hidden.detach()
        if self._ctx.packed:
            rows: Sequence[Tensor] = torch.split(hidden[0], [example.size for example in batch])
        else:
            rows = hidden.unbind()
        for index, example, row in zip(indices, batch, rows, strict=True):
            length = example.size if isinstance(example, TextExample) else len(row)
            self._features[index] = row[:length].clone()


def _iter_batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Yield indices, those of the longest rows first."""
    batch: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        if batch and (len(batch) + 1) * sizes[batch[0]] > MAX_BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def move_to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch with its tensors on the device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
