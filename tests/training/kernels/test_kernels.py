"""Tests that fast kernels give the same numbers as plain formulas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from tests.devices import DEVICE, to_device
from training import kernels
from training.kernels import cross_entropy, fused, lora, packed
from training.kernels.cross_entropy import BlockShape, target_logprobs
from training.kernels.probe import ProbeSettings

FLOAT32 = ProbeSettings(DEVICE, torch.float32)
PACKABLE_MODEL_TYPES = [
    *("granite", "llama", "mistral", "olmo", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"),
    *("gpt_neox", "qwen3_moe", "cohere", "glm4"),
]
LENGTHS = [9, 4, 1, 6]
SMALL_CONFIG = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}


def assert_close(left: Any, right: Any, tolerance: float = 1e-5) -> None:
    """Assert closeness relative to the largest element."""
    assert (left is None) == (right is None)
    if left is not None:
        left, right = left.detach().double(), right.detach().double()
        scale = right.abs().max().clamp(min=1e-12)
        torch.testing.assert_close(left / scale, right / scale, rtol=0, atol=tolerance)


def build_model(model_type: str, **overrides: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(model_type, **{**SMALL_CONFIG, **overrides})
        return AutoModelForCausalLM.from_config(config).to(DEVICE)


def add_lora(model: Any, **lora_options: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", **lora_options))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(std=0.1)
    return model.train()


def build_batch() -> tuple[list[Tensor], dict[str, Any], dict[str, Any]]:
    """Build rows of several lengths: separate, padded, and packed."""
    rows = [torch.randint(1, 61, (length,), generator=torch.Generator().manual_seed(length)) for length in LENGTHS]
    rows = [row.to(DEVICE) for row in rows]
    padded = {"input_ids": nn.utils.rnn.pad_sequence(rows, batch_first=True)}
    packed_batch = {
        "input_ids": torch.cat(rows)[None],
        "position_ids": torch.cat([torch.arange(length) for length in LENGTHS])[None],
        "row_lengths": LENGTHS,
        "row_starts": torch.tensor([0, *accumulate(LENGTHS)], dtype=torch.int32),
    }
    return rows, padded, to_device(packed_batch)


def compute_loss(model: Any, layout: str) -> Tensor:
    """Return a loss that depends on every logit of every row."""
    rows, padded, packed_batch = build_batch()
    if layout == "packed":
        logits = model(**packed_batch, use_cache=False).logits[0]
    else:
        by_row = model(**padded, use_cache=False).logits
        logits = torch.cat([row[: len(ids)] for row, ids in zip(by_row, rows, strict=True)])
    return nn.functional.cross_entropy(logits.float(), torch.cat(rows).roll(1))


def compute_loss_and_gradients(model: Any, layout: str) -> dict[str, Tensor]:
    """Return the loss and all gradients."""
    model.zero_grad()
    value = compute_loss(model, layout)
    torch.autograd.backward(value)
    grads = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert grads
    return {"loss": value.detach(), **grads}


def assert_all_close(left: dict[str, Tensor], right: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert_close(left[name], right[name], tolerance)


@contextmanager
def record_saved_tensors(saved: list[Tensor]) -> Iterator[None]:
    """Collect the tensors that autograd saves in the block."""

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        yield


# --- scores of targets


def compute_naive_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logprobs = (hidden @ weight.t()).log_softmax(-1)
    return logprobs.gather(1, targets[:, None])[:, 0], logprobs.mean(1)


def build_logprob_inputs(scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(count, 8, generator=generator).to(DEVICE) * scale for count in (17, 23))
    targets = torch.randint(23, (17,), generator=generator).to(DEVICE)
    likeliest = (hidden @ weight.t()).argmax(1)
    return hidden, weight, torch.where(torch.arange(17, device=DEVICE) % 3 == 0, likeliest, targets)


@pytest.mark.parametrize("block", [BlockShape(1024, 1024), BlockShape(5, 7), BlockShape(1, 1)])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("trainable", [False, True])
def test_target_logprobs_and_gradients_are_the_textbooks(
    monkeypatch: pytest.MonkeyPatch, block: BlockShape, smooth: bool, trainable: bool
) -> None:
    monkeypatch.setitem(cross_entropy.BLOCK_SHAPES, DEVICE.type, block)
    hidden, weight, targets = build_logprob_inputs()
    upstream, upstream_mean = (torch.linspace(*ends, 17, device=DEVICE) for ends in ((-1, 2), (2, -1)))
    upstream_mean *= smooth
    results = []
    for dtype in (torch.float32, torch.float64):
        h = hidden.detach().to(dtype).requires_grad_()
        w = weight.detach().to(dtype).requires_grad_(trainable)
        if dtype == torch.float32:
            scores = target_logprobs(h, w, targets, smooth)
            assert (scores.mean_logprobs_N is not None) == smooth
            assert torch.equal(scores.correct_N, (hidden @ weight.t()).argmax(1) == targets)
            at, mean = scores.logprobs_N, scores.mean_logprobs_N if smooth else torch.zeros(17, device=DEVICE)
        else:
            at, mean = compute_naive_logprobs(h, w, targets)
        torch.autograd.backward(at @ upstream.to(dtype) + mean @ upstream_mean.to(dtype))
        results.append((at, mean * smooth, h.grad, w.grad))
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, 2e-6)


def test_logits_of_any_size_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cross_entropy.BLOCK_SHAPES, DEVICE.type, BlockShape(4, 3))
    hidden, weight, targets = build_logprob_inputs(scale=100.0)
    hidden.requires_grad_()
    scores = target_logprobs(hidden, weight, targets)
    torch.autograd.backward(scores.logprobs_N.sum())
    assert_close(scores.logprobs_N, compute_naive_logprobs(hidden.double(), weight.double(), targets)[0])
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_neither_logits_nor_a_frozen_matrix_are_saved_for_backward() -> None:
    hidden, weight = torch.randn(7, 8, device=DEVICE, requires_grad=True), torch.randn(3000, 8, device=DEVICE)
    targets = torch.arange(7, device=DEVICE)
    saved_tensors: list[Tensor] = []
    with record_saved_tensors(saved_tensors):
        target_logprobs(hidden, weight, targets)
    assert [tensor.numel() for tensor in saved_tensors] == [7 * 8]


def test_scores_under_autocast_are_fp32_of_bf16_products() -> None:
    hidden, weight, targets = build_logprob_inputs()
    hidden.requires_grad_()
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        scores = target_logprobs(hidden, weight.requires_grad_(), targets)
    torch.autograd.backward(scores.logprobs_N.sum())
    assert scores.logprobs_N.dtype == torch.float32
    assert hidden.grad is not None
    assert_close(scores.logprobs_N, compute_naive_logprobs(hidden, weight, targets)[0], 0.02)
    expected = torch.autograd.grad(compute_naive_logprobs(hidden, weight, targets)[0].sum(), (hidden, weight))
    assert_close(hidden.grad, expected[0], 0.03)
    assert_close(weight.grad, expected[1], 0.03)


# --- single layers


class TwoLayerModel(nn.Module):
    """Two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 10, bias=False), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(x).tanh())
        return result


def list_patched_modules(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if "forward" in vars(module)]


def build_lora_model(**lora_options: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = get_peft_model(TwoLayerModel(), LoraConfig(r=2, target_modules=["first", "second"], **lora_options))
        for weight in model.parameters():
            weight.data.normal_()
    return model.to(DEVICE)


def compute_output_and_gradients(model: Any, x: Tensor) -> dict[str, Tensor | None]:
    model.zero_grad()
    y = model(x)
    torch.autograd.backward(y, torch.linspace(-1, 1, y.numel(), device=DEVICE).view_as(y))
    grads = {name: weight.grad for name, weight in model.named_parameters()}
    return {"y": y, "x": x.grad, **grads}


@pytest.mark.parametrize("needs_x", [False, True])
def test_lora_layers_give_pefts_numbers(needs_x: bool) -> None:
    plain, fast = build_lora_model(use_rslora=True), build_lora_model(use_rslora=True)
    lora.patch_layers(fast, FLOAT32)
    assert len(list_patched_modules(fast)) == 2
    ours, theirs = (
        compute_output_and_gradients(
            model, torch.linspace(-1, 1, 72, device=DEVICE).view(3, 4, 6).requires_grad_(needs_x)
        )
        for model in (fast, plain)
    )
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert_close(ours[name], theirs[name])
    assert sum(grad is not None for grad in ours.values()) == 1 + 4 + needs_x


def test_lora_layers_follow_pefts_adapter_state() -> None:
    model, x = build_lora_model(), torch.randn(3, 6, device=DEVICE)
    lora.patch_layers(model, FLOAT32)
    expected = model(x)
    with model.disable_adapter():
        assert_close(
            model(x), model.base_model.model.second.base_layer(model.base_model.model.first.base_layer(x).tanh())
        )
        assert not torch.allclose(model(x), expected)
    model.merge_adapter()
    assert_close(model(x), expected)
    model.unmerge_adapter()
    assert_close(model(x), expected)


def test_a_prepared_model_can_be_merged_permanently() -> None:
    model = add_lora(build_model("llama"))
    expected = compute_loss(model, "padded")
    kernels.patch_model(model, DEVICE)
    assert_close(compute_loss(model.merge_and_unload(), "padded"), expected)


@pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed but")
@pytest.mark.parametrize("option", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_other_lora_layers_are_not_patched(option: dict[str, Any]) -> None:
    model = build_lora_model(**option)
    lora.patch_layers(model, FLOAT32)
    assert list_patched_modules(model) == []


def test_a_trainable_base_layer_is_not_patched() -> None:
    model = build_lora_model()
    model.base_model.model.second.base_layer.bias.requires_grad_()
    lora.patch_layers(model, FLOAT32)
    assert list_patched_modules(model) == ["base_model.model.first"]


def test_rms_norm_is_transformers() -> None:
    norm, x = LlamaRMSNorm(8, eps=1e-3).to(DEVICE), torch.randn(2, 5, 8, device=DEVICE, requires_grad=True)
    upstream = torch.randn_like(x)
    norm.weight.data.uniform_(0.5, 2)
    expected = norm(x)
    result = fused.rms_norm(x, norm.weight, norm.variance_epsilon)
    assert_close(result, expected)
    for ours, theirs in zip(
        torch.autograd.grad(result, (x, norm.weight), upstream),
        torch.autograd.grad(expected, (x, norm.weight), upstream),
        strict=True,
    ):
        assert_close(ours, theirs)
    assert fused.rms_norm(x.bfloat16(), norm.weight.bfloat16(), 1e-3).dtype == torch.bfloat16


def test_a_norm_with_another_scale_is_not_patched() -> None:
    gemma = GemmaRMSNorm(8)
    gemma.weight.data.uniform_(0.5, 2)
    gemma.variance_epsilon = gemma.eps
    fused.patch_layers(gemma, FLOAT32)
    assert list_patched_modules(gemma) == []


def test_rotation_is_transformers() -> None:
    q, k = (torch.randn(2, heads, 5, 8, device=DEVICE, requires_grad=True) for heads in (4, 2))
    angles = torch.randn(2, 5, 4, device=DEVICE).repeat(1, 1, 2)
    results = [function(q, k, angles.cos(), angles.sin()) for function in (fused.rotate, apply_rotary_pos_emb)]
    upstream = [torch.randn_like(q), torch.randn_like(k)]
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs)
    grads = [torch.autograd.grad(result, (q, k), upstream) for result in results]
    for ours, theirs in zip(*grads, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("model_type", ["cohere", "glm"])
def test_interleaved_rotations_are_not_patched(model_type: str) -> None:
    model = build_model(model_type)
    fused.patch_layers(model, FLOAT32)
    assert not [name for name in list_patched_modules(model) if name.endswith("attn")]


# --- complete models


def build_packable_model(model_type: str) -> Any:
    return (
        build_model(model_type, sliding_window=None) if model_type in ("mistral", "phi3") else build_model(model_type)
    )


@pytest.mark.parametrize("model_type", PACKABLE_MODEL_TYPES)
def test_packed_equals_padded(model_type: str) -> None:
    padded, packable = build_packable_model(model_type), build_packable_model(model_type)
    assert packed.enable_if_exact(packable, FLOAT32)
    assert_all_close(compute_loss_and_gradients(packable, "packed"), compute_loss_and_gradients(padded, "padded"))
    # Padded batches still work, with and without a mask.
    assert_all_close(compute_loss_and_gradients(packable, "padded"), compute_loss_and_gradients(padded, "padded"))
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]], device=DEVICE)
    ids = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 10]], device=DEVICE)
    assert_close(
        packable(ids, attention_mask=mask).logits[mask == 1], padded(ids, attention_mask=mask).logits[mask == 1]
    )


@pytest.mark.parametrize(
    ("model_type", "overrides"),
    [
        ("mistral", {"sliding_window": 4}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
        ("gemma2", {}),
        ("gpt_oss", {}),
        ("bloom", {}),
    ],
)
def test_other_attention_is_not_packed(model_type: str, overrides: dict[str, Any]) -> None:
    model = build_model(model_type, **overrides)
    before = model.config._attn_implementation
    assert not packed.enable_if_exact(model, FLOAT32)
    assert model.config._attn_implementation == before


def test_packing_is_not_saved(tmp_path: Path) -> None:
    model = build_model("llama")
    model.config.save_pretrained(tmp_path / "before")
    packed.enable(model)
    model.config.save_pretrained(tmp_path / "after")
    before, after = (Path(tmp_path / name / "config.json").read_text() for name in ("before", "after"))
    assert before == after


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "phi3"])
def test_a_prepared_model_gives_pefts_loss_and_gradients(model_type: str, layout: str) -> None:
    plain, fast = add_lora(build_packable_model(model_type)), add_lora(build_packable_model(model_type))
    before = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(fast).items()}
    kernels.patch_model(fast, DEVICE)
    if layout == "packed":
        packed.enable(fast)
    ours = compute_loss_and_gradients(fast, layout)
    assert_all_close(ours, compute_loss_and_gradients(plain, "padded"))
    assert all("lora_" in name for name in ours if name != "loss")
    after = get_peft_model_state_dict(fast)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_prepare_reaches_every_layer_of_a_llama() -> None:
    model = add_lora(build_model("llama"))
    kernels.patch_model(model, DEVICE)
    kinds = [name.rsplit(".", 1)[-1] for name in list_patched_modules(model)]
    attention, mlp = ["self_attn", "q_proj", "k_proj", "v_proj", "o_proj"], ["mlp", "gate_proj", "up_proj", "down_proj"]
    assert kinds == 2 * [*attention, *mlp, "input_layernorm", "post_attention_layernorm"] + ["norm"]


def test_a_prepared_model_trains_in_full_and_with_its_adapter_disabled() -> None:
    plain, fast = build_model("llama"), build_model("llama")
    kernels.patch_model(fast, DEVICE)
    assert_all_close(compute_loss_and_gradients(fast, "padded"), compute_loss_and_gradients(plain, "padded"))
    fast, rows = add_lora(build_model("llama")), build_batch()[1]
    kernels.patch_model(fast, DEVICE)
    with fast.disable_adapter():
        assert_close(fast(**rows).logits, plain(**rows).logits)


def test_checkpointed_gradients_are_the_same() -> None:
    plain, fast = add_lora(build_model("llama")), add_lora(build_model("llama"))
    kernels.patch_model(fast, DEVICE)
    fast.enable_input_require_grads()
    # The older name is that of transformers 5.17, which some GPU machines have.
    enable = getattr(fast, "activation_checkpointing_enable", None) or fast.gradient_checkpointing_enable
    enable()
    assert_all_close(compute_loss_and_gradients(fast, "padded"), compute_loss_and_gradients(plain, "padded"))


def test_autocast_reaches_the_kernels() -> None:
    plain, fast = add_lora(build_model("llama")), add_lora(build_model("llama"))
    kernels.patch_model(fast, DEVICE)
    packed.enable(fast)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        ours, theirs = compute_loss_and_gradients(fast, "packed"), compute_loss_and_gradients(plain, "padded")
    assert_all_close(ours, theirs, 0.1)
    assert all(grad.dtype == torch.float32 for grad in ours.values())


def test_less_is_saved_for_the_backward_pass() -> None:
    saved_bytes = []
    for fast in (False, True):
        model, saved_tensors = add_lora(build_model("llama", intermediate_size=512)), []
        if fast:
            kernels.patch_model(model, DEVICE)
        with record_saved_tensors(saved_tensors):
            compute_loss(model, "padded")
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved_tensors}
        saved_bytes.append(sum(size for address, size in storages.items() if address not in weights))
    assert saved_bytes[1] < 0.6 * saved_bytes[0]


def test_results_are_reproducible_bit_by_bit() -> None:
    model = add_lora(build_model("llama"))
    kernels.patch_model(model, DEVICE)
    packed.enable(model)
    first, second = (
        {name: tensor.clone() for name, tensor in compute_loss_and_gradients(model, "packed").items()}
        for _ in pairwise(range(3))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
