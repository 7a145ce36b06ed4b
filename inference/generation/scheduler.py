"""Continuous batching: one thread per engine; sequences join and leave between two steps."""

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
"""Maximum padded prompt tokens of one prefill; the memory of its activations grows with them."""
MAX_WAITING = 1024
"""Maximum sequences that wait for a slot; more are rejected."""


@dataclass(frozen=True)
class SequenceOutput:
    """Output of one step for one sequence: new text and, at the end, reason and token count."""

    delta: TextDelta
    finish_reason: str | None = None
    """``stop`` | ``length``."""
    num_tokens: int = 0
    error: EngineError | None = None

    @property
    def is_final(self) -> bool:
        """True if this is the sequence's last output."""
        return self.finish_reason is not None or self.error is not None

    @property
    def has_update(self) -> bool:
        return self.is_final or bool(self.delta.text or self.delta.records)


@dataclass(eq=False)
class SequenceState:
    """State of one sequence. ``emit`` receives its outputs."""

    prompt: list[int]
    adapter: str
    sampling_params: SamplingParams
    detokenizer: IncrementalDetokenizer
    max_new_tokens: int
    """Maximum tokens to generate."""
    emit: Callable[[SequenceOutput], None]
    cancelled: bool = False
    """Set from any thread. The sequence leaves before the next step and emits nothing more."""
    output_tokens: list[int] = field(default_factory=list)
    sampler: SamplerState = field(init=False)

    def __post_init__(self) -> None:
        self.sampler = SamplerState(self.sampling_params)

    def append_token(self, sampled_token: SampledToken, stop_token_ids: Collection[int]) -> SequenceOutput:
        """Append a sampled token and return the resulting output."""
        matcher = self.sampler.matcher
        if matcher and (grammar_error := matcher.error):
            return self.to_error_output(grammar_error)
        if not sampled_token.has_finite_logits:
            return self.to_error_output(
                EngineError(
                    "model_unusable",
                    "The model's logits are not finite (NaN); train it again, for example with a lower learning rate.",
                )
            )
        self.output_tokens.append(sampled_token.token)
        is_stop_token = sampled_token.token in stop_token_ids
        delta = (
            TextDelta()
            if is_stop_token
            else self.detokenizer.feed(sampled_token.token, sampled_token if sampled_token.token_logprob else None)
        )
        is_stopped = is_stop_token or self.detokenizer.stopped or (matcher is not None and matcher.is_terminated)
        finish_reason = "stop" if is_stopped else "length" if len(self.output_tokens) >= self.max_new_tokens else None
        if finish_reason:
            delta += self.detokenizer.finish()
            # Text that was withheld until the last token can complete a stop string.
            finish_reason = "stop" if self.detokenizer.stopped else finish_reason
        return SequenceOutput(delta, finish_reason, len(self.output_tokens))

    def to_error_output(self, error: EngineError) -> SequenceOutput:
        return SequenceOutput(TextDelta(), num_tokens=len(self.output_tokens), error=error)


StepOutputs = list[tuple[SequenceState, SequenceOutput]]
OutputHandler = Callable[[StepOutputs], None]


def emit_outputs(outputs: StepOutputs) -> None:
    """Pass every output to its sequence's ``emit``."""
    for sequence, output in outputs:
        sequence.emit(output)


class Scheduler:
    """Scheduler of one model runner, with its own thread. All public methods are thread-safe.

    ``handle_outputs`` is called from the scheduler's thread once per step, so that the receiving
    thread is woken only once per step.
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
        """Numbers of running and waiting sequences."""
        return len(self._running), len(self._waiting)

    def submit(self, sequences: list[SequenceState]) -> None:
        """Queue sequences until slots are free.

        Raises ``EngineUnavailable`` if the queue is full.
        """
        with self._condition:
            if self._closed or len(self._waiting) + len(sequences) > MAX_WAITING:
                raise EngineUnavailable("Too many requests are waiting for this model; try again.", "engine_overloaded")
            self._waiting.extend(sequences)
            self._condition.notify()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Pause stepping, so that the model can be changed safely.

        Blocks until the running step has finished.
        """
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
        """Stop the thread. Sequences that are still running or waiting fail."""
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
                # Fail every pending sequence and keep the thread alive for new ones.
                log.exception("decoding failed")
                self._fail_all(_to_engine_error(error))
        self._fail_all(EngineUnavailable("The inference engine is stopping; try again."))

    def _wait_for_work(self) -> bool:
        with self._condition:
            while not self._closed and (self._pause_waiters or not (self._running or self._waiting)):
                self._condition.wait()
            return not self._closed

    def _step(self) -> None:
        """Prefill waiting sequences if slots are free, else decode a token for all running ones."""
        self._retain([sequence for sequence in self._running if not sequence.cancelled])
        scheduled = self._admit()
        if scheduled:
            self._running += scheduled
            logits_BV = self._model_runner.prefill(
                [sequence.prompt for sequence in scheduled], [sequence.adapter for sequence in scheduled]
            )
        elif self._running:
            scheduled = self._running
            logits_BV = self._model_runner.decode([sequence.output_tokens[-1] for sequence in scheduled])
        else:
            return
        sampled_tokens = sample(logits_BV, [sequence.sampler for sequence in scheduled])
        outputs = [
            (sequence, sequence.append_token(sampled_token, self._stop_token_ids))
            for sequence, sampled_token in zip(scheduled, sampled_tokens, strict=True)
        ]
        finished = {sequence for sequence, output in outputs if output.is_final}
        self._retain([sequence for sequence in self._running if sequence not in finished])
        self._handle_outputs([(sequence, output) for sequence, output in outputs if output.has_update])

    def _admit(self) -> list[SequenceState]:
        admitted: list[SequenceState] = []
        with self._condition:
            while self._waiting and len(self._running) + len(admitted) < self._max_num_seqs:
                longest = max(len(sequence.prompt) for sequence in [*admitted, self._waiting[0]])
                if admitted and longest * (len(admitted) + 1) > MAX_PREFILL_TOKENS:
                    break
                sequence = self._waiting.popleft()
                if not sequence.cancelled:
                    admitted.append(sequence)
        return admitted

    def _retain(self, sequences: list[SequenceState]) -> None:
        if len(sequences) < len(self._running):
            retained = set(sequences)
            self._model_runner.retain([index for index, sequence in enumerate(self._running) if sequence in retained])
            self._running = sequences

    def _fail_all(self, error: EngineError) -> None:
        with self._condition:
            sequences, self._running = [*self._running, *self._waiting], []
            self._waiting.clear()
        self._model_runner.retain([])
        self._handle_outputs([(sequence, sequence.to_error_output(error)) for sequence in sequences])


def _to_engine_error(error: Exception) -> EngineError:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return EngineUnavailable("The engine ran out of memory on this batch; try again later.", "engine_overloaded")
    return EngineError("internal_error", f"The engine failed on this batch ({type(error).__name__}).")
