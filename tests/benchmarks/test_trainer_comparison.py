"""FLOP counts, timing and results of ``make bench-training``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import training
from benchmarks.trainer_comparison import rows as plain
from benchmarks.trainer_comparison import subprocesses, token_counts
from benchmarks.trainer_comparison.base import load_gpt2_tokenizer
from benchmarks.trainer_comparison.config import Outcome, TrainerConfig, build_outcome, to_prompt_completion
from benchmarks.trainer_comparison.results import LUTHIER, TRAINER_TITLES, ComparisonResult
from benchmarks.trainer_comparison.shapes import SHAPES, VOCAB_SIZE, ModelShape
from benchmarks.trainer_comparison.trainers import luthier_trainer
from benchmarks.trainer_comparison.trl_search import TRIAL_COUNT, TRIAL_STEPS, SettingsSearch, find_fastest
from tests.tiny import create_tiny_chat_base
from training.tasks import TASKS

pytestmark = pytest.mark.integration

TINY_SHAPE = ModelShape(16, 2, 2, 1, 24, rows=4, epochs=1, rounds=1, minutes=1, held_out_rows=1)
ROWS = [
    {"question": f"How much is {number} + 1?", "answer": "Let us see: " * (number % 3) + f"#### {number + 1}"}
    for number in range(6)
]


def create_outcome(seconds: float, *, targets: int = 30, loss: float = 2.0, dtype: str = "float32") -> Outcome:
    settings = {"dtype": dtype}
    counts = [(40, targets - 20), (60, 20)]
    return build_outcome([1.0, 1.0 + seconds], counts, [3.0, loss], settings).model_copy(update={"peak_bytes": 10**9})


def build_comparison(**changes: object) -> ComparisonResult:
    speeds = {LUTHIER: 1.0, "trl_default": 6.0, "trl_best": 4.0, "hf_trainer": 2.0}
    result = ComparisonResult(
        shape=TINY_SHAPE,
        rank=2,
        lengths=[60, 40],
        targets=30,
        rounds=[{name: create_outcome(seconds) for name, seconds in speeds.items()}],
        held_out_loss={LUTHIER: 2.02, "trl_default": 2.0, "trl_best": 2.5, "hf_trainer": 3.0},
        peak_flops={"float32": 1e6, "bfloat16": 1e9},
    )
    return replace(result, **changes)  # type: ignore[arg-type]


@pytest.fixture
def config(tmp_path: Path) -> TrainerConfig:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return TrainerConfig(base=tmp_path / "base", rows=rows, folder=tmp_path / "run", epochs=1, threads=1)


def test_useful_work_counted_by_hand() -> None:
    """Count the FLOPs by hand.

    Width 16, two heads with one key-value head, two blocks; 3 + 2 tokens, 2 targets, rank 2.
    """
    linears = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 24
    adapters = 2 * (32 + 2 * 24 + 32 + 3 * 40)
    assert TINY_SHAPE.linear_weight_count == 2 * linears
    assert TINY_SHAPE.count_adapter_weights(2) == 2 * adapters
    blocks, attention = 4 * 2 * linears * 5, 6 * 2 * 16 * (9 + 4)
    assert TINY_SHAPE.count_flops([3, 2], 2, 2) == blocks + 6 * 2 * adapters * 5 + attention + 4 * VOCAB_SIZE * 16 * 2


@pytest.mark.parametrize(("name", "millions"), [("20m", 20.5), ("135m", 135.1)])
def test_shapes_have_the_size_of_their_name(name: str, millions: float) -> None:
    shape = SHAPES[name]
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**shape.llama_config))
    linears = sum(weight.numel() for key, weight in model.named_parameters() if "_proj" in key)
    assert linears == shape.linear_weight_count
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_the_first_step_warms_up() -> None:
    outcome = build_outcome([5.0, 6.0, 8.0], [(10, 1), (20, 2), (40, 4)], [3.0, 2.0, 1.0], {})
    assert (outcome.seconds, outcome.tokens, outcome.tokens_per_second) == (3.0, 60, 20.0)
    assert (outcome.all_tokens, outcome.targets, outcome.final_loss) == (70, 7, 1.5)
    single_step = build_outcome([5.0], [(10, 1)], [3.0], {})
    assert (single_step.seconds, single_step.tokens) == (5.0, 10)


def test_metrics_and_their_keys() -> None:
    metrics = build_comparison().summarize()
    assert list(metrics)[:6] == [
        *("vs_trl_default", "vs_trl_best", "vs_hf_trainer", "memory_vs_trl", "loss_gap", "matmul_peak_share")
    ]
    assert [metrics[f"vs_{name}"] for name in ("trl_default", "trl_best", "hf_trainer")] == [6.0, 4.0, 2.0]
    assert metrics["loss_gap"] == 0.01
    # Luthier trains 60 tokens per second. Each token is one hundredth of the work of all rows.
    share = TINY_SHAPE.count_flops([60, 40], 30, 2) / 100 * 60 / 1e6
    assert metrics["matmul_peak_share"] == pytest.approx(share, abs=1e-3)
    assert json.loads(json.dumps(build_comparison().to_details()))["contestants"].keys() == TRAINER_TITLES.keys()


def test_the_peak_is_that_of_our_dtype() -> None:
    rounds = [{name: create_outcome(1.0, dtype="bfloat16") for name in TRAINER_TITLES}]
    assert build_comparison(rounds=rounds).matmul_peak_share < build_comparison().matmul_peak_share / 100


def test_other_targets_are_an_error() -> None:
    assert build_comparison().find_mismatches() == []
    [round_] = build_comparison().rounds
    [mismatch] = build_comparison(rounds=[{**round_, "trl_best": create_outcome(4.0, targets=31)}]).find_mismatches()
    assert mismatch == "round 1, trl_best: 100 tokens and 31 targets, not 100 and 30"


def test_the_search_finds_the_fastest(config: TrainerConfig) -> None:
    configs: list[TrainerConfig] = []

    def run(trial: TrainerConfig) -> Outcome:
        configs.append(trial)
        settings = trial.settings
        step = 1.0 + 3.0 * settings["bf16"] + 0.4 * settings["gradient_checkpointing"]
        step -= 0.3 * ("padding_free" in settings)
        steps = 1 if trial.patience is not None and step > trial.patience else TRIAL_STEPS
        ends = [step * (number + 1) for number in range(steps)]
        return build_outcome(ends, [(100, 10)] * steps, [2.0] * steps, {})

    trials = list(SettingsSearch(config, [10, 20, 30], run).search())
    assert len(trials) == TRIAL_COUNT
    assert find_fastest(trials).settings == {
        **{"bf16": False, "gradient_checkpointing": False},
        **{"padding_free": True, "max_length": None},
    }
    assert [trial.summary["whole"] for trial in trials] == [True, True, False, False, True, True, True]
    assert configs[-1].settings["max_length"] == 160
    assert len({config.folder for config in configs}) == TRIAL_COUNT


def test_our_training_process_by_its_own_events(config: TrainerConfig, capsys: pytest.CaptureFixture[str]) -> None:
    create_tiny_chat_base(config.base)
    outcome = luthier_trainer.run(config.model_copy(update={"batch_size": 2}))
    token_counts.main(config.folder)
    counts = json.loads(capsys.readouterr().out)
    assert len(outcome.losses) == 3
    assert outcome.all_tokens == sum(counts["lengths"])
    assert 0 < counts["targets"] < outcome.all_tokens
    assert 0 < outcome.tokens < outcome.all_tokens
    assert outcome.settings["dtype"] in {"float32", "bfloat16"}
    assert outcome.peak_bytes > 1e8
    assert (config.folder / "result" / "adapter_config.json").is_file()


def test_a_process_that_fails_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"json\.tool ended with 2(.|\n)*No such file"):
        subprocesses.run("json.tool", "none", threads=1, log=tmp_path / "log")


@pytest.mark.skipif(not training.SHARED.exists(), reason="the data sets are missing")
def test_all_read_the_same_targets(config: TrainerConfig) -> None:
    """Luthier's task encodes the rows as the benchmark does for PEFT and ``transformers``."""
    tokenizer = load_gpt2_tokenizer(training.DATA.vocabulary)
    assert len(tokenizer) == VOCAB_SIZE
    task = TASKS["chat"]
    rows = [
        task.row_schema.model_validate({"messages": [*prompt, *completion]})
        for prompt, completion in map(to_prompt_completion, ROWS)
    ]
    for example, encoded in zip(
        task.encode(rows, tokenizer, 1024), plain.encode_rows(config.rows, tokenizer), strict=True
    ):
        assert list(example.ids) == encoded["input_ids"]
        assert [weight > 0 for weight in example.weights] == [label >= 0 for label in encoded["labels"]]
