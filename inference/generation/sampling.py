"""Token sampling. Every sequence has its own sampling parameters and random numbers.

Shapes: B sequences, V vocabulary, N bytes of a bitmask, K candidates. A sequence's token depends
only on its own logits, never on other sequences of the batch.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inference.structured_output.deferred import DeferredGrammar
from inference.structured_output.guidance import CompiledGrammar

Grammar = CompiledGrammar | DeferredGrammar

GREEDY_TEMPERATURE = 1e-5
"""Temperatures below this value select the most likely token: dividing by them would overflow."""

_TOP_P_CANDIDATES = 1024
"""Number of most likely tokens that are searched for the nucleus before the whole vocabulary is
sorted."""

_BANNED_FLAGS_BY_BITMASK_BYTE = (torch.arange(256)[:, None] & 2 ** torch.arange(8) == 0).view(torch.int64).flatten()
"""Eight booleans for each value of a byte of the bitmask of allowed tokens, stored as one int64:
true for each token that is banned."""


@dataclass(frozen=True)
class SamplingParams:
    """Sampling parameters of one sequence: fields of the request with their defaults."""

    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token id -> value added to its logit."""
    logprobs: int | None = None
    """Number of alternatives reported with each token's logprob. None: no logprobs."""
    seed: int | None = None
    grammar: Grammar | None = None
    """Grammar that constrains the output. None: unconstrained."""


@dataclass(frozen=True)
class TokenLogprob:
    """Token and its log-probability (nats) before temperature, penalties, bias and grammar."""

    token: int
    logprob: float


@dataclass(frozen=True)
class SampledToken:
    """Sampled next token of a sequence."""

    token: int
    has_finite_logits: bool
    """False: the logits contain NaN or no finite value, and the token is meaningless."""
    token_logprob: TokenLogprob | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()


class SamplerState:
    """Sampling parameters of one sequence, with the state that depends on its output so far."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self.token_counts: Counter[int] = Counter()
        self.matcher = params.grammar.create_matcher() if params.grammar else None
        self._random = random.Random(params.seed)

    def draw_uniform(self) -> float:
        return self._random.random()

    def accept_token(self, token: int) -> None:
        """Record the sampled token."""
        self.token_counts[token] += 1
        if self.matcher:
            self.matcher.accept_token(token)

    def iter_logit_adjustments(self) -> Iterator[tuple[int, float]]:
        """Iterate over (token id, value added to its logit). A token can occur twice."""
        params = self.params
        yield from params.logit_bias.items()
        if params.frequency_penalty or params.presence_penalty:
            for token, count in self.token_counts.items():
                yield token, -params.frequency_penalty * count - params.presence_penalty


def sample(logits_BV: Tensor, samplers: Sequence[SamplerState]) -> list[SampledToken]:
    """Sample the next token of every sequence and record it in the sequence's sampler."""
    raw_BV = logits_BV.float()
    adjusted_BV = _apply_grammar_bitmask(_apply_logit_adjustments(raw_BV, samplers), samplers)
    max_B, token_B = adjusted_BV.max(dim=-1)
    max_logits, tokens = max_B.tolist(), token_B.tolist()
    sampled_tokens = []
    for index, sampler in enumerate(samplers):
        params, is_finite = sampler.params, abs(max_logits[index]) < float("inf")
        token = tokens[index]
        if is_finite and params.temperature >= GREEDY_TEMPERATURE:
            token = draw(adjusted_BV[index], params.temperature, params.top_p, sampler.draw_uniform())
        if is_finite:
            sampler.accept_token(token)
        sampled_tokens.append(
            build_sampled_token(raw_BV[index], token, params.logprobs) if is_finite else SampledToken(token, False)
        )
    return sampled_tokens


def draw(logits_V: Tensor, temperature: float, top_p: float, uniform: float) -> int:
    """Draw a token from the nucleus by inverting the cumulative distribution at ``uniform``, in
    [0, 1)."""
    probs_V = torch.softmax(logits_V.double() / temperature, dim=-1)
    if top_p >= 1:
        return _search_cumulative(probs_V.cumsum(0), uniform)
    probs_K, ids_K = probs_V.topk(min(_TOP_P_CANDIDATES, len(probs_V)))
    if probs_K.sum() < top_p:
        probs_K, ids_K = probs_V.sort(descending=True)
    cumulative_K = probs_K.cumsum(0)
    nucleus_size = min(int((cumulative_K < top_p).sum()) + 1, len(cumulative_K))
    return int(ids_K[_search_cumulative(cumulative_K[:nucleus_size], uniform)])


def _search_cumulative(cumulative_K: Tensor, uniform: float) -> int:
    index = int(torch.searchsorted(cumulative_K, uniform * cumulative_K[-1:], right=True))
    return min(index, len(cumulative_K) - 1)


def _apply_logit_adjustments(logits_BV: Tensor, samplers: Sequence[SamplerState]) -> Tensor:
    entries = [
        (row, *adjustment) for row, sampler in enumerate(samplers) for adjustment in sampler.iter_logit_adjustments()
    ]
    if not entries:
        return logits_BV
    rows, tokens, values = (torch.tensor(column, device=logits_BV.device) for column in zip(*entries, strict=True))
    return logits_BV.index_put((rows, tokens), values.to(logits_BV.dtype), accumulate=True)


def _apply_grammar_bitmask(logits_BV: Tensor, samplers: Sequence[SamplerState]) -> Tensor:
    """Set the logits of tokens that a sequence's grammar does not allow to -inf."""
    if not any(sampler.matcher for sampler in samplers):
        return logits_BV
    vocab_size, device = logits_BV.shape[1], logits_BV.device
    width = -(-vocab_size // 8)
    # On a GPU the forward pass still runs while the CPU computes the bitmasks.
    bits = bytearray().join(_compute_bitmask(sampler, width) for sampler in samplers)
    bytes_BN = torch.frombuffer(bits, dtype=torch.uint8).to(device).view(-1, width)
    banned_BV = _BANNED_FLAGS_BY_BITMASK_BYTE.to(device)[bytes_BN.long()].view(torch.bool)[:, :vocab_size]
    return torch.where(banned_BV, -torch.inf, logits_BV)


def _compute_bitmask(sampler: SamplerState, width: int) -> bytes | bytearray:
    if sampler.matcher is None:
        return b"\xff" * width
    # A model's vocabulary can be padded beyond the tokenizer's. No grammar allows the padding
    # tokens.
    return sampler.matcher.compute_bitmask()[:width].ljust(width, b"\0")


def build_sampled_token(logits_V: Tensor, token: int, num_logprobs: int | None) -> SampledToken:
    """Build a sampled token with its logprobs from the logits.

    ``num_logprobs`` is the number of alternatives; None omits all logprobs.
    """
    if num_logprobs is None:
        return SampledToken(token, True)
    logprobs_V = torch.log_softmax(logits_V, dim=-1)
    top = logprobs_V.topk(num_logprobs)
    top_logprobs = tuple(map(TokenLogprob, top.indices.tolist(), top.values.tolist()))
    return SampledToken(token, True, TokenLogprob(token, float(logprobs_V[token])), top_logprobs)
