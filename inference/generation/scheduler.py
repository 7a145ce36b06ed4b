"""Continuous batching: one thread a model, whose rows join and leave between two steps."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from inference.generation.detokenizer import Piece, TextStream
from inference.generation.model_runner import Decoder
from inference.generation.sampling import Choice, Sampler, Sampling, choose
from inference.protocol.errors import EngineError, EngineUnavailable

log = logging.getLogger(__name__)

PREFILL_TOKENS = 16_384
"""Padded prompt tokens that one forward pass takes in; the memory of its activations grows with them."""
WAITING = 1024
"""Rows that may wait for a place; more are turned away."""


@dataclass(frozen=True)
class Progress:
    """What a step gave a row: text that is certain now, and at the end why it ended and how many tokens it took."""

    piece: Piece
    finish: str | None = None
    """``stop`` | ``length``."""
    tokens: int = 0
    error: EngineError | None = None

    @property
    def ends(self) -> bool:
        """Nothing more comes."""
        return self.finish is not None or self.error is not None

    @property
    def tells(self) -> bool:
        return self.ends or bool(self.piece.text or self.piece.records)


@dataclass(eq=False)
class Row:
    """One answer in the making; ``emit`` is told of its progress."""

    prompt: list[int]
    adapter: str
    sampling: Sampling
    stream: TextStream
    limit: int
    """Tokens to make at most."""
    emit: Callable[[Progress], None]
    cancelled: bool = False
    """Set from any thread; the row leaves before the next step and emits nothing more."""
    tokens: list[int] = field(default_factory=list)
    sampler: Sampler = field(init=False)

    def __post_init__(self) -> None:
        self.sampler = Sampler(self.sampling)

    def take(self, choice: Choice, ends: Collection[int]) -> Progress:
        """Add a token: what it settles."""
        matcher = self.sampler.matcher
        if matcher and (fault := matcher.fault):
            return self.failed(fault)
        if not choice.finite:
            return self.failed(EngineError("model_unusable", "The model gives no numbers (NaN); train it again."))
        self.tokens.append(choice.token)
        ended = choice.token in ends
        piece = Piece() if ended else self.stream.feed(choice.token, choice if choice.scored else None)
        over = ended or self.stream.stopped or (matcher is not None and matcher.whole)
        finish = "stop" if over else "length" if len(self.tokens) >= self.limit else None
        if finish:
            piece += self.stream.finish()
            # What was held back to the last token may complete a stop string.
            finish = "stop" if self.stream.stopped else finish
        return Progress(piece, finish, len(self.tokens))

    def failed(self, error: EngineError) -> Progress:
        return Progress(Piece(), tokens=len(self.tokens), error=error)


Updates = list[tuple[Row, Progress]]
Deliver = Callable[[Updates], None]


def emit_all(updates: Updates) -> None:
    """Tell every row of its progress."""
    for row, update in updates:
        row.emit(update)


class Scheduler:
    """Owns a decoder and its thread. Everything public may be called from any thread.

    ``deliver`` is called from the decoding thread once a step, so that another thread is woken once a step.
    """

    def __init__(
        self, decoder: Decoder, ends: Collection[int], slots: int, name: str, deliver: Deliver = emit_all
    ) -> None:
        self._decoder = decoder
        self._ends = frozenset(ends)
        self._slots = slots
        self._deliver = deliver
        self._running: list[Row] = []
        self._waiting: deque[Row] = deque()
        self._guests = 0
        self._closed = False
        self._stepping = threading.Lock()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"decode {name}", daemon=True)
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """Rows running and rows waiting."""
        return len(self._running), len(self._waiting)

    def submit(self, rows: list[Row]) -> None:
        """Let rows join as soon as there is room. Raises ``EngineUnavailable`` when too many wait already."""
        with self._changed:
            if self._closed or len(self._waiting) + len(rows) > WAITING:
                raise EngineUnavailable("Too many requests wait for this model; try again.", "engine_overloaded")
            self._waiting.extend(rows)
            self._changed.notify()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No step runs meanwhile: the only safe time to change the model. Blocks until the running step is over."""
        with self._changed:
            self._guests += 1
        try:
            with self._stepping:
                yield
        finally:
            with self._changed:
                self._guests -= 1
                self._changed.notify()

    def close(self) -> None:
        """End the thread; rows still in it fail."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._wait():
            try:
                with self._stepping:
                    self._turn()
            except Exception as error:
                # Whatever it was, those who wait must hear of it, and the next rows find a working thread.
                log.exception("decoding failed")
                self._abandon(_failure(error))
        self._abandon(EngineUnavailable("The inference engine is stopping; try again."))

    def _wait(self) -> bool:
        with self._changed:
            while not self._closed and (self._guests or not (self._running or self._waiting)):
                self._changed.wait()
            return not self._closed

    def _turn(self) -> None:
        """Let rows in, or take one step with those there are."""
        self._retain([row for row in self._running if not row.cancelled])
        newcomers = self._admit()
        if newcomers:
            self._running += newcomers
            logits_BV = self._decoder.join([row.prompt for row in newcomers], [row.adapter for row in newcomers])
        elif self._running:
            newcomers = self._running
            logits_BV = self._decoder.step([row.tokens[-1] for row in newcomers])
        else:
            return
        choices = choose(logits_BV, [row.sampler for row in newcomers])
        updates = [(row, row.take(choice, self._ends)) for row, choice in zip(newcomers, choices, strict=True)]
        done = {row for row, update in updates if update.ends}
        self._retain([row for row in self._running if row not in done])
        self._deliver([(row, update) for row, update in updates if update.tells])

    def _admit(self) -> list[Row]:
        admitted: list[Row] = []
        with self._changed:
            while self._waiting and len(self._running) + len(admitted) < self._slots:
                longest = max(len(row.prompt) for row in [*admitted, self._waiting[0]])
                if admitted and longest * (len(admitted) + 1) > PREFILL_TOKENS:
                    break
                row = self._waiting.popleft()
                if not row.cancelled:
                    admitted.append(row)
        return admitted

    def _retain(self, rows: list[Row]) -> None:
        if len(rows) < len(self._running):
            kept = set(rows)
            self._decoder.keep([index for index, row in enumerate(self._running) if row in kept])
            self._running = rows

    def _abandon(self, error: EngineError) -> None:
        with self._changed:
            rows, self._running = [*self._running, *self._waiting], []
            self._waiting.clear()
        self._decoder.keep([])
        self._deliver([(row, row.failed(error)) for row in rows])


def _failure(error: Exception) -> EngineError:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return EngineUnavailable("The engine ran out of memory on this batch; try again later.", "engine_overloaded")
    return EngineError("internal_error", f"The engine failed on this batch ({type(error).__name__}).")
