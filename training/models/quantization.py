"""4-bit NormalFloat storage of a frozen base, for QLoRA (Dettmers et al. 2023, arXiv:2305.14314).

Each block of 64 weights is stored as 4-bit indices into 16 quantiles of the normal distribution,
with a scale that is itself quantized to 8 bits: 0.52 bytes per weight. ``bitsandbytes``, an extra,
does the arithmetic.

Weights are rounded to bfloat16 before they are quantized. So the codes do not depend on the
precision in which a base is loaded, and a result is served with the weights that it was trained on.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import platform
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from training.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor, nn

NF4: dict[str, Any] = {"quant_type": "nf4", "compress_statistics": True}
"""Arguments of bitsandbytes for NF4 with double quantization."""


def require_bitsandbytes(param: str | None = None) -> None:
    """Raise ``TrainingError`` (missing_extra) if bitsandbytes is not installed on this machine."""
    if importlib.util.find_spec("bitsandbytes") is None:
        message = "bitsandbytes is not installed on this machine; `pip install 'luthier[qlora]'` installs it."
        raise TrainingError("missing_extra", message, param)


def import_bitsandbytes() -> Any:
    """Return the module. Raises ``TrainingError`` (missing_extra) if it is not installed."""
    require_bitsandbytes()
    return importlib.import_module("bitsandbytes")


def quantize_linear_layers(model: Any, kept: Collection[str]) -> None:
    """Replace the base's linear layers by layers that store NF4 and multiply in the weights' dtype.

    Embeddings, norms, the output layer and modules named in ``kept`` stay as they are. One weight
    at a time moves to the GPU, if there is one, and is quantized there, where trainer and engine
    put the model.

    Raises ``ValueError`` if the model has no such layer, and ``TrainingError`` (missing_extra).
    """
    bitsandbytes = import_bitsandbytes()
    layers = dict(_iter_linear_layers(model, kept))
    if not layers:
        raise ValueError(f"{type(model).__name__} has no linear layer that NF4 applies to; use base_precision 'native'")
    for name, layer in layers.items():
        quantized = bitsandbytes.nn.Linear4bit(
            layer.in_features, layer.out_features, compute_dtype=layer.weight.dtype, device="meta", **NF4
        )
        weight = bitsandbytes.nn.Params4bit(_round(layer.weight), module=quantized, **NF4)
        quantized.weight = weight.to(_get_device())
        quantized.bias = layer.bias
        # On CPUs with AVX512-BF16, an evaluation would repack the weight for a kernel that has no
        # gradient, and training would go on without one.
        quantized.support_avx512bf16_for_cpu = False
        model.set_submodule(name, quantized)
        # The new weights lie between freed temporaries of many times their size.
        _trim_heap()
    for weight in model.parameters():
        if not isinstance(weight, bitsandbytes.nn.Params4bit):
            # The last views of the weights file, which stays in memory as long as one is left.
            weight.data = weight.data.clone()
    # PEFT looks for this mark of transformers to select its layer class.
    model.is_loaded_in_4bit = True


def round_linear_layers(model: Any, kept: Collection[str]) -> None:
    """Round the weights that ``quantize_linear_layers`` would quantize to their NF4 values.

    Raises ``TrainingError`` (missing_extra).
    """
    functional = import_bitsandbytes().functional
    for _, layer in _iter_linear_layers(model, kept):
        quantized, state = functional.quantize_4bit(_round(layer.weight).to(_get_device()), **NF4)
        layer.weight.data = functional.dequantize_4bit(quantized, state).to(layer.weight.device)


def _iter_linear_layers(model: Any, kept: Collection[str]) -> Iterator[tuple[str, nn.Linear]]:
    from torch import nn

    # transformers lists layers whose code reads the dtype of their weight.
    kept = {*kept, *(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ())}
    output_layer = model.get_output_embeddings()
    for name, layer in model.named_modules():
        is_kept = layer is output_layer or any(f".{part}." in f".{name}." for part in kept)
        if type(layer) is nn.Linear and not is_kept:
            yield name, layer


def _trim_heap() -> None:
    """Return freed memory to the system. Does nothing if the C library is not glibc."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _get_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _round(weight: Tensor) -> Tensor:
    return weight.data.bfloat16().to(weight.dtype)
