"""A loaded model that does not write token by token: what is asked of it together shares forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from inference.pooling.batcher import Batcher
from inference.protocol.errors import EngineError
from training.artifacts.serving import Served
from training.tasks.base import Example

BATCH_INPUTS = 256
"""Inputs that are read and answered together at most, unless one request alone has more."""
BATCH_TOKENS = 16_384
"""Padded tokens of one forward pass at most."""
BATCH_EXAMPLES = 128
"""Inputs of one forward pass at most: an image may cost less tokens than memory."""


@dataclass(frozen=True)
class Answer:
    """What a model says of one input."""

    fields: dict[str, Any]
    tokens: int
    """Read for it."""


@dataclass(frozen=True)
class _Asked:
    encode: Callable[[], Sequence[Example]]
    top_k: int


class Predictor:
    """A model of a task that answers from examples; see ``predictions`` and ``embeddings`` for what it is asked."""

    def __init__(self, served: Served, context: int) -> None:
        self.task = served.task
        self.processor = served.kit.processor
        self.context = min(context, served.base.context)
        self.trained_length = served.card.hyperparameters.max_length if served.card else self.context
        """Where training cut its rows."""
        self._served = served
        self._batcher = Batcher[_Asked, list[Answer]](self._answers, BATCH_INPUTS)

    @property
    def labels(self) -> int:
        """How many labels it tells apart; 0 where it knows none."""
        return len(self._served.kit.state.get("labels", ()))

    async def answer(self, encode: Callable[[], Sequence[Example]], count: int, top_k: int) -> list[Answer]:
        """One answer for each of the ``count`` examples that ``encode`` makes.

        ``encode`` is called where nothing else uses the tokenizer, which takes no two at once. Raises what it raises.
        """
        return await self._batcher.ask(_Asked(encode, top_k), count)

    async def close(self) -> None:
        """Nothing to end: the weights go with the last reference."""

    def _answers(self, requests: Sequence[_Asked]) -> list[list[Answer] | EngineError]:
        """Examples of similar length share a forward pass, whoever asked for them."""
        encoded = [_encoded(asked) for asked in requests]
        rows = [
            (asked.top_k, example)
            for asked, examples in zip(requests, encoded, strict=True)
            if not isinstance(examples, EngineError)
            for example in examples
        ]
        answers = iter(self._in_passes(rows))
        return [
            examples if isinstance(examples, EngineError) else [next(answers) for _ in examples] for examples in encoded
        ]

    def _in_passes(self, rows: Sequence[tuple[int, Example]]) -> list[Answer]:
        served, made = self._served, dict[int, Answer]()
        sizes = [example.size for _, example in rows]
        order = sorted(range(len(rows)), key=lambda index: (rows[index][0], sizes[index]))
        for top_k, group in groupby(order, key=lambda index: rows[index][0]):
            for part in _parts(list(group), sizes):
                answers = served.task.answer(served.model, [rows[index][1] for index in part], served.kit, top_k)
                made |= {index: Answer(fields, sizes[index]) for index, fields in zip(part, answers, strict=True)}
        return [made[index] for index in range(len(rows))]


def _encoded(asked: _Asked) -> Sequence[Example] | EngineError:
    try:
        return asked.encode()
    except EngineError as error:
        return error


def _parts(order: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Cut ``order``, smallest first, into runs of at most ``BATCH_TOKENS`` padded tokens and ``BATCH_EXAMPLES``."""
    part: list[int] = []
    for index in order:
        if part and ((len(part) + 1) * sizes[index] > BATCH_TOKENS or len(part) == BATCH_EXAMPLES):
            yield part
            part = []
        part.append(index)
    yield part
