"""Batch sampler. A batch depends only on seed and step, so a resumed run replays nothing."""

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
"""Batches per group of shuffled rows that is sorted by length. Large enough to avoid most padding,
small enough that the rows of a batch are still random."""


class LengthGroupedBatchSampler:
    """Batches of a run, of rows with similar lengths. Steps count from 1."""

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, general_count: int = 0, general_per_epoch: int = 0
    ) -> None:
        """``lengths`` are those of all rows. The last ``general_count`` rows are general rows, of
        which an epoch draws ``general_per_epoch``."""
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._training_count = len(lengths) - general_count
        self._general_per_epoch = general_per_epoch
        self.steps_per_epoch = ceil((self._training_count + general_per_epoch) / batch_size)
        self._get_epoch_batches = lru_cache(maxsize=1)(self._build_epoch_batches)

    def get_batch(self, step: int) -> list[int]:
        """Return the row indices of a step's batch, longest row first."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        return self._get_epoch_batches(epoch)[position]

    def hash_batch(self, step: int) -> str:
        """Return the SHA-256 of the row indices of a step's batch."""
        return hashlib.sha256(json.dumps(self.get_batch(step)).encode()).hexdigest()

    def _build_epoch_batches(self, epoch: int) -> list[list[int]]:
        # Random hashes a string seed with SHA-512, so it is the same on every machine and version.
        rng = Random(f"{self._seed}/{epoch}")
        order = [
            *range(self._training_count),
            *rng.sample(range(self._training_count, len(self._lengths)), self._general_per_epoch),
        ]
        rng.shuffle(order)
        mega_batch_size = MEGA_BATCH_MULT * self._batch_size
        batches = []
        for start in range(0, len(order), mega_batch_size):
            rows = sorted(order[start : start + mega_batch_size], key=lambda row: -self._lengths[row])
            batches += [rows[index : index + self._batch_size] for index in range(0, len(rows), self._batch_size)]
        rng.shuffle(batches)
        return batches


def split_batch(rows: Sequence[T], micro_batches: int) -> list[Sequence[T]]:
    """Split rows into at most ``micro_batches`` contiguous slices of (nearly) equal size."""
    size = ceil(len(rows) / micro_batches)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
