"""Tests that the model of a step's memory agrees with measured peaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.training.memory.memory_probe import StepCase, measure_ratio
from training.models.architecture import Architecture
from training.models.step_memory import (
    StepInputs,
    average_weight_bytes,
    count_trainable_parameters,
    estimate_step_memory,
)

pytestmark = pytest.mark.integration

TOLERANCE = 0.15
LORA: dict[str, Any] = {"type": "lora"}
FULL: dict[str, Any] = {"type": "full"}

TINY = StepCase(260, 64, 4, 4, 2, 192, row_tokens=1024, rows=16, dtype="float32")
SMALL = StepCase(4096, 384, 8, 6, 2, 1024, row_tokens=256, rows=8, dtype="float32")
SMOLLM = StepCase(49_152, 576, 30, 9, 3, 1536, row_tokens=128, rows=4, dtype="bfloat16")
CASES = {
    "tiny, full, float32": replace(TINY, update=FULL),
    "tiny, lora, bfloat16": replace(TINY, dtype="bfloat16"),
    "20M, lora, float32": SMALL,
    "20M, lora, bfloat16": replace(SMALL, dtype="bfloat16"),
    "20M, full, bfloat16": replace(SMALL, dtype="bfloat16", update=FULL),
    "20M, full, float32, micro-batches": replace(SMALL, update=FULL, micro_batches=4),
    "20M, lora, float32, checkpointing": replace(SMALL, checkpointing=True),
    "20M, layers, bfloat16": replace(SMALL, dtype="bfloat16", update={"type": "layers", "last": 2}),
    "135M, lora, bfloat16": SMOLLM,
    "135M, lora, float32, checkpointing": replace(SMOLLM, dtype="float32", checkpointing=True),
    "135M, full, bfloat16": replace(SMOLLM, update=FULL),
    "135M, full, adamw8bit, bfloat16": replace(SMOLLM, update=FULL, optimizer="adamw8bit"),
    "135M, full, bfloat16, checkpointing": replace(SMOLLM, update=FULL, checkpointing=True, micro_batches=2),
}


def test_a_measured_peak() -> None:
    """With checkpointing the heap keeps nothing, so the measurement is the same every time."""
    assert measure_ratio(replace(SMALL, rows=4, checkpointing=True)) == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_measured_peaks(name: str) -> None:
    if CASES[name].optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    assert measure_ratio(CASES[name]) == pytest.approx(1, abs=TOLERANCE)


LLAMA_8B = Architecture(
    parameters=8_030_261_248,
    layers=32,
    width=4096,
    query_width=4096,
    key_width=1024,
    intermediate=14_336,
    vocabulary=128_256,
    tied=False,
    gated=True,
    fused=True,
)


def _build_inputs(update: str = "lora", **values: Any) -> StepInputs:
    trained = count_trainable_parameters(LLAMA_8B, update, 16, "all-linear", 2)
    defaults = StepInputs(
        architecture=LLAMA_8B,
        update=update,
        trainable_parameters=trained,
        base_bytes=2.0,
        compute_bytes=2.0,
        optimizer="adamw",
        tokens=4096,
        longest_row_tokens=4096,
        checkpointing=False,
        accumulates=False,
        device_type="cuda",
        trained_blocks=32,
        lora_rank=16,
    )
    return replace(defaults, **values)


def test_a_large_model() -> None:
    """8B in bfloat16: 16 GB of weights with LoRA; 128 GB for full training with AdamW."""
    lora = estimate_step_memory(_build_inputs())
    assert lora.weights == pytest.approx(16e9, rel=0.02)
    # rank · (d + k) for seven matrices of each block
    assert count_trainable_parameters(LLAMA_8B, "lora", 16, "all-linear", 0) == 41_943_040
    full = estimate_step_memory(_build_inputs("full"))
    assert full.weights + full.optimizer + full.gradients == pytest.approx(128e9, rel=0.01)
    assert full.total > 128e9
    four_bit = estimate_step_memory(_build_inputs(base_bytes=average_weight_bytes(LLAMA_8B, "bfloat16", "nf4")))
    # The embeddings keep bfloat16.
    linear = LLAMA_8B.parameters - LLAMA_8B.embedding_parameters
    assert lora.total - four_bit.total == pytest.approx(1.48 * linear)
    assert four_bit.weights == pytest.approx(5.9e9, rel=0.02)
    small = estimate_step_memory(_build_inputs("full", optimizer="adamw8bit"))
    assert full.total - small.total == pytest.approx(5.97 * LLAMA_8B.parameters)


def test_every_part_changes_the_peak() -> None:
    plain = estimate_step_memory(_build_inputs()).total
    assert estimate_step_memory(_build_inputs(checkpointing=True)).total < plain
    assert estimate_step_memory(_build_inputs(tokens=2048)).total < plain
    for changes in (
        {"tokens": 8192},
        {"accumulates": True},
        {"full_logits": True},
        {"lora_dropout": True},
        {"keeps_initial_weights": True},
        {"architecture": replace(LLAMA_8B, fused=False)},
        {"architecture": replace(LLAMA_8B, experts=8, experts_per_token=2)},
    ):
        assert estimate_step_memory(_build_inputs(**changes)).total > plain, changes
    full = {name: estimate_step_memory(_build_inputs("full", optimizer=name)) for name in ("adamw", "sgd", "adafactor")}
    assert full["adafactor"].optimizer < full["sgd"].optimizer < full["adamw"].optimizer
