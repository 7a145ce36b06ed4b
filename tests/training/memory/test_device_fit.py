"""Tests for the choice of settings by the memory of a device, and for its measurement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.run_folders import LORA, EventRecorder, create_run_folder, hash_files, run_training
from training import run as runs
from training.hyperparameters.device_fit import DeviceLimits, Fit, StepRows, choose_fit
from training.hyperparameters.host_memory import measure_free_host_bytes
from training.models.architecture import read_architecture
from training.models.step_memory import StepInputs
from training.run_events import Message, Started, Validated
from training.spec import TrainSpec
from training.trainer import setup
from training.trainer.prepare import fit_to_device, prepare
from training.trainer.state import StopFlag

GIB = 1 << 30
ROWS = StepRows(batch_size=16, mean_tokens=500, longest=[2000] * 16, packed=True)
GPU = DeviceLimits("cuda", ["bfloat16"], 80 * GIB)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, chat_base: Path) -> Any:
    folder = create_run_folder(
        tmp_path_factory.mktemp("fit") / "run", chat_base, "chat", LORA, hyperparameters={"dtype": "auto"}
    )
    spec = TrainSpec.read(folder)
    return spec, prepare(folder, spec, StopFlag())


@pytest.fixture
def fit_8b(prepared: Any) -> Any:
    """Choose for a LoRA of an 8B Llama on a device with this much free memory."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_key_value_heads=8,
        vocab_size=128_256,
        architectures=["LlamaForCausalLM"],
    )
    sizes = read_architecture(config, 8_030_261_248)
    assert (sizes.gated, sizes.fused, sizes.tied, sizes.key_width) == (True, True, False, 1024)

    def fit(free_bytes: float, limits: DeviceLimits = GPU, rows: StepRows = ROWS, **hyper: Any) -> Fit:
        planned = prepared[1].hyper.model_copy(update=hyper)
        step = StepInputs(sizes, "lora", 4e7, 2.0, 2.0, "adamw", 0, 0, False, False, "cuda", 32, 16)
        steps = {"bfloat16": step, "float32": replace(step, base_bytes=4.0)}
        return choose_fit(planned, steps, rows, replace(limits, free_bytes=free_bytes))

    return fit


def test_less_memory_chooses_smaller_steps(fit_8b: Any) -> None:
    large, medium, small, tiny = (fit_8b(gib * GIB) for gib in (200, 80, 24, 8))
    assert (large.micro_batches, large.checkpointing, large.fits) == (1, False, True)
    assert medium.fits
    assert small.fits
    assert large.memory.total > medium.memory.total > small.memory.total
    assert small.checkpointing
    # Nothing fits: the smallest step, and a warning.
    assert (tiny.rows, tiny.checkpointing, tiny.fits) == (1, True, False)
    assert "may run out of memory" in tiny.describe()
    assert small.describe().startswith("Training on cuda in bfloat16, in micro-batches of")
    for name in ("weights 16.", "activations", "25.8 GB free."):
        assert name in small.describe()


def test_set_values_are_kept(fit_8b: Any) -> None:
    fit = fit_8b(8 * GIB, gradient_accumulation_steps=3, gradient_checkpointing=False, dtype="float32")
    assert (fit.micro_batches, fit.checkpointing, fit.dtype, fit.fits) == (3, False, "float32", False)


def test_a_narrow_precision_is_chosen_for_its_memory_only(fit_8b: Any) -> None:
    cpu = DeviceLimits("cpu", ["float32", "bfloat16"], 0)
    assert [fit_8b(gib * GIB, cpu).dtype for gib in (512, 24)] == ["float32", "bfloat16"]


def test_a_micro_batch_has_as_many_tokens_as_the_device_processes_best(fit_8b: Any) -> None:
    plenty = 10_000 * GIB
    assert fit_8b(plenty, rows=replace(ROWS, mean_tokens=4096)).micro_batches == 4
    cpu = DeviceLimits("cpu", ["bfloat16"], plenty)
    assert fit_8b(plenty, cpu).micro_batches == 4
    assert fit_8b(plenty, cpu, gradient_accumulation_steps=1).micro_batches == 1


def test_tokens_of_the_largest_micro_batch() -> None:
    rows = StepRows(batch_size=4, mean_tokens=100, longest=[900, 100, 50], packed=True)
    assert [rows.count_tokens(count) for count in (1, 2, 4)] == [900, 1000, 1100]
    assert replace(rows, packed=False).count_tokens(4) == 3600


def _create_folder(directory: Path, base: Path, **hyper: Any) -> Path:
    return create_run_folder(directory, base, "chat", LORA, hyperparameters={"dtype": "auto", "n_epochs": 1, **hyper})


def test_a_run_explains_its_choice_and_reports_it(
    tmp_path: Path, chat_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later attempt with the reported values, on another device, computes the same bits."""
    events = run_training(_create_folder(tmp_path / "first", chat_base))
    [sentence] = [line.message for line in events.of_type(Message) if line.message.startswith("Training on cpu")]
    assert "without activation checkpointing: a step takes about" in sentence
    [started] = events.of_type(Started)
    assert "auto" not in started.hyperparameters.values()
    assert started.hyperparameters["dtype"] == started.dtype
    monkeypatch.setattr(setup, "measure_limits", lambda: DeviceLimits("cpu", ["float32", "bfloat16"], 1))
    again = run_training(_create_folder(tmp_path / "again", chat_base, **started.hyperparameters))
    assert again.of_type(Started)[0].hyperparameters == started.hyperparameters
    assert not [line for line in again.of_type(Message) if line.message.startswith("Training on")]
    assert hash_files(tmp_path / "again/result") == hash_files(tmp_path / "first/result")


def test_a_device_without_memory_gets_the_smallest_step(
    tmp_path: Path, chat_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "measure_limits", lambda: DeviceLimits("cpu", ["float32"], 1))
    events = run_training(_create_folder(tmp_path / "run", chat_base))
    [started] = events.of_type(Started)
    assert started.hyperparameters["gradient_accumulation_steps"] == started.hyperparameters["batch_size"]
    assert started.hyperparameters["gradient_checkpointing"] is True
    [warning] = [line for line in events.of_type(Message) if line.message.startswith("Training on cpu")]
    assert warning.level == "warn"


def test_validated_values_are_those_of_the_training(tmp_path: Path, chat_base: Path) -> None:
    folder = _create_folder(tmp_path / "run", chat_base)
    validated = EventRecorder()
    runs.validate(folder, validated)
    [line] = validated.of_type(Validated)
    other = _create_folder(tmp_path / "other", chat_base, **line.hyperparameters)
    [started] = run_training(other).of_type(Started)
    assert {name for name in line.hyperparameters if line.hyperparameters[name] != started.hyperparameters[name]} == {
        "dtype",
        "gradient_accumulation_steps",
        "gradient_checkpointing",
    }


def test_the_fit_uses_the_models_own_numbers(prepared: Any) -> None:
    spec, run = prepared
    sizes = run.base.architecture
    assert (sizes.layers, sizes.width, sizes.key_width, sizes.gated, sizes.fused) == (2, 32, 16, True, True)
    fit = fit_to_device(spec, run, DeviceLimits("cpu", ["float32"], GIB))
    assert fit.memory.weights == pytest.approx(4 * sizes.parameters, rel=0.5)


def _write_system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:   10000000 kB\n"


def test_free_memory_of_the_machine_and_its_control_groups(tmp_path: Path) -> None:
    assert measure_free_host_bytes() > 0
    bare = _write_system(tmp_path / "bare", {"proc/meminfo": MEMINFO})
    assert measure_free_host_bytes(bare) == 10_240_000_000
    second = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/pod/container\n",
        "sys/fs/cgroup/pod/container/memory.max": "max\n",
        "sys/fs/cgroup/pod/memory.max": "4000000000\n",
        "sys/fs/cgroup/pod/memory.current": "3000000000\n",
        "sys/fs/cgroup/pod/memory.stat": "anon 1\ninactive_file 500000000\n",
    }
    assert measure_free_host_bytes(_write_system(tmp_path / "v2", second)) == 1_500_000_000
    first = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:memory:/docker/a\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "2500000000\n",
    }
    assert measure_free_host_bytes(_write_system(tmp_path / "v1", first)) == 0
