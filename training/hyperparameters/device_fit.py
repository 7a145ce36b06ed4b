"""Choice of micro-batch, activation checkpointing and precision by a device's memory. No torch.

Among the settings whose step fits in memory, the fastest is chosen by a rough cost: small products
use a device badly, checkpointing recomputes the forward pass, and a precision without matrix units
is slow. docs/hyperparameters.md describes the rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from training.hyperparameters.auto import PlannedHyperparameters, ResolvedHyperparameters
from training.models.step_memory import WEIGHT_BYTES, StepInputs, StepMemory, estimate_step_memory
from training.spec import Precision

USABLE_SHARE = 0.85
"""Share of the free memory that a step's estimate may take: measured peaks are within 15 %."""
MICRO_BATCH_TOKENS: Mapping[str, int] = {"cuda": 16_384, "mps": 4096, "cpu": 2048}
"""Device type -> tokens of a micro-batch at which throughput is highest. A GPU needs many. A CPU
needs just enough to fill its matrix units, so that the activations passed between blocks stay in
its cache."""

_CHECKPOINTING_COST = 4 / 3
_SLOW_PRECISION_COST = 3.0
_OVERHEAD_TOKENS_SHARE = 1 / 32
"""A micro-batch costs as much as this share of ``MICRO_BATCH_TOKENS`` on top of its own tokens."""


@dataclass(frozen=True)
class DeviceLimits:
    """Device that trains, and its memory."""

    type: str
    """Device type of torch."""
    precisions: Sequence[Precision]
    """Precisions that it computes, fastest first."""
    free_bytes: float


@dataclass(frozen=True)
class StepRows:
    """Rows of the batches of a run."""

    batch_size: int
    mean_tokens: float
    longest: Sequence[int]
    """Tokens of the longest rows, longest first, at least one and at most ``batch_size``."""
    packed: bool
    """True if rows are concatenated instead of padded to the longest."""

    def count_tokens(self, rows: int) -> int:
        """Return the tokens of the largest micro-batch of this many rows, padding included."""
        # Batches and their micro-batches are of rows with similar lengths.
        lengths = [self.longest[min(row, len(self.longest) - 1)] for row in range(rows)]
        return sum(lengths) if self.packed else rows * lengths[0]


@dataclass(frozen=True)
class Fit:
    """Settings of a run on a device."""

    dtype: Precision
    micro_batches: int
    checkpointing: bool
    rows: int
    """Rows of a micro-batch."""
    memory: StepMemory
    limits: DeviceLimits

    @property
    def fits(self) -> bool:
        return self.memory.total <= USABLE_SHARE * self.limits.free_bytes

    def resolve(self, planned: PlannedHyperparameters) -> ResolvedHyperparameters:
        values = {
            "dtype": self.dtype,
            "gradient_accumulation_steps": self.micro_batches,
            "gradient_checkpointing": self.checkpointing,
        }
        return ResolvedHyperparameters(**planned.model_dump() | values)

    def describe(self) -> str:
        """Return one sentence that explains the choice to the user."""
        memory, free = self.memory, self.limits.free_bytes
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        parts = {
            "weights": memory.weights,
            "optimizer and gradients": memory.optimizer + memory.gradients,
            "activations": memory.activations,
        }
        text = (
            f"Training on {self.limits.type} in {self.dtype}, in micro-batches of {rows}, "
            f"{'with' if self.checkpointing else 'without'} activation checkpointing: a step takes about "
            f"{_format_bytes(memory.total)} ({', '.join(f'{name} {_format_bytes(n)}' for name, n in parts.items())})"
        )
        if self.fits:
            return f"{text} of {_format_bytes(free)} free."
        return f"{text}, more than {USABLE_SHARE:.0%} of the {_format_bytes(free)} free, so it may run out of memory."


def choose_fit(
    planned: PlannedHyperparameters, steps: Mapping[Precision, StepInputs], rows: StepRows, limits: DeviceLimits
) -> Fit:
    """Choose a value for each ``auto`` of ``planned``. Values that are set are kept.

    ``steps`` describes the run in each precision; fields that depend on the micro-batch are
    replaced. If no setting fits, the one with the smallest step is chosen.
    """
    fits = [_build_fit(choice, steps[choice[0]], rows, limits) for choice in _iter_choices(planned, rows, limits)]
    fitting = [fit for fit in fits if fit.fits]
    if fitting:
        return min(fitting, key=lambda fit: _estimate_cost(fit, rows))
    return min(fits, key=lambda fit: (fit.memory.total, _estimate_cost(fit, rows)))


Choice = tuple[Precision, int, bool]
"""Precision, micro-batches per batch, activation checkpointing."""


def _iter_choices(planned: PlannedHyperparameters, rows: StepRows, limits: DeviceLimits) -> Iterator[Choice]:
    precisions = limits.precisions if planned.dtype == "auto" else [planned.dtype]
    checkpointing = [False, True] if planned.gradient_checkpointing == "auto" else [planned.gradient_checkpointing]
    for dtype in precisions:
        for is_checkpointed in checkpointing:
            for micro_batches in _list_micro_batches(planned, rows, limits):
                yield dtype, micro_batches, is_checkpointed


def _list_micro_batches(planned: PlannedHyperparameters, rows: StepRows, limits: DeviceLimits) -> list[int]:
    """Return the number that suits the device, then its doubles up to one row per micro-batch."""
    if planned.gradient_accumulation_steps != "auto":
        return [planned.gradient_accumulation_steps]
    suited = ceil(rows.batch_size * rows.mean_tokens / MICRO_BATCH_TOKENS[limits.type])
    counts = [min(rows.batch_size, max(1, suited))]
    while counts[-1] < rows.batch_size:
        counts.append(min(2 * counts[-1], rows.batch_size))
    return counts


def _build_fit(choice: Choice, step: StepInputs, rows: StepRows, limits: DeviceLimits) -> Fit:
    dtype, micro_batches, checkpointing = choice
    size = ceil(rows.batch_size / micro_batches)
    inputs = replace(
        step,
        compute_bytes=WEIGHT_BYTES[dtype],
        tokens=rows.count_tokens(size),
        longest_row_tokens=rows.longest[0],
        checkpointing=checkpointing,
        accumulates=micro_batches > 1,
        device_type=limits.type,
    )
    return Fit(dtype, micro_batches, checkpointing, size, estimate_step_memory(inputs), limits)


def _estimate_cost(fit: Fit, rows: StepRows) -> float:
    """Return the time per token, relative to a large micro-batch in the fastest precision."""
    overhead = _OVERHEAD_TOKENS_SHARE * MICRO_BATCH_TOKENS[fit.limits.type]
    cost = 1 + overhead / (fit.rows * rows.mean_tokens)
    cost *= _CHECKPOINTING_COST if fit.checkpointing else 1.0
    return cost if fit.dtype == fit.limits.precisions[0] else _SLOW_PRECISION_COST * cost


def _format_bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
