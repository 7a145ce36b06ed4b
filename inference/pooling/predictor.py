"""A loaded model that does not write token by token: what is asked of it together shares forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from inference.pooling.batcher import Batcher
from inference.protocol.errors import EngineError
from training.artifacts.serving import ServedModel
from training.tasks.base import Example

MAX_BATCH_INPUTS = 256
"""Inputs that are read and answered together at most, unless one request alone has more."""
MAX_BATCH_TOKENS = 16_384
"""Padded tokens of one forward pass at most."""
MAX_BATCH_EXAMPLES = 128
"""Inputs of one forward pass at most: an image may cost less tokens than memory."""


@dataclass(frozen=True)
class PoolingOutput:
    """What a model says of one input."""

    fields: dict[str, Any]
    num_tokens: int
    """Read for it."""


@dataclass(frozen=True)
class _PoolingRequest:
    encode: Callable[[], Sequence[Example]]
    top_k: int


class Predictor:
    """A model of a task that answers from examples; see ``predictions`` and ``embeddings`` for what it is asked."""

    def __init__(self, served_model: ServedModel, context: int) -> None:
        self.task = served_model.task
        self.processor = served_model.context.processor
        self.context = min(context, served_model.base.context_length)
        self.trained_length = (
            served_model.metadata.hyperparameters.max_length if served_model.metadata else self.context
        )
        """Where training cut its rows."""
        self._served_model = served_model
        self._batcher = Batcher[_PoolingRequest, list[PoolingOutput]](self._run_batch, MAX_BATCH_INPUTS)

    @property
    def num_labels(self) -> int:
        """How many labels it tells apart; 0 where it knows none."""
        return len(self._served_model.context.state.get("labels", ()))

    async def predict(
        self, encode: Callable[[], Sequence[Example]], num_inputs: int, top_k: int
    ) -> list[PoolingOutput]:
        """One answer for each of the ``count`` examples that ``encode`` makes.

        ``encode`` is called where nothing else uses the tokenizer, which takes no two at once. Raises what it raises.
        """
        return await self._batcher.submit(_PoolingRequest(encode, top_k), num_inputs)

    async def close(self) -> None:
        """Nothing to end: the weights go with the last reference."""

    def _run_batch(self, requests: Sequence[_PoolingRequest]) -> list[list[PoolingOutput] | EngineError]:
        """Examples of similar length share a forward pass, whoever asked for them."""
        encoded = [_try_encode(asked) for asked in requests]
        rows = [
            (asked.top_k, example)
            for asked, examples in zip(requests, encoded, strict=True)
            if not isinstance(examples, EngineError)
            for example in examples
        ]
        answers = iter(self._run_forward_passes(rows))
        return [
            examples if isinstance(examples, EngineError) else [next(answers) for _ in examples] for examples in encoded
        ]

    def _run_forward_passes(self, rows: Sequence[tuple[int, Example]]) -> list[PoolingOutput]:
        served, made = self._served_model, dict[int, PoolingOutput]()
        sizes = [example.size for _, example in rows]
        order = sorted(range(len(rows)), key=lambda index: (rows[index][0], sizes[index]))
        for top_k, group in groupby(order, key=lambda index: rows[index][0]):
            for part in _split_into_batches(list(group), sizes):
                answers = served.task.answer(served.model, [rows[index][1] for index in part], served.context, top_k)
                made |= {
                    index: PoolingOutput(fields, sizes[index]) for index, fields in zip(part, answers, strict=True)
                }
        return [made[index] for index in range(len(rows))]


def _try_encode(request: _PoolingRequest) -> Sequence[Example] | EngineError:
    try:
        return request.encode()
    except EngineError as error:
        return error


def _split_into_batches(order: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Cut ``order``, smallest first, into runs of at most ``BATCH_TOKENS`` padded tokens and ``BATCH_EXAMPLES``."""
    part: list[int] = []
    for index in order:
        if part and ((len(part) + 1) * sizes[index] > MAX_BATCH_TOKENS or len(part) == MAX_BATCH_EXAMPLES):
            yield part
            part = []
        part.append(index)
    yield part
