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

from training.models.blocks import Anatomy
from training.tasks.base import Batch, Example, Kit, TextExample

CACHE_BYTES = 2 << 30
"""What may be kept; beyond it the frozen blocks run anew for every batch."""
PART_TOKENS = 4096
"""Rows run through the frozen blocks together, padded."""


class _Reached(Exception):
    """Ends a forward pass whose rest nobody needs."""


class _Given:
    """What the last of the frozen blocks gave for the rows of the next forward pass."""

    hidden: Tensor | tuple[Tensor, ...] | None = None


class _Feed(nn.Module):
    """Stands in the place of a frozen block. Models ask their blocks, by place or by a field of theirs, which
    attention they want: every block keeps its place, and its fields are found here."""

    def __init__(self, block: nn.Module, given: _Given) -> None:
        super().__init__()
        self._given = given
        # Not as a part of this module: the block's weights are not to be seen.
        object.__setattr__(self, "_block", block)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_block"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._given.hidden


class Trunk:
    """The frozen blocks of a model that trains behind them."""

    def __init__(self, parts: Anatomy, frozen: int, kit: Kit) -> None:
        self._parts = parts
        self._kit = kit
        self._given = _Given()
        self._whole: nn.ModuleList = parts.blocks
        self._frozen = nn.ModuleList(self._whole[:frozen])
        feeds = [_Feed(block, self._given) for block in self._frozen]
        self._rest = nn.ModuleList([*feeds, *self._whole[frozen:]])
        # By identity: rows live as long as the run, and equal ones may stand in two files.
        self._kept: dict[int, Tensor] = {}
        self._tuple = False

    def keep(self, examples: Sequence[Example], forward: Callable[[Sequence[Any]], object]) -> bool:
        """Run every row through the frozen blocks, longest first. False where there is no room to keep them.

        ``forward`` runs the model on rows, without gradients; the order and the batches are the same every time, so a
        resumed run computes the same bits.
        """
        caught: list[Any] = []

        def reached(module: nn.Module, inputs: Any, output: Any) -> None:
            caught.append(output)
            raise _Reached

        handle = self._frozen[-1].register_forward_hook(reached)
        total, done = sum(example.size for example in examples), 0
        try:
            for part in _parts(sorted(examples, key=lambda example: -example.size)):
                with suppress(_Reached):
                    forward(part)
                [output] = caught
                caught.clear()
                self._tuple = isinstance(output, tuple)
                self._take(part, output[0] if self._tuple else output)
                done += sum(example.size for example in part)
                if sum(kept.nbytes for kept in self._kept.values()) * total / done > CACHE_BYTES:
                    self._kept.clear()
                    break
        finally:
            handle.remove()
            self._parts.replace(self._rest if self._kept else self._whole)
        return bool(self._kept)

    def feed(self, examples: Sequence[Example]) -> None:
        """Have the next forward pass begin behind the frozen blocks, with what they gave for these rows."""
        kept = [self._kept[id(example)] for example in examples]
        if self._kit.packed:
            hidden = torch.cat(kept)[None]
        elif isinstance(examples[0], TextExample):
            hidden = nn.utils.rnn.pad_sequence(kept, batch_first=True)
        else:
            hidden = torch.stack(kept)
        self._given.hidden = (hidden,) if self._tuple else hidden

    @contextmanager
    def whole(self) -> Iterator[None]:
        """The model with all of its blocks, for as long as the context lasts."""
        now = self._parts.blocks
        self._parts.replace(self._whole)
        try:
            yield
        finally:
            self._parts.replace(now)

    def _take(self, part: Sequence[Example], hidden: Tensor) -> None:
        hidden = hidden.detach()
        if self._kit.packed:
            rows: Sequence[Tensor] = torch.split(hidden[0], [example.size for example in part])
        else:
            rows = hidden.unbind()
        for example, row in zip(part, rows, strict=True):
            length = example.size if isinstance(example, TextExample) else len(row)
            self._kept[id(example)] = row[:length].clone()


def _parts(ordered: Sequence[Example]) -> Iterator[list[Example]]:
    part: list[Example] = []
    for example in ordered:
        if part and (len(part) + 1) * part[0].size > PART_TOKENS:
            yield part
            part = []
        part.append(example)
    yield part


def moved(batch: Batch, device: torch.device) -> Batch:
    """Its tensors on the device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
