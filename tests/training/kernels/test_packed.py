"""Tests that attention over packed rows equals attention over each row alone, on every path."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from tests.devices import DEVICE, to_device
from tests.training.kernels.test_kernels import LENGTHS, assert_close, build_packable_model
from training.kernels import packed
from training.kernels.packed import PackedRows
from training.tasks.base import LossSettings, TaskContext
from training.tasks.support import causal

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 0.02}
"""Share of the largest element. bfloat16 rounds each score, weight and sum to 8 bits, by 0.4 %."""


def attend_each_row(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """Reference of torch 2.11's ``varlen_attn``: as many heads of keys as of queries."""
    assert query.shape == key.shape == value.shape
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert query.dtype == key.dtype == value.dtype
    starts = cu_seq_q.tolist()
    assert max_q == max_k == max(end - start for start, end in pairwise(starts))
    assert window_size == (-1, 0), "causal"
    rows = [
        scaled_dot_product_attention(
            *(tensor[start:end].transpose(0, 1)[None] for tensor in (query, key, value)), is_causal=True, scale=scale
        )[0].transpose(0, 1)
        for start, end in pairwise(starts)
    ]
    return torch.cat(rows)


def attend_each_row_with_grouped_heads(
    query: Tensor, key: Tensor, value: Tensor, *args: Any, enable_gqa: bool = False, **kwargs: Any
) -> Tensor:
    """Reference of torch 2.13's ``varlen_attn``, which groups heads on request."""
    assert enable_gqa == (query.shape[1] != key.shape[1])
    key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], 1) for tensor in (key, value))
    return attend_each_row(query, key, value, *args, **kwargs)


VARLEN_VERSIONS: dict[str, tuple[Callable[..., Tensor], bool]] = {
    "torch-2.11": (attend_each_row, False),
    "torch-2.13": (attend_each_row_with_grouped_heads, True),
}


def build_states(dtype: torch.dtype, kv_heads: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, sum(LENGTHS), 8) for heads in (4, kv_heads, kv_heads)]
    return [torch.randn(shape, generator=generator).to(DEVICE, dtype).requires_grad_() for shape in shapes]


def build_rows() -> PackedRows:
    return PackedRows(LENGTHS, torch.tensor([0, *accumulate(LENGTHS)], dtype=torch.int32, device=DEVICE))


def compute_output_and_gradients(attend: Callable[..., Tensor], states: list[Tensor]) -> list[Tensor]:
    output = attend(*states, build_rows(), 0.3)
    assert output.shape == (1, sum(LENGTHS), 4, 8)
    upstream = torch.linspace(-1, 1, output.numel(), device=DEVICE, dtype=output.dtype).view_as(output)
    return [output, *torch.autograd.grad(output, states, upstream)]


def attend_by_row(*args: Any) -> Tensor:
    return packed.attend_by_row(*args, 0.0)


def attend_padded(*args: Any) -> Tensor:
    return packed.attend_padded(*args, 0.0)


@pytest.fixture(params=VARLEN_VERSIONS)
def varlen_version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace torch's kernel, which only CUDA has, by a reference with a version's signature."""
    attend, groups_heads = VARLEN_VERSIONS[request.param]
    monkeypatch.setattr(packed, "varlen_attn", attend)
    monkeypatch.setattr(packed, "VARLEN_GROUPS_HEADS", groups_heads)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_padded_attention_equals_attention_by_row(dtype: torch.dtype, kv_heads: int) -> None:
    states = build_states(dtype, kv_heads)
    results = [compute_output_and_gradients(attend, states) for attend in (attend_padded, attend_by_row)]
    for ours, expected in zip(*results, strict=True):
        assert_close(ours, expected, TOLERANCES[dtype])


@pytest.mark.usefixtures("varlen_version")
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_attention_of_variable_length_equals_attention_by_row(dtype: torch.dtype, kv_heads: int) -> None:
    states = build_states(dtype, kv_heads)
    results = [compute_output_and_gradients(attend, states) for attend in (packed.attend_varlen, attend_by_row)]
    for ours, expected in zip(*results, strict=True):
        assert_close(ours, expected, TOLERANCES[dtype])


@pytest.mark.usefixtures("varlen_version")
def test_queries_that_the_rotation_left_in_a_wider_dtype() -> None:
    query, key, value = build_states(torch.float32, 2)
    output = packed.attend_varlen(query, key, value.bfloat16(), build_rows(), 0.3)
    assert output.dtype == torch.bfloat16
    assert_close(output, attend_by_row(query, key, value, build_rows(), 0.3), TOLERANCES[torch.bfloat16])


def test_the_installed_kernel_groups_heads_if_its_signature_says_so() -> None:
    query, key, value = (tensor.detach()[0].transpose(0, 1).to("meta") for tensor in build_states(torch.bfloat16, 2))
    starts = torch.zeros(len(LENGTHS) + 1, dtype=torch.int32, device="meta")
    groups = {"enable_gqa": True} if packed.VARLEN_GROUPS_HEADS else {}
    if not groups:
        key, value = (tensor.repeat_interleave(2, 1) for tensor in (key, value))
    output = packed.varlen_attn(query, key, value, starts, starts, 9, 9, scale=0.3, window_size=(-1, 0), **groups)
    assert output.shape == query.shape


@pytest.mark.parametrize("attend", [packed.attend_padded, packed.attend_by_row])
def test_dropout_drops_and_keeps_the_mean(attend: Callable[..., Tensor]) -> None:
    states = [tensor.detach() for tensor in build_states(torch.float32, 2)]
    torch.manual_seed(0)
    draws = torch.stack([attend(*states, build_rows(), 0.3, 0.2) for _ in range(600)])
    assert not torch.equal(draws[0], draws[1])
    assert_close(draws.mean(0), attend(*states, build_rows(), 0.3, 0.0), 0.1)


def build_packed_batch() -> Any:
    """Batch of rows as the training loop gets it, on the device."""
    examples = [
        causal.CausalExample(length, False, array("i", range(1, length + 1)), array("f", [0.0] + [1.0] * (length - 1)))
        for length in LENGTHS
    ]
    ctx = TaskContext(None, None, LossSettings(), True, None)  # type: ignore[arg-type]
    return to_device(causal.select_model_inputs(causal.collate(examples, ctx)))


def test_a_batch_carries_its_rows_lengths_and_starts() -> None:
    batch = build_packed_batch()
    assert batch["row_lengths"] == LENGTHS
    assert batch["row_starts"].tolist() == [0, *accumulate(LENGTHS)]
    assert (batch["row_starts"].dtype, batch["row_starts"].device.type) == (torch.int32, DEVICE.type)


class TransferRecorder(TorchDispatchMode):
    """Record operations that copy between devices or make the CPU wait for a value."""

    NAMES = ("_local_scalar_dense", "lift_fresh", "nonzero", "_pin_memory")

    def __init__(self) -> None:
        super().__init__()
        self.transfers: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        copies = name == "_to_copy" and (kwargs or {}).get("device") not in (None, args[0].device)
        if copies or name in self.NAMES:
            self.transfers.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("attend", [packed.attend_varlen, attend_padded, attend_by_row])
def test_no_layer_copies_to_the_device_or_waits_for_it(attend: Callable[..., Tensor]) -> None:
    """Tensors without data cannot be read, as reading a tensor on the device would wait for it."""
    states = [tensor.to("meta") for tensor in build_states(torch.bfloat16, 4)]
    rows = PackedRows(LENGTHS, torch.empty(len(LENGTHS) + 1, dtype=torch.int32, device="meta"))
    with TransferRecorder() as recorder:
        assert attend(*states, rows, 0.3).shape == (1, sum(LENGTHS), 4, 8)
    assert recorder.transfers == []


@pytest.fixture
def attention_paths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the attention paths that layers took."""
    taken: list[str] = []
    for name in ("attend_varlen", "attend_padded", "attend_by_row"):
        path = getattr(packed, name)
        monkeypatch.setattr(packed, name, lambda *args, name=name, path=path: (taken.append(name), path(*args))[1])
    return taken


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "path"), [(torch.bfloat16, "attend_varlen"), (torch.float32, "attend_padded")], ids=str
)
def test_cuda_attends_to_all_rows_in_one_call(attention_paths: list[str], dtype: torch.dtype, path: str) -> None:
    model = build_packable_model("llama").to(dtype)
    packed.enable(model)
    model(**build_packed_batch(), use_cache=False)
    assert attention_paths == [path, path]


@pytest.mark.gpu
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_cudas_kernel_equals_attention_by_row(kv_heads: int) -> None:
    states = build_states(torch.bfloat16, kv_heads)
    results = [compute_output_and_gradients(attend, states) for attend in (packed.attend_varlen, attend_by_row)]
    for ours, expected in zip(*results, strict=True):
        assert_close(ours, expected, TOLERANCES[torch.bfloat16])
