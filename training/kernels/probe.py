"""Comparison of a faster kernel with the plain module that it replaces, on the model at hand.

A kernel runs only where its outputs and gradients equal the module's up to rounding. A kernel that
does not fit, or that raises, leaves the module as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

MAX_RELATIVE_ERROR: Mapping[torch.dtype, float] = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}
"""Largest norm of a difference, as a share of the plain module's norm: some roundings of a product
of a few hundred terms in that dtype."""


class KernelUse(NamedTuple):
    """A layer that has a faster kernel, and whether the kernel passed its probe."""

    kernel: str
    layer: str
    """Class of the layer."""
    applies: bool


def describe_kernels(uses: Sequence[KernelUse]) -> str:
    """Describe in one sentence which kernels run and which layers stay plain."""
    fused = Counter(use.kernel for use in uses if use.applies)
    plain = Counter((use.kernel, use.layer) for use in uses if not use.applies)
    running = ", ".join(f"{kernel} in {count} layers" for kernel, count in sorted(fused.items())) or "none"
    text = f"Faster kernels: {running}."
    if plain:
        refused = ", ".join(f"{kernel} of {layer} ({count} layers)" for (kernel, layer), count in sorted(plain.items()))
        text += f" Computed plainly, because the model's formula differs: {refused}."
    return text


def count_kernels(uses: Sequence[KernelUse]) -> dict[str, int]:
    """Return the number of layers with each kernel that runs."""
    return dict(sorted(Counter(use.kernel for use in uses if use.applies).items()))


class ProbeSettings(NamedTuple):
    """Device and autocast dtype of the steps that follow."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


def build_probe_tensor(shape: Sequence[int], device: torch.device, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Build a random tensor without touching the global random generator."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.to(device=device, dtype=dtype)


def agrees(
    plain: Callable[..., Any],
    fast: Callable[..., Any],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    settings: ProbeSettings,
) -> bool:
    """Return True if outputs and all gradients of ``fast`` equal those of ``plain``.

    Gradients are those of the inputs and of the weights that require one.
    """
    trained = [weight for weight in weights if weight.requires_grad]
    try:
        expected = _compute_outputs_and_gradients(plain, inputs, trained, settings)
        actual = _compute_outputs_and_gradients(fast, inputs, trained, settings)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return False
    tolerance = MAX_RELATIVE_ERROR[settings.dtype]
    return len(expected) == len(actual) and all(
        _is_close(left, right, tolerance) for left, right in zip(actual, expected, strict=True)
    )


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for the duration of the context, then each module into its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def randomized(weight: nn.Parameter) -> Iterator[None]:
    """Fill a weight with random numbers for the duration of the context: a fresh adapter's B is
    zero and would hide an error."""
    original = weight.data
    scale = original.shape[-1] ** -0.5
    weight.data = build_probe_tensor(original.shape, original.device, original.dtype, seed=2) * scale
    try:
        yield
    finally:
        weight.data = original


def _compute_outputs_and_gradients(
    function: Callable[..., Any], inputs: Sequence[Tensor], trained: Sequence[Tensor], settings: ProbeSettings
) -> list[Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    with torch.enable_grad(), settings.autocast():
        result = function(*leaves)
        outputs = list(result) if isinstance(result, tuple) else [result]
    # Not the inputs' numbers: the gradient of a norm along its own input is zero.
    upstream = [build_probe_tensor(output.shape, output.device, output.dtype, seed=1) for output in outputs]
    gradients = torch.autograd.grad(outputs, [*leaves, *trained], upstream)
    return [output.detach() for output in [*outputs, *gradients]]


def _is_close(actual: Tensor, expected: Tensor, tolerance: float) -> bool:
    if actual.shape != expected.shape:
        return False
    difference = torch.linalg.vector_norm(actual.float() - expected.float())
    return bool(difference <= tolerance * torch.linalg.vector_norm(expected.float()))
