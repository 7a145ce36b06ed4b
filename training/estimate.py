"""What a run will take, by rules that know its size and the machine's speed. Told in docs/jobs.md. No torch.

Time is told more exactly by earlier runs, where there are any: see :func:`seconds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from training.run_events import Plan, Range

PROCESS_BYTES = 0.7e9
"""A process that has imported torch and transformers."""
STARTUP_SECONDS = 3.0
"""Forking, reading the rows again, writing the result."""
LOAD_BYTES_PER_SECOND = 1e9
FLOPS_UTILIZATION = 0.35
"""Share of the speed of one large matrix product that training reaches."""
ACTIVATIONS_PER_PARAMETER = 1.4
"""A block of width h has about 12 h² weights and keeps about 17 h values of each token for the backward pass
(Korthikanti et al. 2022, arXiv:2205.05198, 34 h bytes of two each): 17 / 12 values a weight, divided by h."""
CHECKPOINTED_ACTIVATION_SHARE = 0.2
"""Share of them that gradient checkpointing keeps."""

FLOPS_PER_PARAMETER: Mapping[str, float] = {"full": 6.0, "lora": 4.5, "layers": 3.0, "head": 1.0}
"""Of each weight for each token: 2 forward, 2 for what flows back, 2 for the weight's own gradient where it has one."""
OPTIMIZER_BYTES_PER_PARAMETER: Mapping[str, float] = {"adamw": 8.0, "sgd": 4.0, "adafactor": 0.1}
"""Of each trained weight, beside its gradient."""


@dataclass(frozen=True)
class EstimateInputs:
    """What the rules know of a run."""

    update: str
    optimizer: str
    parameters: int
    width: int
    trainable_parameters: float
    """Parameters that move."""
    weight_bytes: int
    """Of each weight of the base, in memory."""
    activation_bytes: int
    """Of each value that is kept for the backward pass."""
    micro_batch_tokens: float
    """In one part of a batch."""
    gradient_checkpointing: bool


def estimate_trainable_parameters(update: str, parameters: int, width: int, rank: int) -> float:
    """Parameters that move, where they were not counted: of a d × k matrix an adapter has rank · (d + k)."""
    shares = {"full": 1.0, "lora": 2 * rank / width, "layers": 0.2, "head": 0.02}
    return parameters * min(1.0, shares[update])


def estimate_throughput(inputs: EstimateInputs, flops_per_second: float) -> float:
    """``operations_per_second``: of a large matrix product in the run's arithmetic."""
    return FLOPS_UTILIZATION * flops_per_second / (FLOPS_PER_PARAMETER[inputs.update] * inputs.parameters)


def estimate_peak_memory(inputs: EstimateInputs) -> Range:
    """Bytes of the training process, of a GPU's memory those beyond ``PROCESS_BYTES``."""
    weights = inputs.parameters * inputs.weight_bytes
    # A gradient and, beside a base that is narrower or frozen, the weight itself in float32.
    beside = 0.0 if inputs.update == "full" else 4.0
    moving = inputs.trainable_parameters * (4.0 + beside + OPTIMIZER_BYTES_PER_PARAMETER[inputs.optimizer])
    share = 1.0 if inputs.update in ("full", "lora") else min(1.0, inputs.trainable_parameters / inputs.parameters)
    kept = (
        ACTIVATIONS_PER_PARAMETER
        * inputs.parameters
        / inputs.width
        * inputs.micro_batch_tokens
        * inputs.activation_bytes
        * share
    )
    if inputs.gradient_checkpointing:
        kept *= CHECKPOINTED_ACTIVATION_SHARE
    expected = weights + moving + kept
    return Range(
        low=round(0.8 * PROCESS_BYTES + 0.5 * expected),
        expected=round(PROCESS_BYTES + expected),
        high=round(1.3 * PROCESS_BYTES + 2 * expected),
    )


def select_throughput(plan: Plan, speeds: Sequence[float]) -> float:
    """Tokens a second: the median of earlier runs of this kind, where there are any."""
    return median(speeds) if speeds else plan.tokens_per_second


def estimate_duration(plan: Plan, speeds: Sequence[float], max_seconds: int | None) -> Range:
    """Of training, from the first step to the model. ``speeds``: tokens a second of earlier runs of this kind.

    With earlier runs: by their slowest, median and fastest, a quarter more on either side. Without: by the rule, a
    third and three times. ``limit``: the job's ``max_seconds``.
    """
    usual = select_throughput(plan, speeds)
    slow, fast = (min(speeds) / 1.25, max(speeds) * 1.25) if speeds else (usual / 3, usual * 3)
    low, expected, high = (
        plan.start_seconds + min(plan.total_tokens / speed, max_seconds or float("inf"))
        for speed in (fast, usual, slow)
    )
    return Range(low=round(low, 1), expected=round(expected, 1), high=round(high, 1))
