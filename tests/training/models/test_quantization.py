"""Tests for QLoRA: a frozen base in 4 bits, its gradients, its results and the missing extra."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests.training.run_folders import EventRecorder, Row, create_run_folder, hash_files, run_training
from tests.training.step_probe import assert_resumed_run_matches, compute_step, run_to_completion, set_up_run
from training import preflight, run
from training.artifacts import serving
from training.artifacts.result import ResultMetadata
from training.errors import TrainingError
from training.models import quantization
from training.models.weights import count_parameters
from training.run_events import Preflight, Started
from training.tasks import TASKS
from training.trainer.evaluate import evaluate
from training.trainer.state import StopFlag
from training.updates.lora import LoraUpdate

pytestmark = pytest.mark.integration

QLORA: Row = {"type": "lora", "rank": 4, "base_precision": "nf4"}
BASES = {"chat": "chat_base", "text-classification": "encoder_base", "seq2seq": "seq2seq_base"}
LLAMA_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture
def create_folder(tmp_path: Path, chat_base: Path) -> Any:
    def create(name: str, update: Row = QLORA, base: Path = chat_base, **hyperparameters: Any) -> Path:
        values = {"learning_rate": 0.01, "batch_size": 4, "max_steps": 4, **hyperparameters}
        return create_run_folder(tmp_path / name, base, "chat", update, hyperparameters=values)

    return create


@pytest.fixture
def rounded_base(tmp_path: Path, chat_base: Path) -> Path:
    """The chat base with plain weights that equal those of its 4-bit copy."""
    served = serving.load(chat_base, None, "chat")
    quantization.round_linear_layers(served.model, [])
    served.base.save_with_processor(served.model, tmp_path / "rounded")
    return tmp_path / "rounded"


def find_quantized(model: nn.Module) -> set[str]:
    return {name for name, layer in model.named_modules() if isinstance(layer, bitsandbytes.nn.Linear4bit)}


def compute_logits(model: Any, tokenizer: Any) -> torch.Tensor:
    ids = tokenizer("What is number 3?")["input_ids"]
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([ids])).logits
    return logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_layers_of_the_base_are_quantized_and_nothing_else(chat_base: Path, dtype: torch.dtype) -> None:
    native = serving.load(chat_base, None, "chat", dtype).model
    model = serving.load(chat_base, None, "chat", dtype, base_precision="nf4").model
    linears = {name for name, _ in native.named_modules() if name.endswith(LLAMA_LINEARS)}
    assert find_quantized(model) == linears
    assert len(linears) == 14
    others = {name: weight for name, weight in model.named_parameters() if name.removesuffix(".weight") not in linears}
    for name, weight in others.items():
        assert weight.dtype == dtype
        assert torch.equal(weight, native.get_parameter(name))
    for name in linears:
        layer = model.get_submodule(name)
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() == native.get_submodule(name).weight.numel() // 2
        assert layer.weight.quant_state.nested
    assert count_parameters(model) == count_parameters(native)


def test_the_codes_do_not_depend_on_the_precision_of_the_run(chat_base: Path) -> None:
    models = [
        serving.load(chat_base, None, "chat", dtype, base_precision="nf4").model
        for dtype in (torch.float32, torch.bfloat16)
    ]
    for name in find_quantized(models[0]):
        left, right = (model.get_submodule(name).weight for model in models)
        assert torch.equal(left, right)
        assert torch.equal(left.quant_state.absmax, right.quant_state.absmax)


@pytest.mark.parametrize("task", ["text-classification", "seq2seq"])
def test_heads_and_layers_whose_dtype_is_read_stay(task: str, request: pytest.FixtureRequest) -> None:
    base = request.getfixturevalue(BASES[task])
    model = TASKS[task].load_model(base, {"labels": ["a", "b"], "many": False}, torch.float32)
    model = LoraUpdate.model_validate(QLORA).apply(model, TASKS[task]).to("cpu")
    quantized = find_quantized(model)
    assert quantized
    assert not [name for name in quantized if {"classifier", "lm_head", "wo"} & set(name.split("."))]
    # T5 casts its activations to the dtype of `wo`.
    if task == "seq2seq":
        assert [name for name, _ in model.named_modules() if name.endswith(".wo.base_layer")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_lora_on_the_dequantized_weights(
    create_folder: Any, rounded_base: Path, dtype: str, checkpointing: bool
) -> None:
    """Also after an evaluation, which must not change how the layers compute."""
    hyper = {"dtype": dtype, "gradient_checkpointing": checkpointing}
    quantized = set_up_run(create_folder("nf4", **hyper))
    plain = set_up_run(create_folder("plain", {**QLORA, "base_precision": "native"}, rounded_base, **hyper))
    assert find_quantized(quantized.model)
    assert not find_quantized(plain.model)
    weights = quantized.trainable_parameters
    assert weights.keys() == plain.trainable_parameters.keys()
    # B starts at zero, which would hide the gradient of A.
    for name, weight in plain.trainable_parameters.items():
        torch.nn.init.normal_(weight, std=0.1)
        weights[name].data.copy_(weight.data)
    # The fused kernel of the plain layer rounds to bfloat16 in other places than PEFT's layer.
    relative = {"float32": 1e-5, "bfloat16": 0.08}[dtype]
    for _ in range(2):
        (left, gradients), (right, expected) = (
            compute_step(run, run.splits.training[:6]) for run in (quantized, plain)
        )
        assert left.loss == pytest.approx(right.loss, rel=relative)
        assert gradients.keys() == expected.keys() == weights.keys()
        for name, gradient in gradients.items():
            assert (gradient - expected[name]).norm() <= relative * expected[name].norm(), name
        evaluation = [evaluate(run, list(run.splits.training)).loss for run in (quantized, plain)]
        assert evaluation[0] == pytest.approx(evaluation[1], rel=relative)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_in_nf4_with_8_bit_adamw_resumes_with_identical_bits(create_folder: Any, dtype: str) -> None:
    hyper = {"dtype": dtype, "optimizer": "adamw8bit", "eval_every": 1, "gradient_checkpointing": True}
    # Adapters of rank 128 have matrices of 4,096 elements, whose moments have 8 bits.
    update = {**QLORA, "rank": 128}
    whole = run_training(create_folder("whole", update, **hyper))
    for step in (1, 3):
        assert_resumed_run_matches(lambda name: create_folder(name, update, **hyper), step, whole)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, chat_base: Path) -> Path:
    hyper = {"n_epochs": 3, "batch_size": 4, "learning_rate": 0.01}
    folder = create_run_folder(
        tmp_path_factory.mktemp("qlora") / "run", chat_base, "chat", QLORA, hyperparameters=hyper
    )
    events = run_training(folder)
    [started] = events.of_type(Started)
    native = serving.load(chat_base, None, "chat").model
    assert started.total_parameters - started.trainable_parameters == count_parameters(native)
    return folder / "result"


def test_the_result_is_a_plain_adapter(result: Path, chat_base: Path) -> None:
    with safe_open(result / "adapter_model.safetensors", "pt") as file:
        names = set(file.keys())
        assert {file.get_tensor(name).dtype for name in names} == {torch.float32}
    assert {name.rsplit(".", 2)[1] for name in names} == {"lora_A", "lora_B"}
    assert not [path for path in result.rglob("*") if "quantization" in path.read_text(errors="ignore")]
    update = ResultMetadata.read(result).update
    assert isinstance(update, LoraUpdate)
    assert update.base_precision == "nf4"
    stock = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(chat_base), result).eval()
    served = serving.load(chat_base, result, "chat")
    left, right = (compute_logits(model, served.context.processor) for model in (stock, served.model))
    # On the native base the adapter gives other numbers, so the engine does not serve it so.
    assert not torch.allclose(left, right, atol=1e-3)


def test_transformers_in_nf4_gives_the_served_numbers(result: Path, chat_base: Path) -> None:
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    base = AutoModelForCausalLM.from_pretrained(
        chat_base, dtype=torch.bfloat16, quantization_config=config, device_map="cpu"
    )
    ours = serving.load(chat_base, None, "chat", torch.bfloat16, base_precision="nf4").model
    assert find_quantized(base) == find_quantized(ours)
    for name in find_quantized(ours):
        assert torch.equal(base.get_submodule(name).weight, ours.get_submodule(name).weight)


@pytest.mark.parametrize("dora", [False, True])
def test_the_merged_model_gives_the_served_numbers(
    create_folder: Any, chat_base: Path, tmp_path: Path, dora: bool
) -> None:
    finished = run_to_completion(create_folder("run", {**QLORA, "dora": dora}))
    (tmp_path / "saved").mkdir()
    finished.run.write_model(tmp_path / "saved")
    served = serving.load(chat_base, tmp_path / "saved", "chat")
    serving.merge(chat_base, tmp_path / "saved", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert not find_quantized(merged)
    with finished.run.full_eval_mode():
        expected, *others = (
            compute_logits(model, served.context.processor) for model in (finished.run.model, served.model, merged)
        )
    for logits in others:
        torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)


def test_the_base_is_read_and_never_written(create_folder: Any, chat_base: Path) -> None:
    before = hash_files(chat_base)
    run_training(create_folder("run"))
    assert hash_files(chat_base) == before


@pytest.mark.parametrize(
    ("update", "hyperparameters", "param"),
    [
        (QLORA, {}, "update.base_precision"),
        ({"type": "full"}, {"optimizer": "adamw8bit"}, "hyperparameters.optimizer"),
    ],
)
def test_a_missing_extra_fails_before_the_rows_are_read(
    create_folder: Any, monkeypatch: pytest.MonkeyPatch, update: Row, hyperparameters: Row, param: str
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    folder = create_folder("run", update, **hyperparameters)
    (folder / "training.data").unlink()
    for phase in (run.validate, run.train, preflight.preflight):
        with pytest.raises(TrainingError, match="bitsandbytes is not installed") as caught:
            phase(folder, EventRecorder(), StopFlag())
        assert (caught.value.code, caught.value.param) == ("missing_extra", param)


def test_a_result_in_nf4_is_not_loaded_without_the_extra(
    result: Path, chat_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainingError, match="bitsandbytes is not installed"):
        serving.load(chat_base, result, "chat")


def test_the_plan_of_a_run_in_nf4_has_the_settings_of_lora(create_folder: Any) -> None:
    plans = []
    for update in (QLORA, {**QLORA, "base_precision": "native"}):
        events = EventRecorder()
        preflight.preflight(create_folder(update["base_precision"], update), events, StopFlag())
        [event] = events.of_type(Preflight)
        assert event.plan
        plans.append(event.plan)
    assert plans[0].trainable_parameters == plans[1].trainable_parameters
    assert plans[0].hyperparameters == plans[1].hyperparameters


def test_a_tied_head_is_saved_once(tmp_path: Path, chat_base: Path) -> None:
    """In the dtype of a base that is not the dtype of the run, for full weights and for a merge."""
    base = tmp_path / "base"
    model = AutoModelForCausalLM.from_pretrained(chat_base, dtype=torch.bfloat16)
    assert model.config.tie_word_embeddings
    native = serving.load(chat_base, None, "chat")
    native.context.processor.save_pretrained(base)
    model.save_pretrained(base)
    for update in ({"type": "full"}, {"type": "layers", "last": 1}, {"type": "lora", "rank": 4}):
        folder = create_run_folder(tmp_path / update["type"], base, "chat", update, hyperparameters={"max_steps": 2})
        run_training(folder)
        serving.merge(base, folder / "result", folder / "merged")
        for directory in (folder / "merged", *([folder / "result"] if update["type"] != "lora" else [])):
            with safe_open(directory / "model.safetensors", "pt") as file:
                names = set(file.keys())
                assert {file.get_tensor(name).dtype for name in names} == {torch.bfloat16}
            assert "model.embed_tokens.weight" in names
            assert "lm_head.weight" not in names
            assert json.loads((directory / "config.json").read_text())["tie_word_embeddings"]
        merged = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32).eval()
        assert merged.lm_head.weight is merged.model.embed_tokens.weight
        served = serving.load(base, folder / "result", "chat")
        left, right = (compute_logits(model, served.context.processor) for model in (merged, served.model))
        torch.testing.assert_close(left, right, rtol=0.05, atol=0.05)
