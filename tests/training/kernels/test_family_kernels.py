"""Tests for the kernels on the architectures that people fine-tune: the plain model's numbers."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from tests.families.catalog import DECODERS
from training import kernels
from training.kernels import fused, packed
from training.kernels.probe import KernelUse, ProbeSettings, count_kernels, describe_kernels
from training.models import logprobs

FLOAT32 = ProbeSettings(torch.device("cpu"), torch.float32)
LENGTHS = (11, 4, 7)
WITHOUT_PACKING = {"qwen3.5", "gemma-2", "gemma-3", "gpt-oss"}
"""Linear attention, sliding windows and sinks."""
WITH_LOGIT_TRANSFORMS = {"gemma-2", "granite"}

pytestmark = [
    pytest.mark.integration,
    # PEFT maps an older version's names of experts, which this target has none of.
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning"),
]


@pytest.fixture(scope="module", params=DECODERS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name: str = request.param
    return name, DECODERS[name].create_base(tmp_path_factory.mktemp(name))


def load_adapted(base: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=6, target_modules="all-linear"))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(std=0.1)
    return model.train()


def build_rows(vocabulary: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(vocabulary, (length,), generator=generator) for length in LENGTHS]


def compute_gradients(model: Any, function: Any, is_packed: bool) -> dict[str, Tensor]:
    """Return the log-probabilities of every second token and the adapter's gradients."""
    rows = build_rows(model.get_input_embeddings().weight.shape[0])
    if is_packed:
        positions = torch.cat([torch.arange(length) for length in LENGTHS])
        starts = [0, *accumulate(LENGTHS)]
        row_starts = torch.tensor(starts, dtype=torch.int32)
        inputs = {"input_ids": torch.cat(rows)[None], "position_ids": positions[None]}
        inputs |= {"row_lengths": list(LENGTHS), "row_starts": row_starts}
    else:
        inputs = {"input_ids": nn.utils.rnn.pad_sequence(rows, batch_first=True)}
        starts = [index * max(LENGTHS) for index in range(len(LENGTHS))]
    at = torch.cat([torch.arange(1, len(row), 2) + start for row, start in zip(rows, starts, strict=False)])
    model.zero_grad()
    scores = function(model, inputs, at - 1, inputs["input_ids"].flatten()[at])
    torch.autograd.backward(-scores.logprobs_N.mean())
    grads = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {"logprobs": scores.logprobs_N.detach(), **grads}


def assert_close(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        scale = right[name].abs().max().clamp(min=1e-6)
        torch.testing.assert_close(left[name] / scale, right[name] / scale, rtol=0, atol=2e-4, msg=name)


def test_a_patched_model_gives_the_plain_models_loss_and_gradients(family: tuple[str, Path]) -> None:
    name, base = family
    plain, fast = load_adapted(base), load_adapted(base)
    uses = kernels.patch_model(fast, FLOAT32.device)
    function = logprobs.select_logprob_function(fast, FLOAT32)
    is_packed = packed.enable_if_exact(fast, FLOAT32)
    assert is_packed == (name not in WITHOUT_PACKING)
    assert (function is logprobs.compute_from_logits) == (name in WITH_LOGIT_TRANSFORMS)
    assert any(use.applies for use in uses), describe_kernels(uses)
    expected = compute_gradients(plain, compute_reference, is_packed=False)
    assert_close(compute_gradients(fast, function, is_packed), expected)
    assert_close(compute_gradients(fast, logprobs.compute_from_logits, False), expected)


def compute_reference(model: Any, inputs: dict[str, Any], positions_N: Tensor, targets_N: Tensor) -> Any:
    """Compute log-probabilities from all logits of the plain model."""
    logits = model(**inputs, use_cache=False).logits.flatten(0, 1)[positions_N]
    return logprobs.logprobs_from_logits(logits, targets_N, with_mean=False)


@pytest.mark.parametrize("name", ["phi-4-mini", "gpt-neox", "qwen3.5"])
def test_a_partial_rotary_embedding_is_fused(tmp_path: Path, name: str) -> None:
    model = load_adapted(DECODERS[name].create_base(tmp_path / "base"))
    uses = kernels.patch_model(model, FLOAT32.device)
    assert count_kernels(uses)[fused.ROTARY_EMBEDDING] >= 1


def test_logits_are_computed_at_the_targets_only(tmp_path: Path) -> None:
    model = load_adapted(DECODERS["gemma-2"].create_base(tmp_path / "base"))
    seen: list[torch.Size] = []
    model.get_output_embeddings().register_forward_hook(lambda layer, inputs, output: seen.append(output.shape))
    logprobs.compute_from_logits(model, {"input_ids": torch.ones(2, 9, dtype=torch.long)}, *torch.ones(2, 3).long())
    assert [shape[:2] for shape in seen] == [(1, 3)]


def test_a_kernel_that_differs_leaves_the_layer_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_adapted(DECODERS["llama-3"].create_base(tmp_path / "base"))
    plain = load_adapted(tmp_path / "base")
    exact = fused.rms_norm
    monkeypatch.setattr(fused, "rms_norm", lambda x, weight, epsilon: exact(x, weight, epsilon) * 1.01)
    uses = kernels.patch_model(model, FLOAT32.device)
    assert fused.RMS_NORM not in count_kernels(uses)
    assert "Computed plainly, because the model's formula differs: RMS norm of LlamaRMSNorm (5 layers)" in (
        describe_kernels(uses)
    )
    assert_close(
        compute_gradients(model, logprobs.compute_from_hidden, False),
        compute_gradients(plain, logprobs.compute_from_hidden, False),
    )


def test_a_wrong_lora_kernel_is_found_although_a_fresh_adapter_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = DECODERS["llama-3"].create_base(tmp_path / "base")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules="all-linear"))
    exact = kernels.lora.lora_linear
    monkeypatch.setattr(kernels.lora, "lora_linear", lambda x, layer: exact(x, layer._replace(scale=2 * layer.scale)))
    uses = kernels.patch_model(model, FLOAT32.device)
    assert not any(use.applies for use in uses if use.kernel == kernels.lora.KERNEL)
    assert all((weight == 0).all() for name, weight in model.named_parameters() if "lora_B" in name)


def test_the_description_names_what_runs() -> None:
    uses = [KernelUse("LoRA", "Linear", True)] * 3 + [KernelUse("RMS norm", "OddRMSNorm", False)]
    assert describe_kernels(uses).startswith("Faster kernels: LoRA in 3 layers. Computed plainly")
    assert describe_kernels([]) == "Faster kernels: none."
