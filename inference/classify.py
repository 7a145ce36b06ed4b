"""Predictions: requests that arrive together run as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from inference.errors import EngineError
from training.serving import Served
from training.tasks.text_classification import Texts

BATCH_INPUTS = 256
"""Inputs that are answered together at most, unless one request alone has more."""
BATCH_TOKENS = 16_384
"""Padded tokens of one forward pass at most."""

INPUTS: Mapping[str, type[BaseModel]] = {"text-classification": Texts}
"""Task -> what is asked of it."""

A = TypeVar("A")


@dataclass(frozen=True)
class _Asked(Generic[A]):
    rows: Sequence[Any]
    answers: asyncio.Future[list[A]]


class Batcher(Generic[A]):
    """Runs ``answer`` in a thread, one batch at a time; what arrives meanwhile makes the next batch.

    ``answer`` must give each row the answer it would give it alone.
    """

    def __init__(self, answer: Callable[[Sequence[Any]], list[A]]) -> None:
        self._answer = answer
        self._waiting: list[_Asked[A]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, rows: Sequence[Any]) -> list[A]:
        """The rows' answers, in order. Raises what ``answer`` raises."""
        asked = _Asked[A](rows, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await asked.answers

    async def _run(self) -> None:
        while batch := self._take():
            rows = [row for asked in batch for row in asked.rows]
            [outcome] = await asyncio.gather(asyncio.to_thread(self._answer, rows), return_exceptions=True)
            ends = list(accumulate(len(asked.rows) for asked in batch))
            for asked, end in zip(batch, ends, strict=True):
                if asked.answers.done():
                    continue
                if isinstance(outcome, BaseException):
                    asked.answers.set_exception(outcome)
                else:
                    asked.answers.set_result(outcome[end - len(asked.rows) : end])

    def _take(self) -> list[_Asked[A]]:
        """The oldest requests that fit into one batch; those whose client has left are dropped."""
        self._waiting = [asked for asked in self._waiting if not asked.answers.done()]
        total, count = 0, 0
        for asked in self._waiting:
            total += len(asked.rows)
            if count and total > BATCH_INPUTS:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch


@dataclass(frozen=True)
class Answer:
    """What a model says of one input."""

    fields: dict[str, Any]
    tokens: int
    """Read for it."""


class Classifier:
    """A loaded model of a task that does not write text."""

    def __init__(self, served: Served, context: int) -> None:
        self._served = served
        trained = served.card.hyperparameters.max_length if served.card else context
        # Texts are cut where training cut them.
        self._max_length = min(context, served.base.context, trained)
        self._batcher = Batcher[Answer](self._answers)

    async def answer(self, rows: Sequence[Mapping[str, Any]], top_k: int | None) -> list[Answer]:
        """One answer a row. Raises ``EngineError`` where a row lacks what the task needs."""
        labels = len(self._served.state["labels"])
        inputs = [self._parsed(index, row) for index, row in enumerate(rows)]
        return await self._batcher.ask([(item, min(top_k or labels, labels)) for item in inputs])

    async def close(self) -> None:
        """Nothing to end: the weights go with the last reference."""

    def _parsed(self, index: int, row: Mapping[str, Any]) -> BaseModel:
        try:
            return INPUTS[self._served.task.name].model_validate(row)
        except ValidationError as error:
            fault = EngineError.from_validation(error)
            raise EngineError(fault.code, fault.message, f"inputs.{index}.{fault.param}") from error

    def _answers(self, rows: Sequence[tuple[BaseModel, int]]) -> list[Answer]:
        """Rows of similar length share a forward pass, whoever asked for them."""
        served = self._served
        examples = served.task.encode_inputs([item for item, _ in rows], served.tokenizer, self._max_length)
        answers: dict[int, Answer] = {}
        order = sorted(range(len(rows)), key=lambda index: (rows[index][1], len(examples[index].ids)))
        for top_k, group in groupby(order, key=lambda index: rows[index][1]):
            for part in _parts(list(group), [len(example.ids) for example in examples]):
                batch = [examples[index] for index in part]
                made = served.task.answer(served.model, batch, served.state, served.base.pad, top_k)
                answers |= {
                    index: Answer(fields, len(examples[index].ids)) for index, fields in zip(part, made, strict=True)
                }
        return [answers[index] for index in range(len(rows))]


def _parts(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Cut ``order``, shortest first, into runs of at most ``BATCH_TOKENS`` padded tokens."""
    part: list[int] = []
    for index in order:
        if part and (len(part) + 1) * lengths[index] > BATCH_TOKENS:
            yield part
            part = []
        part.append(index)
    yield part
