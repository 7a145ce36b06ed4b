"""One request in the scheduler: its rows, what they make, and how many tokens that took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from inference.generation.detokenizer import IncrementalDetokenizer, TextDelta
from inference.generation.llm_engine import GenerativeModel, LLMEngine
from inference.generation.sampling import SamplingParams
from inference.generation.scheduler import SequenceOutput, SequenceState
from inference.protocol.errors import EngineError
from inference.protocol.generation import BaseCompletionRequest
from inference.structured_output.guidance import CompiledGrammar


@dataclass(frozen=True)
class GenerationRequest:
    """An answer to make."""

    prompt: list[int]
    sampling_params: SamplingParams
    detokenizer: IncrementalDetokenizer
    max_new_tokens: int
    """Tokens to make at most."""


@dataclass(frozen=True)
class GenerationHandle:
    """Rows at work."""

    sequences: list[SequenceState]
    _outputs: asyncio.Queue[tuple[int, SequenceOutput]]

    async def stream_outputs(self) -> AsyncIterator[tuple[int, SequenceOutput]]:
        """What each row makes, by index, until all are complete. Raises the first row's error."""
        open_rows = len(self.sequences)
        while open_rows:
            index, update = await self._outputs.get()
            if update.error:
                raise update.error
            yield index, update
            open_rows -= update.finish_reason is not None

    async def collect(self) -> list[tuple[TextDelta, str | None]]:
        """Every row's answer and why it ended."""
        made: list[tuple[TextDelta, str | None]] = [(TextDelta(), None) for _ in self.sequences]
        async for index, update in self.stream_outputs():
            made[index] = (made[index][0] + update.delta, update.finish_reason)
        return made

    def build_usage(self, prompt_tokens: int) -> dict[str, Any]:
        """OpenAI's."""
        answer = sum(len(row.output_tokens) for row in self.sequences)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": answer,
            "total_tokens": prompt_tokens + answer,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


@asynccontextmanager
async def submit(model: GenerativeModel, requests: Sequence[GenerationRequest]) -> AsyncIterator[GenerationHandle]:
    """The answers in the making; on leaving, early or not, they stop."""
    updates = asyncio.Queue[tuple[int, SequenceOutput]]()

    def build_emit(index: int) -> Callable[[SequenceOutput], None]:
        def emit(update: SequenceOutput) -> None:
            updates.put_nowait((index, update))

        return emit

    rows = [
        SequenceState(
            wanted.prompt,
            model.adapter,
            wanted.sampling_params,
            wanted.detokenizer,
            wanted.max_new_tokens,
            build_emit(index),
        )
        for index, wanted in enumerate(requests)
    ]
    model.llm_engine.scheduler.submit(rows)
    try:
        yield GenerationHandle(rows, updates)
    finally:
        for row in rows:
            row.cancelled = True


def compute_max_new_tokens(llm_engine: LLMEngine, prompt: Sequence[int], param: str) -> int:
    """Tokens that the context leaves for an answer. Raises ``EngineError``; ``what`` is the body's field."""
    left = llm_engine.context - len(prompt)
    if left <= 0:
        raise EngineError(
            "context_length_exceeded",
            f"The {param} has {len(prompt)} tokens, and this model's context of {llm_engine.context} must hold the answer "
            "too. Shorten it.",
            param,
        )
    return left


def build_sampling_params(
    request: BaseCompletionRequest,
    logprobs: int | None,
    index: int,
    vocab_size: int,
    grammar: CompiledGrammar | None = None,
) -> SamplingParams:
    """How the ``index``-th answer to a prompt is chosen. Raises ``EngineError``."""
    bias = {int(token): value for token, value in (request.logit_bias or {}).items()}
    if bias and max(bias) >= vocab_size:
        raise EngineError("invalid_request", f"Token ids of this model end at {vocab_size - 1}.", "logit_bias")
    return SamplingParams(
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        logit_bias=bias,
        logprobs=logprobs,
        # Answers to one request differ from one another, and are the same ones the next time.
        seed=None if request.seed is None else request.seed + index,
        grammar=grammar,
    )
