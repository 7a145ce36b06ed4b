"""Generation requests: submission to the scheduler, outputs and token usage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from inference.generation.detokenizer import IncrementalDetokenizer, TextDelta
from inference.generation.llm_engine import GenerativeModel, LLMEngine
from inference.generation.sampling import Grammar, SamplingParams
from inference.generation.scheduler import SequenceOutput, SequenceState
from inference.protocol.errors import EngineError
from inference.protocol.generation import BaseCompletionRequest


@dataclass(frozen=True)
class GenerationRequest:
    """Request for one generated sequence."""

    prompt: list[int]
    sampling_params: SamplingParams
    detokenizer: IncrementalDetokenizer
    max_new_tokens: int
    """Maximum tokens to generate."""


@dataclass(frozen=True)
class GenerationHandle:
    """Handle of submitted sequences."""

    sequences: list[SequenceState]
    _outputs: asyncio.Queue[tuple[int, SequenceOutput]]

    async def stream_outputs(self) -> AsyncIterator[tuple[int, SequenceOutput]]:
        """Iterate over (index, output) of all sequences until all are finished.

        Raises the first error.
        """
        num_unfinished = len(self.sequences)
        while num_unfinished:
            index, output = await self._outputs.get()
            if output.error:
                raise output.error
            yield index, output
            num_unfinished -= output.finish_reason is not None

    async def collect(self) -> list[tuple[TextDelta, str | None]]:
        """Return the complete text and the finish reason of every sequence."""
        results: list[tuple[TextDelta, str | None]] = [(TextDelta(), None) for _ in self.sequences]
        async for index, output in self.stream_outputs():
            results[index] = (results[index][0] + output.delta, output.finish_reason)
        return results

    def build_usage(
        self, prompt_tokens: int, count_reasoning: Callable[[Sequence[int]], int] | None = None
    ) -> dict[str, Any]:
        """Build OpenAI's ``usage``.

        ``count_reasoning`` counts the tokens of the reasoning in a sequence's tokens.
        """
        reasoning_tokens = (
            sum(count_reasoning(sequence.output_tokens) for sequence in self.sequences) if count_reasoning else 0
        )
        completion_tokens = sum(len(sequence.output_tokens) for sequence in self.sequences)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


@asynccontextmanager
async def submit(model: GenerativeModel, requests: Sequence[GenerationRequest]) -> AsyncIterator[GenerationHandle]:
    """Submit requests to the model's scheduler.

    Leaving the context cancels unfinished sequences.
    """
    outputs = asyncio.Queue[tuple[int, SequenceOutput]]()

    def build_emit(index: int) -> Callable[[SequenceOutput], None]:
        def emit(output: SequenceOutput) -> None:
            outputs.put_nowait((index, output))

        return emit

    sequences = [
        SequenceState(
            request.prompt,
            model.adapter,
            request.sampling_params,
            request.detokenizer,
            request.max_new_tokens,
            build_emit(index),
        )
        for index, request in enumerate(requests)
    ]
    model.llm_engine.scheduler.submit(sequences)
    try:
        yield GenerationHandle(sequences, outputs)
    finally:
        for sequence in sequences:
            sequence.cancelled = True


def compute_max_new_tokens(llm_engine: LLMEngine, prompt: Sequence[int], param: str) -> int:
    """Return the number of tokens that fit in the context after the prompt.

    Raises ``EngineError`` if there are none. ``param`` is the field of the body.
    """
    max_new_tokens = llm_engine.max_model_len - len(prompt)
    if max_new_tokens <= 0:
        raise EngineError(
            "context_length_exceeded",
            f"'{param}' has {len(prompt)} tokens. This model's context of {llm_engine.max_model_len} tokens must "
            f"also fit the output. Shorten '{param}'.",
            param,
        )
    return max_new_tokens


def build_sampling_params(
    request: BaseCompletionRequest,
    logprobs: int | None,
    index: int,
    vocab_size: int,
    grammar: Grammar | None = None,
) -> SamplingParams:
    """Build the sampling parameters of a prompt's ``index``-th choice. Raises ``EngineError``."""
    bias = {int(token): value for token, value in (request.logit_bias or {}).items()}
    if bias and max(bias) >= vocab_size:
        raise EngineError(
            "invalid_request", f"Token ids of this model end at {vocab_size - 1}; remove larger ones.", "logit_bias"
        )
    return SamplingParams(
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        logit_bias=bias,
        logprobs=logprobs,
        # The choices of one request differ from one another, and are the same for the same request.
        seed=None if request.seed is None else request.seed + index,
        grammar=grammar,
    )
