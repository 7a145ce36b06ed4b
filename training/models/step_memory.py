"""Model of a training step's memory, from the sizes of the architecture. No torch.

A step has three moments at which its memory can peak: the loss, with all activations and the
logits; the backward pass of the last block, with the activations and the block's intermediates; and
the end of the backward pass, with all gradients. Between the second and the third, activations are
freed as gradients are allocated, so an end of this interval is its maximum. Counts of activations
per block follow Korthikanti et al. 2022 (arXiv:2205.05198) for our kernels. docs/training.md has
the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from training.models.architecture import Architecture

WEIGHT_BYTES: Mapping[str, float] = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "nf4": 0.52}
"""Precision in which a weight is held in memory -> bytes per weight. NF4 has an 8-bit scale for 64
weights, and a float32 scale for 256 of these."""


class OptimizerBytes(NamedTuple):
    """Bytes of an optimizer."""

    state: float
    """Per trained weight."""
    scratch: float
    """Per weight of the largest trained matrix, while it is updated."""


OPTIMIZER_BYTES: Mapping[str, OptimizerBytes] = {
    "adamw": OptimizerBytes(8.0, 0.0),
    # Two bytes, and two float32 scales for each block of 256 weights.
    "adamw8bit": OptimizerBytes(2.03, 0.0),
    "sgd": OptimizerBytes(4.0, 4.0),
    "adafactor": OptimizerBytes(0.1, 8.0),
}
LOGIT_BLOCK_BYTES: Mapping[str, float] = {"cpu": 16e6, "cuda": 4e8, "mps": 1e8}
"""Device type -> memory of one block of logits in ``training.kernels.cross_entropy``."""
HEAP_SHARE: Mapping[str, float] = {"cpu": 1.18, "cuda": 1.0, "mps": 1.0}
"""Device type -> size of the heap over its live tensors. A CPU's heap keeps freed blocks, because
page faults are slow (see ``training.kernels.memory``). Its size varies from run to run, 1.02 to
1.3 times. With checkpointing it does not."""
COMPILED_KERNEL_BYTES: Mapping[str, float] = {"cpu": 25e6, "cuda": 0.0, "mps": 0.0}
"""Device type -> memory of kernels that are compiled for each shape: oneDNN's, in bfloat16 only."""

_FULL_PRECISION = 4.0
"""Bytes of a trained weight, of its gradient, and of a value of the loss."""


@dataclass(frozen=True)
class StepInputs:
    """A training step. Tokens are those of one micro-batch, padding included."""

    architecture: Architecture
    update: str
    """Key of ``UPDATES``."""
    trainable_parameters: float
    base_bytes: float
    """Bytes per frozen weight in memory."""
    compute_bytes: float
    """Bytes per value of a matrix product."""
    optimizer: str
    tokens: float
    longest_row_tokens: int
    checkpointing: bool
    accumulates: bool
    """True if a batch has several micro-batches."""
    device_type: str
    trained_blocks: int
    """Blocks through which the backward pass runs."""
    lora_rank: int = 0
    lora_dropout: bool = False
    quantized: bool = False
    """True if the frozen linear layers are quantized. They have no kernel."""
    keeps_initial_weights: bool = False
    full_logits: bool = False
    """True if the model's own forward computes the logits, because it transforms them."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a step by their use. ``total`` is the peak: not all parts exist at the same time."""

    weights: float
    optimizer: float
    gradients: float
    copies: float
    """Trained weights in the precision of the products."""
    activations: float
    """Values kept for the backward pass."""
    workspace: float
    """Intermediates of one block in the backward pass."""
    logits: float
    total: float


def estimate_step_memory(inputs: StepInputs) -> StepMemory:
    """Estimate the bytes of a training step, from the second one on."""
    sizes, trained = inputs.architecture, inputs.trainable_parameters
    is_mixed = inputs.compute_bytes < _FULL_PRECISION
    frozen = sizes.parameters if inputs.update == "lora" else max(0.0, sizes.parameters - trained)
    weights = frozen * inputs.base_bytes + trained * _FULL_PRECISION * (2 if inputs.keeps_initial_weights else 1)
    optimizer = trained * OPTIMIZER_BYTES[inputs.optimizer].state
    gradients = trained * _FULL_PRECISION
    copies = trained * inputs.compute_bytes if is_mixed else 0.0
    block = inputs.tokens * count_block_bytes(inputs)
    workspace = inputs.tokens * _count_workspace_bytes(inputs)
    residual = inputs.tokens * sizes.width * _get_residual_bytes(inputs)
    blocks = inputs.trained_blocks
    activations = blocks * (residual if inputs.checkpointing else block) + 2 * residual
    recomputed = block if inputs.checkpointing and blocks else 0.0
    logits = _count_logit_bytes(inputs)
    head = _count_head_bytes(inputs)

    earlier_gradients = gradients if inputs.accumulates else 0.0
    kept_copies = copies / max(1, blocks) if inputs.checkpointing else copies
    at_loss = earlier_gradients + copies + activations + max(logits, head.loss)
    in_backward = earlier_gradients + kept_copies + activations + recomputed + workspace + head.gradient
    at_end = gradients + head.embedding + recomputed + workspace
    scratch = OPTIMIZER_BYTES[inputs.optimizer].scratch * head.largest_matrix
    heap = 1.0 if inputs.checkpointing else HEAP_SHARE[inputs.device_type]
    peak = weights + optimizer + max(heap * max(at_loss, in_backward, at_end), gradients + scratch)
    peak += COMPILED_KERNEL_BYTES[inputs.device_type] if is_mixed else 0.0
    return StepMemory(weights, optimizer, gradients, copies, activations, workspace, logits, peak)


def count_trainable_parameters(sizes: Architecture, update: str, rank: int, targets: object, last: int) -> float:
    """Estimate the number of trained weights without loading the model.

    ``targets`` are LoRA's module names or ``all-linear``; ``last`` is the number of blocks that
    ``layers`` trains.
    """
    if update == "full":
        return sizes.parameters
    if update == "lora":
        chosen = sizes.linear_widths
        if isinstance(targets, list):
            chosen = {name: widths for name, widths in chosen.items() if name in targets} or chosen
        # An adapter of a d × k matrix has rank · (d + k) weights.
        return float(sizes.layers * rank * sum(sum(widths) for widths in chosen.values()))
    blocks = min(last, sizes.layers) if update == "layers" else 0
    output = 0 if sizes.tied else sizes.vocabulary * sizes.width
    return min(sizes.parameters, blocks * sizes.block_parameters + output + sizes.width**2)


def average_weight_bytes(sizes: Architecture, precision: str, linear_precision: str) -> float:
    """Return the mean bytes of a base's weights.

    ``linear_precision`` is that of its linear layers, or ``native`` for that of the others.
    Stacked experts are not linear layers.
    """
    other = WEIGHT_BYTES[precision]
    if linear_precision == "native":
        return other
    linear = sizes.layers * sizes.attention_parameters if sizes.experts > 1 else sizes.layers * sizes.block_parameters
    return other - (other - WEIGHT_BYTES[linear_precision]) * linear / sizes.parameters


def count_block_bytes(inputs: StepInputs) -> float:
    """Return the bytes per token that one block keeps for the backward pass."""
    sizes, compute, residual = inputs.architecture, inputs.compute_bytes, _get_residual_bytes(inputs)
    width, query, key = sizes.width, sizes.query_width, sizes.key_width
    inner = sizes.intermediate * sizes.experts_per_token
    # Autocast casts a wider residual stream once for each matrix that reads it.
    readers = residual > compute
    attention_inputs, mlp_inputs = (3, 2 if sizes.gated else 1) if readers else (1, 1)
    is_rms = sizes.fused or not sizes.gated
    norms = 2 * width * residual * (1 if is_rms else 3)
    attention = (attention_inputs * width + 3 * query + 2 * key) * compute * (1.5 if sizes.cross_attention else 1.0)
    if sizes.attention_dropout and inputs.device_type == "cpu":
        # torch's CPU attention has no dropout, so the probabilities are kept.
        attention += sizes.heads * inputs.longest_row_tokens * (2 * compute + 1)
    has_kernel = inputs.update == "lora" and sizes.fused and not (inputs.lora_dropout or inputs.quantized)
    kept_inner = (2 if has_kernel else 4) if sizes.gated else 2
    mlp = (mlp_inputs * width * sizes.experts_per_token + kept_inner * inner) * compute
    adapters = 0.0
    if inputs.update == "lora":
        linear = sizes.linear_widths.values()
        adapters = len(linear) * inputs.lora_rank * compute
        if inputs.lora_dropout:
            adapters += sum(width_in for width_in, _ in linear) * (compute + 1)
        elif inputs.quantized and inputs.device_type == "cpu":
            # PEFT widens the input of each adapter, and autocast narrows it again.
            adapters += sum(width_in for width_in, _ in linear) * compute
    return norms + attention + mlp + adapters


class _HeadBytes(NamedTuple):
    """Bytes of the output layer and of the embeddings at the three moments of a step."""

    loss: float
    gradient: float
    embedding: float
    largest_matrix: float
    """Weights of the largest trained matrix."""


def _count_head_bytes(inputs: StepInputs) -> _HeadBytes:
    sizes, matrix = inputs.architecture, inputs.architecture.vocabulary * inputs.architecture.width
    trains_output = inputs.update == "full" or (inputs.update == "layers" and not sizes.tied)
    hidden = inputs.tokens * sizes.width * (inputs.compute_bytes + 3 * _FULL_PRECISION)
    loss = hidden + LOGIT_BLOCK_BYTES[inputs.device_type]
    largest = max(matrix if trains_output else 0, min(inputs.trainable_parameters, sizes.width * sizes.intermediate))
    if not trains_output:
        return _HeadBytes(loss, 0.0, 0.0, largest)
    cast = inputs.compute_bytes if inputs.compute_bytes < _FULL_PRECISION else 0.0
    gradient = matrix * _FULL_PRECISION
    return _HeadBytes(
        loss + gradient + matrix * cast, gradient, gradient if inputs.update == "full" else 0.0, float(largest)
    )


def _count_logit_bytes(inputs: StepInputs) -> float:
    """Return the bytes of the logits of models that transform them: the logits and their gradient,
    and in fp32 the logits, their softmax and its gradient. Every token counts as a target."""
    sizes = inputs.architecture
    if not inputs.full_logits:
        return 0.0
    return inputs.tokens * sizes.vocabulary * (2 * inputs.compute_bytes + 3 * _FULL_PRECISION)


def _count_workspace_bytes(inputs: StepInputs) -> float:
    """Return the bytes per token of a block's intermediates in the backward pass."""
    sizes = inputs.architecture
    if not inputs.trained_blocks:
        return 0.0
    inner = sizes.intermediate * sizes.experts_per_token
    return 4 * inner * inputs.compute_bytes + 4 * sizes.width * _get_residual_bytes(inputs)


def _get_residual_bytes(inputs: StepInputs) -> float:
    """Return the bytes of a value of the residual stream: it has the precision of the weights."""
    return inputs.compute_bytes if inputs.update in ("lora", "head") else _FULL_PRECISION
