"""Shapes of the base models, and the useful FLOPs of a row on each.

Useful work is the same for every trainer. For a row of T tokens and N targets on a frozen base with
adapters, it is:

* blocks: 2·P·T forward and 2·P·T backward, P the weights of their linear layers; a frozen weight
  has no gradient,
* adapters: 2·A·T forward and 4·A·T backward (into the input and into their own A weights),
* attention: scores and mixing of the positions that causality leaves, 2·T²·D a layer forward, twice
  that backward,
* output layer: 4·V·H·N, forward and into its input, at targets only.

Recomputation, padding, and logits at positions without a target do not count as useful work. Norms,
softmax and the optimizer are left out, because they are not matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VOCAB_SIZE = 50_257
CONTEXT_LENGTH = 1024
EOS_TOKEN = "<|endoftext|>"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{ '### ' + message['role'] + '\\n' + message['content'] + '" + EOS_TOKEN + "' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '### assistant\\n' }}{%- endif -%}"
)


@dataclass(frozen=True)
class ModelShape:
    """Llama with the GPT-2 vocabulary and tied embeddings, and the amount of training."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    rows: int
    epochs: int
    rounds: int
    """Maximum number of rounds."""
    minutes: int
    """Time limit for the rounds. No round starts that would exceed it at the speed so far."""
    held_out_rows: int
    """Rows for the held-out loss."""

    @property
    def llama_config(self) -> dict[str, Any]:
        """Arguments of ``transformers.LlamaConfig``."""
        return {
            "vocab_size": VOCAB_SIZE,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": CONTEXT_LENGTH,
            "tie_word_embeddings": True,
        }

    @property
    def linear_shapes(self) -> list[tuple[int, int]]:
        """Input and output widths of a block's linear layers."""
        narrow = self.hidden // self.heads * self.kv_heads
        attention = [(self.hidden, self.hidden), (self.hidden, narrow), (self.hidden, narrow)]
        wide = [(self.hidden, self.intermediate), (self.hidden, self.intermediate), (self.intermediate, self.hidden)]
        return [*attention, (self.hidden, self.hidden), *wide]

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
        attention = 6 * self.layers * self.hidden * sum(length**2 for length in lengths)
        output = 4 * VOCAB_SIZE * self.hidden * targets
        return blocks + adapters + attention + output


SHAPES: Mapping[str, ModelShape] = {
    "20m": ModelShape(288, 6, 6, 6, 768, rows=96, epochs=1, rounds=5, minutes=9, held_out_rows=64),
    "135m": ModelShape(576, 30, 9, 3, 1536, rows=24, epochs=1, rounds=3, minutes=14, held_out_rows=16),
}
