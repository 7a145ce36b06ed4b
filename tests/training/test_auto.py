"""Tests for the rules that resolve ``auto`` hyperparameters."""

from __future__ import annotations

import re
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from training.data.batch_sampler import MEGA_BATCH_MULT, LengthGroupedBatchSampler, split_batch
from training.hyperparameters import auto
from training.hyperparameters.auto import AutoInputs, resolve
from training.hyperparameters.device_fit import MICRO_BATCH_TOKENS
from training.hyperparameters.learning_rates import OPTIMIZER_FACTORS, PEAK_RATES
from training.spec import DEVICE_HYPERPARAMETERS, DpoHyperparameters, Hyperparameters
from training.tasks import TASKS_BY_METHOD
from training.trainer.schedule import SCHEDULES, compute_learning_rate

STORY = AutoInputs(
    family="generative",
    update="lora",
    method="supervised",
    parameters=260_000,
    width=64,
    context_length=512,
    rows=32,
    splittable=True,
    has_general_file=False,
)
QWEN = replace(STORY, parameters=596_000_000, width=1024, context_length=32768, rows=1000)
LLAMA = replace(QWEN, parameters=8_000_000_000, width=4096, context_length=131072, rows=10_000)
MINILM = replace(STORY, family="discriminative", update="full", parameters=22_700_000, width=384, rows=10_000)
BERT = replace(MINILM, parameters=110_000_000, width=768)
AUTO = DpoHyperparameters()
MAX_LENGTH_BOUND = 1_000_000

DOCS = Path(__file__).parents[2] / "docs" / "hyperparameters.md"


@pytest.mark.parametrize(
    ("inputs", "rates", "epochs", "batches"),
    [
        (STORY, (2e-3, 1e-2), (20, 50), (4, 4)),
        (replace(STORY, rows=200), (2e-3, 1e-2), (3, 8), (4, 8)),
        (QWEN, (1e-4, 3.2e-4), (3, 3), (16, 16)),
        (LLAMA, (5e-5, 3e-4), (3, 3), (16, 16)),
        (replace(QWEN, update="full"), (1e-5, 2e-5), (3, 3), (16, 16)),
        (replace(LLAMA, update="full"), (1e-5, 2e-5), (3, 3), (16, 16)),
        (MINILM, (2e-4, 3e-4), (6, 8), (32, 32)),
        (BERT, (3e-5, 8e-5), (6, 8), (32, 32)),
        (replace(MINILM, rows=300), (2e-4, 3e-4), (6, 8), (16, 16)),
        (replace(MINILM, rows=3), (2e-4, 3e-4), (50, 50), (3, 3)),
        (replace(MINILM, update="lora"), (5e-4, 3e-3), (8, 12), (32, 32)),
    ],
)
def test_rules_give_common_values(inputs: AutoInputs, rates: Any, epochs: Any, batches: Any) -> None:
    chosen = resolve(AUTO, inputs)
    assert rates[0] <= chosen.learning_rate <= rates[1]
    assert epochs[0] <= chosen.n_epochs <= epochs[1]
    assert batches[0] <= chosen.batch_size <= batches[1]
    steps = ceil(inputs.rows / chosen.batch_size)
    assert chosen.max_steps == chosen.n_epochs * steps
    assert chosen.eval_every == steps
    assert chosen.max_steps // chosen.save_every <= 10


def test_small_sets_get_enough_steps() -> None:
    for rows in (10, 32, 100, 200):
        assert resolve(AUTO, replace(STORY, rows=rows)).max_steps >= 100


def test_a_resolved_object_resolves_to_itself() -> None:
    for inputs in (STORY, QWEN, MINILM):
        chosen = resolve(AUTO, inputs)
        public = DpoHyperparameters.model_validate(chosen.public())
        assert resolve(public, inputs) == chosen


def test_requested_values_are_unchanged() -> None:
    requested = DpoHyperparameters(
        n_epochs=2, batch_size=5, warmup_ratio=0.5, lr_scheduler="cosine", label_smoothing=0.3
    )
    chosen = resolve(requested, MINILM)
    for name in requested.model_fields_set:
        assert getattr(chosen, name) == getattr(requested, name)


def test_rate_and_multiplier() -> None:
    rule = resolve(AUTO, MINILM).learning_rate
    assert resolve(DpoHyperparameters(learning_rate_multiplier=2.0), MINILM).learning_rate == 2 * rule
    chosen = resolve(DpoHyperparameters(learning_rate=3 * rule), MINILM)
    assert chosen.learning_rate_multiplier == pytest.approx(3)
    with pytest.raises(ValidationError, match="exclude each other"):
        Hyperparameters(learning_rate=0.1, learning_rate_multiplier=2.0)


def test_max_steps_and_epochs() -> None:
    inputs = replace(MINILM, rows=320)
    assert resolve(DpoHyperparameters(batch_size=32, max_steps=25), inputs).n_epochs == 3
    assert resolve(DpoHyperparameters(batch_size=32, max_steps=25, n_epochs=2), inputs).max_steps == 20
    assert resolve(DpoHyperparameters(batch_size=32, max_steps=10**6), inputs).max_steps == 500


def test_what_depends_on_the_device_stays_auto() -> None:
    chosen = resolve(AUTO, QWEN).public()
    assert {name for name, value in chosen.items() if value == "auto"} == DEVICE_HYPERPARAMETERS
    assert resolve(AUTO, replace(QWEN, splittable=False)).gradient_accumulation_steps == 1
    requested = DpoHyperparameters(dtype="float32", gradient_accumulation_steps=2, gradient_checkpointing=True)
    assert "auto" not in resolve(requested, QWEN).public().values()


def test_values_that_do_not_apply_are_not_public() -> None:
    assert {"beta", "loss", "max_seconds"}.isdisjoint(resolve(AUTO, QWEN).public())
    chosen = resolve(AUTO, replace(QWEN, family="preference", method="dpo")).public()
    assert (chosen["beta"], chosen["loss"]) == (0.1, "sigmoid")


def test_general_rows() -> None:
    assert auto.count_general_rows(AUTO, 90, 1000) == 10
    assert auto.count_general_rows(AUTO, 90, 4) == 4
    assert auto.count_general_rows(DpoHyperparameters(general_share=0.5), 90, 1000) == 90
    assert auto.count_general_rows(DpoHyperparameters(general_share=0.0), 90, 1000) == 0
    assert resolve(AUTO, replace(QWEN, has_general_file=True)).general_share == auto.DEFAULT_GENERAL_SHARE


def test_every_task_has_a_rate_and_epochs_for_every_update_that_fits() -> None:
    for tasks in TASKS_BY_METHOD.values():
        for task in tasks.values():
            for update in task.updates:
                inputs = replace(QWEN, family=task.family, update=update)
                assert 0 < resolve(AUTO, inputs).learning_rate <= 0.02
    sgd = resolve(DpoHyperparameters(optimizer="sgd"), BERT).learning_rate
    assert sgd == pytest.approx(OPTIMIZER_FACTORS["sgd"] * resolve(AUTO, BERT).learning_rate, rel=0.01)
    assert all(
        rate.min <= rate.scale_to(width) <= rate.max for rate in PEAK_RATES.values() for width in (64, 768, 8192)
    )


def test_default_updates() -> None:
    assert auto.choose_default_update("chat", 260_000).type == "lora"
    assert auto.choose_default_update("text-classification", 22_000_000).type == "full"
    assert auto.choose_default_update("text-classification", 600_000_000).type == "lora"
    assert auto.choose_default_update("seq2seq", 60_000_000).type == "lora"
    assert auto.choose_default_update("embedding", 22_000_000).type == "full"


def test_few_rows_are_reported() -> None:
    assert auto.warn_if_too_few_rows(10) is None
    assert "9 rows" in (auto.warn_if_too_few_rows(9) or "")


def test_every_hyperparameter_has_a_rule_and_a_line_in_the_docs() -> None:
    assert set(auto.RULES) == set(DpoHyperparameters.model_fields) == set(auto.ResolvedHyperparameters.model_fields)
    documented = re.findall(r"^\| `(\w+)`", DOCS.read_text(), re.MULTILINE)
    assert set(DpoHyperparameters.model_fields) <= set(documented)


def test_the_docs_rates_are_the_tables() -> None:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| ([\de.-]+) \| (\d+) \| ([\d.]+) \|", DOCS.read_text(), re.MULTILINE)
    documented = {(family, update): tuple(map(float, numbers)) for family, update, *numbers in rows}
    assert documented == {key: (rate.base, rate.width, rate.exponent) for key, rate in PEAK_RATES.items()}


def test_the_docs_ranges_are_the_schemas() -> None:
    cells = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", DOCS.read_text(), re.MULTILINE))
    for name, schema in DpoHyperparameters.model_json_schema()["properties"].items():
        for choice in schema["anyOf"]:
            bounds = {value for key, value in choice.items() if key.lower().endswith("imum")}
            # The docs omit the upper bound of max_length, which exceeds every model's limit.
            bounds -= {MAX_LENGTH_BOUND} if name == "max_length" else set()
            for documented in (*(f"{bound:,}" for bound in bounds), *choice.get("enum", ())):
                assert documented in cells[name], (name, documented)


def test_the_docs_batches_and_epochs_are_the_rules() -> None:
    """Compares the docs with the rules' batch limits and their epochs for a large file."""
    number = r"(\d+|–)"
    row = rf"^\| (\w+) \| rows / (\d+) \| (\d+) … (\d+) \| {number} \| {number} \| {number} \| {number} \|"
    rows = re.findall(row, DOCS.read_text(), re.MULTILINE)
    families = {task.family: task for tasks in TASKS_BY_METHOD.values() for task in tasks.values()}
    assert {family for family, *_ in rows} == set(families)
    for family, steps, min_batch, max_batch, *epochs in rows:
        for update, documented in zip(("lora", "full", "head", "layers"), epochs, strict=True):
            assert (documented == "–") == (update not in families[family].updates)
            if documented == "–":
                continue
            inputs = replace(MINILM, family=family, update=update, rows=100_000)
            chosen = resolve(AUTO, inputs)
            assert (chosen.n_epochs, chosen.batch_size) == (int(documented), int(max_batch))
            assert resolve(AUTO, replace(inputs, rows=int(min_batch))).batch_size == int(min_batch)
            assert resolve(AUTO, replace(inputs, rows=2 * int(min_batch) * int(steps))).batch_size == 2 * int(min_batch)


def test_the_docs_micro_batch_tokens_are_the_devices() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", DOCS.read_text(), re.MULTILINE))
    cpu, apple, cuda = (MICRO_BATCH_TOKENS[device] for device in ("cpu", "mps", "cuda"))
    assert f"(CPU {cpu:,}, Apple {apple:,}, CUDA {cuda:,})" in rows["gradient_accumulation_steps"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_warm_up_and_stay_above_zero(name: str) -> None:
    rates = [compute_learning_rate(step, 100, 2.0, name, 0.1) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
    assert rates[10] == max(rates) == 2.0
    assert all(0 < rate <= 2.0 for rate in rates)
    assert rates[-1] == (2.0 if name == "constant" else pytest.approx(min(rates)))
    assert compute_learning_rate(1, 1, 2.0, name, 0.0) == 2.0


def test_batches_cover_each_epoch_once_and_group_by_length() -> None:
    lengths = [(row * 37) % 101 + 1 for row in range(1000)]
    batches = LengthGroupedBatchSampler(lengths, 8, seed=1)
    epochs = []
    for epoch in range(2):
        rows = [
            batches.get_batch(epoch * batches.steps_per_epoch + step) for step in range(1, batches.steps_per_epoch + 1)
        ]
        assert sorted(row for batch in rows for row in batch) == list(range(1000))
        padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in rows)
        assert padded < 1.1 * sum(lengths)
        epochs.append(rows)
    assert epochs[0] != epochs[1]
    assert LengthGroupedBatchSampler(lengths, 8, seed=2).get_batch(1) != epochs[0][0]
    # Batches can be requested in any order.
    assert [LengthGroupedBatchSampler(lengths, 8, seed=1).get_batch(step) for step in (200, 3)] == [
        epochs[1][74],
        epochs[0][2],
    ]
    assert MEGA_BATCH_MULT > 1


@pytest.mark.parametrize(("rows", "parts", "sizes"), [(7, 3, [3, 3, 1]), (4, 8, [1, 1, 1, 1]), (6, 2, [3, 3])])
def test_split(rows: int, parts: int, sizes: list[int]) -> None:
    assert [len(part) for part in split_batch(range(rows), parts)] == sizes
