"""Tests of the GPU benchmark and of the runner of GPU tests, on a tiny model and a CPU."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as benchmark
from benchmarks.gpu import base, machine, run_tests, serving, training, wheels
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.run_tests import TEST_FILES, FileOutcome
from benchmarks.gpu.shapes import PEAK_BF16_FLOPS, SHAPES, TINY_SHAPES, build_rows, get_peak_flops

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gpu") / "base"
    assert base.create_base(TINY_SHAPES["tiny"], directory, "cpu") > 10_000
    return directory


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("update", TINY_SHAPES["tiny"].updates)
@pytest.mark.parametrize("contestant", benchmark.CONTESTANTS)
def test_both_contestants_train(tiny_base: Path, contestant: str, update: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MAX_STEPS", 2)
    monkeypatch.setattr(training, "MIN_STEPS", 2)
    figures = training.main(contestant, "tiny", update, tiny_base, CPU)
    assert figures["steps"] == 2
    assert figures["tokens_per_s"] > 0
    assert figures["flops_per_s"] > figures["tokens_per_s"]


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("contestant", benchmark.CONTESTANTS)
def test_both_contestants_generate(tiny_base: Path, contestant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ROUNDS", 1)
    assert serving.main(contestant, "tiny", 2, tiny_base, CPU)["tokens_per_s"] > 0


def test_every_contestant_trains_the_same_rows() -> None:
    first, again = build_rows(SHAPES["135m"]), build_rows(SHAPES["135m"])
    assert first == again
    assert len(first) == 32
    assert 12_000 < sum(len(row.ids) for row in first) < 20_000


def test_useful_flops_of_a_shape_by_hand() -> None:
    shape = TINY_SHAPES["tiny"]
    weights = 2 * (32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64)
    attention = 2 * 6 * 4 * 8 * (10**2 + 5**2)
    assert shape.count_flops([10, 5], 7, "full") == 6 * weights * 15 + attention + 6 * 300 * 32 * 7
    adapter = 2 * 16 * (64 + 2 * 48 + 64 + 3 * 96)
    assert shape.count_flops([10, 5], 7, "lora") == (4 * weights + 6 * adapter) * 15 + attention + 4 * 300 * 32 * 7


@pytest.mark.parametrize(
    ("device", "part"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A10G", "A10"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "4090"),
    ],
)
def test_the_peak_of_a_device_is_found_by_name(device: str, part: str) -> None:
    assert get_peak_flops(device) == PEAK_BF16_FLOPS[part]
    assert get_peak_flops("unknown") is None


def build_machine() -> Machine:
    return Machine({}, {"device": "NVIDIA H200", "versions": {}, "cuda": "13.0"}, time.monotonic() + 100)


def test_the_last_line_sets_the_peer_beside_ours() -> None:
    figures = {"tokens_per_s": 1000.0, "flops_per_s": 98.9e12, "peak_gb": 4.0}
    measured: dict[str, Any] = {
        "figures": {
            "training/0.6b/lora/luthier": figures,
            "training/0.6b/lora/transformers_peft": {**figures, "tokens_per_s": 400.0},
            "serving/0.6b/16/luthier": {"tokens_per_s": 50.0},
        },
        "failed": ["serving/0.6b/16/transformers_peft"],
        "not_run": [],
    }
    result = benchmark.summarize(build_machine(), measured)
    cell = result["shapes"]["0.6b"]["lora"]
    assert cell["speedup"] == 2.5
    assert cell["luthier"] == {"tokens_per_s": 1000.0, "peak_gb": 4.0, "mfu": 0.1}
    assert result["serving"]["0.6b"]["16"] == {"luthier": {"tokens_per_s": 50.0}}
    assert result["failed"] == ["serving/0.6b/16/transformers_peft"]


def test_outcomes_are_counted_even_of_a_file_that_did_not_finish() -> None:
    output = "tests/a.py::test_one[a b] PASSED [ 10%]\ntests/a.py::test_two FAILED [ 20%]\ntests/a.py::test_three "
    outcomes = {found["test"]: found["outcome"] for found in run_tests._OUTCOME.finditer(output)}
    assert outcomes == {"tests/a.py::test_one[a b]": "PASSED", "tests/a.py::test_two": "FAILED"}
    file = FileOutcome(outcomes, False, output)
    assert (file.failed, file.is_good) == (["tests/a.py::test_two"], False)
    summary = run_tests.summarize(build_machine(), {"tests/a.py": file})
    assert (summary["passed"], summary["failed"]) == (1, 1)
    assert summary["files"] == {"tests/a.py": {"passed": 1, "failed": 1, "complete": False}}


@pytest.mark.parametrize("path", TEST_FILES)
def test_the_files_for_a_gpu_exist_below_a_root_without_services(path: str) -> None:
    assert (ROOT / path).is_file()
    assert path.startswith(run_tests.find_root(path))


def test_all_files_run_unless_some_are_named() -> None:
    assert run_tests.parse_arguments([]).files == list(TEST_FILES)
    first = next(iter(TEST_FILES))
    assert run_tests.parse_arguments(["--device", "cpu", "--file", first]).files == [first]


@pytest.mark.integration
def test_these_files_import_neither_storage_nor_a_package_that_a_gpu_machine_lacks() -> None:
    modules = [path.removesuffix(".py").replace("/", ".") for path in TEST_FILES]
    banned = ["storage", "jobs", "api", "hypothesis", "sklearn", "llguidance", "starlette", "sqlalchemy"]
    code = (
        f"import sys, importlib\nfor name in {[*modules, 'tests.training.conftest']}: importlib.import_module(name)\n"
        f"print([name for name in {banned} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip().endswith("[]"), ran.stdout


def test_missing_packages_are_named_with_what_to_do() -> None:
    description = {"missing": {"pydantic": "No module named 'pydantic'"}, "versions": {}}
    with pytest.raises(SystemExit, match=r"(?s)pydantic: No module named.*make gpu-wheels"):
        machine._check(description, "cuda")
    with pytest.raises(SystemExit, match="no CUDA device"):
        machine._check({"missing": {}, "versions": {"torch": "2.11.0"}, "device": "cpu"}, "cuda")


def test_wheels_are_unpacked_into_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "WHEELS", tmp_path / "wheels")
    wheels.WHEELS.mkdir()
    for name in ("first", "second"):
        with zipfile.ZipFile(wheels.WHEELS / f"{name}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}/__init__.py", "")
    wheels.unpack(tmp_path / "unpacked")
    assert {path.name for path in (tmp_path / "unpacked").iterdir()} == {"first", "second"}
