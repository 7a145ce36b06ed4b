"""Shapes of the models that are measured, their rows, their useful FLOPs, and peaks of GPUs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LORA_RANK = 16


@dataclass(frozen=True)
class ModelShape:
    """Causal language model with random weights and tied embeddings, and the work to measure."""

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    updates: tuple[str, ...]
    """Updates whose weights, gradients and optimizer state fit in 24 GB."""
    rows: int = 32
    """Rows of a batch."""
    row_lengths: tuple[int, int] = (128, 896)
    """Shortest and longest row, tokens."""
    serves: bool = False
    """True if serving is measured on this shape too."""

    @property
    def config(self) -> dict[str, Any]:
        """Arguments of ``transformers.AutoConfig.for_model``."""
        return {
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": 0,
            "pad_token_id": 0,
        }

    @property
    def linear_shapes(self) -> list[tuple[int, int]]:
        """Input and output widths of a block's linear layers."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = [(self.hidden, wide), (self.hidden, narrow), (self.hidden, narrow), (wide, self.hidden)]
        mlp = [(self.hidden, self.intermediate), (self.hidden, self.intermediate), (self.intermediate, self.hidden)]
        return [*attention, *mlp]

    def count_flops(self, lengths: Sequence[int], targets: int, update: str) -> int:
        """Count the useful FLOPs of training on rows of these lengths with ``targets`` targets.

        A product with a weight takes 2 FLOPs per weight and token forward, as many for the gradient
        of its input, and as many for its own gradient if it is trained. Causal attention needs half
        of its scores. Logits count at targets only. Padding and recomputation do not count.
        """
        tokens = sum(lengths)
        weights = self.layers * sum(inputs * outputs for inputs, outputs in self.linear_shapes)
        adapter = self.layers * sum(LORA_RANK * (inputs + outputs) for inputs, outputs in self.linear_shapes)
        attention = 6 * self.layers * self.heads * self.head_dim * sum(length**2 for length in lengths)
        output = self.vocab * self.hidden * targets
        if update == "full":
            return 6 * weights * tokens + attention + 6 * output
        return (4 * weights + 6 * adapter) * tokens + attention + 4 * output


SHAPES: Mapping[str, ModelShape] = {
    # SmolLM2-135M, Qwen3-0.6B and Qwen3-1.7B.
    "135m": ModelShape("llama", 576, 30, 9, 3, 64, 1536, 49_152, ("lora", "full")),
    "0.6b": ModelShape("qwen3", 1024, 28, 16, 8, 128, 3072, 151_936, ("lora", "full"), serves=True),
    "1.7b": ModelShape("qwen3", 2048, 28, 16, 8, 128, 6144, 151_936, ("lora",)),
}
TINY_SHAPES: Mapping[str, ModelShape] = {
    "tiny": ModelShape("qwen3", 32, 2, 4, 2, 8, 64, 300, ("lora", "full"), rows=6, row_lengths=(8, 24), serves=True),
}
"""For a CPU: they show that the benchmark works."""

PEAK_BF16_FLOPS: Mapping[str, float] = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
    "L4": 121e12,
    "4090": 165e12,
    "3090": 71e12,
}
"""Part of a device's name -> dense bfloat16 FLOP/s with fp32 accumulation, from NVIDIA's data
sheets. The first that fits counts."""


def get_peak_flops(device_name: str) -> float | None:
    return next((flops for part, flops in PEAK_BF16_FLOPS.items() if part in device_name), None)


@dataclass(frozen=True)
class RandomRow:
    """Random tokens. The second half are targets, as the answer of a chat."""

    ids: list[int]

    @property
    def num_targets(self) -> int:
        return len(self.ids) // 2


def build_rows(shape: ModelShape, seed: int = 0) -> list[RandomRow]:
    """Build one batch of rows, the same for every contestant."""
    rng = random.Random(seed)
    lengths = [rng.randint(*shape.row_lengths) for _ in range(shape.rows)]
    return [RandomRow([rng.randrange(1, shape.vocab) for _ in range(length)]) for length in lengths]
