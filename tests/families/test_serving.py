"""Tests for serving every family in batches: a sequence has the logits that it has alone, without
cache and padding."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.cache_utils import Cache

from inference.generation.model_runner import ModelRunner
from tests.families.catalog import DECODERS

VOCABULARY_SIZE = 256


@torch.inference_mode()
def assert_next_logits(logits_BV: Tensor, model: Any, sequences: Sequence[list[int]]) -> None:
    for row_V, sequence in zip(logits_BV, sequences, strict=True):
        expected_V = model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(row_V, expected_V, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_sequences_that_join_and_leave_do_not_change_others(tmp_path: Path, name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(DECODERS[name].create_base(tmp_path / "base")).eval()

    def forward(ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache, adapters: Sequence[str]) -> Tensor:
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
        logits: Tensor = out.logits[:, -1]
        return logits

    runner = ModelRunner(forward, torch.device("cpu"), getattr(model.config, "layer_types", None) or ())
    rng = random.Random(0)

    def draw(length: int) -> list[int]:
        return [rng.randrange(10, VOCABULARY_SIZE) for _ in range(length)]

    # Longer than a sliding window of 32 and a chunk of 64 in a recurrent layer.
    sequences = [draw(70), draw(3), draw(40)]
    assert_next_logits(runner.prefill(sequences, [""] * 3), model, sequences)
    for step in range(6):
        if step == 2:
            runner.retain([1, 2])
            del sequences[0]
        if step == 3:
            joining = [draw(50), draw(2)]
            assert_next_logits(runner.prefill(joining, [""] * 2), model, joining)
            sequences += joining
        tokens = draw(len(sequences))
        sequences = [[*sequence, token] for sequence, token in zip(sequences, tokens, strict=True)]
        assert_next_logits(runner.decode(tokens), model, sequences)
