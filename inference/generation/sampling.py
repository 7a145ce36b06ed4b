"""Choosing each row's next token, each by its own rules and its own random numbers.

Shapes: B rows, V vocabulary. A row's token depends on its own logits alone, never on its neighbours in the batch.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inference.structured_output.guidance import CompiledGrammar

GREEDY_TEMPERATURE = 1e-5
"""Temperatures below this take the likeliest token: dividing by them would overflow."""

_TOP_P_CANDIDATES = 1024
"""Tokens among which a nucleus is sought before the whole vocabulary is sorted."""

_BANNED_BY_MASK_BYTE = (torch.arange(256)[:, None] & 2 ** torch.arange(8) == 0).view(torch.int64).flatten()
"""Byte of a mask, a bit for each token that is allowed -> eight truth values, in one number, of those that are not."""


@dataclass(frozen=True)
class SamplingParams:
    """How one answer's tokens are chosen; the fields of the chat body, with their defaults."""

    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token id -> added to its logit."""
    logprobs: int | None = None
    """Alternatives to report beside each chosen token; None: report nothing."""
    seed: int | None = None
    grammar: CompiledGrammar | None = None
    """What the answer is held to."""


@dataclass(frozen=True)
class TokenLogprob:
    """A token and its log-probability (nats) before temperature, penalties, bias and grammar."""

    token: int
    logprob: float


@dataclass(frozen=True)
class SampledToken:
    """The next token of a row."""

    token: int
    is_finite: bool
    """False: the model gave NaN or no finite logit at all, and the token means nothing."""
    token_logprob: TokenLogprob | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()


class SamplerState:
    """One answer's rules and what they remember of it."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self.token_counts: Counter[int] = Counter()
        self.matcher = params.grammar.create_matcher() if params.grammar else None
        self._random = random.Random(params.seed)

    def draw_uniform(self) -> float:
        return self._random.random()

    def accept_token(self, token: int) -> None:
        """Remember the token that was chosen."""
        self.token_counts[token] += 1
        if self.matcher:
            self.matcher.accept_token(token)

    def iter_logit_adjustments(self) -> Iterator[tuple[int, float]]:
        """Token id, and what its logit gains; a token may come twice."""
        rules = self.params
        yield from rules.logit_bias.items()
        if rules.frequency_penalty or rules.presence_penalty:
            for token, count in self.token_counts.items():
                yield token, -rules.frequency_penalty * count - rules.presence_penalty


def sample(logits_BV: Tensor, samplers: Sequence[SamplerState]) -> list[SampledToken]:
    """The next token of every row; each sampler remembers its own."""
    raw_BV = logits_BV.float()
    shifted_BV = _apply_grammar_bitmask(_apply_logit_adjustments(raw_BV, samplers), samplers)
    best_B, token_B = shifted_BV.max(dim=-1)
    bests, tokens = best_B.tolist(), token_B.tolist()
    choices = []
    for index, sampler in enumerate(samplers):
        rules, finite = sampler.params, abs(bests[index]) < float("inf")
        token = tokens[index]
        if finite and rules.temperature >= GREEDY_TEMPERATURE:
            token = draw(shifted_BV[index], rules.temperature, rules.top_p, sampler.draw_uniform())
        if finite:
            sampler.accept_token(token)
        choices.append(
            build_sampled_token(raw_BV[index], token, rules.logprobs) if finite else SampledToken(token, False)
        )
    return choices


def draw(logits_V: Tensor, temperature: float, top_p: float, uniform: float) -> int:
    """The token at ``uniform`` (in [0, 1)) of the cumulated distribution, cut to its nucleus."""
    probs_V = torch.softmax(logits_V.double() / temperature, dim=-1)
    if top_p >= 1:
        return _search_cumulative(probs_V.cumsum(0), uniform)
    probs_K, ids_K = probs_V.topk(min(_TOP_P_CANDIDATES, len(probs_V)))
    if probs_K.sum() < top_p:
        probs_K, ids_K = probs_V.sort(descending=True)
    cumulated_K = probs_K.cumsum(0)
    kept = min(int((cumulated_K < top_p).sum()) + 1, len(cumulated_K))
    return int(ids_K[_search_cumulative(cumulated_K[:kept], uniform)])


def _search_cumulative(cumulated_K: Tensor, uniform: float) -> int:
    index = int(torch.searchsorted(cumulated_K, uniform * cumulated_K[-1:], right=True))
    return min(index, len(cumulated_K) - 1)


def _apply_logit_adjustments(logits_BV: Tensor, samplers: Sequence[SamplerState]) -> Tensor:
    entries = [(row, *shift) for row, sampler in enumerate(samplers) for shift in sampler.iter_logit_adjustments()]
    if not entries:
        return logits_BV
    rows, tokens, gains = (torch.tensor(column, device=logits_BV.device) for column in zip(*entries, strict=True))
    return logits_BV.index_put((rows, tokens), gains.to(logits_BV.dtype), accumulate=True)


def _apply_grammar_bitmask(logits_BV: Tensor, samplers: Sequence[SamplerState]) -> Tensor:
    """Without the tokens that a row's grammar does not let follow."""
    if not any(sampler.matcher for sampler in samplers):
        return logits_BV
    vocabulary, device = logits_BV.shape[1], logits_BV.device
    width = -(-vocabulary // 8)
    # On an accelerator the forward pass still runs while these are computed.
    bits = bytearray().join(_compute_bitmask(sampler, width) for sampler in samplers)
    bytes_BN = torch.frombuffer(bits, dtype=torch.uint8).to(device).view(-1, width)
    banned_BV = _BANNED_BY_MASK_BYTE.to(device)[bytes_BN.long()].view(torch.bool)[:, :vocabulary]
    return torch.where(banned_BV, -torch.inf, logits_BV)


def _compute_bitmask(sampler: SamplerState, width: int) -> bytes | bytearray:
    if sampler.matcher is None:
        return b"\xff" * width
    # A model's vocabulary may be padded beyond the tokenizer's, by tokens that nothing lets follow.
    return sampler.matcher.compute_bitmask()[:width].ljust(width, b"\0")


def build_sampled_token(logits_V: Tensor, token: int, num_logprobs: int | None) -> SampledToken:
    """The token as chosen from these logits; ``alternatives``: how many others to tell, None for no scores at all."""
    if num_logprobs is None:
        return SampledToken(token, True)
    logprobs_V = torch.log_softmax(logits_V, dim=-1)
    top = logprobs_V.topk(num_logprobs)
    listed = tuple(map(TokenLogprob, top.indices.tolist(), top.values.tolist()))
    return SampledToken(token, True, TokenLogprob(token, float(logprobs_V[token])), listed)
