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

MEGA_BATCH_MULT = 50
"""Batches shuffled rows are drawn from and sorted by length within: long enough to save most padding, short enough that
a batch's rows are still chosen by chance."""


class LengthGroupedBatchSampler:
    """The batches of a run. Steps count from 1."""

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, general_count: int = 0, general_per_epoch: int = 0
    ) -> None:
        """``lengths`` of all rows; the last ``general`` of them are general ones, of which an epoch draws ``mixed``."""
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._training_count = len(lengths) - general_count
        self._general_per_epoch = general_per_epoch
        self.steps_per_epoch = ceil((self._training_count + general_per_epoch) / batch_size)
        self._get_epoch_batches = lru_cache(maxsize=1)(self._build_epoch_batches)

    def get_batch(self, step: int) -> list[int]:
        """Indices of the rows of a step's batch, longest first."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        return self._get_epoch_batches(epoch)[position]

    def hash_batch(self, step: int) -> str:
        """Of the row indices of a step's batch."""
        return hashlib.sha256(json.dumps(self.get_batch(step)).encode()).hexdigest()

    def _build_epoch_batches(self, epoch: int) -> list[list[int]]:
        # A string seeds through SHA-512, the same on every machine and version.
        chance = Random(f"{self._seed}/{epoch}")
        order = [
            *range(self._training_count),
            *chance.sample(range(self._training_count, len(self._lengths)), self._general_per_epoch),
        ]
        chance.shuffle(order)
        mega = MEGA_BATCH_MULT * self._batch_size
        batches = []
        for start in range(0, len(order), mega):
            rows = sorted(order[start : start + mega], key=lambda row: -self._lengths[row])
            batches += [rows[at : at + self._batch_size] for at in range(0, len(rows), self._batch_size)]
        chance.shuffle(batches)
        return batches


def split_batch(rows: Sequence[T], micro_batches: int) -> list[Sequence[T]]:
    """At most ``parts`` runs of neighbours of (nearly) equal size."""
    size = ceil(len(rows) / micro_batches)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
