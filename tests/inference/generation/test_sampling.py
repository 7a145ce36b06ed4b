"""Sampling: each parameter has OpenAI's meaning, and a sequence never depends on others of its
batch."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.generation.sampling import SamplerState, SamplingParams, draw, sample


def sample_tokens(logits: list[float], params: SamplingParams, count: int) -> list[int]:
    """Sample ``count`` successive tokens from the same logits."""
    sampler = SamplerState(params)
    return [sample(torch.tensor([logits]), [sampler])[0].token for _ in range(count)]


def test_temperature_zero_selects_the_most_likely_token() -> None:
    assert sample_tokens([0.1, 3.0, 2.9], SamplingParams(temperature=0), 20) == [1] * 20


def test_a_temperature_too_small_to_divide_by_is_greedy() -> None:
    assert sample_tokens([0.1, 3.0, 2.9], SamplingParams(temperature=1e-30), 5) == [1] * 5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_those_of_the_softmax(temperature: float) -> None:
    logits = [0.0, 1.0, 2.0, -1.0]
    counts = Counter(sample_tokens(logits, SamplingParams(temperature=temperature, seed=3), 4000))
    expected = torch.softmax(torch.tensor(logits) / temperature, -1)
    for token, probability in enumerate(expected.tolist()):
        assert counts[token] / 4000 == pytest.approx(probability, abs=0.03)


def test_top_p_keeps_the_smallest_nucleus() -> None:
    logits = [math.log(probability) for probability in (0.05, 0.5, 0.3, 0.15)]
    assert set(sample_tokens(logits, SamplingParams(top_p=0.5, seed=1), 200)) == {1}
    assert set(sample_tokens(logits, SamplingParams(top_p=0.51, seed=1), 200)) == {1, 2}
    assert set(sample_tokens(logits, SamplingParams(top_p=0.9, seed=1), 200)) == {1, 2, 3}
    assert set(sample_tokens(logits, SamplingParams(top_p=0.0, seed=1), 50)) == {1}


def test_a_nucleus_may_be_larger_than_the_first_candidates() -> None:
    logits = torch.zeros(5000)
    assert {draw(logits, 1.0, 0.9, index / 100) for index in range(100)} > set()
    # The nucleus has 90 % of 5000 equal tokens, which is more than the first 1024 candidates.
    assert len({draw(logits, 1.0, 0.9, index / 2000) for index in range(2000)}) == 2000


@given(uniform=st.floats(0, 1, exclude_max=True), top_p=st.floats(0, 1))
def test_a_token_of_probability_zero_is_never_drawn(uniform: float, top_p: float) -> None:
    assert draw(torch.tensor([-math.inf, 0.0, -math.inf, 1.0, -math.inf]), 1.0, top_p, uniform) in {1, 3}


def test_seeds_repeat_and_differ() -> None:
    logits = [0.0] * 50
    first = sample_tokens(logits, SamplingParams(seed=7), 20)
    assert first == sample_tokens(logits, SamplingParams(seed=7), 20)
    assert first != sample_tokens(logits, SamplingParams(seed=8), 20)
    assert sample_tokens(logits, SamplingParams(), 20) != sample_tokens(logits, SamplingParams(), 20)


def test_a_sequence_draws_the_same_in_any_batch() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 100)
    alone = [SamplerState(SamplingParams(seed=seed)) for seed in range(4)]
    batched = [SamplerState(SamplingParams(seed=seed, top_p=0.8 if seed == 3 else 1.0)) for seed in range(4)]
    for _ in range(10):
        together = [sampled.token for sampled in sample(logits, batched)]
        assert together[:3] == [sample(logits[row : row + 1], [alone[row]])[0].token for row in range(3)]


def test_bias_adds_to_the_logit() -> None:
    assert sample_tokens([0.0, 5.0], SamplingParams(temperature=0, logit_bias={0: 6}), 1) == [0]
    assert sample_tokens([0.0, 5.0], SamplingParams(logit_bias={1: -100}), 30) == [0] * 30


def test_presence_penalty_counts_once_and_frequency_each_time() -> None:
    # Token 0 leads by 1.5. A presence penalty of 1 never changes the order; a frequency penalty of
    # 1 does after two.
    assert sample_tokens([1.5, 0.0], SamplingParams(temperature=0, presence_penalty=1), 5) == [0] * 5
    assert sample_tokens([1.5, 0.0], SamplingParams(temperature=0, frequency_penalty=1), 4) == [0, 0, 1, 0]
    assert sample_tokens([1.5, 0.0], SamplingParams(temperature=0, presence_penalty=2), 3) == [0, 1, 0]


def test_penalties_and_bias_of_a_sequence_do_not_affect_others() -> None:
    logits = torch.tensor([[0.0, 5.0], [0.0, 5.0]])
    samplers = [
        SamplerState(SamplingParams(temperature=0, logit_bias={0: 100})),
        SamplerState(SamplingParams(temperature=0)),
    ]
    assert [sampled.token for sampled in sample(logits, samplers)] == [0, 1]
    assert logits.tolist() == [[0.0, 5.0], [0.0, 5.0]]


def test_logprobs_are_the_models_own() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    expected = torch.log_softmax(logits[0], -1).tolist()
    sampled = sample(logits, [SamplerState(SamplingParams(temperature=0, logit_bias={0: 50}, logprobs=2))])[0]
    assert sampled.token_logprob is not None
    assert (sampled.token, sampled.token_logprob.token) == (0, 0)
    assert sampled.token_logprob.logprob == pytest.approx(expected[0])
    assert [alternative.token for alternative in sampled.top_logprobs] == [2, 1]
    assert [alternative.logprob for alternative in sampled.top_logprobs] == pytest.approx([expected[2], expected[1]])


def test_logprobs_are_optional() -> None:
    sampled = sample(torch.tensor([[1.0, 2.0]]), [SamplerState(SamplingParams())])[0]
    assert sampled.token_logprob is None
    assert sampled.top_logprobs == ()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sequence_with_non_finite_logits_is_marked_and_others_are_not(value: float) -> None:
    logits = torch.tensor([[0.0, value], [0.0, 1.0]])
    for temperature in (0.0, 1.0):
        invalid, valid = sample(logits, [SamplerState(SamplingParams(temperature=temperature)) for _ in range(2)])
        assert not invalid.has_finite_logits
        assert valid.has_finite_logits
