"""Continuous batching: one thread a model, whose rows join and leave between two steps."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from inference.generation.detokenizer import IncrementalDetokenizer, TextDelta
from inference.generation.model_runner import ModelRunner
from inference.generation.sampling import SampledToken, SamplerState, SamplingParams, sample
from inference.protocol.errors import EngineError, EngineUnavailable

log = logging.getLogger(__name__)

MAX_PREFILL_TOKENS = 16_384
"""Padded prompt tokens that one forward pass takes in; the memory of its activations grows with them."""
MAX_WAITING = 1024
"""Rows that may wait for a place; more are turned away."""


@dataclass(frozen=True)
class SequenceOutput:
    """What a step gave a row: text that is certain now, and at the end why it ended and how many tokens it took."""

    delta: TextDelta
    finish_reason: str | None = None
    """``stop`` | ``length``."""
    num_tokens: int = 0
    error: EngineError | None = None

    @property
    def is_final(self) -> bool:
        """Nothing more comes."""
        return self.finish_reason is not None or self.error is not None

    @property
    def has_update(self) -> bool:
        return self.is_final or bool(self.delta.text or self.delta.records)


@dataclass(eq=False)
class SequenceState:
    """One answer in the making; ``emit`` is told of its progress."""

    prompt: list[int]
    adapter: str
    sampling_params: SamplingParams
    detokenizer: IncrementalDetokenizer
    max_new_tokens: int
    """Tokens to make at most."""
    emit: Callable[[SequenceOutput], None]
    cancelled: bool = False
    """Set from any thread; the row leaves before the next step and emits nothing more."""
    output_tokens: list[int] = field(default_factory=list)
    sampler: SamplerState = field(init=False)

    def __post_init__(self) -> None:
        self.sampler = SamplerState(self.sampling_params)

    def append_token(self, sampled_token: SampledToken, stop_token_ids: Collection[int]) -> SequenceOutput:
        """Add a token: what it settles."""
        matcher = self.sampler.matcher
        if matcher and (fault := matcher.error):
            return self.to_error_output(fault)
        if not sampled_token.is_finite:
            return self.to_error_output(
                EngineError("model_unusable", "The model gives no numbers (NaN); train it again.")
            )
        self.output_tokens.append(sampled_token.token)
        ended = sampled_token.token in stop_token_ids
        piece = (
            TextDelta()
            if ended
            else self.detokenizer.feed(sampled_token.token, sampled_token if sampled_token.token_logprob else None)
        )
        over = ended or self.detokenizer.stopped or (matcher is not None and matcher.is_terminated)
        finish = "stop" if over else "length" if len(self.output_tokens) >= self.max_new_tokens else None
        if finish:
            piece += self.detokenizer.finish()
            # What was held back to the last token may complete a stop string.
            finish = "stop" if self.detokenizer.stopped else finish
        return SequenceOutput(piece, finish, len(self.output_tokens))

    def to_error_output(self, error: EngineError) -> SequenceOutput:
        return SequenceOutput(TextDelta(), num_tokens=len(self.output_tokens), error=error)


StepOutputs = list[tuple[SequenceState, SequenceOutput]]
OutputHandler = Callable[[StepOutputs], None]


def emit_outputs(outputs: StepOutputs) -> None:
    """Tell every row of its progress."""
    for row, update in outputs:
        row.emit(update)


class Scheduler:
    """Owns a decoder and its thread. Everything public may be called from any thread.

    ``deliver`` is called from the decoding thread once a step, so that another thread is woken once a step.
    """

    def __init__(
        self,
        model_runner: ModelRunner,
        stop_token_ids: Collection[int],
        max_num_seqs: int,
        name: str,
        handle_outputs: OutputHandler = emit_outputs,
    ) -> None:
        self._model_runner = model_runner
        self._stop_token_ids = frozenset(stop_token_ids)
        self._max_num_seqs = max_num_seqs
        self._handle_outputs = handle_outputs
        self._running: list[SequenceState] = []
        self._waiting: deque[SequenceState] = deque()
        self._pause_waiters = 0
        self._closed = False
        self._step_lock = threading.Lock()
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"decode {name}", daemon=True)
        self._thread.start()

    @property
    def queue_lengths(self) -> tuple[int, int]:
        """Rows running and rows waiting."""
        return len(self._running), len(self._waiting)

    def submit(self, sequences: list[SequenceState]) -> None:
        """Let rows join as soon as there is room. Raises ``EngineUnavailable`` when too many wait already."""
        with self._condition:
            if self._closed or len(self._waiting) + len(sequences) > MAX_WAITING:
                raise EngineUnavailable("Too many requests wait for this model; try again.", "engine_overloaded")
            self._waiting.extend(sequences)
            self._condition.notify()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """No step runs meanwhile: the only safe time to change the model. Blocks until the running step is over."""
        with self._condition:
            self._pause_waiters += 1
        try:
            with self._step_lock:
                yield
        finally:
            with self._condition:
                self._pause_waiters -= 1
                self._condition.notify()

    def close(self) -> None:
        """End the thread; rows still in it fail."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                with self._step_lock:
                    self._step()
            except Exception as error:
                # Whatever it was, those who wait must hear of it, and the next rows find a working thread.
                log.exception("decoding failed")
                self._fail_all(_to_engine_error(error))
        self._fail_all(EngineUnavailable("The inference engine is stopping; try again."))

    def _wait_for_work(self) -> bool:
        with self._condition:
            while not self._closed and (self._pause_waiters or not (self._running or self._waiting)):
                self._condition.wait()
            return not self._closed

    def _step(self) -> None:
        """Let rows in, or take one step with those there are."""
        self._retain([row for row in self._running if not row.cancelled])
        newcomers = self._admit()
        if newcomers:
            self._running += newcomers
            logits_BV = self._model_runner.prefill(
                [row.prompt for row in newcomers], [row.adapter for row in newcomers]
            )
        elif self._running:
            newcomers = self._running
            logits_BV = self._model_runner.decode([row.output_tokens[-1] for row in newcomers])
        else:
            return
        choices = sample(logits_BV, [row.sampler for row in newcomers])
        updates = [
            (row, row.append_token(choice, self._stop_token_ids))
            for row, choice in zip(newcomers, choices, strict=True)
        ]
        done = {row for row, update in updates if update.is_final}
        self._retain([row for row in self._running if row not in done])
        self._handle_outputs([(row, update) for row, update in updates if update.has_update])

    def _admit(self) -> list[SequenceState]:
        admitted: list[SequenceState] = []
        with self._condition:
            while self._waiting and len(self._running) + len(admitted) < self._max_num_seqs:
                longest = max(len(row.prompt) for row in [*admitted, self._waiting[0]])
                if admitted and longest * (len(admitted) + 1) > MAX_PREFILL_TOKENS:
                    break
                row = self._waiting.popleft()
                if not row.cancelled:
                    admitted.append(row)
        return admitted

    def _retain(self, sequences: list[SequenceState]) -> None:
        if len(sequences) < len(self._running):
            kept = set(sequences)
            self._model_runner.retain([index for index, row in enumerate(self._running) if row in kept])
            self._running = sequences

    def _fail_all(self, error: EngineError) -> None:
        with self._condition:
            rows, self._running = [*self._running, *self._waiting], []
            self._waiting.clear()
        self._model_runner.retain([])
        self._handle_outputs([(row, row.to_error_output(error)) for row in rows])


def _to_engine_error(error: Exception) -> EngineError:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return EngineUnavailable("The engine ran out of memory on this batch; try again later.", "engine_overloaded")
    return EngineError("internal_error", f"The engine failed on this batch ({type(error).__name__}).")
