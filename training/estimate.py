"""Estimates of a run's duration and memory from its size and the machine's speed. No torch.

docs/jobs.md describes the rules. Earlier runs, if there are any, give a better estimate of the
duration: see :func:`estimate_duration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from training.run_events import Plan, Range

PROCESS_BYTES = 0.7e9
"""Memory of a process that has imported torch and transformers."""
STARTUP_SECONDS = 3.0
"""Time to fork, read the rows again and write the result."""
LOAD_BYTES_PER_SECOND = 1e9
FLOPS_UTILIZATION = 0.35
"""Speed of training as a share of the speed of one large matrix product."""
ACTIVATIONS_PER_PARAMETER = 1.4
"""Activation values per weight and token, times the width h. A block of width h has about 12 h²
weights and stores about 17 h values per token for the backward pass (Korthikanti et al. 2022,
arXiv:2205.05198: 34 h bytes at two bytes per value). That is 17 / 12 values per weight, over h."""
CHECKPOINTED_ACTIVATION_SHARE = 0.2
"""Share of the activations that gradient checkpointing stores."""

SLOWEST_FLOPS_PER_SECOND: Mapping[str, float] = {"cuda": 1e12, "mps": 1e11, "cpu": 5e9}
"""Device type -> speed that every machine that trains exceeds."""
SLOWEST_BYTES_PER_SECOND = 1e7
"""Speed of a disk that every worker exceeds."""
TRAINING_FLOPS_PER_PARAMETER = 8.0
"""FLOPs per weight and token at most: with activations computed again in the backward pass."""

FLOPS_PER_PARAMETER: Mapping[str, float] = {"full": 6.0, "lora": 4.5, "layers": 3.0, "head": 1.0}
"""FLOPs per weight and token: 2 for the forward pass, 2 for the gradient of the activations, 2 for
the gradient of the weight if it is trained."""
OPTIMIZER_BYTES_PER_PARAMETER: Mapping[str, float] = {"adamw": 8.0, "sgd": 4.0, "adafactor": 0.1}
"""Optimizer state per trained weight; its gradient is not included."""


@dataclass(frozen=True)
class EstimateInputs:
    """Size of a run, the input of the estimates."""

    update: str
    optimizer: str
    parameters: int
    width: int
    trainable_parameters: float
    weight_bytes: int
    """Bytes per base weight in memory."""
    activation_bytes: int
    """Bytes per activation value stored for the backward pass."""
    micro_batch_tokens: float
    """Tokens in one micro-batch."""
    gradient_checkpointing: bool


def estimate_trainable_parameters(update: str, parameters: int, width: int, rank: int) -> float:
    """Estimate the number of trainable parameters without loading the model.

    The adapter of a d × k matrix has rank · (d + k) parameters.
    """
    shares = {"full": 1.0, "lora": 2 * rank / width, "layers": 0.2, "head": 0.02}
    return parameters * min(1.0, shares[update])


def estimate_slowest_pass(parameters: int, tokens: int, device_type: str) -> float:
    """Return an upper estimate of the seconds for one micro-batch of ``tokens``."""
    return TRAINING_FLOPS_PER_PARAMETER * parameters * tokens / SLOWEST_FLOPS_PER_SECOND[device_type]


def estimate_slowest_transfer(num_bytes: int) -> float:
    """Return an upper estimate of the seconds to read or write a model."""
    return num_bytes / SLOWEST_BYTES_PER_SECOND


def estimate_throughput(inputs: EstimateInputs, flops_per_second: float) -> float:
    """Estimate tokens per second. ``flops_per_second`` is the speed of a large matrix product in
    the run's dtype."""
    return FLOPS_UTILIZATION * flops_per_second / (FLOPS_PER_PARAMETER[inputs.update] * inputs.parameters)


def estimate_peak_memory(inputs: EstimateInputs) -> Range:
    """Estimate the bytes of the training process. On a GPU, its memory holds those beyond
    ``PROCESS_BYTES``."""
    weights = inputs.parameters * inputs.weight_bytes
    # A trained weight has a gradient and, unless it is a base weight itself, a float32 copy.
    copy_bytes = 0.0 if inputs.update == "full" else 4.0
    training_state = inputs.trainable_parameters * (4.0 + copy_bytes + OPTIMIZER_BYTES_PER_PARAMETER[inputs.optimizer])
    trained_share = (
        1.0 if inputs.update in ("full", "lora") else min(1.0, inputs.trainable_parameters / inputs.parameters)
    )
    activations = (
        ACTIVATIONS_PER_PARAMETER
        * inputs.parameters
        / inputs.width
        * inputs.micro_batch_tokens
        * inputs.activation_bytes
        * trained_share
    )
    if inputs.gradient_checkpointing:
        activations *= CHECKPOINTED_ACTIVATION_SHARE
    expected = weights + training_state + activations
    return Range(
        low=round(0.8 * PROCESS_BYTES + 0.5 * expected),
        expected=round(PROCESS_BYTES + expected),
        high=round(1.3 * PROCESS_BYTES + 2 * expected),
    )


def select_throughput(plan: Plan, speeds: Sequence[float]) -> float:
    """Return tokens per second: the median of similar earlier runs, or the plan's estimate if there
    are none."""
    return median(speeds) if speeds else plan.tokens_per_second


def estimate_duration(plan: Plan, speeds: Sequence[float], max_seconds: int | None) -> Range:
    """Estimate the seconds of training, from the start of the process to the model.

    ``speeds`` are the tokens per second of similar earlier runs. With them, the range spans the
    slowest and the fastest, widened by a quarter, around the median. Without them, it spans a third
    to three times the plan's estimate. ``max_seconds`` is the job's time limit.
    """
    expected_speed = select_throughput(plan, speeds)
    slow, fast = (min(speeds) / 1.25, max(speeds) * 1.25) if speeds else (expected_speed / 3, expected_speed * 3)
    low, expected, high = (
        plan.start_seconds + min(plan.total_tokens / speed, max_seconds or float("inf"))
        for speed in (fast, expected_speed, slow)
    )
    return Range(low=round(low, 1), expected=round(expected, 1), high=round(high, 1))
