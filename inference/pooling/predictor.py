"""Predictor: a loaded model without token generation. Concurrent requests share forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from inference.pooling.batcher import Batcher
from inference.protocol.errors import EngineError
from storage.threads import ThreadPool
from training.artifacts.serving import ServedModel
from training.tasks.base import Example

MAX_BATCH_INPUTS = 256
"""Maximum inputs of one batch, unless a single request has more."""
MAX_BATCH_TOKENS = 16_384
"""Maximum padded tokens of one forward pass."""
MAX_BATCH_EXAMPLES = 128
"""Maximum inputs of one forward pass: an image has few tokens for the memory that it needs."""


@dataclass(frozen=True)
class PoolingOutput:
    """Model output for one input."""

    fields: dict[str, Any]
    num_tokens: int
    """Number of input tokens."""


@dataclass(frozen=True)
class _PoolingRequest:
    encode: Callable[[], Sequence[Example]]
    top_k: int


class Predictor:
    """Loaded model of a task that maps examples to outputs.

    ``inference.serving.predictions`` and ``inference.serving.embeddings`` encode the requests.
    """

    def __init__(self, served_model: ServedModel, context: int, pool: ThreadPool) -> None:
        self.task = served_model.task
        self.processor = served_model.context.processor
        self.context = min(context, served_model.base.context_length)
        self.trained_length = (
            served_model.metadata.hyperparameters.max_length if served_model.metadata else self.context
        )
        """Length to which training truncated its rows, in tokens."""
        self.vocab_size = served_model.vocab_size if served_model.task.route == "embeddings" else 0
        """Number of token ids that a client may send instead of a text."""
        self._served_model = served_model
        self._batcher = Batcher[_PoolingRequest, list[PoolingOutput]](self._run_batch, MAX_BATCH_INPUTS, pool)

    @property
    def num_labels(self) -> int:
        """Number of labels; 0 for a model without labels."""
        return len(self._served_model.context.state.get("labels", ()))

    async def predict(
        self, encode: Callable[[], Sequence[Example]], num_inputs: int, top_k: int
    ) -> list[PoolingOutput]:
        """Return one output for each of the ``num_inputs`` examples of ``encode``.

        ``encode`` runs in the batcher's thread, one call at a time, because the tokenizer is not
        thread-safe. Raises the errors of ``encode``.
        """
        return await self._batcher.submit(_PoolingRequest(encode, top_k), num_inputs)

    async def close(self) -> None:
        """Do nothing: the weights are freed with the last reference."""

    def _run_batch(self, requests: Sequence[_PoolingRequest]) -> list[list[PoolingOutput] | EngineError]:
        """Run all requests.

        Examples of similar length share a forward pass, also across requests.
        """
        encoded = [_try_encode(request) for request in requests]
        rows = [
            (request.top_k, example)
            for request, examples in zip(requests, encoded, strict=True)
            if not isinstance(examples, EngineError)
            for example in examples
        ]
        outputs = iter(self._run_forward_passes(rows))
        return [
            examples if isinstance(examples, EngineError) else [next(outputs) for _ in examples] for examples in encoded
        ]

    def _run_forward_passes(self, rows: Sequence[tuple[int, Example]]) -> list[PoolingOutput]:
        served_model, outputs = self._served_model, dict[int, PoolingOutput]()
        sizes = [example.size for _, example in rows]
        order = sorted(range(len(rows)), key=lambda index: (rows[index][0], sizes[index]))
        for top_k, group in groupby(order, key=lambda index: rows[index][0]):
            for batch in _split_into_batches(list(group), sizes):
                examples = [rows[index][1] for index in batch]
                answers = served_model.task.answer(served_model.model, examples, served_model.context, top_k)
                outputs |= {
                    index: PoolingOutput(fields, sizes[index]) for index, fields in zip(batch, answers, strict=True)
                }
        return [outputs[index] for index in range(len(rows))]


def _try_encode(request: _PoolingRequest) -> Sequence[Example] | EngineError:
    try:
        return request.encode()
    except EngineError as error:
        return error


def _split_into_batches(order: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Split ``order``, sorted by size, into batches within ``MAX_BATCH_TOKENS`` (padded) and
    ``MAX_BATCH_EXAMPLES``."""
    batch: list[int] = []
    for index in order:
        if batch and ((len(batch) + 1) * sizes[index] > MAX_BATCH_TOKENS or len(batch) == MAX_BATCH_EXAMPLES):
            yield batch
            batch = []
        batch.append(index)
    yield batch
