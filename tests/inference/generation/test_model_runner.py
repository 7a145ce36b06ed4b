"""Model runner: sequences that join and leave the batch have the logits that they would have
alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import Cache

from inference.generation.model_runner import ModelRunner

VOCABULARY_SIZE = 64


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    return LlamaForCausalLM(config).eval()


def build_model_runner(model: LlamaForCausalLM) -> ModelRunner:
    def forward(ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache, adapters: Sequence[str]) -> Tensor:
        assert len(adapters) == len(ids)
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1)
        logits: Tensor = out.logits[:, -1]
        return logits

    return ModelRunner(forward, torch.device("cpu"))


@torch.inference_mode()
def compute_next_logits(model: LlamaForCausalLM, tokens: list[int]) -> Tensor:
    """Compute the next logits of one sequence without batch, padding and cache."""
    logits: Tensor = model(input_ids=torch.tensor([tokens])).logits[0, -1]
    return logits


def assert_next_logits(logits: Tensor, model: LlamaForCausalLM, sequences: Sequence[list[int]]) -> None:
    for row, sequence in zip(logits, sequences, strict=True):
        torch.testing.assert_close(row, compute_next_logits(model, sequence), atol=1e-5, rtol=1e-5)


def test_prompts_of_different_lengths_prefill_as_one_batch(model: LlamaForCausalLM) -> None:
    prompts = [[5], [7, 8, 9, 10, 11, 12, 13], [1, 2, 3]]
    assert_next_logits(build_model_runner(model).prefill(prompts, [""] * 3), model, prompts)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_sequences_that_join_and_leave_do_not_change_others(model: LlamaForCausalLM, seed: int) -> None:
    """Every logit equals that of the single sequence, for any order of joining, stepping and
    leaving."""
    rng, model_runner, sequences = random.Random(seed), build_model_runner(model), list[list[int]]()
    for _ in range(8):
        action = rng.choice(["join", "step", "leave", "step"])
        if action == "join" or not sequences:
            prompts = [
                [rng.randrange(VOCABULARY_SIZE) for _ in range(rng.randint(1, 9))] for _ in range(rng.randint(1, 3))
            ]
            assert_next_logits(model_runner.prefill(prompts, [""] * len(prompts)), model, prompts)
            sequences += prompts
        elif action == "step":
            tokens = [rng.randrange(VOCABULARY_SIZE) for _ in sequences]
            sequences = [[*sequence, token] for sequence, token in zip(sequences, tokens, strict=True)]
            assert_next_logits(model_runner.decode(tokens), model, sequences)
        else:
            retained = sorted(rng.sample(range(len(sequences)), rng.randint(0, len(sequences) - 1)))
            model_runner.retain(retained)
            sequences = [sequences[index] for index in retained]
        assert len(model_runner) == len(sequences)


def test_steps_beyond_the_preallocated_cache(model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.generation.model_runner.CACHE_GROWTH", 3)
    model_runner, sequences = build_model_runner(model), [[1, 2, 3], [4]]
    assert_next_logits(model_runner.prefill(sequences, ["", ""]), model, sequences)
    for token in range(10):
        sequences = [[*sequence, token] for sequence in sequences]
        assert_next_logits(model_runner.decode([token, token]), model, sequences)


def test_padding_of_removed_sequences_is_removed(model: LlamaForCausalLM) -> None:
    widths: list[int] = []

    def forward(ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache, adapters: Sequence[str]) -> Tensor:
        widths.append(mask.shape[1])
        model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache)
        return torch.zeros(len(ids), VOCABULARY_SIZE)

    model_runner = ModelRunner(forward, torch.device("cpu"))
    model_runner.prefill([[1] * 40, [2] * 3], ["", ""])
    model_runner.retain([1])
    model_runner.decode([4])
    assert widths == [40, 4]
