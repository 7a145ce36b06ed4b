"""Which rows make up which batch: a function of seed and epoch, so that nothing is replayed on resuming."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from random import Random
from typing import TypeVar

T = TypeVar("T")

MEGA_BATCH = 50
"""Batches shuffled rows are drawn from and sorted by length within: long enough to save most padding, short enough that
a batch's rows are still chosen by chance."""


class Batches:
    """The batches of a run. Steps count from 1."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, general: int = 0, mixed: int = 0) -> None:
        """``lengths`` of all rows; the last ``general`` of them are general ones, of which an epoch draws ``mixed``."""
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._own = len(lengths) - general
        self._mixed = mixed
        self.per_epoch = ceil((self._own + mixed) / batch_size)
        self._epoch = lru_cache(maxsize=1)(self._order)

    def rows(self, step: int) -> list[int]:
        """Indices of the rows of a step's batch, longest first."""
        epoch, position = divmod(step - 1, self.per_epoch)
        return self._epoch(epoch)[position]

    def sha256(self, step: int) -> str:
        """Of the row indices of a step's batch."""
        return hashlib.sha256(json.dumps(self.rows(step)).encode()).hexdigest()

    def _order(self, epoch: int) -> list[list[int]]:
        # A string seeds through SHA-512, the same on every machine and version.
        chance = Random(f"{self._seed}/{epoch}")
        order = [*range(self._own), *chance.sample(range(self._own, len(self._lengths)), self._mixed)]
        chance.shuffle(order)
        mega = MEGA_BATCH * self._batch_size
        batches = []
        for start in range(0, len(order), mega):
            rows = sorted(order[start : start + mega], key=lambda row: -self._lengths[row])
            batches += [rows[at : at + self._batch_size] for at in range(0, len(rows), self._batch_size)]
        chance.shuffle(batches)
        return batches


def split(rows: Sequence[T], parts: int) -> list[Sequence[T]]:
    """At most ``parts`` runs of neighbours of (nearly) equal size."""
    size = ceil(len(rows) / parts)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
